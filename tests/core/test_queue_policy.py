"""Retries of the queue: how long a failed job waits, and when it is tried no more."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsync.core.errors import Cancel, InvalidArgument, Retry
from jobsync.core.queue.policy import RetryPolicy, Verdict, after_failure

POLICIES = st.builds(
    RetryPolicy,
    first_sec=st.floats(0, 1e8),
    factor=st.floats(1, 1000),
    most_sec=st.floats(0, 3e8),
    jitter=st.floats(0, 1),
)


def test_the_default_doubles_from_a_second_to_an_hour() -> None:
    waits = [RetryPolicy().wait_sec(attempts, 0.5) for attempts in range(1, 15)]
    assert waits[:4] == [1, 2, 4, 8]
    assert waits[-1] == 3600
    assert RetryPolicy().wait_sec(4, 0.0) == 6
    assert RetryPolicy().wait_sec(4, 1.0) == 10


@given(POLICIES, st.integers(1, 32_000), st.floats(0, 1))
def test_every_wait_is_finite_and_within_its_bounds(policy: RetryPolicy, attempts: int, spread: float) -> None:
    wait_sec = policy.wait_sec(attempts, spread)
    assert math.isfinite(wait_sec)
    assert 0 <= wait_sec <= policy.most_sec * (1 + policy.jitter)


@given(POLICIES, st.integers(1, 31_999))
def test_no_wait_is_shorter_than_the_one_before(policy: RetryPolicy, attempts: int) -> None:
    assert policy.wait_sec(attempts, 0.5) <= policy.wait_sec(attempts + 1, 0.5)


@pytest.mark.parametrize(
    "wrong",
    [{"first_sec": -1}, {"factor": 0.5}, {"most_sec": math.inf}, {"jitter": 2}, {"first_sec": "1"}, {"jitter": True}],
)
def test_bad_policies_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument):
        RetryPolicy(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [-1, math.nan, math.inf, "1"])
def test_a_bad_wait_is_refused_where_it_is_asked_for(wrong: object) -> None:
    with pytest.raises(InvalidArgument):
        Retry(after_sec=wrong)  # type: ignore[arg-type]


def _after(error: BaseException, attempts: int, max_attempts: int) -> Verdict:
    return after_failure(error, attempts=attempts, max_attempts=max_attempts, policy=RetryPolicy(), spread=0.5)


def test_what_follows_a_failure() -> None:
    assert _after(ValueError(), 1, 3) == Verdict("retry", 1.0)
    assert _after(ValueError(), 2, 3) == Verdict("retry", 2.0)
    assert _after(ValueError(), 3, 3) == Verdict("failed")
    assert _after(Retry(after_sec=7), 1, 3) == Verdict("retry", 7.0)
    assert _after(Retry(), 1, 3) == Verdict("retry", 1.0)
    assert _after(Retry(after_sec=7), 3, 3) == Verdict("failed")
    assert _after(Cancel(), 1, 3) == Verdict("cancelled")
    assert _after(Cancel(), 3, 3) == Verdict("cancelled")


def test_a_wait_whose_power_would_overflow_is_the_longest_and_none_stays_none() -> None:
    assert RetryPolicy(factor=1000).wait_sec(1_000, 0.5) == 3600
    assert RetryPolicy(first_sec=0, factor=1000).wait_sec(1_000, 0.5) == 0


@pytest.mark.parametrize("field", ["first_sec", "factor", "most_sec", "jitter"])
def test_a_policy_may_be_each_of_its_bounds_and_nothing_beyond(field: str) -> None:
    ten_years_sec = 10 * 365 * 86_400
    least, most = {"factor": (1, 1000), "jitter": (0, 1)}.get(field, (0, ten_years_sec))
    for right in (least, most):
        values: dict[str, float] = {field: right}
        assert getattr(RetryPolicy(**values), field) == right
    for wrong in (least - 0.001, most + 0.001):
        values = {field: wrong}
        with pytest.raises(InvalidArgument, match=f"^{field}="):
            RetryPolicy(**values)
