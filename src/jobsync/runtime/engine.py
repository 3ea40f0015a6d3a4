"""The thread that keeps a node's lease alive: it owns the member, the session and the wait.

One loop: wait for the socket, the inbox or the next due time; turn what came into an event; let the member decide;
carry the effects out in order. The loop waits nowhere else: not for a lock, not for the server, not for the
application. Readers in other threads see the member only through `standing`, one immutable value.

A session that did not answer in time is not closed before its successor is bound: the server would see it gone,
and observers would start to count, although the node lives.
"""

import logging
import os
import select
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass

from jobsync.core import messages as m
from jobsync.core.errors import JobsyncError
from jobsync.core.leases import Instant
from jobsync.core.log_events import Event, marks
from jobsync.core.member import Member
from jobsync.core.tokens import TokenSet
from jobsync.postgres.opening import PING, open_script
from jobsync.postgres.protocol import Protocol
from jobsync.postgres.schema import unusable_schema
from jobsync.postgres.session import Done, Session, SessionBroken, is_lock_conflict, is_session_over
from jobsync.postgres.statement import Statement
from jobsync.runtime.clock import boot_sec, now
from jobsync.runtime.waiting import Bell

OPEN_DEADLINE_SEC = 5.0

log = logging.getLogger("jobsync")


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the engine calls on its own thread; each returns at once."""

    tell: Callable[[m.Change], None]
    drain: Callable[[m.Drain], None]
    report: Callable[[m.Fact], None]
    ended: Callable[[], None]
    hear_jobs: Callable[[], None]


@dataclass(slots=True)
class _Asked:
    question: m.Question
    sent: Instant
    deadline_sec: float


class Engine:
    """Runs one member in one daemon thread."""

    def __init__(
        self,
        member: Member,
        protocol: Protocol,
        conninfo: str,
        *,
        hooks: Hooks,
        unavailable: Callable[[str], JobsyncError],
    ) -> None:
        self.standing = m.NOBODY
        self.error: JobsyncError | None = None
        self.time_beat: Callable[[float], None] | None = None  # Called with each beat's round trip, in seconds.
        self._member = member
        self._protocol = protocol
        self._conninfo = conninfo
        self._hooks = hooks
        self._unavailable = unavailable
        self._thread = threading.Thread(target=self._run, name=f"jobsync-{member.name}", daemon=True)
        self._changed = Bell()
        self._finished = False
        self._inbox: deque[Callable[[Instant], m.Event]] = deque()
        self._wake_read = self._wake_write = -1
        self._pipe_lock = threading.RLock()  # reentrant: a signal handler may post
        self._session: Session | None = None
        self._stale: Session | None = None
        self._opening: Generator[Statement, Done, m.Hello] | None = None
        self._opening_deadline_sec = 0.0
        self._greeted = False
        self._asked: _Asked | None = None
        self._wake_at_sec = 0.0
        self._events: deque[m.Event] = deque()
        self._stepping = False
        _forget_in_children(self)

    # --- called by other threads ---------------------------------------------------------------

    def start(self) -> None:
        """Start the thread."""
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive() and not self._finished

    @property
    def never_started(self) -> bool:
        """Whether the thread was not started, or belongs to the process that this one was forked from."""
        return self._thread.ident is None

    def post(self, make_event: Callable[[Instant], m.Event]) -> None:
        """Hand an event in from any thread, or from a signal handler."""
        self._inbox.append(make_event)
        with self._pipe_lock:
            if self._wake_write >= 0:
                with suppress(BlockingIOError):
                    os.write(self._wake_write, b"\0")

    def wait_until(self, condition: Callable[[m.Standing], bool], timeout_sec: float | None) -> bool:
        """Wait until the standing fulfils a condition; False on time-out or when the engine ended before."""
        self._changed.wait_for(lambda: condition(self.standing) or self._finished, timeout_sec)
        return condition(self.standing)

    def leave(self, timeout_sec: float) -> bool:
        """Leave the fleet gracefully; True once it is done."""
        self.post(m.LeaveAsked)
        self._thread.join(timeout_sec)
        if self._thread.is_alive():
            # Better gone than half gone: the session ends, and the others take everything over within a second.
            log.warning(
                "node %r could not leave within %.0f s; it is cut off",
                self._member.name,
                timeout_sec,
                extra=marks(Event.LEAVE_CUT_OFF, node=self._member.name, seconds=timeout_sec),
            )
            self._finish()
            self.post(m.Ticked)
            return False
        return True

    def disown(self) -> None:
        """Believe nothing, in a forked child: the lease and the session are the parent's."""
        self.standing = m.NOBODY
        self._finished = True
        # The child's copy of the socket would keep the server's session standing after the parent's death. The
        # descriptor alone is closed: libpq would say good-bye in the parent's name.
        for session in (self._session, self._stale):
            if session is not None:
                with suppress(Exception):  # It may be closed already; a child has nothing to lose.
                    os.close(session.fileno)

    # --- the loop ------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._step(m.Started(now()))
            while not self._finished:
                self._wait()
                self._take_inbox()
                self._take_session()
                if not self._finished and boot_sec() >= self._wake_at_sec:
                    self._step(m.Ticked(now()))
        except BaseException as error:
            log.exception(
                "node %r: the engine failed; it owns nothing any more",
                self._member.name,
                extra=marks(Event.ENGINE_FAILED, node=self._member.name),
            )
            self.error = JobsyncError(
                f"the engine of node {self._member.name!r} failed: {error!r}; see the log, and restart it"
            )
            self._finish()
        finally:
            self._close()

    def _wait(self) -> None:
        poller = select.poll()
        poller.register(self._wake_read, select.POLLIN)
        if self._session is not None:
            poller.register(self._session.fileno, self._session.wanted_events)
        until_sec = self._wake_at_sec
        if self._asked is not None:
            until_sec = min(until_sec, self._asked.deadline_sec)
        if self._opening is not None:
            until_sec = min(until_sec, self._opening_deadline_sec)
        poller.poll(max(0.0, until_sec - boot_sec()) * 1000)

    def _take_inbox(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        while self._inbox and not self._finished:
            self._step(self._inbox.popleft()(now()))

    def _step(self, event: m.Event) -> None:
        """Let the member decide. An event that arises while effects are carried out waits for its turn."""
        self._events.append(event)
        if self._stepping:
            return
        self._stepping = True
        try:
            while self._events:
                for effect in self._member.step(self._events.popleft()):
                    self._carry_out(effect)
        finally:
            self._stepping = False

    def _carry_out(self, effect: m.Effect) -> None:
        match effect:
            case m.Publish(standing):
                self._publish(standing)
            case m.Ask(question, deadline_sec):
                self._ask(question, deadline_sec)
            case m.WakeAt(at_sec):
                self._wake_at_sec = at_sec
            case m.OpenSession():
                self._open()
            case m.Tell(change):
                self._hooks.tell(change)
            case m.Drain():
                self._hooks.drain(effect)
            case m.Report(fact):
                self._hooks.report(fact)
            case m.Finish(error):
                self.error = error
                self._finish()

    def _publish(self, standing: m.Standing) -> None:
        begins_to_hear = standing.hears_jobs and not self.standing.hears_jobs
        self.standing = standing
        self._changed.ring()
        if begins_to_hear:
            self._hooks.hear_jobs()  # Of what came before nobody was notified.

    def _finish(self) -> None:
        lost = self.standing.holding.tokens
        if self.error is not None and not self._finished:
            log.error(
                "node %r is out of the fleet: %s",
                self._member.name,
                self.error,
                extra=marks(Event.OUT_OF_FLEET, node=self._member.name),
            )
            if lost:
                self._hooks.tell(m.Change(lost, TokenSet(), self.standing.plan_version, "engine ended"))
        self.standing = m.NOBODY
        self._finished = True
        self._changed.ring()
        self._hooks.ended()

    def _close(self) -> None:
        for session in (self._session, self._stale):
            if session is not None:
                session.close()
        with self._pipe_lock:
            # The numbers are forgotten with the pipe: they may be somebody else's file a moment later.
            for end in (self._wake_read, self._wake_write):
                os.close(end)
            self._wake_read = self._wake_write = -1

    # --- the session ---------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            self._session = Session(self._conninfo)
        except SessionBroken as error:
            self._step(m.ConnectFailed(now(), self._unavailable(str(error))))
            return
        self._opening = None
        self._opening = open_script(self._session, self._protocol.prefix, self._member.name, boot_sec)
        self._opening_deadline_sec = boot_sec() + OPEN_DEADLINE_SEC
        self._greeted = False

    def _ask(self, question: m.Question, deadline_sec: float) -> None:
        assert self._session is not None
        sent = now()
        self._asked = _Asked(question, sent, deadline_sec)
        try:
            if isinstance(question, m.Ping):
                self._session.start_ping()
            else:
                self._session.start(self._protocol.statement_for(question))
        except SessionBroken as error:
            self._broken(str(error))

    def _take_session(self) -> None:
        if self._session is None or self._finished:
            return
        try:
            if self._opening is not None:
                self._go_on_opening(self._opening)
            else:
                self._take_answer()
        except SessionBroken as error:
            self._broken(str(error))

    def _go_on_opening(self, script: Generator[Statement, Done, m.Hello]) -> None:
        assert self._session is not None
        if boot_sec() >= self._opening_deadline_sec:
            raise SessionBroken(f"no answer within {OPEN_DEADLINE_SEC:g} s")
        try:
            if not self._greeted:
                if not self._session.connected():
                    return
                self._greeted = True
                self._start(next(script))
            while (done := self._session.advance()) is not None:
                self._start(script.send(done))
        except StopIteration as end:
            self._opening = None
            self._step(m.Connected(now(), end.value))

    def _start(self, work: Statement) -> None:
        assert self._session is not None
        if work is PING:
            self._session.start_ping()
        else:
            self._session.start(work)

    def _take_answer(self) -> None:
        session = self._session
        assert session is not None
        done = session.advance()
        asked = self._asked
        if done is not None and asked is not None:
            self._asked = None
            self._answered(asked, done)
        elif asked is not None and boot_sec() >= asked.deadline_sec:
            self._abandon(asked)
            return
        for channel, payload in session.notifications():
            if channel == f"{self._protocol.prefix}job":
                self._hooks.hear_jobs()
                continue
            hint = m.Channel.PLAN if channel.endswith("plan") else m.Channel.FREE
            self._step(m.Notified(now(), hint, payload))

    def _answered(self, asked: _Asked, done: Done) -> None:
        if done.error is None:
            if self.time_beat is not None and isinstance(asked.question, m.Beat):
                self.time_beat(boot_sec() - asked.sent.boot_sec)
            answer = self._protocol.answer_to(asked.question, done.rows)
            if isinstance(answer, m.Registration | m.Rebound) and self._stale is not None:
                self._stale.close()
                self._stale = None
            self._step(m.Answered(now(), asked.sent, asked.question, answer))
        elif is_session_over(done.error):
            raise SessionBroken(str(done.error).strip())
        else:
            if isinstance(asked.question, m.Register) and (done.error.sqlstate or "").startswith("42"):
                # Too old a program, no right, no table or no function: asking again will not help.
                misfit = unusable_schema(self._protocol.prefix, done.error.sqlstate, str(done.error).strip())
                self._step(m.ConnectFailed(now(), misfit))
                return
            if not is_lock_conflict(done.error):
                log.error(
                    "node %r: %s failed: %s",
                    self._member.name,
                    type(asked.question).__name__,
                    done.error,
                    extra=marks(Event.QUESTION_FAILED, node=self._member.name, question=type(asked.question).__name__),
                )
            self._step(m.Refused(now(), asked.question, str(done.error).strip()))

    def _abandon(self, asked: _Asked) -> None:
        waited_sec = asked.deadline_sec - asked.sent.boot_sec
        if self._stale is not None:
            self._stale.close()
        self._stale, self._session = self._session, None
        self._asked = None
        name = type(asked.question).__name__
        self._step(m.Broken(now(), f"no answer to {name} within {waited_sec:.2f} s"))

    def _broken(self, error: str) -> None:
        opening, self._opening = self._opening, None
        self._asked = None
        if self._session is not None:
            self._session.close()
            self._session = None
        if opening is not None:
            self._step(m.ConnectFailed(now(), self._unavailable(error)))
        else:
            self._step(m.Broken(now(), error))


_ENGINES: "weakref.WeakSet[Engine]" = weakref.WeakSet()


def _forget_in_children(engine: Engine) -> None:
    _ENGINES.add(engine)


def _disown_all() -> None:
    for engine in list(_ENGINES):
        engine.disown()


os.register_at_fork(after_in_child=_disown_all)
