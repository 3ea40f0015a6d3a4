"""One node in one process: the engine, the callbacks, the pool and what is in hand, under one roof.

A `Node` is entered once and left once. Whoever asks whether a token is owned reads one immutable value and his own
clocks; nothing here is locked for that.
"""

import logging
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from datetime import date

from jobsync.core import messages as m
from jobsync.core.errors import EnterTimeout, JobsyncError, NotRunning
from jobsync.core.holding import Holding
from jobsync.core.log_events import Event, marks, marks_of
from jobsync.core.member import Member
from jobsync.core.settings import Settings, Timing
from jobsync.core.tokens import TokenSet
from jobsync.postgres.pool import Pool
from jobsync.postgres.protocol import Protocol
from jobsync.postgres.reception import receive
from jobsync.postgres.session import session_conninfo
from jobsync.runtime.callbacks import Callbacks
from jobsync.runtime.clock import PACE, boot_sec
from jobsync.runtime.engine import Engine, Hooks
from jobsync.runtime.hands import InHand, Latch
from jobsync.runtime.job_hearers import JobHearers
from jobsync.runtime.ledger import Ledger
from jobsync.runtime.place import Doorway
from jobsync.runtime.waiting import Flag

log = logging.getLogger("jobsync")

LEAVE_MARGIN_SEC = 5.0
MARGIN_SEC = 1.0
STOP_LOOK_SEC = 0.1
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_boot_clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Node:
    """A member of the fleet, from `join` to `leave`.

    One that takes no tokens (a queue worker) is watched and fenced like any other, watches others and may lead; it is
    dealt none, nobody who waits for `minimum_nodes` counts it, and it waits for nobody itself.
    """

    def __init__(self, name: str, settings: Settings, *, environment: str | None, takes_tokens: bool = True) -> None:
        self.name = name
        self.settings = settings
        self.takes_tokens = takes_tokens
        self.hands = InHand()
        self.callbacks = Callbacks(name)
        self._doorway = Doorway(settings)
        self.pool: Pool = self._doorway.record_pool()
        self.transactions: Pool = self._doorway.transaction_pool()
        self.ledgers: list[Ledger] = []
        self.on_end: list[Callable[[], None]] = []
        self.hearers: list[Callable[[m.Fact], None]] = []  # Of facts, on the thread on which they come to be.
        self._job_hearers = JobHearers()
        self._timing = Timing.of(settings, session_lease_sec=None)
        own = self._doorway.session_place()
        protocol = Protocol(settings.prefix, host=platform.node(), pid=os.getpid(), environment=environment)
        self.engine = Engine(
            Member(name, settings, takes_tokens=takes_tokens),
            protocol,
            session_conninfo(own.conninfo),
            hooks=Hooks(self._tell, self._drain, self.say, self._ended, self._job_hearers.tell),
            unavailable=own.unavailable,
        )

    # --- entering and leaving ------------------------------------------------------------------

    def receive(self) -> date:
        """Visit the database: the schema stands afterwards; give its date."""
        return receive(self._doorway.place, self.settings.prefix)

    def join(self) -> None:
        """Begin to join, unless that has begun."""
        if self.engine.never_started:
            for doubt in self.settings.doubts():
                log.warning("node %r: %s", self.name, doubt, extra=marks(Event.SETTINGS_DOUBTFUL, node=self.name))
            self.engine.start()

    def wait_until_in(self, *, wait_sec: float | None, stop: Flag) -> None:
        """Wait until enough nodes are live and this one has its first tokens, or gets none.

        One that takes no tokens waits only until it is live. `stop` ends the wait without an error. Raises what keeps
        the node out (NodeNameInUse, ConfigMismatch, DatabaseUnavailable), or EnterTimeout: leaving is then up to the
        caller.
        """
        if not self.takes_tokens:
            self._wait_until_live(stop)
            return
        began_sec = boot_sec()
        limit_sec = self.settings.token_distribution_timeout_sec
        if wait_sec is not None:
            # The grace period is waited in full, so that late starters are counted; only a failure cuts it short.
            wait_sec = PACE.lasting_sec(wait_sec)
            self._wait_for(lambda _: False, wait_sec, stop)
            limit_sec = max(limit_sec, wait_sec + MARGIN_SEC)
            # A period that is shorter than joining takes is no reason to fail: this node is to be counted, too.
            self._wait_for(lambda standing: standing.live > 0, began_sec + limit_sec - boot_sec(), stop)
        # Seen once is enough: a node that waits for its tokens need not see the others stay.
        enough = self._wait_for(self._are_enough, limit_sec if wait_sec is None else 0.0, stop)
        settled = enough and self._wait_for(lambda standing: standing.settled, began_sec + limit_sec - boot_sec(), stop)
        if self.engine.error is not None:
            raise self.engine.error
        if not settled:
            live, waited_sec = self.engine.standing.live, boot_sec() - began_sec
            raise EnterTimeout(self._why_not_ready(live, waited_sec, enough=enough))

    def _wait_until_live(self, stop: Flag) -> None:
        limit_sec = self.settings.token_distribution_timeout_sec
        live = self._wait_for(lambda standing: standing.settled, limit_sec, stop)
        if self.engine.error is not None:
            raise self.engine.error
        if not live:
            raise EnterTimeout(
                f"node {self.name!r} was not let into the fleet within {limit_sec:g} s: look at its log, and whether a "
                f"session holds locks on the tables {self.settings.prefix}*"
            )

    def _why_not_ready(self, live: int, waited_sec: float, *, enough: bool) -> str:
        if not enough:
            return (
                f"node {self.name!r} waited {waited_sec:.1f} s for {self.settings.minimum_nodes} live nodes "
                f"and saw {live}: start the others, wait longer (wait_on_enter, token_distribution_timeout_sec), "
                "or lower minimum_nodes"
            )
        return (
            f"node {self.name!r} was granted no tokens within {waited_sec:.1f} s among {live} live nodes "
            f"(minimum_nodes is {self.settings.minimum_nodes}): look at the leader's log, and whether a session holds "
            f"locks on the tables {self.settings.prefix}*"
        )

    def _are_enough(self, standing: m.Standing) -> bool:
        return standing.live >= self.settings.minimum_nodes

    def _wait_for(self, condition: Callable[[m.Standing], bool], limit_sec: float, stop: Flag) -> bool:
        """Wait for the engine, in slices: nothing but a look can tell that the job was stopped meanwhile."""
        until_sec = boot_sec() + limit_sec
        while True:
            left_sec = until_sec - boot_sec()
            slice_sec = max(0.0, min(STOP_LOOK_SEC, left_sec))
            if self.engine.wait_until(lambda standing: stop.is_set() or condition(standing), slice_sec):
                return True
            if left_sec <= 0 or not self.engine.alive:
                return False

    def leave(self) -> bool:
        """Leave gracefully: hand everything over, delete the row, close all connections. True if it went so."""
        try:
            return not self.engine.alive or self.engine.leave(self._timing.handover_sec + LEAVE_MARGIN_SEC)
        finally:
            self.callbacks.stop()
            self.transactions.close()
            self.pool.close()
            self._doorway.release()

    # --- jobs of the queue ---------------------------------------------------------------------

    def listen_for_jobs(self, heard: Callable[[], None]) -> None:
        """Have a function called whenever jobs may have become free; before or after `join`.

        It is called on the engine's thread and must return at once. It is also called whenever `hears_jobs` turns true,
        as after a break of the session, since something may have been missed; and whenever tokens came to this node,
        with whose lines it may go on. Behind a pooler it hears of nothing else.
        """
        self._job_hearers.add(heard)
        self.engine.post(lambda at: m.JobsWanted(at, bool(self._job_hearers)))

    def unlisten_for_jobs(self, heard: Callable[[], None]) -> None:
        """Have a function called no more; with the last one the session ceases to listen."""
        self._job_hearers.remove(heard)
        self.engine.post(lambda at: m.JobsWanted(at, bool(self._job_hearers)))

    @property
    def hears_jobs(self) -> bool:
        """Whether a session is bound and notified of jobs; False while it is broken, and behind a pooler."""
        return self.engine.standing.hears_jobs

    # --- answering -----------------------------------------------------------------------------

    @property
    def holding(self) -> Holding | None:
        """What is held this instant; None when the lease is not certain."""
        holding = self.engine.standing.holding
        if (
            time.clock_gettime(_boot_clock) < holding.boot_until_sec
            and time.clock_gettime(time.CLOCK_REALTIME) < holding.wall_until_sec
        ):
            return holding
        return None

    @property
    def tokens(self) -> TokenSet:
        """The tokens owned this instant."""
        holding = self.holding
        return holding.tokens if holding is not None else TokenSet()

    @property
    def incarnation(self) -> int:
        """The number of this registration; 0 while the node is not in the fleet."""
        return self.engine.standing.incarnation

    def is_healthy(self) -> bool:
        """Lease certain, engine alive, last reply young, callbacks not stuck."""
        return not any(self.why_unhealthy())

    def why_unhealthy(self) -> Iterator[str]:
        """Say what keeps it from being healthy, a sentence each."""
        standing = self.engine.standing
        if not self.engine.alive:
            yield "it is not in the fleet" + (f": {self.engine.error}" if self.ended_badly else ": not yet, or no more")
            return
        if self.holding is None:
            yield "its lease is not certain: it believes in no tokens until the database answers"
        silent_sec = 0.0 if standing.last_reply is None else boot_sec() - standing.last_reply.boot_sec
        if standing.last_reply is None or silent_sec >= self.settings.health_check_interval_sec:
            yield "the database has not answered" + (f" for {silent_sec:.1f} s" if silent_sec else " yet")
        stuck_sec = self.callbacks.stuck_for_sec()
        if stuck_sec >= self._timing.handover_sec:
            yield f"a callback has not returned for {stuck_sec:.1f} s: hand-overs no longer wait for it"

    @property
    def ended_badly(self) -> bool:
        """Whether it ended by itself, with an error: only another enter helps."""
        return self.engine.error is not None

    @property
    def has_ended(self) -> bool:
        """Whether it was in the fleet and is no more, or failed to enter."""
        return not self.engine.never_started and not self.engine.alive

    def require_running(self) -> None:
        """Raise the reason when the engine has ended."""
        if self.engine.error is not None:
            raise self.engine.error
        if self.engine.never_started:
            raise NotRunning(f"node {self.name!r} is not in the fleet: use the job inside its `with` block")

    # --- hand-overs ----------------------------------------------------------------------------

    def add_ledger(self, ledger: Ledger) -> None:
        """Have a ledger written before any token is given up."""
        self.ledgers.append(ledger)

    def remove_ledger(self, ledger: Ledger) -> None:
        """Forget a ledger that is closed."""
        self.ledgers = [other for other in self.ledgers if other is not ledger]

    def _drain(self, drain: m.Drain) -> None:
        """The application has let go when the callback returned, no body runs, and what was claimed is written."""

        def drained() -> None:
            self.engine.post(lambda at: m.Drained(at, drain.serial))

        unwritten = [ledger for ledger in self.ledgers if not ledger.is_settled]
        latch = Latch(2 + len(unwritten), drained)
        for ledger in unwritten:
            self._flush_apart(ledger, latch)
        self.hands.when_free(drain.tokens, latch.count_down)
        if drain.change is None:
            latch.count_down()
        else:
            self.callbacks.tell(drain.change, latch.count_down)

    def _flush_apart(self, ledger: Ledger, latch: Latch) -> None:
        def work() -> None:
            try:
                ledger.flush()
            except JobsyncError as error:
                log.warning(
                    "node %r: before a hand-over: %s",
                    self.name,
                    error,
                    extra=marks(Event.RECORDS_BEFORE_HANDOVER, node=self.name),
                )
            finally:
                latch.count_down()

        threading.Thread(target=work, name=f"jobsync-flush-{self.name}", daemon=True).start()

    def _tell(self, change: m.Change) -> None:
        self.callbacks.tell(change)
        if change.added:
            self._job_hearers.tell()  # `tokens` shows them already; the database has nothing more to notify.

    def _ended(self) -> None:
        for wake in self.on_end:
            wake()

    def say(self, fact: m.Fact) -> None:
        """Say a fact: to the log, and to whoever counts them."""
        log.log(LEVELS[fact.level], "%s", fact.text, extra=marks_of(fact, self.name))
        for hear in self.hearers:
            try:
                hear(fact)
            except Exception:
                # Facts are heard on the thread that keeps the lease: who counts them may not end it.
                log.exception(
                    "node %r: who hears of facts failed", self.name, extra=marks(Event.HEARER_FAILED, node=self.name)
                )
