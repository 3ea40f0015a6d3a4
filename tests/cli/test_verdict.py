"""The verdict turns red for each broken promise, with forged rows."""

from dataclasses import replace

import pytest

from jobsync.cli.demo.tables import LogRow
from jobsync.cli.demo.verdict import COVERED_LIMIT_SEC, EventFacts, Evidence, judge

ITEMS = ("a.py", "b.py", "c.py")
GOOD = Evidence(
    items=ITEMS,
    log=(
        LogRow("w1", "a.py", "begin"),
        LogRow("w2", "b.py", "begin"),
        LogRow("w1", "a.py", "end"),
        # w2 is killed here, inside b.py.
        LogRow("w1", "b.py", "begin"),
        LogRow("w1", "b.py", "end"),
        LogRow("w3", "c.py", "begin"),
        LogRow("w3", "c.py", "end"),
    ),
    counted=ITEMS,
    events=(
        EventFacts("kill", "w2", 0.8, 2500, 2500),
        EventFacts("stop", "w1", 0.1, 3334, 3334),
        EventFacts("join", "w3", 0.5, 3333, 3333),
    ),
    exit_statuses={"w1": 0, "w3": 0},
)


def broken(evidence: Evidence) -> list[str]:
    verdict = judge(evidence)
    assert verdict.holds == all(check.holds for check in verdict.checks)
    return [check.promise for check in verdict.checks if not check.holds]


def with_event(kind: str, **changes: object) -> Evidence:
    events = tuple(replace(e, **changes) if e.kind == kind else e for e in GOOD.events)  # type: ignore[arg-type]
    return replace(GOOD, events=events)


def test_a_flawless_demo_holds() -> None:
    assert broken(GOOD) == []


def test_a_file_that_ended_twice_breaks_it() -> None:
    assert broken(replace(GOOD, log=(*GOOD.log, LogRow("w1", "a.py", "end")))) == ["each file ended once"]


def test_a_file_that_never_ended_breaks_it() -> None:
    assert broken(replace(GOOD, log=GOOD.log[:-1])) == ["each file ended once"]


def test_an_end_of_a_file_that_is_not_of_the_input_breaks_it() -> None:
    assert broken(replace(GOOD, log=(*GOOD.log, LogRow("w1", "z.py", "end")))) == ["each file ended once"]


def test_no_input_breaks_it() -> None:
    assert "each file ended once" in broken(replace(GOOD, items=(), log=(), counted=()))


def test_counts_that_are_stored_twice_break_it() -> None:
    assert broken(replace(GOOD, counted=(*ITEMS, "a.py"))) == ["its counts stored once"]


def test_counts_that_are_missing_break_it() -> None:
    assert broken(replace(GOOD, counted=ITEMS[:-1])) == ["its counts stored once"]


def test_a_file_of_the_killed_one_that_is_begun_again_twice_breaks_it() -> None:
    assert broken(replace(GOOD, log=(*GOOD.log, LogRow("w3", "b.py", "begin")))) == ["killed in hand, redone once"]


def test_a_file_of_the_killed_one_that_nobody_begins_again_breaks_it() -> None:
    log = tuple(row for row in GOOD.log if row != LogRow("w1", "b.py", "begin"))
    assert broken(replace(GOOD, log=log)) == ["killed in hand, redone once"]


def test_a_kill_that_caught_no_file_in_hand_proves_nothing() -> None:
    log = (*GOOD.log[:2], LogRow("w2", "b.py", "end"), GOOD.log[2], *GOOD.log[5:])
    assert broken(replace(GOOD, log=log)) == ["killed in hand, redone once"]


def test_the_files_of_the_killed_one_are_named() -> None:
    told = {check.promise: check.figures for check in judge(GOOD).checks}
    assert told["killed in hand, redone once"] == "b.py, by w1"


def test_tokens_without_an_owner_for_too_long_break_it() -> None:
    assert broken(with_event("kill", settled_sec=COVERED_LIMIT_SEC + 0.1)) == ["all tokens owned again"]


def test_tokens_that_are_never_seen_owned_again_break_it() -> None:
    assert "all tokens owned again" in broken(with_event("kill", settled_sec=None))


@pytest.mark.parametrize("kind", ["kill", "stop", "join"])
def test_an_event_that_did_not_happen_breaks_it(kind: str) -> None:
    events = tuple(event for event in GOOD.events if event.kind != kind)
    assert f"tokens moved by the {kind}" in broken(replace(GOOD, events=events))


@pytest.mark.parametrize("kind", ["kill", "stop", "join"])
@pytest.mark.parametrize("difference", [1, -1])
def test_more_or_fewer_tokens_moved_than_the_least_break_it(kind: str, difference: int) -> None:
    evidence = with_event(kind, moved=5000 + difference, least=5000)
    assert broken(evidence) == [f"tokens moved by the {kind}"]


def test_a_worker_that_ended_badly_breaks_it() -> None:
    assert broken(replace(GOOD, exit_statuses={"w1": 0, "w3": -9})) == ["all others left well"]


def test_nothing_known_of_the_others_breaks_it() -> None:
    assert broken(replace(GOOD, exit_statuses={})) == ["all others left well"]
