"""A daily load: every file's rows once, whoever is killed."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from examples.daily_etl.play import Rows, judge, make_files
from tests.examples.plays import broken, play

Row = tuple[str, int, str, int]
SOURCE: Rows = Counter({("a.csv", 1, "x", 5): 1, ("a.csv", 2, "x", 5): 1, ("b.csv", 1, "y", 7): 1})


def holds(rows: list[Row], left: int = 1, incomplete: int = 0) -> list[bool]:
    return [check.holds for check in judge(SOURCE, rows, left, incomplete)]


@pytest.mark.slow
@pytest.mark.chaos
def test_the_example_holds(server_dsn: str) -> None:
    status, out = play("daily_etl", server_dsn)
    assert (status, broken(out)) == (0, []), out
    assert "300 of 300 files" in out
    assert "claimed by the dead" in out


def test_the_verdict_holds_for_what_is_in_the_files() -> None:
    assert all(holds(list(SOURCE)))


@pytest.mark.parametrize(
    ("forge", "convicted"),
    [
        (lambda rows: rows[:-1], (0, 1)),
        (lambda rows: rows[1:], (0, 1)),
        (lambda rows: [*rows, rows[0]], (0, 1)),
        (lambda rows: [*rows[1:], rows[1]], (0,)),  # the sum is right, the rows are not
        (lambda rows: [], (0, 1)),
    ],
)
def test_the_verdict_convicts_lost_and_repeated_rows(
    forge: Callable[[list[Row]], list[Row]], convicted: tuple[int, ...]
) -> None:
    found = holds(forge(sorted(SOURCE)))
    assert tuple(number for number, held in enumerate(found) if not held) == convicted


def test_the_verdict_convicts_a_kill_that_hit_nothing_and_work_left_over() -> None:
    assert holds(list(SOURCE), left=0) == [True, True, False, True]
    assert holds(list(SOURCE), incomplete=2) == [True, True, True, False]


def test_the_files_hold_the_rows_that_are_told(tmp_path: Path) -> None:
    rows = make_files(tmp_path / "in", 3)
    lines = sum(len(path.read_text().splitlines()) - 1 for path in (tmp_path / "in").iterdir())
    assert len(list((tmp_path / "in").iterdir())) == len({row[0] for row in rows}) == 3
    assert rows.total() == lines > 3
