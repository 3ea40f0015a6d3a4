"""The queue's demo as a user starts it, and its parts."""

import json
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobsync.cli.demo import stdlib
from jobsync.cli.demo_queue import control
from jobsync.cli.demo_queue.measure import Measure, measure
from jobsync.cli.demo_queue.play import pace_ms
from jobsync.cli.demo_queue.tables import Measured, Trace
from jobsync.cli.demo_queue.verdict import Evidence, JobFacts, KillFacts, judge
from jobsync.cli.demo_queue.view import cells_by_status, in_words, speeds
from tests.cli.command import call, start, wait_for
from tests.cli.test_demo import next_line, traces

SHORT = ("--files", "120", "--seconds", "5")
ZERO = {"pending": 0, "processing": 0, "retry": 0, "done": 0, "failed": 0, "cancelled": 0}


@pytest.mark.chaos
def test_the_demo_holds_and_leaves_nothing_behind(server_dsn: str) -> None:
    status, out, err = call("demo-queue", "--dsn", server_dsn, "--json", *SHORT)
    verdict = json.loads(out)
    broken = [check for check in verdict["checks"] if not check["holds"]]
    assert (status, broken, verdict["holds"], err) == (0, [], True, "")
    assert verdict["files"] == 120
    assert not [name for name in traces(server_dsn) if name.startswith(verdict["prefix"])]


@pytest.mark.slow
def test_output_that_is_no_terminal_is_plain_lines_and_sigterm_cleans_up(server_dsn: str) -> None:
    with start("demo-queue", "--dsn", server_dsn, *SHORT) as demo:
        assert demo.stdout is not None
        lines = iter(demo.stdout.readline, "")
        seen: list[str] = []
        wait_for(lambda: re.search(r"\d+ of 120 files", next_line(lines, seen)))
        demo.send_signal(signal.SIGTERM)
        demo.communicate(timeout=60)
        assert demo.returncode == 128 + signal.SIGTERM
    text = "".join(seen)
    found = re.search(r"tables (demo_\w+_)\*", text)
    assert found is not None
    assert "\x1b" not in text
    assert any(re.fullmatch(r" *\d+\.\d\d s  121 jobs are enqueued, 4 workers start\n", line) for line in seen)
    assert not [name for name in traces(server_dsn) if name.startswith(found[1])]


# --- the verdict ---------------------------------------------------------------------------------

AT = datetime(2026, 11, 22, tzinfo=UTC)


def measured(item: str) -> Measure:
    return Measure(item * 2, len(item), 1, 0)


def line(sec: float, worker: str, job: int, what: str = "begin", attempt: int | None = None) -> Trace:
    return Trace(AT + timedelta(seconds=sec), worker, job, attempt or int(sec * 100) + job, what)


ITEMS = ("a", "b", "c")
GOOD = Evidence(
    control={item: measured(item) for item in ITEMS},
    measured=tuple(Measured(item, "w1", measured(item)) for item in ITEMS),
    trace=(
        line(0, "w1", 1),
        line(0, "w1", 2),
        line(0.1, "w1", 2, "failed"),
        line(0.5, "w1", 2),
        line(0.6, "w1", 2, "failed"),
        line(1.5, "w1", 2),
        line(1.6, "w1", 4),
        line(2.1, "w1", 4, "told"),
        line(2.5, "w2", 3),
        line(3.7, "w1", 3),
    ),
    jobs=tuple(JobFacts(number, item, "done", 1, 0, 3) for number, item in enumerate(ITEMS, start=1)),
    flaky=2,
    endless=JobFacts(4, "(endless)", "cancelled", 1, 0, 3),
    kill=KillFacts("w2", AT + timedelta(seconds=3)),
    cancelled_at=AT + timedelta(seconds=2),
    exit_statuses={"w1": 0},
)
(ONCE, RIGHT, DONE, TAKEN_OVER, NO_MORE, FAILED, CANCELLED, LEFT) = range(8)


def convicted(evidence: Evidence) -> tuple[int, ...]:
    return tuple(number for number, check in enumerate(judge(evidence).checks) if not check.holds)


def without(what: Callable[[Trace], bool]) -> tuple[Trace, ...]:
    return tuple(each for each in GOOD.trace if not what(each))


def test_the_verdict_holds_for_what_was_promised() -> None:
    assert convicted(GOOD) == ()
    assert judge(GOOD).checks[TAKEN_OVER].figures == "1 job, the last after 700 ms by w1"


@pytest.mark.parametrize(
    ("forged", "found"),
    [
        ({"measured": GOOD.measured[1:]}, (ONCE,)),
        ({"measured": (*GOOD.measured, GOOD.measured[0])}, (ONCE,)),
        ({"measured": (*GOOD.measured[1:], Measured("a", "w1", measured("x")))}, (RIGHT,)),
        ({"measured": ()}, (ONCE, RIGHT)),
        ({"control": {}}, (ONCE, RIGHT, DONE)),
        ({"jobs": (*GOOD.jobs[:2], replace(GOOD.jobs[2], status="retry"))}, (DONE,)),
        ({"kill": None}, (TAKEN_OVER, NO_MORE)),
        ({"kill": KillFacts("w9", AT)}, (TAKEN_OVER, NO_MORE)),
        ({"trace": GOOD.trace[:-2]}, (TAKEN_OVER, NO_MORE)),
        ({"trace": GOOD.trace[:-1]}, (TAKEN_OVER, NO_MORE)),
        ({"trace": (*GOOD.trace[:-1], line(9, "w1", 3))}, (TAKEN_OVER,)),
        ({"trace": (*GOOD.trace, line(4, "w1", 1))}, (NO_MORE,)),
        ({"trace": (*GOOD.trace, line(4, "w1", 3))}, (NO_MORE,)),
        ({"trace": without(lambda each: each.what == "failed")}, (FAILED,)),
        ({"trace": without(lambda each: each.what == "told")}, (CANCELLED,)),
        ({"cancelled_at": None}, (CANCELLED,)),
        ({"endless": replace(GOOD.endless, status="done")}, (CANCELLED,)),
        ({"exit_statuses": {"w1": 2}}, (LEFT,)),
        ({"exit_statuses": {}}, (LEFT,)),
    ],
)
def test_the_verdict_convicts_each_broken_promise(forged: dict[str, Any], found: tuple[int, ...]) -> None:
    assert convicted(replace(GOOD, **forged)) == found


# --- the parts -----------------------------------------------------------------------------------


def test_a_file_measures_the_same_by_other_means(tmp_path: Path) -> None:
    for item in ("ast.py", "json/decoder.py", "asyncio/tasks.py"):
        assert control.control(stdlib.library_dir() / item) == measure(item)
    control.write(2, tmp_path / "control.json")
    found = control.read(tmp_path / "control.json")
    assert found == {item: measure(item) for item in stdlib.module_files(2)}


def test_the_pace_spreads_the_files_over_the_time_wanted() -> None:
    # 2 at once: 160 files by 4 workers and 240 by 3, at 0.1 s each, take 2 + 4 s.
    assert round(pace_ms(400, 4, 6)) == 100


def test_the_bar_shows_every_status_that_there_is() -> None:
    cells = cells_by_status(ZERO | {"pending": 1, "processing": 1, "done": 9_997, "failed": 1}, 20)
    assert cells == {"done": 17, "processing": 1, "failed": 1, "pending": 1}
    assert cells_by_status(ZERO | {"done": 3, "cancelled": 1}, 10) == {"done": 7, "cancelled": 3}
    assert cells_by_status(ZERO, 10) == {"pending": 10}


def test_the_speed_is_told_for_each_interval() -> None:
    assert speeds([(0.0, 0), (0.3, 9), (0.5, 10), (0.9, 12), (1.5, 30)], 0.5) == [20.0, 20.0]
    assert speeds([], 0.5) == []


def test_statuses_that_nobody_has_are_left_out() -> None:
    assert in_words(ZERO | {"done": 1200}).plain == "0 pending · 0 processing · 1,200 done"
