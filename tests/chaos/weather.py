"""Bad weather: each kind of fault is a class, with a beginning, an end, and a bound on what it costs.

The bounds are those of the protocol. From the strike on, every token is owned again

* after a session lease, a look and a hand-over, where the victim's session is gone (rule B): about a second;
* after a row lease, where it is not (rule A), or where an observer's own session broke less than 5 s ago;
* or as soon as the victim answers again, if that comes first, and it could connect (a pause of two seconds at most).
"""

import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from jobsync.core.observer import GRACE_AFTER_OWN_BREAK_SEC
from jobsync.runtime.clock import boot_sec
from tests.api.jobs import eventually, query
from tests.chaos.fleet import Fleet, Worker
from tests.network import Network
from tests.server_clock import ServerClock
from tests.servers import PrivateServer

TIMES = {
    "heartbeat_interval_sec": 0.4, "heartbeat_timeout_sec": 2.0, "handover_timeout_sec": 0.5,
    "dead_node_check_interval_sec": 1.0,
}  # fmt: skip
ROW_SEC = TIMES["heartbeat_timeout_sec"] + TIMES["heartbeat_interval_sec"]
SESSION_SEC = 1.0  # The session lease of 0.6 s, looks every 0.15 s, the fence and the growth.
CONNECT_SEC = 2.0


@dataclass
class Scene:
    """What faults happen to: a server and a fleet, perhaps in a network of their own."""

    server: PrivateServer
    fleet: Fleet
    rng: random.Random
    network: Network | None
    prefix: str
    mutant: Mapping[str, str] = field(default_factory=dict)
    count: int = 0
    clock: ServerClock | None = None
    broken_sec: float = float("-inf")  # When sessions of observers were last broken.

    def dsn_for(self, number: int) -> str:
        """Give each worker a way to the server of its own, by which the firewall knows it."""
        host = "127.0.0.1" if self.network is None else self.address_of(number)
        return f"host={host} port={self.server.port} dbname=postgres user=postgres"

    def address_of(self, number: int) -> str:
        return f"127.0.1.{number % 250 + 1}"

    def launch(self, name: str | None = None) -> Worker:
        """Start a worker that has not entered yet; by a name of its own, or by one that another has or had."""
        self.count += 1
        number = self.count
        settings = {**self.fleet.given["settings"], "dsn": self.dsn_for(number)}  # type: ignore[dict-item]
        inside = () if self.network is None else (*self.network.inside, "--")
        worker = self.fleet.launch(name or f"n{number}", settings=settings, inside=inside, **self.mutant)
        self.numbers[worker.answers.name] = number
        return worker

    numbers: dict[str, int] = field(default_factory=dict)

    def enter(self, name: str | None = None) -> Worker:
        worker = self.launch(name)
        assert "entered" in (said := worker.hear(60.0)), said
        return worker

    def address(self, worker: Worker) -> str:
        return self.address_of(self.numbers[worker.answers.name])

    def backend_of(self, worker: Worker) -> int | None:
        rows = query(self.server.socket_dsn, f"select backend_pid from {self.prefix}node where name = %s", worker.name)
        return int(rows[0][0]) if rows else None


class Fault:
    """One fault on one victim; `bound_sec` is for how long at most a token is without an owner that answers."""

    name = ""
    longest_sec = 0.0
    breaks_sessions = True

    def __init__(self, scene: Scene, victim: Worker) -> None:
        self.scene = scene
        self.victim = victim
        self.lasts_sec = scene.rng.uniform(0.1, self.longest_sec) if self.longest_sec else 0.0
        self.bound_sec = SESSION_SEC

    def begin(self) -> None:
        """Strike."""

    def end(self) -> None:
        """Let it be over, and have five nodes again."""

    def expect_death(self) -> None:
        """Set the bound for a victim that dies now: by its session, or by its row where observers wait for a grace."""
        if boot_sec() - self.scene.broken_sec < GRACE_AFTER_OWN_BREAK_SEC + SESSION_SEC:
            self.name += ", observers' sessions broken just before"
            self.bound_sec = ROW_SEC + SESSION_SEC


class Kill(Fault):
    """SIGKILL, and a new process, now and then under the same name."""

    name = "SIGKILL"
    breaks_sessions = False

    def begin(self) -> None:
        self.expect_death()
        self.victim.kill()

    def end(self) -> None:
        self.scene.enter(self.scene.rng.choice([None, self.victim.name]))


class Pause(Fault):
    """SIGSTOP: the machine is there, the process does not move; its session stands."""

    name = "SIGSTOP"
    longest_sec = 4.0

    def begin(self) -> None:
        self.bound_sec = min(self.lasts_sec, ROW_SEC) + SESSION_SEC
        self.victim.stop()

    def end(self) -> None:
        self.victim.go_on()


class LongPause(Pause):
    """SIGSTOP for up to 40 s."""

    name = "SIGSTOP, long"
    longest_sec = 40.0


class Terminate(Fault):
    """SIGTERM, and a new process."""

    name = "SIGTERM"
    breaks_sessions = False

    def begin(self) -> None:
        self.victim.signal(signal.SIGTERM)

    def end(self) -> None:
        self.victim.process.wait(30)
        self.scene.enter()


class EndSession(Fault):
    """pg_terminate_backend of the node's session."""

    name = "pg_terminate_backend"

    def begin(self) -> None:
        query(self.scene.server.socket_dsn, "select pg_terminate_backend(%s)", self.scene.backend_of(self.victim))


class Restart(Fault):
    """The server crashes and comes back."""

    name = "server restart"

    def begin(self) -> None:
        down_sec = boot_sec()
        self.scene.server.restart("immediate")
        self.bound_sec = boot_sec() - down_sec + CONNECT_SEC + SESSION_SEC


class Freeze(Fault):
    """The backend of the node's session stands still, and perhaps holds locks."""

    name = "frozen backend"
    longest_sec = 3.0

    def begin(self) -> None:
        self.bound_sec = max(self.lasts_sec, ROW_SEC) + CONNECT_SEC + SESSION_SEC
        self.backend = self.scene.backend_of(self.victim)
        if self.backend is not None:
            with suppress(ProcessLookupError):
                os.kill(self.backend, signal.SIGSTOP)

    def end(self) -> None:
        if self.backend is not None:
            with suppress(ProcessLookupError):
                os.kill(self.backend, signal.SIGCONT)


class Firewall(Fault):
    """Rules for all the connections of one process."""

    longest_sec = 4.0

    def rule(self) -> Callable[[str], None]:
        assert self.scene.network is not None
        return self.scene.network.drop

    def begin(self) -> None:
        self.bound_sec = min(self.lasts_sec + CONNECT_SEC, ROW_SEC) + SESSION_SEC
        self.rule()(self.scene.address(self.victim))

    def end(self) -> None:
        assert self.scene.network is not None
        self.scene.network.clear()


class Drop(Firewall):
    """Packets are lost, both ways."""

    name = "DROP"


class ResetServer(Firewall):
    """The server's side is reset, and its sessions end; the client hears nothing."""

    name = "RST to the server"

    def rule(self) -> Callable[[str], None]:
        assert self.scene.network is not None
        return self.scene.network.reset_server


class ResetClient(Firewall):
    """The client's side is reset; the server's sessions stand."""

    name = "RST to the client"

    def rule(self) -> Callable[[str], None]:
        assert self.scene.network is not None
        return self.scene.network.reset_client


class Twin(Fault):
    """Another process comes under the name of a living one: it waits; then one of the two is killed."""

    name = "name twin"
    longest_sec = 1.0
    breaks_sessions = False

    def begin(self) -> None:
        self.expect_death()
        self.twin = self.scene.launch(self.victim.name)

    def end(self) -> None:
        if self.scene.rng.random() < 0.5:
            self.twin.kill()
            return
        self.victim.kill()
        if self.twin.hear(60.0).get("error") == "NodeNameInUse":
            # It came early enough to see the first one alive, and is refused for good.
            self.scene.enter(self.victim.name)


class ClockStep(Fault):
    """The time of day jumps on the server's machine, by up to a day, ahead or back: nothing may happen."""

    name = "database clock step"
    breaks_sessions = False

    def begin(self) -> None:
        clock, rng = self.scene.clock, self.scene.rng
        assert clock is not None
        before_sec = self.server_ahead_sec()
        step_sec = rng.choice((-1, 1)) * rng.choice((3, 60, 3600, 86_400)) * rng.uniform(0.9, 1.0)
        clock.set_to(clock.offset_sec + step_sec)
        eventually(lambda: abs(self.server_ahead_sec() - before_sec - step_sec) < 1, "the server's clock has jumped")

    def server_ahead_sec(self) -> float:
        """Tell how far the server's clock is ahead of this machine's; a new session reads it anew."""
        ((server_sec,),) = query(self.scene.server.socket_dsn, "select extract(epoch from clock_timestamp())::float8")
        return float(server_sec) - time.time()


class Storm(Fault):
    """Three come and three go, at once."""

    name = "join and leave storm"
    breaks_sessions = False

    def begin(self) -> None:
        coming = [self.scene.launch() for _ in range(3)]
        leaving = self.scene.rng.sample(self.scene.fleet.running[:-3], 3)
        for worker in leaving:
            worker.signal(signal.SIGTERM)
        for worker in coming:
            assert "entered" in (said := worker.hear(60.0)), said
        for worker in leaving:
            worker.process.wait(30)


ANYWHERE: tuple[type[Fault], ...] = (Kill, Pause, Terminate, EndSession, Restart, Freeze, Twin, Storm)
WITH_A_CLOCK: tuple[type[Fault], ...] = (ClockStep,)
IN_A_NETWORK: tuple[type[Fault], ...] = (Drop, ResetServer, ResetClient)


def whole(scene: Scene) -> None:
    """Wait until the workers that run own every token among them, and the database says the same."""
    scene.fleet.wait_until_owned(scene.fleet.running, limit_sec=60.0)
    names = sorted(worker.name for worker in scene.fleet.running)

    def is_even() -> bool:
        rows: list[tuple[Any, ...]] = query(
            scene.server.socket_dsn, f"select node, count(*) from {scene.prefix}token group by 1"
        )
        return sorted(node for node, _ in rows) == names and sum(count for _, count in rows) == scene.fleet.tokens

    eventually(is_even, "every live node owns tokens, and every token has one owner", limit_sec=60.0)
