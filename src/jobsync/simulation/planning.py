"""Planning a fleet: how much moves, how long tokens have no owner, and what the database is asked, before it is built.

The same members, the same SQL and the same network as under faults; what happens here is what happens in a healthy
fleet: nodes are replaced, half of them by a graceful exit and half by a crash. Nothing is judged, since looking at
every row after every statement would take longer than the fleet itself.

Figures are of virtual time. What a statement costs on the reader's server it does not say.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

from jobsync.core import messages as m
from jobsync.core.pool import pool_of
from jobsync.core.settings import Settings
from jobsync.postgres.statement import Statement
from jobsync.postgres.virtual_server import PREFIX, VirtualServer
from jobsync.simulation.checkers import Checkers
from jobsync.simulation.network import HealthyNetwork
from jobsync.simulation.process import Process
from jobsync.simulation.world import World

ABSENT_SEC = (1.0, 60.0)
LOOK_EVERY_SEC = 0.5
TIDY_EVERY_SEC = 60.0
STATEMENTS_A_WORD = 200


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is planned: nodes with these settings, how many are replaced in an hour, how far away the database is."""

    nodes: int
    settings: Settings
    churn_per_hour: float
    minutes: float
    trip_sec: float = 0.0005


@dataclass(slots=True)
class Forecast:
    """What came of it.

    `gap_token_sec` adds up, over all tokens, the seconds in which one had no owner, once all had one; `uncovered_sec`
    is for how long any had none. `moved` counts tokens that changed hands, `plans` the distributions that moved some.
    `settle_sec` is how long the fleet needed, started all at once, until every token had its owner.
    """

    settle_sec: float = 0.0
    watched_sec: float = 0.0
    joined: int = 0
    left: int = 0
    crashed: int = 0
    plans: int = 0
    moved: int = 0
    gap_token_sec: float = 0.0
    uncovered_sec: float = 0.0
    statements: Counter[str] = field(default_factory=Counter)
    pings: int = 0

    @property
    def statements_per_sec(self) -> float:
        """How many statements a second the database is asked, pings not counted: they are none."""
        return self.statements.total() / self.watched_sec if self.watched_sec else 0.0


class Unjudged(Checkers):
    """Judges nothing: a large fleet is watched for its figures."""

    def answers(self, *_: object) -> None:
        """Take no note."""

    def told(self, *_: object) -> None:
        """Take no note."""

    def stepped(self, *_: object, **__: object) -> None:
        """Take no note."""


class PlannedWorld(World):
    """A healthy world that keeps count. It looks at no row: what is granted is read off questions and answers."""

    def __init__(self, virtual: VirtualServer, fleet: Fleet, seed: int, say: Callable[[str], object]) -> None:
        super().__init__(virtual, seed, checks=Unjudged())
        self.forecast = Forecast()
        self.counts = False
        self._fleet = fleet
        self._say = say
        self._statements = 0
        self._total = fleet.settings.total_tokens
        self._granted: dict[str, int] = {}
        self._owned = 0
        self._since_sec: float | None = None
        self.server.shows = False
        self.server.pids = range(100, 400 + 4 * fleet.nodes)
        self.network = HealthyNetwork(self, direct=True)
        self.network.trip_sec = fleet.trip_sec

    @property
    def covered(self) -> bool:
        """Whether every token is granted to a node that is there."""
        return self._owned == self._total

    def join(self, name: str) -> None:
        """Start a node."""
        self._granted[name] = 0
        self.start(name, self._fleet.settings)
        self.forecast.joined += self.counts

    def end(self, process: Process, *, session_lingers_sec: float = 0.002) -> None:
        """End a process; what it was granted has no owner until another node is."""
        super().end(process, session_lingers_sec=session_lingers_sec)
        self._note_granted(process.name, -self._granted[process.name])
        del self._granted[process.name]

    def saw(self, label: str, question: m.Question, answer: m.Answer | None) -> None:
        """Keep count of what the database did."""
        super().saw(label, question, answer)
        if isinstance(question, m.Ping):
            self.forecast.pings += self.counts
            return
        self.forecast.statements[type(question).__name__] += self.counts
        match question, answer:
            case m.Grow(me=me), m.Growth(grant=grant) if grant is not None:
                self._note_granted(me.name, len(pool_of(grant.tokens)))
            case m.Shrink(me=me, tokens=tokens), m.Shrunk():
                self._note_granted(me.name, -len(pool_of(tokens)))
            case _:
                pass
        self._statements += 1
        if self._statements % STATEMENTS_A_WORD == 0:
            self.say_where()

    def say_where(self) -> None:
        """Say how far it is."""
        there = f"{len(self.processes)} nodes, {self._owned} of {self._total} tokens have an owner"
        self._say(f"{self.agenda.now_sec:.1f} s of virtual time: {there}")

    def _note_granted(self, name: str, more: int) -> None:
        if name not in self._granted:  # What a node asked for before it crashed is the dead's.
            return
        now_sec = self.agenda.now_sec
        if self.counts and self._since_sec is not None and not self.covered:
            self.forecast.gap_token_sec += (self._total - self._owned) * (now_sec - self._since_sec)
            self.forecast.uncovered_sec += now_sec - self._since_sec
        self._granted[name] += more
        self._owned += more
        self._since_sec = now_sec


def forecast(virtual: VirtualServer, fleet: Fleet, *, seed: int = 0, say: Callable[[str], object] = str) -> Forecast:
    """Let a fleet begin, and live for so many minutes of virtual time; `say` is told how far it is, in words."""
    world = PlannedWorld(virtual, fleet, seed, say)
    names = iter(f"node-{number}" for number in range(1, 10**9))
    for _ in range(fleet.nodes):
        world.join(next(names))  # All at once, which is one deal: each that came later would move tokens of all.
    while not world.covered:
        world.agenda.run(LOOK_EVERY_SEC)
    _at_rest(world)
    world.forecast.settle_sec = world.agenda.now_sec
    virtual.tidy()
    plans, moved = _history(world)
    world.counts = True
    began_sec = world.agenda.now_sec
    end_sec = began_sec + fleet.minutes * 60
    dice = Random(f"churn of {seed}")
    world.agenda.after(TIDY_EVERY_SEC, partial(_tidy, world, virtual))
    while fleet.churn_per_hour > 0:
        next_sec = dice.expovariate(fleet.churn_per_hour / 3600)
        if world.agenda.now_sec + next_sec >= end_sec:
            break
        world.agenda.run(next_sec)
        _replace(world, next(names), dice)
    world.agenda.run(end_sec - world.agenda.now_sec)
    world.forecast.watched_sec = world.agenda.now_sec - began_sec
    plans_now, moved_now = _history(world)
    world.forecast.plans, world.forecast.moved = plans_now - plans, moved_now - moved
    return world.forecast


def _tidy(world: PlannedWorld, virtual: VirtualServer) -> None:
    """Do now and then what autovacuum does, which is off in a simulation: it comes when it likes."""
    virtual.tidy()
    world.agenda.after(TIDY_EVERY_SEC, partial(_tidy, world, virtual))


def _replace(world: PlannedWorld, name: str, dice: Random) -> None:
    """Take a node out, by a graceful exit or a crash; another one comes a little later."""
    if world.processes:
        gone: Process = dice.choice(world.processes)
        if dice.random() < 0.5:
            world.forecast.left += 1
            gone.deliver(m.LeaveAsked)
        else:
            world.forecast.crashed += 1
            world.end(gone)
    world.agenda.after(dice.uniform(*ABSENT_SEC), partial(world.join, name))


def _at_rest(world: PlannedWorld) -> None:
    """Wait until everybody has the tokens that the plan wants for him."""
    while any(p.standing.target is None or p.standing.target != p.standing.holding.tokens for p in world.processes):
        world.agenda.run(LOOK_EVERY_SEC)


def _history(world: PlannedWorld) -> tuple[int, int]:
    work = Statement(f"select count(*)::integer, coalesce(sum(tokens_moved), 0)::integer from {PREFIX}rebalance")
    ((plans, moved),) = world.server.look(work)
    return plans, moved
