"""A GPU pool: tasks run on their first choice among the nodes that live, and return to it."""

from collections.abc import Callable

import pytest

from examples.gpu_pool.play import COURSE, Phase, Row, allowed, judge
from examples.gpu_pool.worker import PINS
from tests.examples.plays import broken, play

PHASES = [Phase(what, live, 100 * number, 100 * number + 10) for number, (what, _, live) in enumerate(COURSE)]
GOOD = [
    Row(phase.settled + 1 + number, task, allowed(task, phase.live)[0])
    for phase in PHASES
    for number, task in enumerate(PINS)
]


def holds(rows: list[Row]) -> list[bool]:
    return [check.holds for check in judge(PHASES, sorted(rows, key=lambda row: row.id))]


@pytest.mark.slow
@pytest.mark.chaos
def test_the_example_holds(server_dsn: str) -> None:
    status, out = play("gpu_pool", server_dsn)
    assert (status, broken(out)) == (0, []), out
    assert "gpu-a-1 returns" in out


def test_the_verdict_holds_where_all_is_as_pinned() -> None:
    assert all(holds(GOOD))


@pytest.mark.parametrize(
    ("forge", "convicted"),
    [
        # On the second choice while the first lives.
        (lambda rows: [*rows, Row(50, "train-0", "gpu-a-2")], [0]),
        # On a CPU while a GPU lives: once settled, and before it has settled.
        (lambda rows: [*rows, Row(150, "train-0", "cpu-1")], [1, 5]),
        (lambda rows: [*rows, Row(105, "train-0", "cpu-1")], [5]),
        # It stays where it fell back to although its first choice has returned.
        (lambda rows: [*rows, Row(250, "train-0", "gpu-a-2")], [2]),
        # Without a GPU the CPUs do all of it, the moment of the return included; once that has settled no more.
        (lambda rows: [*rows, Row(405, "train-0", "cpu-2")], []),
        (lambda rows: [*rows, Row(450, "train-0", "cpu-2")], [4, 5]),
        # A task that nobody does.
        (lambda rows: [row for row in rows if not (row.task == "report-1" and row.id > 300)], [3, 4]),
        (lambda rows: [], [0, 1, 2, 3, 4, 5]),
    ],
)
def test_the_verdict_convicts_what_ran_elsewhere_or_not_at_all(
    forge: Callable[[list[Row]], list[Row]], convicted: list[int]
) -> None:
    # The last phase ends with the last row: one that is forged into it must not be the last.
    rows = [*GOOD, Row(500, "train-1", "gpu-a-2")]
    assert [number for number, held in enumerate(holds(forge(rows))) if not held] == convicted
