"""One worker of the demo, a process of its own: `python -m jobsync.cli.demo.worker NAME LIMIT PACE_MS`.

This is what a user's worker looks like: a job within a run, a loop over the tasks, a transaction for each. The line
that says that a file was begun is committed before the work, so that a kill in the middle leaves a trace; the
counts, the line that says that it ended, and the library's own audit commit together.
"""

import sys
import time

from jobsync import AlreadyDone, CoordinationConfig, Job, JobsyncError, OwnershipLost
from jobsync.api.cluster import open_cluster
from jobsync.cli.demo import stdlib
from jobsync.cli.demo.tables import Tables
from jobsync.cli.processes import watch_lifeline

RUN = "count the standard library"


def work(name: str, files: list[str], *, pace_sec: float) -> None:
    """Work through the files together with whoever else does; each takes `pace_sec` or longer."""
    config = CoordinationConfig.from_env()
    tables = Tables(config.appname)
    root = stdlib.library_dir()
    with (
        open_cluster(config) as log,
        Job(name, coordination_config=config, run=RUN, handle_signals=True) as job,
    ):
        for task in job.tasks(files):
            begun_sec = time.perf_counter()
            tables.log_begin(log, name, str(task.id))
            counts = stdlib.count((root / str(task.id)).read_bytes())
            time.sleep(max(0.0, begun_sec + pace_sec - time.perf_counter()))
            try:
                with job.transaction(task) as conn:
                    for sql, values in tables.file_statements(name, str(task.id), counts):
                        conn.execute(sql, values)
            except (AlreadyDone, OwnershipLost):
                continue


def main(arguments: list[str]) -> int:
    """Run one worker; an error of the library is one line on stderr."""
    watch_lifeline()
    name, limit, pace_ms = arguments
    try:
        work(name, stdlib.module_files(int(limit)), pace_sec=float(pace_ms) / 1000)
    except JobsyncError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
