"""One worker of the demo, a process of its own: `python -m jobsync.cli.demo.worker NAME LIMIT PACE_MS [GATE]`.

This is what a user's worker looks like: a job within a run, a loop over the tasks, a transaction for each. The line
that says that a file was begun is committed before the work, so that a kill in the middle leaves a trace; the
counts, the line that says that it ended, and the library's own audit commit together.
"""

import logging
import sys
import time
from contextlib import suppress
from pathlib import Path

from jobsync import AlreadyDone, CoordinationConfig, Job, JobsyncError, OwnershipLost, Task
from jobsync.api.cluster import Cluster, open_cluster
from jobsync.cli.demo import stdlib
from jobsync.cli.demo.tables import Tables
from jobsync.cli.processes import watch_lifeline

RUN = "count the standard library"
GATE_LOOK_SEC = 0.01


def work(name: str, files: list[str], *, pace_sec: float) -> None:
    """Work through the files together with whoever else does; each takes `pace_sec` or longer."""
    config = CoordinationConfig.from_env()
    with (
        open_cluster(config) as log,
        Job(name, coordination_config=config, run=RUN, handle_signals=True) as job,
    ):
        for task in job.tasks(files):
            _count(job, log, Tables(config.appname), task, pace_sec)


def _count(job: Job, log: Cluster, tables: Tables, task: Task, pace_sec: float) -> None:
    item = str(task.id)
    begun_sec = time.perf_counter()
    tables.log_begin(log, job.node_name, item)
    counts = stdlib.count((stdlib.library_dir() / item).read_bytes())
    time.sleep(max(0.0, begun_sec + pace_sec - time.perf_counter()))
    # Done already, or lost to another node: then nothing is written, and the loop goes on to the next.
    with suppress(AlreadyDone, OwnershipLost), job.transaction(task) as conn:
        for sql, values in tables.file_statements(job.node_name, item, counts):
            conn.execute(sql, values)


def main(arguments: list[str]) -> int:
    """Run one worker; an error of the library is one line on stderr."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("jobsync").setLevel(logging.INFO)
    watch_lifeline()
    name, limit, pace_ms, *gates = arguments
    for gate in gates:
        # Standing by: everything is loaded, and the worker joins when this file appears.
        while not Path(gate).exists():
            time.sleep(GATE_LOOK_SEC)
    try:
        work(name, stdlib.module_files(int(limit)), pace_sec=float(pace_ms) / 1000)
    except JobsyncError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
