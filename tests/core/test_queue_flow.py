"""How far a worker fetches ahead, played against simulated handlers."""

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
