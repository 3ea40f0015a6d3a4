"""What becomes of a job whose handler failed: another try after a wait, or the end."""

import math
from dataclasses import dataclass

from jobsync.core.errors import Cancel, InvalidArgument, Retry
from jobsync.core.queue.states import CANCELLED, FAILED, RETRY

_MOST_WAIT_SEC = 10 * 365 * 86_400.0
_MOST_EXPONENT = 600.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a failed job waits before its next attempt: growing, bounded, spread so that many do not come in step.

    first_sec   the wait after the first failure
    factor      by which each further wait is longer
    most_sec    the longest wait, before the spread
    jitter      by which part of itself a wait is spread to either side: 0.25 makes 8 s something from 6 to 10 s
    """

    first_sec: float = 1.0
    factor: float = 2.0
    most_sec: float = 3600.0
    jitter: float = 0.25

    def __post_init__(self) -> None:
        _check("first_sec", self.first_sec, 0, _MOST_WAIT_SEC)
        _check("factor", self.factor, 1, 1000)
        _check("most_sec", self.most_sec, 0, _MOST_WAIT_SEC)
        _check("jitter", self.jitter, 0, 1)

    def wait_sec(self, attempts: int, spread: float) -> float:
        """Give the wait after the `attempts`-th attempt failed; `spread`, from 0 to 1, says where in its range."""
        steps = max(0, attempts - 1)
        growth = steps * math.log(self.factor)
        if growth < _MOST_EXPONENT:
            wait_sec = min(self.most_sec, self.first_sec * self.factor**steps)
        else:  # The power would overflow.
            wait_sec = self.most_sec if self.first_sec else 0.0
        return wait_sec * (1 + self.jitter * (2 * spread - 1))


def _check(name: str, value: object, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise InvalidArgument(f"{name}={value!r} is refused: give a number from {least:g} to {most:g}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a failed attempt ends: the outcome that the database is told, and for `retry` the wait before the next."""

    outcome: str
    wait_sec: float | None = None


def after_failure(
    error: BaseException, *, attempts: int, max_attempts: int, policy: RetryPolicy, spread: float
) -> Verdict:
    """Decide what becomes of a job whose handler raised; `attempts` counts the one that failed."""
    if isinstance(error, Cancel):
        return Verdict(CANCELLED)
    if attempts >= max_attempts:
        return Verdict(FAILED)
    if isinstance(error, Retry) and error.after_sec is not None:
        return Verdict(RETRY, error.after_sec)
    return Verdict(RETRY, policy.wait_sec(attempts, spread))
