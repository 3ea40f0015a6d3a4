"""Small fleets that a test leads by hand: real members, the real SQL, in virtual time, with every judge watching.

Model: a `Fleet` is a world without weather. The test says who joins, leaves, dies, stands still or is cut off, lets
time pass, and looks at what the nodes answer, what they were told and asked, and what the database shows.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from jobsync.core import messages as m
from jobsync.core.leases import Instant
from jobsync.core.member import Member
from jobsync.core.pins import NewLock
from jobsync.core.pool import pool_of
from jobsync.core.settings import Settings
from jobsync.core.tokens import TokenSet
from jobsync.postgres.locks import LockStatements
from jobsync.postgres.statement import call
from jobsync.postgres.virtual_server import PREFIX, VirtualServer
from jobsync.simulation.checkers import Violated
from jobsync.simulation.process import Process, Stepping
from jobsync.simulation.seeds import QUICK, settle
from jobsync.simulation.world import World

SEED = 1
ALL, NOTHING = TokenSet.span(0, QUICK.total_tokens), TokenSet()
HALF, THIRD = len(ALL) // 2, len(ALL) // 3


class Sleeper(Member):
    """A member that is watched: each step has to end in the wish to be woken, later than now, unless a session is
    being opened, whose deadline wakes the engine.
    """

    opening = False

    def step(self, event: m.Event) -> list[m.Effect]:
        effects = super().step(event)
        self.opening = not isinstance(event, m.Connected | m.ConnectFailed) and self.opening
        self.opening |= any(isinstance(effect, m.OpenSession) for effect in effects)
        wakes = [effect.boot_sec for effect in effects if isinstance(effect, m.WakeAt)]
        ends = any(isinstance(effect, m.Finish) for effect in effects)
        limit_sec = float("inf")
        if not ends and not any(event.at.boot_sec < at < limit_sec for at in wakes) and not self.opening:
            raise Violated(f"busy: {self.name} at {event.at.boot_sec} wants to be woken at {wakes}")
        return effects


def sleeper(name: str, settings: Settings, takes_tokens: bool) -> Stepping:
    """Make a member that is watched."""
    return Sleeper(name, settings, takes_tokens=takes_tokens)


class Recorded(Sleeper):
    """A member that keeps what came of its steps, with the time of its boot clock."""

    def __init__(self, name: str, settings: Settings, *, takes_tokens: bool) -> None:
        super().__init__(name, settings, takes_tokens=takes_tokens)
        self.steps = 0
        self.said: list[tuple[Instant, m.Effect]] = []

    def step(self, event: m.Event) -> list[m.Effect]:
        self.steps += 1
        effects = super().step(event)
        self.said += [(event.at, effect) for effect in effects]
        return effects


@dataclass(frozen=True, slots=True)
class Node:
    """A process of the fleet, and its member."""

    process: Process
    member: Recorded

    @property
    def name(self) -> str:
        return self.process.name

    @property
    def alive(self) -> bool:
        return self.process.alive

    @property
    def error(self) -> Exception | None:
        return self.process.error

    @property
    def standing(self) -> m.Standing:
        return self.process.standing

    @property
    def changes(self) -> list[m.Change]:
        """List what its application was told."""
        told = [effect.change for _, effect in self.member.said if isinstance(effect, m.Tell | m.Drain)]
        return [change for change in told if change is not None]

    @property
    def kinds(self) -> list[m.FactKind]:
        """List the kinds of what it reported."""
        return [effect.fact.kind for _, effect in self.member.said if isinstance(effect, m.Report)]

    @property
    def asked(self) -> list[m.Question]:
        """List what it asked the database."""
        return [effect.question for _, effect in self.member.said if isinstance(effect, m.Ask)]

    def believed(self) -> TokenSet:
        """Give what a reader is told at this instant, and the right to lead."""
        return self.process.held_now()

    def held(self) -> TokenSet:
        """Give what a reader is told at this instant."""
        return pool_of(self.process.held_now())


class Fleet(World):
    """A world that a test leads."""

    def __init__(self, virtual: VirtualServer, *, direct: bool = True) -> None:
        self._members: list[Recorded] = []
        self.bodies_take_sec = 0.004
        super().__init__(virtual, SEED, direct=direct, make_member=self._recorded)

    def _recorded(self, name: str, settings: Settings, takes_tokens: bool) -> Stepping:
        self._members.append(Recorded(name, settings, takes_tokens=takes_tokens))
        return self._members[-1]

    def body_sec(self) -> float:
        """Give how long a task's body holds on to its token."""
        return self.bodies_take_sec

    # --- who comes and goes ----------------------------------------------------------------------

    def join(self, name: str, *, takes_tokens: bool | None = None, **changes: Any) -> Node:
        """Start a node, with some settings changed; one whose name begins with w takes no tokens, if not said."""
        kind = not name.startswith("w") if takes_tokens is None else takes_tokens
        process = self.start(name, replace(QUICK, **changes) if changes else QUICK, takes_tokens=kind)
        return Node(process, self._members[-1])

    def join_all(self, names: str, **changes: Any) -> list[Node]:
        """Start nodes one after the other, the first the oldest, each once the others are at rest."""
        nodes = []
        for name in names.split():
            nodes.append(self.join(name, **changes))
            self.settle()
        return nodes

    def leave(self, node: Node) -> None:
        """Ask a node to leave."""
        node.process.deliver(m.LeaveAsked)

    def kill(self, node: Node, *, session_lingers_sec: float = 0.002) -> None:
        """End a node at once."""
        self.end(node.process, session_lingers_sec=session_lingers_sec)

    def cut_off(self, node: Node, sec: float) -> None:
        """Let nothing through between a node and the database."""
        node.process.cut_until_sec = self.agenda.now_sec + sec

    def fail_over(self) -> None:
        """Let a standby take over that had every row."""
        self.server.fail_over(self.server.copy(), down_sec=0.0)
        self.network.break_all()

    # --- what people ask -------------------------------------------------------------------------

    def steer(self, verb: str, node: str | None = None) -> None:
        """Cordon, drain or freeze."""
        types = ("text", "text", "text", "text", "float8")
        self._people("steering", call("steer", PREFIX, verb, node, None, "operator", None, types=types))

    def resume(self, node: str) -> None:
        """End what is asked of a node."""
        types = ("text", "boolean", "text")
        self._people("steering", call("resume", PREFIX, node, False, "operator", types=types))

    def pin(self, token: int, *patterns: str) -> None:
        """Lock a task with this token to nodes."""
        self._people(
            "lock change", LockStatements(PREFIX).register([NewLock("task", token, patterns, None)], "me", None)
        )

    def _people(self, kind: str, work: Any) -> None:
        self.network.spread(self.server.change(kind, work))

    # --- time ------------------------------------------------------------------------------------

    def run(self, sec: float) -> None:
        """Let time pass."""
        self.agenda.run(sec)

    def comes_to_be(self, done: Callable[[], bool], *, within_sec: float) -> bool:
        """Let time pass until something is so; say whether it came to be."""
        return self.agenda.run_until(done, within_sec=within_sec)

    def settle(self) -> None:
        """Let time pass until the fleet is at rest (I9)."""
        settle(self)

    # --- what the database shows -----------------------------------------------------------------

    def plan(self) -> m.PlanInputs:
        """Read what a leader would plan from."""
        inputs = self.server.read(m.ReadPlanInputs(locks_enabled=True))
        assert isinstance(inputs, m.PlanInputs)
        return inputs

    def grants(self) -> dict[int, TokenSet]:
        """Give the grants by epoch."""
        return {grant.epoch: grant.tokens for grant in self.server.show().grants}

    def state_of(self, name: str) -> str:
        """Give the state of a node's row; gone if there is none."""
        row = self.server.show().node(name)
        return "gone" if row is None else row.state
