"""One process: a member, its clocks, its one session, its callbacks; what the engine does, in virtual time.

A process may be paused anywhere, between two effects of one step as well: what was decided is then carried out when it
wakes, however stale. Its clocks go on meanwhile, and what arrives waits.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from jobsync.core import messages as m
from jobsync.core.holding import Holding
from jobsync.core.leases import Instant
from jobsync.core.pool import LEADERSHIP
from jobsync.core.tokens import TokenSet
from jobsync.simulation.agenda import Place
from jobsync.simulation.checkers import believed
from jobsync.simulation.clocks import NodeClock
from jobsync.simulation.server import Session

if TYPE_CHECKING:
    from jobsync.simulation.world import World

MakeEvent = Callable[[Instant], m.Event | None]
NO_SLACK_SEC = 1e-6  # A wake-up is never before the boot clock reads so, in floats either.


class Stepping(Protocol):
    """What a process runs: a `Member`, or one with a rule broken."""

    def step(self, event: m.Event) -> list[m.Effect]:
        """Take one event in and give the effects to carry out, in order."""


class Process:
    """One process of the fleet."""

    def __init__(self, world: "World", number: int, name: str, member: Stepping) -> None:
        self.number = number
        self.name = name
        self.standing = m.NOBODY
        self.alive = True
        self.error: Exception | None = None
        self.clock = NodeClock(world.random)
        self.session: Session | None = None
        self.stale: Session | None = None
        self.asked: m.Question | None = None
        self.cut_until_sec = 0.0
        self.born_sec = world.agenda.now_sec
        self.hangs_sec: float | None = None  # how long the application's next callback hangs
        self.stops_after: int | None = None  # the effects until it is paused, in the middle of a step
        self._world = world
        self._member = member
        self._paused = False
        self._backlog: list[MakeEvent] = []
        self._events: list[m.Event] = []
        self._effects: list[m.Effect] = []
        self._stepping = False
        self._wake: Place | None = None  # when the member wants to be woken
        self._alarm: Place | None = None  # when the first alarm rings that is set: then, or before
        self._callbacks_free_sec = 0.0
        self.label = f"{name}#{number}"

    # --- what a reader is told -------------------------------------------------------------------

    def now(self) -> Instant:
        """Read both clocks."""
        return self.clock.read(self._world.agenda.now_sec)

    def held_now(self) -> TokenSet:
        """Give what a reader is told at this instant, and the right to lead."""
        holding = self.standing.holding
        return belief_of(holding) if self.alive and holding.certain_at(self.now()) else TokenSet()

    # --- events in, effects out ------------------------------------------------------------------

    def deliver(self, make_event: MakeEvent) -> None:
        """Let an event happen to the process, now or when it wakes."""
        if self._paused:
            self._backlog.append(make_event)
        elif self.alive:
            event = make_event(self.now())
            if event is not None:
                self._step(event)

    @property
    def paused(self) -> bool:
        """Whether the process is stopped."""
        return self._paused

    def pause(self) -> None:
        """Stop taking steps."""
        self._paused = True

    def resume(self) -> None:
        """Go on: with what was left undone, then with whatever came meanwhile."""
        if not self._paused:
            return
        self._paused = False
        self.stops_after = None
        self._run()
        backlog, self._backlog = self._backlog, []
        for make_event in [*backlog, m.Ticked]:
            self.deliver(make_event)

    def _step(self, event: m.Event) -> None:
        self._events.append(event)
        if not self._stepping:
            self._run()

    def _run(self) -> None:
        """Carry out what is decided, decide on what came; until nothing is left, or the process is stopped or dead."""
        self._stepping = True
        try:
            while self.alive and not self._paused:
                if self._effects:
                    self._carry_out(self._effects.pop(0))
                    self._maybe_stop()
                    if not self._effects and self.alive:
                        self._settled()
                elif self._events:
                    self._decide(self._events.pop(0))
                else:
                    break
        finally:
            self._stepping = False

    def _decide(self, event: m.Event) -> None:
        self._world.told(self.label, event)
        self._effects = list(self._member.step(event))
        reads_rows = isinstance(event, m.Answered) and isinstance(event.answer, m.Registration | m.HeldGrants)
        if reads_rows and self.session is not None and self.session.era == self._world.server.era:
            self._world.checks.read_rows(self.number)

    def _maybe_stop(self) -> None:
        if self.stops_after is not None:
            self.stops_after -= 1
            if self.stops_after < 0:
                self.stops_after = None
                self._world.agenda.note(self.label, "stopped in the middle of a step")
                self.pause()

    def _settled(self) -> None:
        standing = self.standing
        self._world.checks.stepped(
            self.number,
            self._world.agenda.now_sec,
            pool=standing.holding.tokens,
            live=standing.phase is m.Phase.LIVE,
        )

    def _carry_out(self, effect: m.Effect) -> None:
        world = self._world
        match effect:
            case m.Publish(standing):
                self._publish(standing)
            case m.Ask(question, deadline_sec):
                world.network.ask(self, question, deadline_sec)
            case m.OpenSession():
                world.network.connect(self)
            case m.WakeAt(boot_sec):
                self._wake_at(boot_sec)
            case m.Tell(change):
                self._call(change, None)
            case m.Drain(serial, _, change):
                self._call(change, serial)
            case m.Report(fact):
                world.said(self, fact)
            case m.Finish(error):
                self.error = error
                world.end(self)

    def _publish(self, standing: m.Standing) -> None:
        self.standing = standing
        if not self._world.judged:
            return
        holding = standing.holding
        self._world.checks.answers(
            self.number,
            holding.incarnation,
            belief_of(holding),
            self.clock.when(holding.boot_until_sec),
            self._world.agenda.now_sec,
        )

    def _wake_at(self, boot_sec: float) -> None:
        if boot_sec == float("inf"):
            self._wake = None
            return
        agenda = self._world.agenda
        self._wake = agenda.place_after(self.clock.when(boot_sec) - agenda.now_sec + NO_SLACK_SEC)
        if self._alarm is None or self._wake < self._alarm:
            self._set_alarm(self._wake)

    def _set_alarm(self, place: Place) -> None:
        self._alarm = place
        self._world.agenda.put(place, lambda: self._ring(place))

    def _ring(self, place: Place) -> None:
        """Wake the member; or set the alarm anew, where it has asked for more sleep since, as it nearly always has."""
        if place is not self._alarm:
            return
        self._alarm, wake = None, self._wake
        if wake is not None and wake is not place:
            self._set_alarm(wake)
        elif wake is not None:
            self.deliver(lambda now: m.Ticked(now) if wake is self._wake else None)

    # --- the application -------------------------------------------------------------------------

    def _call(self, change: m.Change | None, serial: int | None) -> None:
        """Queue a callback: they run one after the other on a thread of their own; then let the member know."""
        world = self._world
        if change is not None:
            world.checks.told(self.number, change.removed, change.added)
            took_sec = world.callback_sec() if self.hangs_sec is None else self.hangs_sec
            self.hangs_sec = None
            self._callbacks_free_sec = max(self._callbacks_free_sec, world.agenda.now_sec) + took_sec
        if serial is not None:
            ends_sec = max(self._callbacks_free_sec, world.agenda.now_sec + world.body_sec())
            world.agenda.after(
                ends_sec - world.agenda.now_sec, lambda: self.deliver(lambda now: m.Drained(now, serial))
            )


def belief_of(holding: Holding) -> TokenSet:
    """Give all that is believed: what is shown, and the right to lead, which only the grants name."""
    return believed(holding.tokens, leads=any(LEADERSHIP in grant.tokens for grant in holding.grants))
