"""Plain jobs, fetched ahead: how many to ask for, and what goes back since it was fetched too early."""

from typing import TYPE_CHECKING

from jobsync.core.queue.flow import Flow
from jobsync.postgres.statement import Row
from jobsync.postgres.worker_line import LineBroken, LineRefused
from jobsync.runtime.worker.errand import Errand
from jobsync.runtime.worker.running_job import RunningJob

if TYPE_CHECKING:
    from jobsync.runtime.worker.hub import Hub


class Stock:
    """What one worker has fetched and not begun.

    may_wait  whether more may wait in the database than was taken
    in_doubt  what was given back in a statement whose answer was lost: perhaps others run it already
    """

    def __init__(self, hub: "Hub") -> None:
        self.may_wait = True
        self.in_doubt: list[RunningJob] = []
        self._hub = hub
        self._flow = Flow(hub.terms.slots)
        self._seen_sec = 0.0
        self._head: RunningJob | None = None
        self._head_since_sec = 0.0

    def take_note(self, now_sec: float) -> None:
        """See how quickly jobs ended since the last look, and for how long the first of the fetched has waited."""
        slots, reports = self._hub.slots, self._hub.reports
        running = self._hub.terms.slots - slots.free
        untold = reports.untold
        if self._seen_sec and (running or untold):
            self._flow.saw(max(0, untold - reports.counted), now_sec - self._seen_sec)
        self._seen_sec, reports.counted = now_sec, untold
        try:
            head = slots.fetched[0]
        except IndexError:
            head = None
        if head is not self._head:
            self._head, self._head_since_sec = head, now_sec

    def errands(self, now_sec: float) -> list[Errand]:
        """Make what is to be asked in this round."""
        want = self._flow.want(len(self._hub.slots.fetched), self._hub.slots.free)
        if not want or not self.may_wait or self._hub.slots.reserve:
            return []
        incarnation = self._hub.node.incarnation
        work = self._hub.leases.take(incarnation, self._hub.lanes_text, want)
        self.may_wait = False  # Before the look: what is heard from now on may come after it.

        def answered(rows: list[Row]) -> None:
            ran_dry = not self._hub.slots.fetched
            self.may_wait = self.may_wait or len(rows) >= want
            self._flow.took(want, len(rows), ran_dry=ran_dry)
            if rows:
                self._hub.slots.fetched.extend(self._hub.admit(rows, incarnation, now_sec, is_plain=True))

        def was_refused(refusal: LineRefused) -> None:
            self.may_wait = True
            raise refusal

        return [Errand(work, answered, was_refused)]

    # --- giving back -----------------------------------------------------------------------------

    def give_back(self, now_sec: float) -> bool:
        """Give back what was fetched too early, all of it of one that stops or is drained; True if there was any."""
        fetched = len(self._hub.slots.fetched)
        stalled_sec = now_sec - self._head_since_sec if self._head is not None else 0.0
        gives_all = self._hub.is_stopping or self._hub.steered == "drain"
        surplus = fetched if gives_all else self._flow.surplus(fetched, stalled_sec)
        if not surplus and not self.in_doubt:
            return False
        self._tell_again()
        if surplus:
            self._release(self._hub.slots.take_back(surplus))
            self._flow.gave_back()
            self.may_wait = True
        return True

    def _release(self, jobs: list[RunningJob]) -> None:
        """Give back jobs that have not begun."""
        if not jobs:
            return
        try:
            self._hub.line.run(self._hub.leases.release([job.as_attempt() for job in jobs]))
        except LineBroken:
            self.in_doubt += jobs  # Nevermore to the others: perhaps it was committed.
            raise
        except BaseException:
            self._hub.slots.fetched.extend(reversed(jobs))
            raise
        self._hub.holdings.closed(jobs)

    def _tell_again(self) -> None:
        """Give back again what is in doubt: to the database, the second time is as the first."""
        jobs = self.in_doubt
        if not jobs:
            return
        self._hub.line.run(self._hub.leases.release([job.as_attempt() for job in jobs]))
        self.in_doubt = []
        self._hub.holdings.closed(jobs)
