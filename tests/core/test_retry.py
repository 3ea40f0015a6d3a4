"""Waits before asking again: they double, they are spread, and they begin anew after a success."""

import pytest

from jobsync.core.retry import MOST_DOUBLINGS, Retry

NAMES = [f"node-{i}" for i in range(200)]


def waits(retry: Retry, count: int) -> list[float]:
    """Let a question fail so often at the instant 1000; give the waits."""
    given = []
    for _ in range(count):
        retry.failed(1000.0)
        given.append(retry.not_before_sec - 1000.0)
    return given


def test_what_never_failed_may_be_asked_at_once() -> None:
    assert Retry("a", 0.02, 1.0).not_before_sec == float("-inf")


def test_each_wait_is_half_to_one_and_a_half_of_a_doubled_one_up_to_the_most() -> None:
    for name in NAMES:
        for attempt, wait_sec in enumerate(waits(Retry(name, 0.5, 30.0), 10)):
            middle_sec = min(30.0, 0.5 * 2**attempt)
            assert 0.5 * middle_sec <= wait_sec <= 1.5 * middle_sec


def test_the_doubling_ends_before_the_numbers_do() -> None:
    assert waits(Retry("a", 1e-9, 1e30), 2000)[-1] <= 1.5e-9 * 2**MOST_DOUBLINGS


def test_a_fleet_does_not_ask_in_step() -> None:
    spread = sorted(waits(Retry(name, 1.0, 1.0), 1)[0] for name in NAMES)
    assert spread[0] < 0.55
    assert spread[-1] > 1.45
    assert sum(spread) / len(spread) == pytest.approx(1.0, abs=0.1)
    assert len(set(spread)) == len(NAMES)


def test_the_same_node_waits_the_same_when_it_is_played_again() -> None:
    assert waits(Retry("a", 1.0, 8.0), 5) == waits(Retry("a", 1.0, 8.0), 5)


def test_a_success_begins_anew() -> None:
    retry = Retry("a", 1.0, 100.0)
    first = waits(retry, 5)[0]
    retry.succeeded()
    assert retry.not_before_sec == float("-inf")
    assert waits(retry, 1) == [first]
