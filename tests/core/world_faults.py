"""What goes wrong in a world, by chance: one fault after the other, each of a kind that was seen in the field.

Model: a run has a stormy part, in which faults fall on random processes and the dead are restarted under their
names, and a calm part, in which nothing new happens and everything must come to rest (I9). One seed decides all.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from random import Random
from typing import Any

from jobsync.core import messages as m
from jobsync.core.member import Member
from jobsync.core.settings import Settings
from jobsync.core.steering import FREE
from tests.core.world import QUICK, Process, Stepping, World
from tests.core.world_database import Rules, State

NAMES = ("a", "b", "c")
REFUSABLE = m.Shrink | m.Grow | m.Fence | m.SavePlan | m.Beat | m.Rebind | m.ReadGrants | m.BeginLeave | m.Leave


class Storm:
    """Faults on one world."""

    def __init__(self, world: World, settings: Settings, *, tokenless: float, steered: bool = False) -> None:
        self._world = world
        self._random: Random = world.random
        self._settings = settings
        self._tokenless = tokenless
        self._standby: State | None = None
        self._faults: list[Callable[[Process], None]] = [
            self._pause,
            self._pause,
            self._cut,
            self._cut,
            self._crash,
            self._leave,
            self._slow,
            self._fade,
            self._wall_jump,
            self._twin,
            self._move,
            self._restart_server,
            world.break_client,
            lambda p: world.break_client(p, server_notices_sec=self._random.uniform(0, 3)),
            world.break_server,
            world.break_server,
        ]
        if steered:
            self._faults += [self._steer, self._steer, self._steer]

    def rage(self, sec: float, *, fail_over: bool) -> None:
        """Let faults fall for so long."""
        world, random = self._world, self._random
        world.calm = False
        world.refuses = lambda question: isinstance(question, REFUSABLE) and random.random() < 0.02
        if fail_over:
            self._faults += [self._fail_over, self._fail_over]
            self._copy()
        end = world.t + sec
        while world.t < end:
            world.run(random.uniform(0.05, 1.2))
            alive = [p for p in world.processes if p.alive]
            if alive:
                random.choice(self._faults)(random.choice(alive))
            self._revive()

    def subside(self) -> None:
        """Stop all faults; what was started goes on."""
        world = self._world
        world.calm, world.slow_sec, world.refuses = True, 0.0, lambda question: False
        self._standby = None
        if world.db.state.steering != FREE:
            world.db.steer(**asdict(FREE))
        for process in world.processes:
            process.cut_until = 0.0
            process.resume()
        world.run(0.5)
        world.run_until(lambda: all(p.standing.phase is not m.Phase.LEAVING for p in world.processes), within_sec=5)
        if not any(p.alive for p in world.processes):
            world.start("a", self._settings)

    def start(self, name: str) -> None:
        """Start a process, of either kind where both are wanted."""
        takes_tokens = not self._tokenless or self._random.random() >= self._tokenless
        self._world.start(name, self._settings, takes_tokens=takes_tokens)

    def _revive(self) -> None:
        for name in NAMES:
            gone = not any(p.alive and p.name == name for p in self._world.processes)
            if gone and self._random.random() < 0.5:
                self.start(name)

    def _copy(self) -> None:
        self._standby = self._world.snapshot()
        self._world.after(self._random.uniform(0.1, 1.5), lambda: self._copy() if self._standby else None)

    def _pause(self, process: Process) -> None:
        process.pause()
        self._world.after(self._random.choice((0.3, 1.0, 3.1, 6.0)) * self._random.random(), process.resume)

    def _cut(self, process: Process) -> None:
        process.cut_until = self._world.t + self._random.choice((0.3, 1.0, 3.1, 6.0)) * self._random.random()

    def _crash(self, process: Process) -> None:
        self._world.end(process, session_lingers_sec=self._random.choice((0.001, 0.5, 5.0)))

    def _leave(self, process: Process) -> None:
        self._world.leave(process)

    def _slow(self, process: Process) -> None:
        self._world.slow_sec = self._random.choice((0.05, 0.4, 1.5))
        self._world.after(self._random.uniform(0.2, 1.5), self._speed_up)

    def _fade(self, process: Process) -> None:
        """Answer slower and slower, then not at all."""
        self._world.slow_sec = self._random.uniform(0.1, 0.7)
        self._world.run(self._random.uniform(0.3, 1.0))
        self._random.choice((self._pause, self._cut, self._world.break_server))(process)
        self._speed_up()

    def _speed_up(self) -> None:
        self._world.slow_sec = 0.0

    def _wall_jump(self, process: Process) -> None:
        process.wall_offset_sec += self._random.choice((-3600, -1, 1, 3600))

    def _twin(self, process: Process) -> None:
        self.start(process.name)

    def _move(self, process: Process) -> None:
        self._world.db.pin(self._random.randrange(24), f"task {self._world.t}", self._random.choice(NAMES))

    def _steer(self, process: Process) -> None:
        """Ask something of the fleet, or end what was asked."""
        some = frozenset({process.name})
        asked: list[dict[str, Any]] = [{"cordoned": some}, {"drained": some}, {"frozen": True}, asdict(FREE)]
        self._world.db.steer(**self._random.choice(asked))

    def _restart_server(self, process: Process) -> None:
        self._world.restart_server()

    def _fail_over(self, process: Process) -> None:
        """Lose the last commits, a move of tokens among them, while somebody cannot reach the new server."""
        if self._standby is None:
            return
        standby = self._random.choice((self._standby, self._world.snapshot()))
        for _ in range(3):
            self._move(process)
        self._world.run(self._random.uniform(0, 0.3))
        self._world.fail_over(standby)
        if self._random.random() < 0.7:
            process.cut_until = self._world.t + self._random.uniform(0, 5)


def run_storm(
    seed: int,
    *,
    sec: float = 10.0,
    rules: Rules | None = None,
    unchecked: frozenset[str] = frozenset(),
    member: Callable[[str, Settings], Stepping] = Member,
    session_lease: bool | None = None,
    fail_over: bool | None = None,
    tokenless: float = 0.0,
    steered: bool = False,
) -> World:
    """Run one seed, storm and calm; raise `Violated` where an invariant breaks. None: the seed decides.

    `tokenless` is the chance of each process to be one that takes no tokens; `steered`: people cordon, drain, freeze.
    """
    world = World(seed, rules=rules, unchecked=unchecked, member=member)
    random = world.random
    world.direct = random.random() < 0.5 if session_lease is None else session_lease
    settings = QUICK if world.direct else replace(QUICK, session_lease_sec=None)
    storm = Storm(world, settings, tokenless=tokenless, steered=steered)
    for name in NAMES:
        storm.start(name)
        world.run(random.uniform(0, 0.2))
    storm.rage(sec, fail_over=random.random() < 0.3 if fail_over is None else fail_over)
    storm.subside()
    world.settle(within_sec=25.0)
    return world
