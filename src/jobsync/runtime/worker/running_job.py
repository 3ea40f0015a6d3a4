"""A job in a worker's hands, as its handler sees it, and the lease under which it is held."""

import json
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Protocol

from jobsync.core.errors import JobsyncError, LeaseLost
from jobsync.core.holding import Fence
from jobsync.postgres.leases import Attempt, Taken, created_at
from jobsync.runtime.worker.kinds import Lane

_BOOT_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_UNREAD: Final = object()


class Desk(Protocol):
    """What a running job can have done for it."""

    @property
    def worker_id(self) -> str:
        """The worker's name."""

    def update_progress(self, job: "RunningJob", progress: int, message: str | None) -> None:
        """Write down how far the job has come; raise LeaseLost where it is not this attempt's any more."""


@dataclass(slots=True, eq=False)
class HeldLease:
    """One batch of jobs under one epoch, as this worker believes in it.

    until_sec  on the boot clock, counted from before the statement that gave or extended it was sent
    left       how many of its jobs the database has not been told the end of
    """

    epoch: int
    incarnation: int
    until_sec: float
    desk: Desk
    left: int = 0
    is_lost: bool = False


class RunningJob:
    """One job and one attempt at it. A handler is called with it, and it is of no use after the handler has returned.

    `attempt` tells this attempt from every other there ever was: give it to other systems as a fencing number; it only
    grows from one attempt at a job to the next.
    """

    __slots__ = (
        "_is_lost",
        "_lane",
        "_lease",
        "_payload",
        "_result",
        "_row",
        "has_ended",
        "is_ending",
        "is_plain",
        "uncommitted",
    )

    def __init__(self, row: Taken, lease: HeldLease, lane: Lane, *, is_plain: bool) -> None:
        self._row = row
        self._lease = lease
        self._lane = lane
        self._payload: Any = _UNREAD
        self._is_lost = False
        self.has_ended = False  # By the handler's own doing.
        self.is_ending = False  # It is about to be told so: the database may know it already.
        self.uncommitted: BaseException | None = None  # Why a transaction did not commit whose block had ended.
        self._result: str | None = None
        self.is_plain = is_plain  # Its end may be told together with others'.

    @property
    def id(self) -> int:
        """The number of the job."""
        return self._row[1]

    @property
    def job_id(self) -> str | None:
        """The caller's own key, or None."""
        return self._row[8]

    @property
    def queue(self) -> str:
        """The queue it was in."""
        return self._lane.queue

    @property
    def kind(self) -> str:
        """Its kind."""
        return self._lane.kind

    @property
    def priority(self) -> int:
        """Its priority; higher ones run first."""
        return self._row[3]

    @property
    def attempts(self) -> int:
        """How many attempts were begun, this one included."""
        return self._row[4]

    @property
    def crashes(self) -> int:
        """How many of the attempts before ended in a lost lease."""
        return self._row[5]

    @property
    def max_attempts(self) -> int:
        """After so many attempts a failure is final."""
        return self._row[6]

    @property
    def affinity(self) -> str | None:
        """The key whose jobs run in order, or None."""
        return self._row[11] if len(self._row) > 11 else None

    @property
    def attempt(self) -> int:
        """The fencing number of this attempt."""
        return self._row[0]

    @property
    def epoch(self) -> int:
        """The same: the epoch of its lease."""
        return self._row[0]

    @property
    def place(self) -> int:
        """Where it stands in its lease's list, from 1."""
        return self._row[10]

    @property
    def worker_id(self) -> str:
        """Who runs it."""
        return self._lease.desk.worker_id

    @property
    def fence(self) -> Fence:
        """The attempt as one value."""
        return Fence(self._lease.incarnation, self._row[0])

    @property
    def created_at(self) -> datetime:
        """When it was enqueued, by the database's clock."""
        return created_at(self._row[7])

    @property
    def trace_context(self) -> str | None:
        """The trace in which it was enqueued, as W3C's traceparent (and behind a blank tracestate).

        None where there was none, and in a worker that does not trace: it is not asked for then.
        """
        return self._row[13] if len(self._row) > 13 else None

    @property
    def payload(self) -> Any:
        """What was enqueued, read from JSON at the first use.

        Raises JobsyncError, which fails the attempt like any other error, where somebody wrote what Python cannot carry
        in SQL.
        """
        if self._payload is _UNREAD:
            try:
                self._payload = json.loads(self._row[9])
            except (ValueError, RecursionError) as error:
                raise JobsyncError(
                    f"the payload of {self} cannot be read by Python ({error}): enqueue did not store it; "
                    "correct it in the table of bodies, or cancel the job"
                ) from None
        return self._payload

    @property
    def lost(self) -> bool:
        """Whether the job is known not to be this attempt's any more: its lease was lost, or it was cancelled.

        A handler that loops looks at it now and then, and returns: whatever it still does is in vain.
        """
        lease = self._lease
        return self._is_lost or lease.is_lost or time.clock_gettime(_BOOT_CLOCK) >= lease.until_sec

    def raise_if_lost(self) -> None:
        """Raise LeaseLost if `lost`."""
        if self.lost:
            raise LeaseLost(f"{self} is no longer this attempt's: stop working on it; its result would be refused")

    def update_progress(self, percent: int, message: str | None = None) -> None:
        """Write down how far it has come, from 0 to 100, for everybody to see. Raises LeaseLost if it is lost.

        It waits for the database: in a coroutine, `await asyncio.to_thread(job.update_progress, 50)`.
        """
        self._lease.desk.update_progress(self, percent, message)

    def __repr__(self) -> str:
        return f"job {self.id} ({self.kind}, attempt {self.attempts} of {self.max_attempts})"

    # --- for the worker --------------------------------------------------------------------------

    def lose(self) -> None:
        """Take note that it is not this attempt's any more."""
        self._is_lost = True

    @property
    def token(self) -> int | None:
        """The token of its affinity."""
        return self._row[12] if len(self._row) > 12 else None

    def as_attempt(self) -> Attempt:
        """Name the attempt as the database checks it."""
        return Attempt(self._row[0], self._row[10], self._row[1])
