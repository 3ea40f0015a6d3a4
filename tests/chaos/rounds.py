"""Rounds of bad weather: five processes, faults by a seed, and a judgement; a round is short, and its seed repeats it.

A step of a round is one fault, or two at one time; then the fleet must be whole again. Afterwards the answers of all
processes are laid over each other: no instant may have two yeses for one task, and after each single fault no task may
have been without any for longer than the bound of its class.
"""

import random
import secrets
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from jobsync.runtime.clock import boot_sec
from tests.chaos.fleet import Fleet
from tests.chaos.weather import ANYWHERE, IN_A_NETWORK, TIMES, WITH_A_CLOCK, Fault, LongPause, Scene, Storm, whole
from tests.conftest import drop_all
from tests.network import Network
from tests.server_clock import ServerClock, why_no_clock
from tests.servers import PrivateServer, new_dir

NODES = 5
BOTH_AT_ONCE = 0.15
LONG_PAUSES = 0.04


@dataclass
class Strike:
    """One step as it went: the faults, when they struck, when all was whole again, and the bound."""

    faults: list[str]
    at_sec: float
    whole_sec: float
    bound_sec: float
    recovered_sec: float = 0.0


@dataclass
class Report:
    """What rounds found out."""

    strikes: list[Strike] = field(default_factory=list)
    samples: int = 0
    overlaps: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)

    def add(self, other: "Report") -> None:
        self.strikes += other.strikes
        self.samples += other.samples
        self.overlaps += other.overlaps
        self.failures += other.failures
        self.seeds += other.seeds

    @property
    def faults(self) -> int:
        return sum(len(strike.faults) for strike in self.strikes)

    def late(self, busy_sec: float) -> list[str]:
        """List the steps that took longer than their bound, and what a busy machine may add."""
        return [
            f"{strike.faults}: {strike.recovered_sec:.2f} s, bound {strike.bound_sec:.2f} s"
            for strike in self.strikes
            if strike.recovered_sec > strike.bound_sec + busy_sec
        ]

    def table(self) -> str:
        """Give class, count, and for how long at most a task had no owner: median, worst, and bound, as Markdown."""
        by_class: dict[str, list[Strike]] = defaultdict(list)
        for strike in self.strikes:
            by_class[strike.faults[0] if len(strike.faults) == 1 else "two of them at one time"].append(strike)
        lines = ["| fault | n | longest without an owner: median | worst | bound |", "|---|---|---|---|---|"]
        for name, strikes in sorted(by_class.items()):
            took = [strike.recovered_sec for strike in strikes]
            bound_sec = max(strike.bound_sec for strike in strikes)
            lines.append(
                f"| {name} | {len(took)} | {statistics.median(took):.2f} s | {max(took):.2f} s | {bound_sec:.1f} s |"
            )
        return "\n".join(lines)


def play(
    seed: int,
    directory: Path,
    server: PrivateServer,
    network: Network | None,
    *,
    steps: int = 0,
    script: Sequence[type[Fault]] = (),
    kinds: Sequence[type[Fault]] | None = None,
    mutant: Mapping[str, str] | None = None,
    clock: ServerClock | None = None,
    long_pauses: bool = False,
) -> Report:
    """Play one round: a `script`, or so many `steps` that the seed chooses. AssertionError: not whole again."""
    rng = random.Random(seed)
    prefix = f"r{seed}_{secrets.token_hex(2)}_"
    chosen = kinds or (
        *ANYWHERE,
        *(IN_A_NETWORK if network is not None else ()),
        *(WITH_A_CLOCK if clock is not None else ()),
    )
    report = Report(seeds=[seed])
    with Fleet(server.socket_dsn, prefix, directory, **TIMES) as fleet:
        scene = Scene(server, fleet, rng, network, prefix, mutant or {}, clock=clock)
        for _ in range(NODES):
            scene.enter()
        whole(scene)
        for kind in script:
            report.strikes.append(step(scene, [kind]))
        for _ in range(steps):
            pair = rng.random() < BOTH_AT_ONCE and len(chosen) > 1
            classes = rng.sample(chosen, 2 if pair else 1)
            if Storm in classes:
                classes = [Storm]  # It could choose another fault's newcomer among those that leave.
            if long_pauses and rng.random() < LONG_PAUSES:
                classes = [LongPause]
            report.strikes.append(step(scene, classes))
        judge(fleet, report)
    drop_all(server.socket_dsn, prefix)
    return report


def step(scene: Scene, classes: Sequence[type[Fault]]) -> Strike:
    victims = scene.rng.sample(scene.fleet.running, len(classes))
    faults = [each(scene, victim) for each, victim in zip(classes, victims, strict=True)]
    began_sec = boot_sec()
    for fault in faults:
        fault.begin()
    over = [(began_sec + fault.lasts_sec, fault) for fault in faults]
    for until_sec, fault in sorted(over, key=lambda each: each[0]):
        last_until(until_sec)
        fault.end()
    if scene.mutant.get("mutant") != "leases":  # Such a fleet is never of one mind again.
        try:
            whole(scene)
        except AssertionError as error:
            raise AssertionError(f"not whole again after {[fault.name for fault in faults]}: {error}") from error
    if any(fault.breaks_sessions for fault in faults):
        scene.broken_sec = boot_sec()
    bound_sec = sum(fault.bound_sec for fault in faults)
    return Strike([fault.name for fault in faults], began_sec, boot_sec(), bound_sec)


def last_until(until_sec: float) -> None:
    """Let the fault last: its length is part of the play, not a wait for something to happen."""
    time.sleep(max(0.0, until_sec - boot_sec()))


def judge(fleet: Fleet, report: Report) -> None:
    for strike in report.strikes:
        strike.recovered_sec = fleet.longest_gap_sec(strike.at_sec, strike.whole_sec)
    report.samples = sum(len(worker.samples) for worker in fleet.workers)
    report.overlaps = [f"seed {report.seeds[0]}: {found}" for found in fleet.overlaps()]


class Ground:
    """A server in a network of its own, where allowed, and with a clock that can be set, where libfaketime is."""

    def __init__(self, directory: Path, *, networked: bool) -> None:
        self._stack = ExitStack()
        self.network = self._stack.enter_context(Network()) if networked else None
        inside = () if self.network is None else self.network.inside
        settings = {"listen_addresses": "*", "max_connections": "200"} if networked else {}
        home = new_dir(directory, "private")
        self.clock = ServerClock(home) if why_no_clock() is None else None
        environment = {} if self.clock is None else self.clock.environment
        made = PrivateServer(home, settings=settings, inside=inside, environment=environment)
        self.server = self._stack.enter_context(made)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
