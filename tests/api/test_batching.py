"""Sizes of batches, and claims that are made beside the work."""

import threading

import pytest

from jobsync import Task
from jobsync.api.batching import BATCH_SEC, Batch, Claiming, Pace
from tests.api.jobs import eventually


def sizes(pace: Pace, body_sec: float, count: int) -> list[int]:
    found, now_sec = [], 0.0
    for _ in range(count):
        size = pace.next_size(0, now_sec)
        found.append(size)
        pace.begins(size, now_sec)
        now_sec += size * body_sec
    return found


def test_batches_double_up_to_the_most() -> None:
    assert sizes(Pace(100), 1e-6, 9) == [1, 2, 4, 8, 16, 32, 64, 100, 100]


def test_slow_bodies_are_claimed_one_by_one() -> None:
    assert sizes(Pace(100), 10 * BATCH_SEC, 5) == [1, 1, 1, 1, 1]


def test_a_batch_holds_about_a_tenth_of_a_second_of_work() -> None:
    assert sizes(Pace(4096), BATCH_SEC / 20, 12)[-1] == pytest.approx(20, abs=2)


def test_work_that_gets_slower_gets_smaller_batches() -> None:
    pace = Pace(4096)
    sizes(pace, 1e-6, 13)
    pace.begins(4096, 1000.0)
    assert pace.next_size(0, 1000.0 + 4096 * BATCH_SEC) == 2


def test_the_next_batch_is_claimed_ahead_only_while_bodies_are_quick() -> None:
    pace = Pace(4096)
    pace.begins(100, 0.0)
    assert pace.look_ahead_at == 84
    assert pace.may_look_ahead(50, 50 * 1e-4)
    assert not pace.may_look_ahead(50, 50 * 1.0)


def test_small_batches_are_not_claimed_ahead() -> None:
    pace = Pace(4096)
    pace.begins(8, 0.0)
    assert pace.look_ahead_at == -1


# --- claiming beside the work ----------------------------------------------------------------------


BATCH: Batch = [(Task("x"), 1), (Task("y"), 2)]


def test_the_claims_are_waited_for() -> None:
    claiming = Claiming(lambda batch, _: {task.text for task, _ in batch}, lambda _: None, BATCH)
    assert claiming.result() == {"x", "y"}


def test_an_error_is_raised_where_the_claims_are_waited_for() -> None:
    def claim(batch: Batch, given_up: object) -> set[str]:
        raise OSError("gone")

    claiming = Claiming(claim, lambda _: None, BATCH)
    with pytest.raises(OSError, match="gone"):
        claiming.result()


def test_claims_that_nobody_waits_for_any_more_are_released_where_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobsync.api.batching.ABANDON_SEC", 0.01)
    answer, released = threading.Event(), list[list[str]]()

    def claim(batch: Batch, given_up: object) -> set[str]:
        assert answer.wait(10)
        return {"x"}

    claiming = Claiming(claim, released.append, BATCH)
    assert claiming.abandon() == []
    answer.set()
    eventually(lambda: released == [["x"]])


def test_claims_that_are_there_are_given_back_to_who_abandons_them() -> None:
    claiming = Claiming(lambda batch, _: {task.text for task, _ in batch}, lambda _: pytest.fail("twice"), BATCH)
    claiming.result()
    assert sorted(claiming.abandon()) == ["x", "y"]
    assert claiming.abandon() == []
