"""How far a worker fetches ahead, played against simulated handlers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsync.core.queue.flow import BATCH, FIRST_STOCK, MOST_STOCK, PATIENCE_SEC, Flow


def play(body_sec: float, slots: int, rounds: int, trip_sec: float = 0.003) -> Flow:
    """Let slots run bodies of one length while a hub makes round trips that give all that is asked for."""
    flow = Flow(slots)
    fetched = slots
    for _ in range(rounds):
        want = flow.want(fetched, 0)
        could = slots * trip_sec / body_sec if body_sec > 1e-9 else 1e9
        ended = min(fetched, int(could))
        fetched -= ended
        flow.saw(ended, trip_sec)
        if want:
            flow.took(want, want, ran_dry=not fetched)
            fetched += want
    return flow


def test_quick_handlers_get_a_large_stock_soon() -> None:
    assert play(0.00001, 1, 30).stock > BATCH


def test_handlers_of_a_millisecond_get_what_they_run_in_the_time_of_the_stock() -> None:
    flow = play(0.001, 1, 200)
    assert 10 <= flow.stock <= 60


def test_slow_handlers_get_none() -> None:
    flow = play(1.0, 4, 200)
    assert flow.want(0, 0) == 0
    assert flow.want(0, 2) == 2


@given(st.floats(0, 10), st.integers(1, 100), st.integers(1, 100))
def test_the_stock_stays_within_its_bounds(body_sec: float, slots: int, rounds: int) -> None:
    flow = play(body_sec, slots, rounds)
    assert 0 <= flow.stock <= MOST_STOCK


@given(
    st.floats(0, 1e6) | st.none(),
    st.integers(0, MOST_STOCK),
    st.integers(0, 5000),
    st.integers(0, 100),
    st.floats(0, 1),
)
def test_what_is_asked_for_and_given_back_fits(
    per_sec: float | None, stock: int, fetched: int, free: int, stalled_sec: float
) -> None:
    flow = Flow(100, stock=stock, per_sec=per_sec)
    want = flow.want(fetched, free)
    assert 0 <= want <= BATCH
    if free > fetched:
        assert want >= min(free - fetched, BATCH)  # No slot stays idle for the sake of the stock.
    surplus = flow.surplus(fetched, stalled_sec)
    assert 0 <= surplus <= fetched
    if stalled_sec >= PATIENCE_SEC:
        assert surplus == fetched


def test_what_was_just_fetched_is_not_given_back_at_once() -> None:
    flow = Flow(1)
    want = flow.want(0, 1)
    flow.took(want, want, ran_dry=True)
    assert flow.surplus(want, 0.0) == 0


def test_after_giving_back_only_free_slots_are_filled() -> None:
    flow = play(0.00001, 1, 30)
    flow.gave_back()
    assert flow.want(0, 1) == 1
    assert flow.want(0, 0) == 0
    flow.took(1, 1, ran_dry=True)
    assert flow.want(0, 0) == 0  # Until handlers are seen to be quick.
    flow.saw(10, 0.001)
    flow.took(1, 1, ran_dry=True)
    assert 0 < flow.want(0, 0) <= FIRST_STOCK


def test_half_of_what_was_seen_is_forgotten_in_20_ms() -> None:
    flow = Flow(1)
    flow.saw(10, 1.0)
    assert flow.per_sec == 10
    flow.saw(4, 0.04)
    assert flow.per_sec == pytest.approx(10 / 4 + 100 * 3 / 4)


def test_a_time_without_length_shows_nothing() -> None:
    flow = Flow(1)
    flow.saw(5, 0.0)
    assert flow.per_sec is None


@pytest.mark.parametrize(
    ("before", "got", "ran_dry", "after"),
    [(16, 10, True, 32), (16, 9, True, 16), (16, 10, False, 16), (0, 10, True, FIRST_STOCK)],
    ids=["too late and full", "there were no more jobs", "in time", "from nothing"],
)
def test_the_stock_doubles_only_where_a_full_refill_came_too_late(
    before: int, got: int, ran_dry: bool, after: int
) -> None:
    flow = Flow(1, stock=before)
    flow.took(10, got, ran_dry=ran_dry)
    assert flow.stock == after


@pytest.mark.parametrize(
    ("fetched", "free", "wanted"),
    [(10, 0, 10), (11, 0, 0), (11, 11, 0), (11, 12, 21)],
    ids=["half of the stock is gone", "more than half is left", "what is there fills the slots", "a slot stays idle"],
)
def test_a_refill_is_asked_for_at_half_of_the_stock_or_for_a_slot_that_would_stay_idle(
    fetched: int, free: int, wanted: int
) -> None:
    assert Flow(20, stock=20, per_sec=1000.0).want(fetched, free) == wanted


def test_no_more_is_kept_in_stock_than_runs_in_the_time_of_the_stock() -> None:
    assert Flow(1, stock=100, per_sec=1000.0).want(0, 0) == 50


def test_what_does_not_begin_in_time_at_the_speed_seen_is_given_back() -> None:
    flow = Flow(1, stock=20, per_sec=100.0)  # Ten begin within twice the patience.
    assert flow.surplus(28, 0.0) == 0  # Giving back a few is not worth the trip.
    assert flow.surplus(29, 0.0) == 19
    assert flow.surplus(0, 1.0) == 0


def test_after_giving_back_quick_handlers_get_the_first_stock_and_not_the_old_one() -> None:
    flow = Flow(1, stock=1000, per_sec=1e6)
    flow.gave_back()
    flow.saw(2, 0.02)
    assert flow.per_sec == pytest.approx(50)  # Nothing is left of the million.
    flow.saw(1000, 0.02)
    assert flow.want(0, 0) == 0
    flow.took(1, 1, ran_dry=True)
    assert flow.stock == FIRST_STOCK
