"""How long the local answers take, in a process that is one of two nodes and does nothing else."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

from bench.context import Context
from bench.figures import Figure, command_for, rounded
from jobsync import CoordinationConfig, Job, Task

SLICES = 200
FRESH, SEEN = 1_000, 1_000
IDS = 10_000
_ROOT = Path(__file__).parent.parent

Slices: TypeAlias = list[tuple[float, float]]


def claim(context: Context) -> list[Figure]:
    """Ask `can_claim_task` for ids never seen, and for ids seen before."""
    told = _in_a_node(context, "claim")
    return [
        *_claim_figures("an id never seen", told["fresh_task"], told["fresh_str"], FRESH, asked_ns=1200),
        *_claim_figures("an id seen before", told["seen_task"], told["seen_str"], SEEN, asked_ns=300),
    ]


def _claim_figures(what: str, tasks: Slices, texts: Slices, calls: int, *, asked_ns: float) -> list[Figure]:
    command = command_for("claim")
    details = {
        "task_ns": rounded([wall for wall, _ in tasks], 1), "str_ns": rounded([wall for wall, _ in texts], 1),
        "task_cpu_ns": rounded([cpu for _, cpu in tasks], 1), "str_cpu_ns": rounded([cpu for _, cpu in texts], 1),
    }  # fmt: skip
    n = calls * len(tasks)
    good = max(median(details["task_ns"]), median(details["str_ns"])) <= asked_ns
    reached = f"Task {_said(tasks)}, bare str {_said(texts)}"
    return [Figure(f"can_claim_task, {what}", f"{asked_ns:,.0f} ns", reached, n, good, command, details)]


def _said(slices: Slices) -> str:
    wall = [wall for wall, _ in slices]
    return f"{median(wall):,.0f} ns (best {min(wall):,.0f}; processor {median(cpu for _, cpu in slices):,.0f})"


def ids_for_token(context: Context) -> list[Figure]:
    """Call `get_task_ids_for_token` for every token over one list of ids."""
    took = _in_a_node(context, "ids")["loop"]
    reached = f"median {median(took):.3f} s ({min(took):.3f} to {max(took):.3f})"
    name = "10,000 calls of get_task_ids_for_token over 10,000 ids"
    details = {"sec": rounded(took)}
    return [Figure(name, "0.2 s", reached, len(took), median(took) <= 0.2, command_for("ids-for-token"), details)]


def _in_a_node(context: Context, what: str) -> Any:
    with context.fleet(probe_sec=None) as fleet:
        fleet.fill(1)
        command = [sys.executable, "-m", "bench.answers", context.dsn, fleet.plan.prefix, what]
        return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=_ROOT, timeout=120).stdout)


# --- within the process that is measured -----------------------------------------------------------


def _time_slice(function: Callable[[Any], object], arguments: Sequence[object]) -> tuple[float, float]:
    """Give the nanoseconds a call, by the wall clock and by the thread's own processor time."""
    began, began_cpu = time.perf_counter_ns(), time.thread_time_ns()
    for argument in arguments:
        function(argument)
    cpu, wall = time.thread_time_ns() - began_cpu, time.perf_counter_ns() - began
    return wall / len(arguments), cpu / len(arguments)


def measure_claim(job: Job) -> dict[str, list[tuple[float, float]]]:
    """Time the question slice by slice; fresh ids are new in every slice, the seen ones are the same thousand."""
    numbers = count()
    told: dict[str, list[tuple[float, float]]] = {"fresh_task": [], "fresh_str": [], "seen_task": [], "seen_str": []}
    texts = [f"seen-{number}" for number in range(SEEN)]
    tasks = [Task(text) for text in texts]
    job.can_claim_task("the first question")  # It puts the answering function in the method's place.
    ask = job.can_claim_task
    for _ in range(SLICES):
        told["fresh_task"].append(_time_slice(ask, [Task(f"task-{next(numbers)}") for _ in range(FRESH)]))
        told["fresh_str"].append(_time_slice(ask, [f"task-{next(numbers)}" for _ in range(FRESH)]))
        _time_slice(ask, tasks)
        told["seen_task"].append(_time_slice(ask, tasks))
        told["seen_str"].append(_time_slice(ask, texts))
    return told


def measure_ids(job: Job) -> dict[str, list[float]]:
    """Time the whole loop over a list that the job has not seen, five times; the ids are text, as users' are."""
    took = []
    for round_number in range(5):
        ids = [f"{round_number}-{number}" for number in range(IDS)]
        began = time.perf_counter()
        found = sum(len(job.get_task_ids_for_token(token, ids)) for token in range(IDS))
        took.append(time.perf_counter() - began)
        assert found == IDS
    return {"loop": took}


def main(dsn: str, prefix: str, what: str) -> None:
    """Be the node that is measured."""
    config = CoordinationConfig(dsn=dsn, appname=prefix, minimum_nodes=2)
    with Job("measured", coordination_config=config) as job:
        print(json.dumps(measure_claim(job) if what == "claim" else measure_ids(job)))


if __name__ == "__main__":
    main(*sys.argv[1:])
