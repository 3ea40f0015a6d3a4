"""Play a pool of two GPU nodes and two CPU nodes: GPU nodes die and return, and the work goes where its pins say.

`python examples/gpu_pool/play.py` ends with a verdict: 0 only if every task ran on its first choice among the nodes
that lived, and no GPU task on a CPU node while a GPU node lived. What a user writes is worker.py.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.gpu_pool.worker import PINS
from examples.stage import Check, Stage

WORKER = Path(__file__).with_name("worker.py")
TABLES = "create table work (id bigint generated always as identity, task text not null, node text not null)"
POOL = ("gpu-a-1", "gpu-a-2", "cpu-1", "cpu-2")
KINDS = ("train", "embed", "report")
ROUNDS = 3

# What is done to the pool, and who lives afterwards.
COURSE = (
    ("all four nodes live", (), POOL),
    ("gpu-a-1 is killed", ("gpu-a-1",), ("gpu-a-2", "cpu-1", "cpu-2")),
    ("gpu-a-1 returns", (), POOL),
    ("both GPU nodes are killed", ("gpu-a-1", "gpu-a-2"), ("cpu-1", "cpu-2")),
    ("gpu-a-2 returns", (), ("gpu-a-2", "cpu-1", "cpu-2")),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One piece of work that was done, in the order of `id`."""

    id: int
    task: str
    node: str


@dataclass(frozen=True, slots=True)
class Phase:
    """A time with the same nodes alive: rows after `begun` belong to it, those after `settled` to its settled part."""

    what: str
    live: Sequence[str]
    begun: int
    settled: int


def allowed(task: str, live: Sequence[str]) -> list[str]:
    """Give the nodes that a task's first matching pattern allows: an answer that owes nothing to the library."""
    for pattern in PINS[task]:
        if found := [node for node in live if fnmatchcase(node, pattern.replace("%", "*"))]:
            return found
    return []


def judge(phases: Sequence[Phase], rows: Iterable[Row]) -> list[Check]:
    """Judge where everything ran once the pool had settled, and that no GPU stood by while a CPU did its work."""
    listed = list(rows)
    ends = [phase.begun for phase in phases[1:]] + [max((row.id for row in listed), default=0)]
    checks, strays = [], 0
    had_gpu = True
    for phase, end in zip(phases, ends, strict=True):
        ran = [row for row in listed if phase.settled < row.id <= end]
        wrong = sum(row.node not in allowed(row.task, phase.live) for row in ran)
        idle = len(set(PINS) - {row.task for row in ran})
        places = Counter((row.task.split("-")[0], row.node) for row in ran)
        figures = ", ".join(f"{kind} on {node} {count}" for (kind, node), count in sorted(places.items()))
        bad = f"{wrong} misplaced, {idle} tasks idle; " if wrong or idle else ""
        checks.append(Check(phase.what, not wrong and not idle, bad + figures))
        has_gpu = any(is_gpu(node) for node in phase.live)
        if has_gpu:
            # A GPU node that returns to none takes over task by task: it has the work once that has settled.
            since = phase.begun if had_gpu else phase.settled
            strays += sum(needs_gpu(row.task) and not is_gpu(row.node) for row in listed if since < row.id <= end)
        had_gpu = has_gpu
    checks.append(Check("no GPU task on a CPU while a GPU lived", strays == 0 and bool(listed), f"{strays} such rows"))
    return checks


def is_gpu(node: str) -> bool:
    """Tell a GPU node by its name."""
    return node.startswith("gpu-")


def needs_gpu(task: str) -> bool:
    """Tell a GPU task by its first choice."""
    return is_gpu(PINS[task][0])


class Pool:
    """The pool under way: what lives, and the phases so far."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._live: list[str] = []
        self.phases: list[Phase] = []

    def turn(self, what: str, killed: Sequence[str], live: Sequence[str]) -> None:
        """Bring one phase about, wait until every task runs where it should, and let it run so for some rounds."""
        stage = self._stage
        begun = self._last_row()
        for node in killed:
            stage.kill(node)
        for node in live:
            if node not in self._live or node in killed:
                stage.start(node, WORKER, node)
                # One after the other, GPU nodes first: no GPU task ever finds CPU nodes alone by accident.
                stage.wait_until(partial(self._is_in, node), f"{node} is in the fleet")
        self._live = list(live)
        took_sec = stage.wait_until(lambda: self._runs_as_pinned(begun), f"{what}: every task runs where it should")
        settled = self._last_row()
        self.phases.append(Phase(what, live, begun, settled))
        latest = dict(stage.query("select distinct on (task) task, node from work order by task, id desc"))
        where = {kind: sorted({latest[task] for task in PINS if task.startswith(kind)}) for kind in KINDS}
        places = "; ".join(f"{kind} on {' and '.join(nodes)}" for kind, nodes in where.items())
        stage.say(f"{what}; after {took_sec:.1f} s: {places}")
        stage.wait_until(lambda: self._rounds(settled) >= ROUNDS, f"{ROUNDS} rounds of every task")

    def _last_row(self) -> int:
        return int(self._stage.value("select coalesce(max(id), 0) from work"))

    def _is_in(self, node: str) -> bool:
        table = self._stage.value("select to_regclass('sync_node')")
        return table is not None and self._stage.value("select exists (select from sync_token where node = %s)", node)

    def _runs_as_pinned(self, since: int) -> bool:
        latest = self._stage.query(
            "select distinct on (task) task, node from work where id > %s order by task, id desc", since
        )
        return len(latest) == len(PINS) and all(node in allowed(task, self._live) for task, node in latest)

    def _rounds(self, since: int) -> int:
        counts = dict(self._stage.query("select task, count(*) from work where id > %s group by task", since))
        return min(int(counts.get(task, 0)) for task in PINS)


def main() -> int:
    """Play it and give the exit status."""
    with Stage("gpu_pool", TABLES) as stage:
        pool = Pool(stage)
        for what, killed, live in COURSE:
            pool.turn(what, killed, live)
        rows = [Row(*row) for row in stage.query("select id, task, node from work")]
        left = {node: stage.stop(node) for node in COURSE[-1][2]}
        checks = judge(pool.phases, rows)
        checks.append(Check("all told to stop left well", not any(left.values()), f"{len(left)} nodes, by SIGTERM"))
        return stage.verdict(checks)


if __name__ == "__main__":
    sys.exit(main())
