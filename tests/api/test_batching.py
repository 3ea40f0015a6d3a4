"""Sizes of batches, and claims that are made beside the work."""

import threading
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, nullcontext

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


BATCH = Batch([(Task("x"), "x", 1), (Task("y"), "y", 2)])


class Claimer:
    """Claims what `claim` gives, and takes note of what is released."""

    def __init__(self, claim: Callable[[], set[str]] = lambda: {"x", "y"}) -> None:
        self.claim = claim
        self.taken_over = set[str]()
        self.released: list[str] = []

    def claiming(self) -> AbstractContextManager[set[str]]:
        return nullcontext(self.taken_over)

    def claim_batch(self, batch: Batch, given_up: Callable[[], bool]) -> set[str]:
        assert batch is BATCH
        return self.claim()

    def release_batch(self, texts: list[str], but_not: AbstractSet[str] = frozenset()) -> None:
        self.released += sorted(set(texts) - but_not)


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Lets the claims of `late` come, after nobody has waited for them."""
    monkeypatch.setattr("jobsync.api.batching.ABANDON_SEC", 0.01)
    return threading.Event()


@pytest.fixture
def late(answer: threading.Event) -> Claimer:
    def claim() -> set[str]:
        assert answer.wait(10)
        return {"x", "y"}

    return Claimer(claim)


def test_the_claims_are_waited_for() -> None:
    assert Claiming(Claimer(), BATCH).result() == {"x", "y"}


def test_an_error_is_raised_where_the_claims_are_waited_for() -> None:
    def claim() -> set[str]:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        Claiming(Claimer(claim), BATCH).result()


def test_claims_that_nobody_waits_for_any_more_are_released_where_they_end(
    late: Claimer, answer: threading.Event
) -> None:
    claiming = Claiming(late, BATCH)
    assert claiming.abandon() == []
    answer.set()
    eventually(lambda: late.released == ["x", "y"])


def test_claims_that_come_late_are_not_released_where_others_have_them(late: Claimer, answer: threading.Event) -> None:
    claiming = Claiming(late, BATCH)
    assert claiming.abandon() == []
    late.taken_over.add("x")
    answer.set()
    claiming.wait()
    assert late.released == ["y"]


def test_claims_that_are_there_are_given_back_to_who_abandons_them() -> None:
    claimer = Claimer()
    claiming = Claiming(claimer, BATCH)
    claiming.result()
    assert sorted(claiming.abandon()) == ["x", "y"]
    assert claiming.abandon() == []
    assert claimer.released == []
