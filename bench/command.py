"""How long `jobsync status` takes, the whole process, beside what the driver alone costs in the same minute."""

import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from statistics import median

from bench.context import Context
from bench.figures import Figure, command_for, rounded, spread

ASKED_MS = 250
COMMANDS = {
    "status": ["-m", "jobsync", "status"],
    "status --json": ["-m", "jobsync", "status", "--json"],
    "python -c 'import psycopg'": ["-c", "import psycopg"],
}


@dataclass(frozen=True, slots=True)
class Took:
    """One process: milliseconds by the clock, and of the processors."""

    wall_ms: float
    processor_ms: float


def status(context: Context) -> list[Figure]:
    """Ask a fleet of four nodes, in turns with a process that does nothing but import the driver."""
    repeats = context.repeats(15, 5)
    with context.fleet(probe_sec=None) as fleet:
        fleet.fill(4)
        environment = {**os.environ, "SYNC_DSN": context.dsn, "SYNC_SQL_APPNAME": fleet.plan.prefix}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # Installed programs are compiled once.
        took: dict[str, list[Took]] = {name: [] for name in COMMANDS}
        for turn in range(repeats + 1):
            for name, arguments in COMMANDS.items():
                one = timed([sys.executable, *arguments], environment)
                if turn:  # The first one may find nothing compiled.
                    took[name].append(one)
    return [_figure(name, runs) for name, runs in took.items()]


def timed(command: list[str], environment: dict[str, str]) -> Took:
    """Run one process to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    wall_sec = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor_sec = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Took(wall_sec * 1000, processor_sec * 1000)


def _figure(name: str, runs: list[Took]) -> Figure:
    walls, processors = [run.wall_ms for run in runs], [run.processor_ms for run in runs]
    is_ours = name.startswith("status")
    return Figure(
        f"jobsync {name}, the whole process" if is_ours else f"&nbsp;&nbsp;{name}, in the same minute",
        f"{ASKED_MS} ms" if is_ours else "-",
        f"{spread(walls, 'ms', digits=0)}; processor {median(processors):.0f} ms",
        len(runs),
        median(walls) <= ASKED_MS if is_ours else None,
        command_for("status"),
        {"wall_ms": rounded(walls, 1), "processor_ms": rounded(processors, 1)},
    )
