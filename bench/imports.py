"""What `from jobsync import Job` costs a program, and what its first `with job:`, beside the driver alone."""

import os
import sys
from statistics import median

from bench.command import Took, timed
from bench.context import Context
from bench.figures import Figure, command_for, rounded, spread

ASKED_MS = 150
INTERPRETER = "the interpreter alone"
JOB = "from jobsync import Job"
DRIVER = "import psycopg, psycopg_pool"
FLEET = "a job that joins a fleet, and leaves"
PROGRAMS = {
    INTERPRETER: "pass",
    "import jobsync": "import jobsync",
    JOB: JOB,
    "a job that stands alone, entered and left": f"{JOB}\nwith Job('a', coordination_config=None): pass",
    "from jobsync import JobQueue": "from jobsync import JobQueue",
    DRIVER: DRIVER,
    "the same, and a connection made": f"import os\n{DRIVER}\npsycopg.connect(os.environ['SYNC_DSN']).close()",
    FLEET: f"{JOB}\nwith Job('a'): pass",
}


def imports(context: Context) -> list[Figure]:
    """Run fresh processes in turns, byte code compiled; told by processor time, which a busy machine leaves alone."""
    environment = {**os.environ, "SYNC_DSN": context.dsn, "SYNC_SQL_APPNAME": context.new_prefix()}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # Installed programs are compiled once.
    took: dict[str, list[Took]] = {name: [] for name in PROGRAMS}
    for turn in range(context.repeats(25, 5) + 1):
        for name, program in PROGRAMS.items():
            one = timed([sys.executable, "-c", program], environment)
            if turn:  # The first one may find nothing compiled, and no tables.
                took[name].append(one)
    beside = {JOB: DRIVER, FLEET: DRIVER}
    return [_figure(name, took, beside.get(name)) for name in PROGRAMS]


def _figure(name: str, took: dict[str, list[Took]], beside: str | None) -> Figure:
    walls = [run.wall_ms for run in took[name]]
    processors = [run.processor_ms for run in took[name]]
    ratio = ""
    if beside is not None:
        ratio = f", {median(processors) / median(run.processor_ms for run in took[beside]):.2f} of the driver's"
    is_asked = name == JOB
    return Figure(
        f"`{name}`, the whole process" if is_asked else f"&nbsp;&nbsp;{name}",
        f"{ASKED_MS} ms" if is_asked else "-",
        f"processor {spread(processors, 'ms', digits=0)}{ratio}; by the clock {median(walls):.0f} ms",
        len(walls),
        median(processors) <= ASKED_MS if is_asked else None,
        command_for("imports"),
        {"wall_ms": rounded(walls, 1), "processor_ms": rounded(processors, 1)},
    )
