"""Taking what is taken one by one: into free slots only, each to begin at once.

Jobs at the gate are those with an affinity or a limit, those that crashed, and last attempts. While the handlers are
busy with a stream of plain jobs the gate asks for a slot to be kept free, but only where something is seen to wait
there, and the less often the more often nothing of it could be had.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from jobsync.postgres.statement import Row, Statement
from jobsync.postgres.worker_line import LineRefused
from jobsync.runtime.worker.errand import Errand
from jobsync.runtime.worker.running_job import RunningJob

if TYPE_CHECKING:
    from jobsync.runtime.worker.hub import Hub

FIRST_WAIT_SEC: Final = 0.02
MOST_DOUBLINGS: Final = 3  # What a dead worker left waits at the gate: nobody may look away from it for long.


class Gate:
    """What one worker knows of the gate, and what it takes from it."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self.may_wait = True  # Whether anything may wait there.
        self._seen = False  # Whether something was seen to.
        self._permits = 0
        self._turn = False
        self._failures = 0
        self._not_before_sec = 0.0
        self._from_token = 0

    def heard(self) -> None:
        """Something may wait at the gate."""
        self.may_wait = True

    @property
    def due_sec(self) -> float:
        """When to look again; infinite where nothing waits."""
        return self._not_before_sec if self.may_wait and self._not_before_sec else float("inf")

    def errands(self, now_sec: float, *, plain_waits: bool) -> list[Errand]:
        """Make what is to be asked in this round."""
        slots = self._hub.slots
        free = slots.free
        if not self.may_wait or now_sec < self._not_before_sec:
            slots.reserve = 0
            return []
        self._not_before_sec = 0.0
        if not free:
            slots.reserve = int(self._seen)
            return [] if self._seen else [self._peek(now_sec)]
        slots.reserve = 0
        most = free
        if plain_waits:
            self._turn = not self._turn
            most = (free + self._turn) // 2
        self._permits = slots.take_permits(most)
        return [self._take(self._permits, now_sec)] if self._permits else []

    def lay_down(self) -> None:
        """Give the permits back that found no job."""
        self._hub.slots.put_permits(self._permits)
        self._permits = 0

    def _peek(self, now_sec: float) -> Errand:
        self.may_wait = False

        def answered(rows: list[Row]) -> None:
            if rows[0][0]:
                self.may_wait = self._seen = True
            else:
                self._wait(now_sec)

        return self._errand(self._hub.leases.any_gated(self._hub.lanes_text), answered)

    def _take(self, want: int, now_sec: float) -> Errand:
        hub = self._hub
        incarnation = hub.node.incarnation
        # One that is lost counts no more: its handler may hang for ever, and the others need not.
        suspects = not any(job.crashes and not job.lost for job in hub.holdings.gated.values())
        node = hub.node.name if hub.terms.owns_tokens else None
        work = hub.leases.take_gated(
            incarnation, node, hub.lanes_text, want, suspects=suspects, from_token=self._from_token
        )
        self.may_wait = self._seen = False

        def answered(rows: list[Row]) -> None:
            if not rows:
                self._wait(now_sec)
                return
            self._failures = 0
            self.may_wait = self.may_wait or len(rows) >= want
            jobs = hub.admit(rows, incarnation, now_sec, is_plain=False)
            self._from_token = max(job.token or 0 for job in jobs)
            self._begin(jobs, now_sec)

        return self._errand(work, answered)

    def _errand(self, work: Statement, answered: Callable[[list[Row]], None]) -> Errand:
        def was_refused(refusal: LineRefused) -> None:
            self.may_wait = True
            raise refusal

        return Errand(work, answered, was_refused)

    def _wait(self, now_sec: float) -> None:
        self._not_before_sec = now_sec + FIRST_WAIT_SEC * 2 ** min(self._failures, MOST_DOUBLINGS)
        self._failures += 1

    def _begin(self, jobs: list[RunningJob], now_sec: float) -> None:
        hub = self._hub
        not_ours = []
        for job in jobs:
            hub.holdings.gated[job.id] = job
            token = job.token if hub.terms.owns_tokens else None
            if token is not None:
                # In hand first, and then the look: a hand-over that begins after it waits for the body.
                hub.node.hands.take(token)
                if token not in hub.node.tokens:
                    hub.node.hands.put_back(token)
                    not_ours.append(job)
                    continue
            self._permits -= 1
            hub.slots.start(job)
        for job in not_ours:
            hub.reports.give_back(job)
        if not_ours:
            self._wait(now_sec)  # Until the database has the hand-over as well.
