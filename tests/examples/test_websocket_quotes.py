"""Quotes over WebSockets: subscriptions move between nodes, and the application sees each message once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from examples.websocket_quotes import play as example
from examples.websocket_quotes.play import Quote, judge
from tests.examples.plays import broken, play, play_with_worker

SENT = {"AAA": (3, 101, 30), "BBB": (2, 99, 20)}
GOOD = [Quote("AAA", 1, "a"), Quote("AAA", 2, "a"), Quote("AAA", 3, "b"), Quote("BBB", 1, "b"), Quote("BBB", 2, "b")]


def holds(quotes: list[Quote], positions: "dict[str, tuple[int, int, int]] | None" = None) -> list[bool]:
    return [check.holds for check in judge(SENT, quotes, SENT if positions is None else positions)]


@pytest.mark.slow
@pytest.mark.chaos
def test_the_example_holds(server_dsn: str) -> None:
    status, out = play("websocket_quotes", server_dsn)
    assert (status, broken(out)) == (0, []), out
    assert "The verdict holds." in out


def test_the_verdict_holds_for_what_was_sent() -> None:
    assert holds(GOOD) == [True, True, True]


@pytest.mark.parametrize(
    "forge",
    [
        lambda rows: rows[1:],  # the first message is lost
        lambda rows: rows[:2] + rows[3:],  # the last one is
        lambda rows: rows[:1] + rows[2:],  # one in the middle is
        lambda rows: [*rows, rows[2]],  # one was seen twice
        lambda rows: [*rows, Quote("AAA", 4, "b")],  # one was never sent
        lambda rows: [*rows, Quote("CCC", 1, "b")],
        lambda rows: rows[:3],  # a whole symbol is missing
        lambda rows: [*rows[:2], *rows[3:], rows[0]],  # one lost and one repeated do not make up for each other
    ],
)
def test_the_verdict_convicts_lost_and_repeated_messages(forge: Callable[[list[Quote]], list[Quote]]) -> None:
    assert holds(forge(list(GOOD)))[0] is False


def test_the_verdict_convicts_effects_that_do_not_add_up() -> None:
    assert holds(GOOD, {**SENT, "AAA": (3, 101, 31)}) == [True, False, True]


def test_the_verdict_convicts_a_play_in_which_nothing_moved() -> None:
    assert holds([Quote(row.symbol, row.seq, "a") for row in GOOD])[2] is False


@pytest.mark.slow
@pytest.mark.chaos
def test_the_verdict_convicts_a_worker_that_resumes_one_quote_early(server_dsn: str, tmp_path: Path) -> None:
    text = example.WORKER.read_text()
    careless = text.replace('if quote["seq"] == stored + len(fresh) + 1:', "if stored >= 0:").replace(
        '"subscribe": positions', '"subscribe": {symbol: max(0, seq - 1) for symbol, seq in positions.items()}'
    )
    assert careless.count("if stored >= 0:") == careless.count("seq - 1") == 1
    worker = tmp_path / "worker.py"
    worker.write_text(careless)
    status, out = play_with_worker("websocket_quotes", server_dsn, worker)
    assert status == 1, out
    assert "missing 0" in broken(out)[0]
    assert "repeated 0" not in broken(out)[0]
