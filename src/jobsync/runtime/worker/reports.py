"""What ended and is to be told: kept until the database has answered, and counted once."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from operator import attrgetter
from random import Random
from typing import TYPE_CHECKING, Final

from jobsync.core.log_events import Event, marks
from jobsync.core.messages import Fact, FactKind
from jobsync.core.queue.states import DONE, PENDING
from jobsync.postgres.statement import Row
from jobsync.postgres.worker_line import LineRefused
from jobsync.runtime.worker.endings import ENDED_OTHERWISE, Ending, Endings, bounded
from jobsync.runtime.worker.errand import Errand
from jobsync.runtime.worker.running_job import RunningJob
from jobsync.runtime.worker.slots import Slots

if TYPE_CHECKING:
    from jobsync.runtime.worker.hub import Hub

log = logging.getLogger("jobsync")

UNWRITABLE: Final = "the text of its error was refused by the database"
_RESULT_OF: Final = attrgetter("_result")


class Reports:
    """The ends of one worker's attempts: plain ones lie in the slots' `done`, the others here.

    counted  of those that ended and are not told, how many the flow has taken into account
    """

    def __init__(self, hub: "Hub") -> None:
        self.ended: list[tuple[RunningJob, Ending]] = []
        self.counted = 0
        self.has_given_up = False
        self._hub = hub
        self._endings = Endings(hub.node.settings.secrets, Random().random)  # noqa: S311 - it spreads waits
        self._given_up: set[RunningJob] = set()  # Released at the end of a stop's patience.
        self._struck_off: set[RunningJob] = set()  # Those of them whose end is counted.

    @property
    def _slots(self) -> Slots:
        return self._hub.slots

    @property
    def untold(self) -> int:
        """How many ended of which the database does not know."""
        return len(self._slots.done) + len(self.ended)

    # --- called by the slots ---------------------------------------------------------------------

    def returned(self, job: RunningJob, value: object) -> None:
        """A handler returned."""
        self._note(job, self._decided(job, lambda: self._endings.after_return(job, value)))

    def raised(self, job: RunningJob, error: BaseException) -> None:
        """A handler raised."""
        self._note(job, self._decided(job, lambda: self._endings.after_error(job, error)))

    def _decided(self, job: RunningJob, decide: Callable[[], Ending]) -> Ending:
        """Decide, whatever the application's objects do when they are looked at: the slot must go on."""
        try:
            return decide()
        except BaseException:
            with suppress(BaseException):  # Printing the error may raise as well.
                log.exception(
                    "worker %r: it cannot be told how %r ended",
                    self._hub.terms.worker_id,
                    job,
                    extra=marks(Event.JOB_END_UNTOLD, worker=self._hub.terms.worker_id, job=job.id, kind=job.kind),
                )
            return self._endings.where_deciding_failed(job)

    def unstartable(self, job: RunningJob, error: Exception) -> None:
        """A job could not begin: it goes back uncharged, and for a while nothing more is taken."""
        log.error(
            "worker %r: %r cannot begin, and is given back: %s",
            self._hub.terms.worker_id,
            job,
            error,
            extra=marks(Event.JOB_NOT_BEGUN, worker=self._hub.terms.worker_id, job=job.id, kind=job.kind),
        )
        self._hub.pause()
        self._note(job, Ending(PENDING))

    def _note(self, job: RunningJob, ending: Ending) -> None:
        if self._hub.terms.owns_tokens and job.token is not None:
            self._hub.node.hands.put_back(job.token)
        if job.is_plain and ending.outcome == DONE:
            job._result = ending.result  # noqa: SLF001 - the job and the worker's rooms are one piece
            self._slots.done.append(job)
        else:
            self.ended.append((job, ending))

    # --- telling ---------------------------------------------------------------------------------

    def errands(self) -> list[Errand]:
        """Make what tells the database of everything that ended."""
        return [*self._done(), *self._ends()]

    def _done(self) -> list[Errand]:
        done = self._slots.done
        count = len(done)
        batch = done[:count]
        if self._given_up:
            batch = [job for job in batch if job not in self._given_up]
        over = [*self._hub.holdings.over, *self._hub.holdings.over_with(batch)]
        if not batch and not over:
            del done[:count]
            return []
        rows = [job._row for job in batch]  # noqa: SLF001
        results = list(map(_RESULT_OF, batch))
        work = self._hub.leases.done(
            [row[0] for row in rows],
            [row[10] for row in rows],
            [row[1] for row in rows],
            results if any(results) else (),
            over,
        )

        def answered(refused: list[Row]) -> None:
            del done[:count]
            self.counted -= count
            self._hub.holdings.closed(batch)
            self._hub.holdings.over.difference_update(over)
            if refused:
                text = (
                    f"worker {self._hub.terms.worker_id!r}: late results of {len(refused)} jobs are refused, such as "
                    f"of job {refused[0][0]}: they are others' now, or were cancelled"
                )
                self._hub.node.say(Fact(FactKind.WRITE_REFUSED, text, "warning", len(refused)))

        def was_refused(refusal: LineRefused) -> None:
            if not refusal.is_data:
                raise refusal
            # One result among them is to blame: each is told by itself.
            del done[:count]
            self.ended.extend((job, Ending(DONE, result=job._result)) for job in batch)  # noqa: SLF001

        return [Errand(work, answered, was_refused)]

    def _ends(self) -> list[Errand]:
        entries = list(self.ended)
        for entry in entries:
            if entry[1] is ENDED_OTHERWISE:
                self._strike_off(entry)
        return [self._end_errand(entry) for entry in entries if entry[1] is not ENDED_OTHERWISE]

    def _strike_off(self, entry: tuple[RunningJob, Ending]) -> None:
        """Take note that the database knows the end of a job, once a job."""
        self.ended.remove(entry)
        self.counted -= 1
        job = entry[0]
        if job in self._struck_off:
            return
        if job in self._given_up:
            self._struck_off.add(job)
        if self._hub.holdings.gated.pop(job.id, None) is not None:
            self._hub.gate.heard()  # Its place may be another's now, and the one place of a suspect.
        self._hub.holdings.closed([job])

    def _end_errand(self, entry: tuple[RunningJob, Ending]) -> Errand:
        job, ending = entry
        assert ending.outcome is not None
        work = self._hub.leases.end(
            job.as_attempt(), ending.outcome, wait_sec=ending.wait_sec, error=ending.error, result=ending.result
        )

        def answered(rows: list[Row]) -> None:
            self._strike_off(entry)
            if not rows[0][0]:
                text = f"worker {self._hub.terms.worker_id!r}: the late end of {job!r} is refused ({ending.outcome})"
                self._hub.node.say(Fact(FactKind.WRITE_REFUSED, text, "warning"))

        def was_refused(refusal: LineRefused) -> None:
            again = self._after_refusal(job, ending, refusal) if refusal.is_data else None
            if again is None:
                raise refusal
            self.ended.remove(entry)
            self.ended.append((job, again))

        return Errand(work, answered, was_refused)

    def _after_refusal(self, job: RunningJob, ending: Ending, refusal: LineRefused) -> Ending | None:
        """Say what to tell of an end whose texts the database does not take; None: there is nothing plainer."""
        if ending.outcome == DONE:
            return self._endings.failed(job, ValueError(f"its result was refused: {refusal}"))
        if ending.error is None or ending.error == UNWRITABLE:
            return None
        # The database's encoding may not have all the characters; ASCII is in every one of them.
        plain = ending.error.encode("ascii", "backslashreplace").decode("ascii")
        return replace(ending, error=UNWRITABLE if plain == ending.error else bounded(plain))

    # --- giving up -------------------------------------------------------------------------------

    def give_back(self, job: RunningJob) -> None:
        """Give back a job that was taken singly and is not to run here."""
        self.ended.append((job, Ending(PENDING)))

    def are_given_up(self, jobs: list[RunningJob]) -> bool:
        """Whether none of these is anything to wait for."""
        return all(job in self._given_up or job.lost or job.has_ended for job in jobs)

    def give_up(self) -> None:
        """Release what runs yet at the end of a stop's patience: others may have it at once, and it is not charged.

        It is done again for what was about to begin at the first time, and came in sight meanwhile.
        """
        told = {job for job, _ in self.ended}.union(self._slots.done, self._given_up)
        left = [job for job in self._slots.running() if job not in told and not job.lost and not job.has_ended]
        for job in left:
            self._given_up.add(job)
            job.has_ended = True
            self.ended.append((job, Ending(PENDING)))
        self.has_given_up = True
        for job in left:
            job.lose()
            self._slots.cancel(job)
