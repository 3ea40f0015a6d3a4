"""Many seeds, spread over processes, each with a database of its own on one server: every seed is what it is alone."""

import multiprocessing
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from statistics import median

from jobsync.postgres.virtual_server import VirtualServer, new_database
from jobsync.simulation.seeds import Outcome, run_seed

SEEDS_A_TURN = 5

_virtual: VirtualServer | None = None


@dataclass(slots=True)
class Tally:
    """What came of many seeds."""

    seeds: int = 0
    violations: list[Outcome] = field(default_factory=list)
    virtual_sec: float = 0.0
    node_sec: float = 0.0
    statements: int = 0
    writes: int = 0
    rests_sec: list[float] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    facts: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """Count one more."""
        self.seeds += 1
        self.virtual_sec += outcome.virtual_sec
        self.node_sec += outcome.node_sec
        self.statements += outcome.statements
        self.writes += outcome.writes
        self.faults.update(outcome.faults)
        self.facts.update(outcome.facts)
        if outcome.violated:
            self.violations.append(outcome)
        else:
            self.rests_sec.append(outcome.rest_sec)

    @property
    def rest_sec(self) -> tuple[float, float]:
        """How long fleets needed to come to rest: the median and the longest."""
        return (median(self.rests_sec), max(self.rests_sec)) if self.rests_sec else (0.0, 0.0)


def run_many(dsn: str, seeds: Iterator[int], *, processes: int) -> Iterator[Outcome]:
    """Run seeds on one server; gives their outcomes as they come."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _begin, (dsn,)) as pool:
        under_way: set[Future[list[Outcome]]] = set()
        try:
            while True:
                while len(under_way) < 2 * processes and (turn := list(islice(seeds, SEEDS_A_TURN))):
                    under_way.add(pool.submit(_run, turn))
                if not under_way:
                    return
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for future in done:
                    yield from future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _begin(dsn: str) -> None:
    global _virtual  # noqa: PLW0603 - one server a process, made once
    _virtual = VirtualServer(new_database(dsn))


def _run(seeds: list[int]) -> list[Outcome]:
    assert _virtual is not None
    return [run_seed(_virtual, seed) for seed in seeds]
