"""A small world for members: clocks that drift, a network that delays and breaks, processes that pause and die.

Model: discrete events in true time, one random source, one seed. A process is a member with its clocks and its one
session; a statement travels, waits in a backend, is carried out by `Database`, and its answer travels back. As in
life, what was sent is carried out even if the sender has given up (unless the server ended the session first), a
server may lose a session whose client lives, and the other way round.

Authoritative: `Database` for rows, `Checkers` for what may never happen; this file only makes things happen.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, Protocol

from jobsync.core import messages as m
from jobsync.core.errors import DatabaseUnavailable
from jobsync.core.leases import Instant
from jobsync.core.member import Member
from jobsync.core.settings import Settings
from jobsync.core.tokens import TokenSet
from tests.core.checkers import Checkers, Violated, believed, converged
from tests.core.world_database import Database, Rules, State

MakeEvent = Callable[[Instant], m.Event | None]
QUICK = Settings(
    total_tokens=24,
    heartbeat_interval_sec=0.9,
    heartbeat_timeout_sec=3,
    rebalance_check_interval_sec=2,
    dead_node_check_interval_sec=1,
    handover_timeout_sec=0.5,
    session_lease_sec=0.75,
    leader_lock_timeout_sec=2,
)


class Stepping(Protocol):
    """What a process runs: a `Member`, or one with a rule broken."""

    def step(self, event: m.Event) -> list[m.Effect]:
        """Take one event in and give the effects to carry out, in order."""


@dataclass(eq=False, slots=True)
class Link:
    """One database session as the network sees it."""

    number: int
    pending: int = 0
    closing: bool = False


class Process:
    """One process: a member, two clocks, at most one question under way."""

    def __init__(self, world: "World", name: str, member: Stepping, random: Random) -> None:
        self.name = name
        self.member = member
        self.standing = m.NOBODY
        self.alive = True
        self.error: Exception | None = None
        self.facts: list[m.Fact] = []
        self.changes: list[m.Change] = []
        self.asked: m.Question | None = None
        self.link: Link | None = None
        self.stale: Link | None = None
        self.stranger = False  # the database was replaced, and this process has not read its rows yet
        self.holds_on_sec: float | None = None  # how long the application holds on to tokens; None: as it comes
        self.cut_until = 0.0
        self._world = world
        self._offset_sec = random.uniform(0, 1000)
        self._rate = 1 + random.uniform(-0.0009, 0.0009)
        self.wall_offset_sec = random.uniform(-1e6, 1e6)
        self._backlog: list[MakeEvent] | None = None
        self._events: list[m.Event] = []
        self._stepping = False
        self._wake = 0

    def now(self) -> Instant:
        """Read both clocks."""
        boot_sec = self._offset_sec + self._rate * self._world.t
        return Instant(boot_sec, boot_sec + self.wall_offset_sec)

    def when(self, boot_sec: float) -> float:
        """Give the true time of a reading of the boot clock."""
        return (boot_sec - self._offset_sec) / self._rate

    def certain_until(self) -> float:
        """Give the true time at which the published holding ends by itself."""
        return self.when(self.standing.holding.boot_until_sec)

    def held_now(self) -> TokenSet:
        """Give what a reader is told at this instant."""
        certain = self.alive and self.standing.holding.certain_at(self.now())
        return self.standing.holding.tokens if certain else TokenSet()

    def believed_now(self) -> TokenSet:
        """Give what is held at this instant, the right to lead included."""
        certain = self.alive and self.standing.holding.certain_at(self.now())
        return believed(self.standing.holding) if certain else TokenSet()

    def kinds(self) -> list[m.FactKind]:
        """List the kinds of what was reported."""
        return [fact.kind for fact in self.facts]

    # --- events in, effects out ----------------------------------------------------------------

    def deliver(self, make_event: MakeEvent) -> None:
        """Let an event happen to the process, now or when it wakes."""
        if self._backlog is not None:
            self._backlog.append(make_event)
        elif self.alive:
            event = make_event(self.now())
            if event is not None:
                self._step(event)

    def pause(self) -> None:
        """Stop taking steps."""
        if self._backlog is None:
            self._backlog = []

    def resume(self) -> None:
        """Go on, with whatever came meanwhile."""
        backlog, self._backlog = self._backlog, None
        for make_event in [*(backlog or []), m.Ticked]:
            self.deliver(make_event)

    def _step(self, event: m.Event) -> None:
        self._events.append(event)
        if self._stepping:
            return
        self._stepping = True
        while self._events and self.alive:
            wake_sec = float("nan")
            now = self._events[0].at
            for effect in self.member.step(self._events.pop(0)):
                if isinstance(effect, m.WakeAt):
                    wake_sec = effect.boot_sec
                self._carry_out(effect)
            if self.alive:
                self._world.checks.stepped(self, self._world.t, wake_sec, now.boot_sec)
                self._world.checks.settled(self)
        self._stepping = False

    def _carry_out(self, effect: m.Effect) -> None:
        world = self._world
        match effect:
            case m.Publish(standing):
                self.standing = standing
                world.checks.published(self, world.processes, world.db.state, world.t)
            case m.Ask(question, deadline_sec):
                world.checks.asked(self, question)
                world.ask(self, question, deadline_sec)
            case m.OpenSession():
                world.connect(self)
            case m.WakeAt(boot_sec):
                self._wake += 1
                serial = self._wake
                world.after(
                    self.when(boot_sec) - world.t + 1e-6,  # never before the boot clock reads so, in floats either
                    lambda: self.deliver(lambda now: m.Ticked(now) if serial == self._wake else None),
                )
            case m.Tell(change):
                self._told(change)
            case m.Drain(serial, _, change):
                if change is not None:
                    self._told(change)
                wait_sec = world.drain_sec() if self.holds_on_sec is None else self.holds_on_sec
                world.after(wait_sec, lambda: self.deliver(lambda now: m.Drained(now, serial)))
            case m.Report(fact):
                self.facts.append(fact)
            case m.Finish(error):
                self.error = error
                world.end(self)

    def _told(self, change: m.Change) -> None:
        self.changes.append(change)
        self._world.checks.told(self, change)


class World:
    """Everything outside the members."""

    def __init__(
        self,
        seed: int = 0,
        *,
        rules: Rules | None = None,
        unchecked: frozenset[str] = frozenset(),
        member: Callable[[str, Settings], Stepping] = Member,
    ) -> None:
        self.random = Random(seed)
        self.t = 0.0
        self.db = Database(rules or Rules())
        self.checks = Checkers(unchecked)
        self.processes: list[Process] = []
        self.calm = True
        self.direct = True
        self.trip_sec = 0.0005
        self.slow_sec = 0.0
        self.refuses: Callable[[m.Question], bool] = lambda question: False
        self.freezes: Callable[[m.Question], float] = lambda question: 0.0  # seconds in the backend
        self.asked: list[tuple[float, str, m.Question]] = []
        self._member = member
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = count()
        self._links = count(1)

    # --- time ----------------------------------------------------------------------------------

    def after(self, sec: float, act: Callable[[], None]) -> None:
        """Let something happen later."""
        heappush(self._queue, (self.t + max(0.0, sec), next(self._serial), act))

    def run(self, sec: float) -> None:
        """Let time pass."""
        self.run_until(lambda: False, within_sec=sec)

    def run_until(self, done: Callable[[], bool], *, within_sec: float) -> bool:
        """Let time pass until something is so; say whether it came to be."""
        end = self.t + within_sec
        while not done():
            if not self._queue or self._queue[0][0] > end:
                self.t = end
                return done()
            self.t, _, act = heappop(self._queue)
            act()
        return True

    def settle(self, *, within_sec: float = 20.0) -> None:
        """Let time pass until every token is held by whom the plan names (I9)."""
        end, said = self.t + within_sec, "nothing ran"
        while self.t < end:
            self.run(0.1)
            said = converged(self.processes, self.db.state, self.total_tokens) or ""
            if not said:
                return
        raise Violated(f"I9: not settled after {within_sec:g} s: {said}")

    @property
    def total_tokens(self) -> int:
        """How many tokens the fleet agreed on."""
        return self.db.state.agreed[0] if self.db.state.agreed else 0

    # --- processes -----------------------------------------------------------------------------

    def start(
        self,
        name: str,
        settings: Settings = QUICK,
        *,
        cut_until: float = 0.0,
        takes_tokens: bool = True,
        **changes: Any,
    ) -> Process:
        """Start a process, with some settings changed; until `cut_until` it is cut off the database."""
        chosen = replace(settings, **changes) if changes else settings
        member = self._member(name, chosen) if takes_tokens else Member(name, chosen, takes_tokens=False)
        process = Process(self, name, member, self.random)
        self.processes.append(process)
        process.cut_until = cut_until
        process.deliver(m.Started)
        return process

    def end(self, process: Process, *, session_lingers_sec: float = 0.002) -> None:
        """End a process at once, whatever it was doing; the server may see it late."""
        process.alive = False
        process.standing = m.NOBODY
        for link in (process.link, process.stale):
            if link is not None:
                self.after(session_lingers_sec, lambda link=link: self._hang_up(link))  # type: ignore[misc]

    def leave(self, process: Process) -> None:
        """Ask a process to leave gracefully."""
        process.deliver(m.LeaveAsked)

    # --- the network ---------------------------------------------------------------------------

    def drain_sec(self) -> float:
        """Draw how long an application holds on to tokens."""
        return 0.005 if self.calm or self.random.random() < 0.8 else self.random.uniform(0, 1.5)

    def _trip(self, process: Process) -> float:
        wait_sec = max(0.0, process.cut_until - self.t)
        return wait_sec + self.trip_sec * (1 if self.calm else self.random.uniform(1, 10))

    def connect(self, process: Process) -> None:
        """Open a session, or fail to."""

        def arrive() -> None:
            link = Link(next(self._links))
            self.db.sessions.add(link.number)
            hello = m.Hello(self.direct, "system", str(self.db.timeline), True, 2 * self.trip_sec)

            def connected(now: Instant) -> m.Event:
                process.link, process.asked = link, None
                return m.Connected(now, hello)

            if process.alive:
                process.deliver(connected)
            else:
                self._hang_up(link)

        def fail(now: Instant) -> m.Event:
            return m.ConnectFailed(now, DatabaseUnavailable("no route"))

        if process.cut_until > self.t:
            self.after(min(1.0, process.cut_until - self.t), lambda: process.deliver(fail))
        else:
            self.after(2 * self._trip(process), arrive)

    def ask(self, process: Process, question: m.Question, deadline_sec: float) -> None:
        """Send a question on its way."""
        link = process.link
        if link is None:
            raise Violated(f"{process.name} asks {question} without a session")
        process.asked = question
        self.asked.append((self.t, process.name, question))
        sent = process.now()
        link.pending += 1
        server_sec = self.freezes(question) + self.slow_sec * (1 if self.calm else self.random.random())
        if not self.calm and self.random.random() < 0.004:
            server_sec += self.random.uniform(0.5, 5.0)  # a frozen backend
        self.after(self._trip(process) + server_sec, lambda: self._carry_out(process, link, question, sent))

        def give_up(now: Instant) -> m.Event | None:
            if process.asked is not question or process.link is not link:
                return None
            if process.stale is not None:
                self._hang_up(process.stale)
            process.stale, process.link, process.asked = link, None, None
            return m.Broken(now, "no answer in time")

        self.after(process.when(deadline_sec) - self.t, lambda: process.deliver(give_up))

    def _carry_out(self, process: Process, link: Link, question: m.Question, sent: Instant) -> None:
        link.pending -= 1
        if link.number not in self.db.sessions:
            return
        if isinstance(question, m.Ping) or not self.refuses(question):
            self.db.now = self.t
            answer = self.db.answer(question, link.number)
            self.checks.carried_out(question, answer, self.db.state, self.processes, self.t)
            self._spread_hints()
        else:
            answer = None
        if link.closing and not link.pending:
            self.db.sessions.discard(link.number)

        def answered(now: Instant) -> m.Event | None:
            if process.asked is not question or process.link is not link:
                return None
            process.asked = None
            if answer is None:
                return m.Refused(now, question, "a lock is held")
            if isinstance(answer, m.Registration | m.Rebound) and process.stale is not None:
                self._hang_up(process.stale)
                process.stale = None
            if isinstance(answer, m.Registration | m.HeldGrants):
                process.stranger = False
            return m.Answered(now, sent, question, answer)

        back_sec = self.slow_sec * (1 if self.calm else self.random.random())
        self.after(self._trip(process) + back_sec, lambda: process.deliver(answered))

    def _spread_hints(self) -> None:
        hints, self.db.hints = set(self.db.hints), []
        for channel in sorted(hints, key=lambda hint: hint.value) if self.direct else []:
            for process in self.processes:
                if process.link is None or process.link.number not in self.db.sessions:
                    continue
                if self.calm or self.random.random() > 0.1:
                    self.after(
                        self._trip(process),
                        lambda p=process, c=channel: p.deliver(lambda now: m.Notified(now, c)),  # type: ignore[misc]
                    )

    def _hang_up(self, link: Link) -> None:
        # What is under way in the backend is still carried out; only then does the backend notice.
        link.closing = True
        if not link.pending:
            self.db.sessions.discard(link.number)

    # --- what may go wrong ---------------------------------------------------------------------

    def break_client(self, process: Process, *, server_notices_sec: float = 0.001) -> None:
        """End a session on the client's side."""
        link = process.link

        def broken(now: Instant) -> m.Event | None:
            if link is None or process.link is not link:
                return None
            process.link = process.asked = None
            self.after(server_notices_sec, lambda: self._hang_up(link))
            return m.Broken(now, "connection reset")

        process.deliver(broken)

    def break_server(self, process: Process) -> None:
        """End a session on the server's side: its client hears nothing."""
        if process.link is not None:
            self.db.sessions.discard(process.link.number)

    def restart_server(self) -> None:
        """End all sessions; clients hear of it."""
        self.db.restart()
        for process in self.processes:
            self.break_client(process)

    def fail_over(self, standby: State) -> None:
        """Go on with an older copy of all rows."""
        self.db.fail_over(standby)
        self.checks.failed_over()
        for process in self.processes:
            process.stranger = True
            self.break_client(process)

    def snapshot(self) -> State:
        """Copy all rows, as a standby does."""
        return deepcopy(self.db.state)
