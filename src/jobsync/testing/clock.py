"""A clock that stands still until the test moves it."""

from datetime import UTC, datetime, timedelta

from jobsync.api.job_queue import JobQueue
from jobsync.core.errors import InvalidArgument
from jobsync.testing.tables import database_now


class TestClock:
    """The time that a test's jobs run at; pass it to `run_pending`.

    It begins at the database's time. While it stands, nothing that waits becomes due by itself. A delay of a job counts
    from when it was enqueued, which is the database's time, so `advance` starts from that where the clock is behind it;
    after it was advanced, enqueue with `run_at=clock.after(delay)`.
    """

    __test__ = False  # It is no test, whatever pytest may think of its name.

    def __init__(self, queue: JobQueue) -> None:
        self._settings = queue._desk._settings  # noqa: SLF001 - of the same package
        self._now = database_now(self._settings)

    def now(self) -> datetime:
        """Give the time, in UTC."""
        return self._now.astimezone(UTC)

    def after(self, delay: timedelta | float) -> datetime:
        """Give the instant that lies so far ahead: a timedelta, or seconds."""
        return self.now() + _as_delay(delay)

    def advance(self, by: timedelta | float) -> datetime:
        """Let time pass: a timedelta, or seconds; give the new time."""
        by = _as_delay(by)
        self._now = max(self._now, database_now(self._settings)) + by
        return self.now()


def _as_delay(by: timedelta | float) -> timedelta:
    delay = by if isinstance(by, timedelta) else timedelta(seconds=by)
    if delay < timedelta(0):
        raise InvalidArgument(f"{by!r} is refused: time does not go back")
    return delay
