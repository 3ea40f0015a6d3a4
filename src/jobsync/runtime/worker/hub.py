"""The hub of a worker: the one thread that speaks with the database for it.

Theory of operation. The hub loops: what ended since the last round is told, and more is fetched, in one round trip and
one transaction; then whatever else is due (`Care`). It rests when there is nothing to do, until something is: a handler
ended, jobs may have become free, a time has come. While a round trip is under way the handlers go on with what was
fetched before, and what they finish meanwhile is the next round's: the slower the database, the larger its batches.

What ended stays on the lists of the slots until the database has answered. If the connection breaks in between, it is
told again; the functions of the database make no difference between the first time and the second.
"""

import logging
import threading
from _thread import allocate_lock
from contextlib import suppress
from operator import attrgetter
from random import Random
from typing import Final

from jobsync.core.errors import JobsyncError, redact
from jobsync.core.queue.flow import PATIENCE_SEC, Flow
from jobsync.core.queue.states import DONE, PENDING
from jobsync.core.retry import Retry as Backoff
from jobsync.postgres.leases import Leases
from jobsync.postgres.statement import Row
from jobsync.postgres.worker_line import LineBroken, LineRefused, WorkerLine
from jobsync.runtime.clock import boot_sec
from jobsync.runtime.node import Node
from jobsync.runtime.waiting import Flag, begin
from jobsync.runtime.worker.care import Care
from jobsync.runtime.worker.endings import ENDED_OTHERWISE, Ending, Endings
from jobsync.runtime.worker.errand import Errand
from jobsync.runtime.worker.gate import Gate
from jobsync.runtime.worker.holdings import Holdings
from jobsync.runtime.worker.running_job import Desk, HeldLease, RunningJob
from jobsync.runtime.worker.slots import Calls, Slots
from jobsync.runtime.worker.terms import Terms

log = logging.getLogger("jobsync")

LOOK_AT_STOCK_SEC: Final = PATIENCE_SEC / 2
DOUBT_SEC: Final = 0.1  # How often a node is asked whether it is certain of its place again.
DOUBT_WAITS_SEC: Final = (0.0, 2.0, 20.0)
GIVE_UP_SEC: Final = 5.0  # How long a stopping worker tries to tell a database that is away.
_RESULT_OF: Final = attrgetter("_result")


class Hub:
    """The thread, the line and the books of one worker."""

    def __init__(self, node: Node, terms: Terms, desk: Desk) -> None:
        self.terms = terms
        self.node = node
        self.line = WorkerLine(node.pool.terms.conninfo, node.pool.terms.unavailable)
        self.leases = Leases(
            node.settings.prefix, terms.worker_id, lease_ms=terms.lease_ms, max_crashes=terms.max_crashes
        )
        self.holdings = Holdings(node, lease_sec=terms.lease_ms / 1000, threshold=terms.extend_after)
        calls = Calls(self._returned, self._raised, self.holdings.is_certain, self.wake)
        self.slots = Slots(terms.slots, terms.worker_id, calls)
        self.ended: list[tuple[RunningJob, Ending]] = []
        self.error: BaseException | None = None
        self.has_ended = Flag()
        self.left_behind: tuple[RunningJob, ...] = ()
        self.is_stopping = False
        self._endings = Endings(node.settings.secrets, Random().random)  # noqa: S311 - it spreads waits
        self._flow = Flow(terms.slots)
        self._desk = desk
        self._gate = Gate(self)
        self._care = Care(self)
        self._sleeper = allocate_lock()
        self._sleeper.acquire()
        self._stop_until_sec = float("inf")
        self._more_ready = True
        self._doubts_sec: list[float] = []  # When to ask whether something was given in an answer that never came.
        self._backoff = Backoff(terms.worker_id, first_sec=0.05, most_sec=5.0)
        self._began_sec = 0.0
        self._finished = 0
        self._head: RunningJob | None = None
        self._head_since_sec = 0.0
        self._given_up: set[RunningJob] = set()  # Released at the end of a stop's patience.
        self._has_given_up = False
        self._free_seen = 0  # How many slots were free when it was decided what to ask for.
        self._struck_off: set[RunningJob] = set()  # Those of them whose end is counted.
        self._thread = threading.Thread(target=self._run, name=f"jobsync-worker-{terms.worker_id}", daemon=True)

    # --- called by other threads -----------------------------------------------------------------

    def start(self) -> None:
        """Take back what others lost, say that this worker lives, and begin. Raises what keeps it from that."""
        try:
            self._care.arrive()
        except (LineBroken, LineRefused) as error:
            self.line.close()
            raise JobsyncError(f"worker {self.terms.worker_id!r} cannot begin: {error}") from error
        self.node.on_end.append(self.wake)
        self.node.listen_for_jobs(self.heard)
        begin(self._thread)

    def stop(self, timeout_sec: float) -> None:
        """Ask the worker to stop: nothing more is taken, and what runs has so long to end. Returns at once."""
        self._stop_until_sec = min(self._stop_until_sec, boot_sec() + timeout_sec)
        self.is_stopping = True
        self.wake()

    def heard(self) -> None:
        """Jobs may have become free."""
        self._more_ready = True
        self._gate.heard()
        self._care.heard()
        self.wake()

    def wake(self) -> None:
        """End the hub's rest, or keep it from beginning one."""
        with suppress(RuntimeError):  # It is awake, or woken already.
            self._sleeper.release()

    def disown(self) -> None:
        """In a forked child: do nothing any more; everything here is the parent's."""
        self.is_stopping = True
        self.slots.disown()
        self.line.disown()
        self.has_ended.set()

    def look_for_more(self) -> None:
        """Have the hub ask for jobs in its next round."""
        self._more_ready = True
        self._gate.heard()

    @property
    def lanes_text(self) -> str:
        """The lanes of this worker's kinds, as an array's literal."""
        return self._care.lanes_text

    @property
    def is_alive(self) -> bool:
        """Whether the hub runs."""
        return self._thread.is_alive() and not self.has_ended.is_set()

    # --- called by the slots ---------------------------------------------------------------------

    def _returned(self, job: RunningJob, value: object) -> None:
        self._ends(job, self._endings.after_return(job, value))

    def _raised(self, job: RunningJob, error: BaseException) -> None:
        self._ends(job, self._endings.after_error(job, error))

    def _ends(self, job: RunningJob, ending: Ending) -> None:
        if self.terms.owns_tokens and job.token is not None:
            self.node.hands.put_back(job.token)
        if job.is_plain and ending.outcome == DONE:
            job._result = ending.result  # noqa: SLF001
            self.slots.done.append(job)
        else:
            self.ended.append((job, ending))

    # --- the loop --------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._is_over():
                self._step(boot_sec())
        except BaseException as error:
            log.exception("worker %r failed; it takes nothing any more", self.terms.worker_id)
            self.error = error
        finally:
            self._end()

    def _step(self, now_sec: float) -> None:
        self._take_note(now_sec)
        if now_sec < self._backoff.not_before_sec:
            self._rest(self._backoff.not_before_sec - now_sec)
            return
        try:
            acted = self._give_back(now_sec)
            acted = self._round(now_sec) or acted
            acted = self._care.see_to(now_sec) or acted
            self._backoff.succeeded()
        except (LineBroken, LineRefused, JobsyncError) as error:
            self._failed(error)
            return
        if not acted:
            self._rest(self._rest_until_sec() - boot_sec())

    def _failed(self, error: Exception) -> None:
        if isinstance(error, LineBroken):
            # Again later: the server may go on with a statement whose client is gone.
            self._doubts_sec = [boot_sec() + wait_sec for wait_sec in DOUBT_WAITS_SEC]
        self._backoff.failed(boot_sec())
        text = redact(str(error), self.node.settings.secrets)
        log.warning("worker %r: the database is away or refuses: %s", self.terms.worker_id, text)

    def _rest(self, sec: float) -> None:
        self.slots.hub_sleeps = True
        # Asked after the sleep was announced, so that nothing which ends now goes unnoticed.
        has_news = self.slots.done or self.ended or self.slots.free > self._free_seen
        if boot_sec() < self._backoff.not_before_sec or not has_news:
            self._sleeper.acquire(timeout=min(max(sec, 0.0), 60.0))
        self.slots.hub_sleeps = False

    def _rest_until_sec(self) -> float:
        until_sec = min(self._care.due_sec, self.holdings.extend_due_sec, self._gate.due_sec)
        if self._doubts_sec:
            until_sec = min(until_sec, self._doubts_sec[0])
        if self.slots.fetched:
            until_sec = min(until_sec, boot_sec() + LOOK_AT_STOCK_SEC)
        if self.is_stopping:
            until_sec = min(until_sec, self._stop_until_sec)
        elif self._more_ready and not self._may_take():
            until_sec = min(until_sec, boot_sec() + DOUBT_SEC)
        return until_sec

    def _may_take(self) -> bool:
        """Whether jobs may be taken at all: not while it is unknown whether the node is still in the fleet."""
        return not self.is_stopping and self.node.holding is not None and bool(self._care.lanes)

    def _take_note(self, now_sec: float) -> None:
        """See what happened while the hub was busy or at rest."""
        running = self.terms.slots - self.slots.free
        finished = len(self.slots.done) + len(self.ended)
        if self._began_sec and (running or finished):
            self._flow.saw(max(0, finished - self._finished), now_sec - self._began_sec)
        self._began_sec, self._finished = now_sec, finished
        if self.holdings.lose(self.holdings.doubtful(now_sec)):
            self.drop_lost()
        head = self.slots.fetched[0] if self.slots.fetched else None
        if head is not self._head:
            self._head, self._head_since_sec = head, now_sec
        if self.is_stopping and now_sec >= self._stop_until_sec and not self._has_given_up:
            self._give_up()
        self.slots.dispatch()

    def drop_lost(self) -> None:
        """Forget what was fetched under leases that are lost, and cancel what runs under them."""
        dropped = self.slots.drop_lost()
        running = [job for job in self.slots.running() if job.lost]
        for job in running:
            self.slots.cancel(job)
        if dropped or running:
            log.warning(
                "worker %r lost its lease on %d jobs, of which %d run: others have them or will; late results are "
                "refused",
                self.terms.worker_id,
                len(dropped) + len(running),
                len(running),
            )

    # --- one round -------------------------------------------------------------------------------

    def _round(self, now_sec: float) -> bool:
        """Tell what ended and fetch more, in one round trip; True if there was anything to do."""
        self._settle_doubts(now_sec)
        self._free_seen = self.slots.free
        errands = [*self._done_errand(), *self._end_errands()]
        may_take = self._may_take()
        try:
            if may_take:
                errands += self._gate.errands(now_sec, plain_waits=self._more_ready)
                errands += self._take_errand(now_sec)
            self.run(errands)
        finally:
            self._gate.lay_down()
            self.slots.dispatch()
        return bool(errands)

    def run(self, errands: list[Errand]) -> None:
        """Run errands in one transaction; each apart, if the database refuses any."""
        if not errands:
            return
        try:
            answers = self.line.run(*(errand.work for errand in errands))
        except LineRefused as refusal:
            if len(errands) == 1:
                errands[0].refused(refusal)
                return
            for errand in errands:
                self.run([errand])
            return
        for errand, rows in zip(errands, answers, strict=True):
            errand.answered(rows)

    def _settle_doubts(self, now_sec: float) -> None:
        """Give back what was perhaps given in an answer that never came."""
        if self._doubts_sec and self._doubts_sec[0] <= now_sec and self.node.incarnation:
            self.line.run(self.leases.release_unknown(self.node.incarnation, list(self.holdings.leases)))
            del self._doubts_sec[0]

    def _done_errand(self) -> list[Errand]:
        done = self.slots.done
        count = len(done)
        batch = done[:count]
        if self._given_up:
            batch = [job for job in batch if job not in self._given_up]
        over = [*self.holdings.over, *self.holdings.over_with(batch)]
        if not batch and not over:
            del done[:count]
            return []
        rows = [job._row for job in batch]  # noqa: SLF001
        results = list(map(_RESULT_OF, batch))
        work = self.leases.done(
            [row[0] for row in rows],
            [row[10] for row in rows],
            [row[1] for row in rows],
            results if any(results) else (),
            over,
        )

        def answered(refused: list[Row]) -> None:
            del done[:count]
            self._finished -= count
            self.holdings.closed(batch)
            self.holdings.over.difference_update(over)
            if refused:
                log.warning(
                    "worker %r: late results of %d jobs are refused, such as of job %d: they are others' now, or "
                    "were cancelled",
                    self.terms.worker_id,
                    len(refused),
                    refused[0][0],
                )

        def was_refused(refusal: LineRefused) -> None:
            if not refusal.is_data:
                raise refusal
            # One result among them is to blame: each is told by itself.
            del done[:count]
            self.ended.extend((job, Ending(DONE, result=job._result)) for job in batch)  # noqa: SLF001

        return [Errand(work, answered, was_refused)]

    def _end_errands(self) -> list[Errand]:
        entries = list(self.ended)
        for entry in entries:
            if entry[1] is ENDED_OTHERWISE:
                self._strike_off(entry)
        return [self._end_errand(entry) for entry in entries if entry[1] is not ENDED_OTHERWISE]

    def _strike_off(self, entry: tuple[RunningJob, Ending]) -> None:
        """Take note that the database knows the end of a job, once a job."""
        self.ended.remove(entry)
        self._finished -= 1
        job = entry[0]
        if job in self._struck_off:
            return
        if job in self._given_up:
            self._struck_off.add(job)
        if self.holdings.gated.pop(job.id, None) is not None:
            self._gate.heard()  # Its place may be another's now, and the one place of a suspect.
        self.holdings.closed([job])

    def _end_errand(self, entry: tuple[RunningJob, Ending]) -> Errand:
        job, ending = entry
        assert ending.outcome is not None
        work = self.leases.end(
            job.as_attempt(), ending.outcome, wait_sec=ending.wait_sec, error=ending.error, result=ending.result
        )

        def answered(rows: list[Row]) -> None:
            self._strike_off(entry)
            if not rows[0][0]:
                log.warning("worker %r: the late end of %r is refused (%s)", self.terms.worker_id, job, ending.outcome)

        def was_refused(refusal: LineRefused) -> None:
            if not refusal.is_data or ending.outcome != DONE:
                raise refusal
            self.ended.remove(entry)
            self.ended.append((job, self._endings.failed(job, ValueError(f"its result was refused: {refusal}"))))

        return Errand(work, answered, was_refused)

    def _take_errand(self, now_sec: float) -> list[Errand]:
        want = self._flow.want(len(self.slots.fetched), self.slots.free)
        if not want or not self._more_ready or self.slots.reserve:
            return []
        incarnation = self.node.incarnation
        work = self.leases.take(incarnation, self._care.lanes_text, want)
        self._more_ready = False  # Before the look: what is heard from now on may come after it.

        def answered(rows: list[Row]) -> None:
            ran_dry = not self.slots.fetched
            self._more_ready = self._more_ready or len(rows) >= want
            self._flow.took(want, len(rows), ran_dry=ran_dry)
            if rows:
                self.slots.fetched.extend(self.admit(rows, incarnation, now_sec, is_plain=True))

        def was_refused(refusal: LineRefused) -> None:
            self._more_ready = True
            raise refusal

        return [Errand(work, answered, was_refused)]

    def admit(self, rows: list[Row], incarnation: int, sent_sec: float, *, is_plain: bool) -> list[RunningJob]:
        """Take note of a lease that was given, and make its jobs."""
        until_sec = self.holdings.until_sec(sent_sec)
        lease = HeldLease(rows[0][0], incarnation, until_sec, self._desk, left=len(rows))
        self.holdings.add(lease)
        lanes = self._care.lanes
        return [RunningJob(row, lease, lanes[row[2]], is_plain=is_plain) for row in rows]  # type: ignore[arg-type]

    # --- giving back -----------------------------------------------------------------------------

    def _give_back(self, now_sec: float) -> bool:
        """Give back what was fetched too early, all of it where the worker stops; True if there was any."""
        fetched = len(self.slots.fetched)
        stalled_sec = now_sec - self._head_since_sec if self._head is not None else 0.0
        surplus = fetched if self.is_stopping else self._flow.surplus(fetched, stalled_sec)
        if not surplus:
            return False
        self.release(self.slots.take_back(surplus))
        self._flow.gave_back()
        self._more_ready = True
        return True

    def give_back(self, job: RunningJob) -> None:
        """Give back a job that was taken singly and is not to run here."""
        self.ended.append((job, Ending(PENDING)))

    def release(self, jobs: list[RunningJob]) -> None:
        """Give back jobs that have not begun."""
        if not jobs:
            return
        try:
            self.line.run(self.leases.release([job.as_attempt() for job in jobs]))
        except BaseException:
            self.slots.fetched.extend(reversed(jobs))
            raise
        self.holdings.closed(jobs)

    # --- the end ---------------------------------------------------------------------------------

    def _give_up(self) -> None:
        """Release what runs yet at the end of a stop's patience: others may have it at once, and it is not charged."""
        told = {job for job, _ in self.ended}.union(self.slots.done, self._given_up)
        for job in self.slots.running():
            if job not in told and not job.lost and not job.has_ended:
                self._given_up.add(job)
                job.has_ended = True
                self.ended.append((job, Ending(PENDING)))
        self._has_given_up = True
        for job in self._given_up:
            job.lose()
            self.slots.cancel(job)

    def _is_over(self) -> bool:
        if self.node.has_ended:
            self.error = self.node.engine.error
            return True
        if not self.is_stopping:
            return False
        now_sec = boot_sec()
        if now_sec > self._stop_until_sec + GIVE_UP_SEC:
            return True
        is_told = not (self.slots.fetched or self.slots.done or self.ended)
        return is_told and (self._has_given_up or not self.slots.running())

    def _end(self) -> None:
        self.is_stopping = True
        self.holdings.lose(self.holdings.leases.values())
        for job in self.slots.running():
            self.slots.cancel(job)
        self.slots.close()
        self.node.unlisten_for_jobs(self.heard)
        with suppress(ValueError):
            self.node.on_end.remove(self.wake)
        with suppress(LineBroken, LineRefused, JobsyncError):
            self._care.depart()
        self.line.close()
        self.left_behind = tuple(self.slots.running())
        if self.left_behind:
            log.warning(
                "worker %r stopped while handlers still run, whose jobs are others' now: %s",
                self.terms.worker_id,
                ", ".join(map(repr, self.left_behind)),
            )
        self.has_ended.set()
