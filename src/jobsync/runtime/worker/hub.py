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
from collections.abc import Callable
from contextlib import suppress
from operator import attrgetter
from typing import Final

from jobsync.core.errors import JobsyncError, redact
from jobsync.core.log_events import Event, marks
from jobsync.core.queue.flow import PATIENCE_SEC
from jobsync.core.retry import Retry as Backoff
from jobsync.postgres.leases import Leases
from jobsync.postgres.statement import Row
from jobsync.postgres.worker_line import LineBroken, LineRefused, WorkerLine
from jobsync.runtime.clock import boot_sec
from jobsync.runtime.node import Node
from jobsync.runtime.waiting import Flag, begin
from jobsync.runtime.worker.care import Care
from jobsync.runtime.worker.errand import Errand
from jobsync.runtime.worker.gate import Gate
from jobsync.runtime.worker.holdings import Holdings
from jobsync.runtime.worker.reports import Reports
from jobsync.runtime.worker.running_job import Desk, HeldLease, RunningJob
from jobsync.runtime.worker.slots import Calls, Slots
from jobsync.runtime.worker.stock import Stock
from jobsync.runtime.worker.terms import Terms

log = logging.getLogger("jobsync")

LOOK_AT_STOCK_SEC: Final = PATIENCE_SEC / 2
PAUSE_SEC: Final = 1.0
DOUBT_SEC: Final = 0.1  # How often a node is asked whether it is certain of its place again.
DOUBT_WAITS_SEC: Final = (0.0, 2.0, 20.0)
GIVEN_UP_LOOK_SEC: Final = 0.02  # How often it is looked whether what was about to begin is in sight.
GIVE_UP_SEC: Final = 5.0  # How long a stopping worker tries to tell a database that is away.
_RESULT_OF: Final = attrgetter("_result")


class Hub:
    """The thread, the line and the books of one worker."""

    def __init__(self, node: Node, terms: Terms, desk: Desk, *, failed: Callable[[], None]) -> None:
        self.terms = terms
        self.node = node
        self._name = terms.worker_id
        self.line = WorkerLine(node.pool.terms.conninfo, node.pool.terms.unavailable, boot_sec)
        self.leases = Leases(
            node.settings.prefix,
            terms.worker_id,
            lease_ms=terms.lease_ms,
            max_crashes=terms.max_crashes,
            traced=terms.traced,
        )
        self.holdings = Holdings(node, lease_sec=terms.lease_ms / 1000, threshold=terms.extend_after)
        self.reports = Reports(self)
        calls = Calls(
            self.reports.returned, self.reports.raised, self.reports.unstartable, self.holdings.is_certain, self.wake
        )
        self.slots = Slots(terms.slots, terms.worker_id, calls)
        self.error: BaseException | None = None
        self.has_ended = Flag()
        self.left_behind: tuple[RunningJob, ...] = ()
        self.is_stopping = False
        self.steered: str | None = None  # What people ask of the node: cordon or drain.
        self._desk = desk
        self._tell_failed = failed
        self.gate = Gate(self)
        self._stock = Stock(self)
        self._care = Care(self)
        self._sleeper = allocate_lock()
        self._sleeper.acquire()
        self._stop_until_sec = float("inf")
        self._paused_until_sec = 0.0
        self._doubts_sec: list[float] = []  # When to ask whether something was given in an answer that never came.
        self._backoff = Backoff(terms.worker_id, first_sec=0.05, most_sec=5.0)
        self._free_seen = 0  # How many slots were free when it was decided what to ask for.
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

    def pause(self) -> None:
        """Take nothing for a while: there is no thread to run it."""
        self._paused_until_sec = boot_sec() + PAUSE_SEC
        self.look_for_more()  # After the pause.
        self.wake()

    def heard(self) -> None:
        """Jobs may have become free."""
        self._stock.may_wait = True
        self.gate.heard()
        self._care.heard()
        self.wake()

    def wake(self) -> None:
        """End the hub's rest, or keep it from beginning one."""
        with suppress(RuntimeError):  # It is awake, or woken already.
            self._sleeper.release()

    def steer(self, verb: str | None) -> None:
        """Take nothing more while people ask for it; the database gives nothing then, either."""
        log.info(
            "worker %r: %s",
            self.terms.worker_id,
            f"asked to {verb}, takes no jobs" if verb else "takes jobs again",
            extra=marks(Event.WORKER_STEERED, worker=self.terms.worker_id, verb=verb or "resume"),
        )
        self.steered = verb
        self.look_for_more()

    def disown(self) -> None:
        """In a forked child: do nothing any more; everything here is the parent's."""
        self.is_stopping = True
        self.slots.disown()
        self.line.disown()
        self.has_ended.set()

    def look_for_more(self) -> None:
        """Have the hub ask for jobs in its next round."""
        self._stock.may_wait = True
        self.gate.heard()

    @property
    def lanes_text(self) -> str:
        """The lanes of this worker's kinds, as an array's literal."""
        return self._care.lanes_text

    @property
    def is_alive(self) -> bool:
        """Whether the hub runs."""
        return self._thread.is_alive() and not self.has_ended.is_set()

    # --- the loop --------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._is_over():
                self._step(boot_sec())
        except BaseException as error:
            log.exception(
                "worker %r failed; it takes nothing any more",
                self.terms.worker_id,
                extra=marks(Event.WORKER_FAILED, worker=self.terms.worker_id),
            )
            self.error = error
        finally:
            self._end()

    def _step(self, now_sec: float) -> None:
        self._take_note(now_sec)
        if now_sec < self._backoff.not_before_sec:
            self._rest(self._backoff.not_before_sec - now_sec)
            return
        try:
            acted = self._stock.give_back(now_sec)
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
        self.look_for_more()  # What was asked for may not have been answered.
        self._backoff.failed(boot_sec())
        text = redact(str(error), self.node.settings.secrets)
        log.warning(
            "worker %r: the database is away or refuses: %s",
            self.terms.worker_id,
            text,
            extra=marks(Event.WORKER_WAITS, worker=self.terms.worker_id),
        )

    def _rest(self, sec: float) -> None:
        self.slots.hub_sleeps = True
        # Asked after the sleep was announced, so that nothing which ends now goes unnoticed.
        has_news = self.reports.untold or self.slots.free > self._free_seen
        if boot_sec() < self._backoff.not_before_sec or not has_news:
            self._sleeper.acquire(timeout=min(max(sec, 0.0), 60.0))
        self.slots.hub_sleeps = False

    def _rest_until_sec(self) -> float:
        until_sec = min(self._care.due_sec, self.holdings.extend_due_sec)
        if self._may_take():
            until_sec = min(until_sec, self.gate.due_sec)
        elif self._paused_until_sec > boot_sec():
            until_sec = min(until_sec, self._paused_until_sec)
        if self._doubts_sec and self.node.incarnation:
            until_sec = min(until_sec, self._doubts_sec[0])
        if self.slots.fetched:
            until_sec = min(until_sec, boot_sec() + LOOK_AT_STOCK_SEC)
        if self.is_stopping:
            wait_until_sec = boot_sec() + GIVEN_UP_LOOK_SEC if self.reports.has_given_up else self._stop_until_sec
            until_sec = min(until_sec, wait_until_sec)
        elif (self._stock.may_wait or self.gate.may_wait) and self.node.holding is None:
            until_sec = min(until_sec, boot_sec() + DOUBT_SEC)
        return until_sec

    def _may_take(self) -> bool:
        """Whether jobs may be taken at all: not while it is unknown whether the node is still in the fleet."""
        if self.is_stopping or self.steered or boot_sec() < self._paused_until_sec:
            return False
        return self.node.holding is not None and bool(self._care.lanes)

    def _take_note(self, now_sec: float) -> None:
        """See what happened while the hub was busy or at rest."""
        self._stock.take_note(now_sec)
        if self.holdings.lose(self.holdings.doubtful(now_sec)):
            self.drop_lost()
        if self.is_stopping:
            self.slots.reserve = 1  # Nothing more begins.
            if now_sec >= self._stop_until_sec:
                self.reports.give_up()
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
                extra=marks(Event.WORKER_LOST_LEASE, worker=self.terms.worker_id, count=len(dropped) + len(running)),
            )

    # --- one round -------------------------------------------------------------------------------

    def _round(self, now_sec: float) -> bool:
        """Tell what ended and fetch more, in one round trip; True if there was anything to do."""
        self._settle_doubts(now_sec)
        self._free_seen = self.slots.free
        errands = self.reports.errands()
        may_take = self._may_take()
        try:
            if may_take:
                errands += self.gate.errands(now_sec, plain_waits=self._stock.may_wait)
                errands += self._stock.errands(now_sec)
            self.run(errands)
        finally:
            self.gate.lay_down()
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
            self._run_apart(errands)
            return
        for errand, rows in zip(errands, answers, strict=True):
            errand.answered(rows)

    def _run_apart(self, errands: list[Errand]) -> None:
        """Run each by itself, those behind one that is refused as well; raise the first refusal at the end."""
        refusals = list[LineRefused]()
        for errand in errands:
            try:
                self.run([errand])
            except LineRefused as refusal:
                refusals.append(refusal)
        if refusals:
            raise refusals[0]

    def _settle_doubts(self, now_sec: float) -> None:
        """Give back what was perhaps given in an answer that never came."""
        if self._doubts_sec and self._doubts_sec[0] <= now_sec and self.node.incarnation:
            self.line.run(self.leases.release_unknown(self.node.incarnation, list(self.holdings.leases)))
            del self._doubts_sec[0]

    def admit(self, rows: list[Row], incarnation: int, sent_sec: float, *, is_plain: bool) -> list[RunningJob]:
        """Take note of a lease that was given, and make its jobs."""
        until_sec = self.holdings.until_sec(sent_sec)
        lease = HeldLease(rows[0][0], incarnation, until_sec, self._desk, left=len(rows))
        self.holdings.add(lease)
        lanes = self._care.lanes
        return [RunningJob(row, lease, lanes[row[2]], is_plain=is_plain) for row in rows]  # type: ignore[arg-type]

    # --- the end ---------------------------------------------------------------------------------

    def _is_over(self) -> bool:
        if self.node.has_ended:
            self.error = self.node.engine.error
            return True
        if not self.is_stopping:
            return False
        now_sec = boot_sec()
        if now_sec > self._stop_until_sec + GIVE_UP_SEC:
            return True
        # The permits first: whoever lays one down has told before how his job ended, and has no other in his hands.
        permits_out = self.terms.slots - self.slots.free
        left = self.slots.running()
        if self.slots.fetched or self.reports.untold or self._stock.in_doubt:
            return False
        if not permits_out:
            return True
        return self.reports.has_given_up and len(left) >= permits_out and self.reports.are_given_up(left)

    def _end(self) -> None:
        self.is_stopping = True
        try:
            self._leave()
        except Exception:
            log.exception(
                "worker %r could not end in order; what it held is others' when its lease ends",
                self._name,
                extra=marks(Event.WORKER_END_FAILED, worker=self.terms.worker_id),
            )
        finally:
            self.line.close()
            self.has_ended.set()
        if self.error is not None:
            self._tell_failed()

    def _leave(self) -> None:
        holds_any = bool(self.holdings.leases)
        self.holdings.lose(self.holdings.leases.values())
        for job in self.slots.running():
            self.slots.cancel(job)
        self.slots.close()
        self.node.unlisten_for_jobs(self.heard)
        with suppress(ValueError):
            self.node.on_end.remove(self.wake)
        with suppress(LineBroken, LineRefused, JobsyncError):
            if holds_any and self.node.incarnation:
                # As after a failure: whatever it is, others may have it at once, and no attempt is charged.
                self.line.run(self.leases.release_unknown(self.node.incarnation, []))
            self._care.depart()
        self.left_behind = tuple(self.slots.running())
        if self.left_behind:
            log.warning(
                "worker %r stopped while handlers still run, whose jobs are others' now: %s",
                self._name,
                ", ".join(map(repr, self.left_behind)),
                extra=marks(Event.WORKER_LEFT_BEHIND, worker=self.terms.worker_id, count=len(self.left_behind)),
            )
