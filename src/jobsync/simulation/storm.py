"""What goes wrong in a world, by chance: one fault after the other, each of a kind that was seen in the field.

Model: a run has a stormy part, in which faults fall on random processes and the dead are restarted under their names,
and a calm part, in which nothing new happens and everything must come to rest. One seed decides all of it.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from jobsync.core import messages as m
from jobsync.core.pins import NewLock
from jobsync.core.pool import LEADERSHIP
from jobsync.core.settings import Settings
from jobsync.postgres.locks import LockStatements
from jobsync.postgres.statement import Statement, call
from jobsync.postgres.virtual_server import PREFIX
from jobsync.simulation.process import Process
from jobsync.simulation.server import Copy
from jobsync.simulation.users import Users

if TYPE_CHECKING:
    from jobsync.simulation.world import World

SPANS_SEC = (0.3, 1.0, 3.1, 7.0)
BETWEEN_FAULTS_SEC = (0.05, 1.2)
REFUSAL_CHANCE = 0.02
STEERED_CALM_CHANCE = 0.5
Fault = tuple[int, Callable[[Process], None]]  # how often it falls, beside the others; what it does
POOL_SIZES = (1, 2, 7, 24, 60)
STILL_CHANCE = 0.15  # of a time without any change of fault, in which everything may settle


class Storm:
    """Faults on one world."""

    def __init__(self, world: "World", settings: Settings, names: tuple[str, ...], *, tokenless: float) -> None:
        self.users = Users(world)
        self.counts: Counter[str] = Counter()
        self._world = world
        self._random = world.random
        self._settings = settings
        self._names = names
        self._tokenless = tokenless
        self.lost_changes = 2
        self._standby: Copy | None = None
        self._locks = LockStatements(PREFIX)
        self._steerings: dict[str, Fault] = {}
        self._faults: dict[str, Fault] = {
            "pause": (4, self._pause),
            "pause in a step": (3, self._pause_in_a_step),
            "partition": (4, self._cut),
            "crash": (3, self._crash),
            "leave": (2, self._leave),
            "slow database": (2, self._slow),
            "fading database": (2, self._fade),
            "wall clock jump": (1, self._wall_jump),
            "database clock jump": (2, self._database_jump),
            "twin name": (2, self._twin),
            "lock change": (4, self._change_locks),
            "row deleted by hand": (1, self._delete_row),
            "server restart": (1, self._restart_server),
            "server crash": (1, self._crash_server),
            "session broken": (3, self._break_client),
            "session broken, server late": (2, self._break_client_late),
            "session reset at the server": (4, self._reset),
            "hanging callback": (2, self._hang),
        }

    # --- the two parts of a run --------------------------------------------------------------------

    def may(self, *, fail_over: bool, steered: bool, resized: bool) -> None:
        """Let kinds of faults fall as well that some storms have only."""
        if fail_over:
            self._faults["fail-over"] = (6, self._fail_over)
        if steered:
            self._steerings = {
                "cordon": (3, self._cordon),
                "drain": (3, self._drain),
                "freeze": (3, self._freeze),
                "resume": (3, self._resume),
            }
            self._faults |= self._steerings
        if resized:
            self._faults["pool resized"] = (3, self._resize)

    def rage(self, sec: float, *, only: Mapping[str, int]) -> None:
        """Let faults fall for so long; some kinds `only`, with their weights, unless it is empty."""
        world, random = self._world, self._random
        world.calm = world.network.calm = False
        world.network.refusal_chance = REFUSAL_CHANCE
        world.server.loses_unsynced = True
        if "fail-over" in self._faults:
            self._copy()
        self._work()
        weight_of = only or {name: weight for name, (weight, _) in self._faults.items()}
        names, weights = list(weight_of), list(weight_of.values())
        end_sec = world.agenda.now_sec + sec
        while world.agenda.now_sec < end_sec:
            still = random.random() < STILL_CHANCE
            world.agenda.run(random.uniform(1, 5) if still else random.uniform(*BETWEEN_FAULTS_SEC))
            (name,) = random.choices(names, weights)
            if world.processes:
                self._strike(name, random.choice(world.processes))
            self._revive()

    def _strike(self, name: str, process: Process) -> None:
        self.counts[name] += 1
        self._world.agenda.note("fault", f"{name}: {process.label}")
        self._faults[name][1](process)

    def subside(self) -> None:
        """Stop all faults; what was begun goes on."""
        world = self._world
        world.agenda.note("fault", "no more faults")
        world.calm = world.network.calm = True
        world.network.slow_sec = world.network.refusal_chance = 0.0
        world.server.loses_unsynced = False
        world.server.down_until_sec = world.agenda.now_sec
        self._standby = None
        for process in list(world.processes):
            process.cut_until_sec = 0.0
            process.hangs_sec = process.stops_after = None
            process.resume()
        self.keep_one()
        if self._steerings and world.random.random() < STEERED_CALM_CHANCE:
            self._strike(world.random.choice(list(self._steerings)), world.random.choice(world.processes))

    def resume_everything(self) -> None:
        """End all that is asked of nodes and the fleet."""
        self._end_steering(None, everything=True)

    def keep_one(self) -> None:
        """See to it that somebody is there: the last one may have been on its way out."""
        if not self._world.processes:
            self.start(self._names[0])

    # --- processes -----------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start a process, of either kind where both are wanted, now and then with leases of its own."""
        random, settings = self._random, self._settings
        takes_tokens = not self._tokenless or random.random() >= self._tokenless
        if random.random() < 0.15:
            settings = replace(settings, heartbeat_timeout_sec=5, heartbeat_interval_sec=1.5)
        if random.random() < 0.1:
            settings = replace(settings, session_lease_sec=None)
        self._world.start(name, settings, takes_tokens=takes_tokens)

    def _revive(self) -> None:
        for name in self._names:
            if not any(p.name == name for p in self._world.processes) and self._random.random() < 0.5:
                self.start(name)

    def _span(self) -> float:
        return self._random.choice(SPANS_SEC) * self._random.random()

    def _pause(self, process: Process) -> None:
        process.pause()
        self._world.agenda.after(self._span(), process.resume)

    def _pause_in_a_step(self, process: Process) -> None:
        process.stops_after = self._random.randrange(12)
        self._world.agenda.after(self._span(), process.resume)

    def _crash(self, process: Process) -> None:
        self._world.end(process, session_lingers_sec=self._random.choice((0.001, 0.5, 5.0)))

    def _leave(self, process: Process) -> None:
        process.deliver(m.LeaveAsked)

    def _wall_jump(self, process: Process) -> None:
        process.clock.set_wall(self._random.choice((-3600, -1, 1, 3600)))

    def _twin(self, process: Process) -> None:
        self.start(process.name)

    def _hang(self, process: Process) -> None:
        process.hangs_sec = self._random.uniform(1, 20)

    def _work(self) -> None:
        """Let applications write now and then, as long as the storm lasts."""
        world, random = self._world, self._random
        if world.calm:
            return
        for process in world.processes:
            held = list(process.held_now())
            if held and random.random() < 0.5:
                token = random.choice(held)
                if token != LEADERSHIP:
                    self.users.begin(process, token)
        world.agenda.after(random.uniform(0.05, 0.8), self._work)

    # --- network and database ------------------------------------------------------------------------

    def _cut(self, process: Process) -> None:
        process.cut_until_sec = self._world.agenda.now_sec + self._span()

    def _break_client(self, process: Process) -> None:
        self._world.network.break_client(process)

    def _break_client_late(self, process: Process) -> None:
        self._world.network.break_client(process, server_notices_sec=self._random.uniform(0, 3))

    def _reset(self, process: Process) -> None:
        self._world.network.reset_server_side(process)

    def _slow(self, _: Process) -> None:
        self._world.network.slow_sec = self._random.choice((0.05, 0.4, 1.5))
        self._world.agenda.after(self._random.uniform(0.2, 1.5), self._speed_up)

    def _fade(self, process: Process) -> None:
        """Answer slower and slower, then not at all."""
        self._world.network.slow_sec = self._random.uniform(0.1, 0.7)
        self._world.agenda.run(self._random.uniform(0.3, 1.0))
        if process.alive:
            self._random.choice((self._pause, self._cut, self._reset))(process)
        self._speed_up()

    def _speed_up(self) -> None:
        self._world.network.slow_sec = 0.0

    def _database_jump(self, _: Process) -> None:
        self._world.server.clock.set(self._random.choice((-3600, -5, -0.5, 0.5, 5, 3600)))

    def _change_locks(self, _: Process) -> None:
        random = self._random
        if random.random() < 0.2:
            work = self._locks.clear(None)
        else:
            token = random.randrange(self._settings.total_tokens)
            patterns = tuple(random.sample((*self._names, "n%", "nobody"), 2))
            days = random.choice((None, None, 2 / 86400))
            lock = NewLock(f"task {random.randrange(20)}", token, patterns, None)
            work = self._locks.register([lock], "operator", days)
        self._world.network.spread(self._world.server.change("lock change", work))

    # --- people ----------------------------------------------------------------------------------------

    def _cordon(self, process: Process) -> None:
        self._steer("cordon", process.name)

    def _drain(self, process: Process) -> None:
        self._steer("drain", process.name)

    def _freeze(self, _: Process) -> None:
        self._steer("freeze", None, self._random.choice((None, 1.0, 5.0)))

    def _resume(self, process: Process) -> None:
        self._end_steering(self._random.choice((process.name, process.name, None)), everything=False)

    def _steer(self, verb: str, node: str | None, for_sec: float | None = None) -> None:
        self._ask("steer", verb, node, None, "operator", for_sec, types=("text", "text", "text", "text", "float8"))

    def _end_steering(self, node: str | None, *, everything: bool) -> None:
        self._ask("resume", node, everything, "operator", types=("text", "boolean", "text"))

    def _ask(self, function: str, *args: object, types: tuple[str, ...]) -> None:
        self._world.agenda.note("people", f"{function} {args}")
        self._world.network.spread(self._world.server.change("steering", call(function, PREFIX, *args, types=types)))

    def _resize(self, _: Process) -> None:
        """Stop the fleet, or most of it, and start it with another number of tokens."""
        others = [size for size in POOL_SIZES if size != self._settings.total_tokens]
        self._settings = replace(self._settings, total_tokens=self._random.choice(others))
        for process in list(self._world.processes):
            if self._random.random() < 0.9:
                self._random.choice((self._leave, self._leave, self._crash))(process)

    def _delete_row(self, process: Process) -> None:
        work = Statement(f"delete from {PREFIX}node where name = $1::text", (process.name,))
        self._world.network.spread(self._world.server.change("Delete", work))

    def _restart_server(self, _: Process) -> None:
        self._world.server.restart(down_sec=self._random.uniform(0.05, 2.0), crash=False)
        self._world.network.break_all()

    def _crash_server(self, _: Process) -> None:
        self._world.server.restart(down_sec=self._random.uniform(0.1, 2.0), crash=True)
        self._world.network.break_all()

    def _copy(self) -> None:
        """Let the standby have what there is now, and again a little later."""
        if self._world.calm:
            return
        self._standby = self._world.server.copy()
        self._world.agenda.after(self._random.uniform(0.1, 1.5), self._copy)

    def _fail_over(self, process: Process) -> None:
        """Lose the last commits, moves of tokens among them, while somebody cannot reach the new server."""
        if self._standby is None:
            return
        standby = self._random.choice((self._standby, self._world.server.copy()))
        for _ in range(self.lost_changes):
            self._change_locks(process)
            self._world.agenda.run(self._random.uniform(0, 0.2))
        network, down_sec = self._world.network, self._random.choice((0.01, 1.0)) * self._random.random()
        keeps_clients = not network.direct and self._random.random() < 0.5  # as a pooler may
        self._world.server.fail_over(standby, down_sec=down_sec, keeps_clients=keeps_clients)
        if self._random.random() < 0.7:
            process.cut_until_sec = self._world.agenda.now_sec + self._random.uniform(0, 5)
        if not keeps_clients:
            network.break_all()
