"""The judge of runs has teeth: it convicts forged files and forged tables, and accepts what is right."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.chaos.judge import RECORD, Begun, Claimed, Evidence, begun_twice, complaints, read_begun

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
KILLED_SEC = 10.0


def records(process: str, incarnation: int, *begun: tuple[float, int]) -> list[Begun]:
    return [Begun(at_sec, task, incarnation, process) for at_sec, task in begun]


def claims(*incarnations: int) -> dict[int, Claimed]:
    return {task: Claimed(incarnation, NOON) for task, incarnation in enumerate(incarnations)}


@pytest.fixture
def kill() -> Evidence:
    """Process a did 0 and had 1 in hand when it was killed; b did 1 again, and 2."""
    return Evidence(
        tasks=3,
        begun={"a": records("a", 71, (8.0, 0), (9.5, 1)), "b": records("b", 72, (9.0, 2), (11.0, 1))},
        faults={"a": KILLED_SEC},
        claims=claims(71, 72, 72),
        audits=[(task, NOON + SECOND) for task in range(3)],
    )


def test_what_was_in_hand_at_the_kill_may_be_done_again(kill: Evidence) -> None:
    assert complaints(kill) == []
    assert begun_twice(kill) == [1]


def test_a_task_that_was_never_begun(kill: Evidence) -> None:
    forged = replace(kill, begun={**kill.begun, "b": kill.begun["b"][1:]}, claims=claims(71, 72))
    assert complaints(forged) == ["task 2 was never begun"]


def test_a_task_that_was_never_audited(kill: Evidence) -> None:
    assert complaints(replace(kill, audits=kill.audits[1:])) == ["task 0 is audited 0 times"]


def test_a_task_that_was_audited_twice(kill: Evidence) -> None:
    assert complaints(replace(kill, audits=[*kill.audits, kill.audits[0]])) == ["task 0 is audited 2 times"]


def test_a_task_that_is_none_of_the_runs(kill: Evidence) -> None:
    assert complaints(replace(kill, audits=[*kill.audits, (3, NOON)])) == ["task 3 is none of the run's"]


def test_a_task_that_was_begun_twice_without_a_kill(kill: Evidence) -> None:
    forged = replace(kill, begun={**kill.begun, "c": records("c", 73, (12.0, 2))}, claims=claims(71, 72, 73))
    assert [text[:39] for text in complaints(forged)] == ["task 2 was begun twice without a fault:"]


def test_a_task_that_was_begun_thrice(kill: Evidence) -> None:
    forged = replace(kill, begun={**kill.begun, "c": records("c", 73, (12.0, 1))}, claims=claims(71, 73, 72))
    assert [text[:25] for text in complaints(forged)] == ["task 1 was begun 3 times:"]


def test_a_task_that_the_other_had_begun_before_the_kill(kill: Evidence) -> None:
    forged = replace(kill, begun={**kill.begun, "b": records("b", 72, (9.0, 2), (9.7, 1))})
    assert [text[:40] for text in complaints(forged)] == ["task 1 was begun twice before the fault:"]


def test_a_task_of_the_killed_process_that_was_audited_and_begun_again(kill: Evidence) -> None:
    """The killed process holds the claim still: nobody took it over, and yet somebody began it."""
    forged = replace(kill, claims=claims(71, 71, 72))
    assert complaints(forged) == ["task 1 was last begun as 72, and is claimed by 71"]


def test_a_task_that_was_claimed_although_it_was_audited(kill: Evidence) -> None:
    forged = replace(kill, claims={**kill.claims, 1: Claimed(72, NOON + 2 * SECOND)})
    assert complaints(forged) == ["task 1 was claimed after it was audited"]


def test_a_task_that_one_incarnation_began_twice(kill: Evidence) -> None:
    forged = replace(kill, begun={**kill.begun, "a": records("a", 71, (8.0, 0), (9.5, 1), (9.6, 0))})
    assert [text[:44] for text in complaints(forged)] == [
        "task 0 was begun twice before the fault: [Be",
        "task 0 was begun twice by one incarnation: [",
    ]


def test_what_a_stopped_process_was_given_it_may_write_down_when_it_wakes(kill: Evidence) -> None:
    woken = replace(kill, begun={**kill.begun, "a": records("a", 71, (8.0, 0), (11.5, 1))}, claims=claims(71, 71, 72))
    assert complaints(woken) == []


def test_what_a_stopped_process_begins_later_counts_as_a_second_time(kill: Evidence) -> None:
    again = [*records("a", 71, (8.0, 0), (9.5, 1)), *records("a", 74, (12.0, 0), (12.1, 2))]
    forged = replace(kill, begun={**kill.begun, "a": again}, claims=claims(74, 72, 74))
    assert [text[:39] for text in complaints(forged)] == ["task 2 was begun twice without a fault:"]


def test_files_are_read_without_a_record_that_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.begun"
    path.write_bytes(RECORD.pack(1.5, 7, 71) + RECORD.pack(1.6, 8, 71)[:-1])
    assert read_begun("a", path) == records("a", 71, (1.5, 7))
