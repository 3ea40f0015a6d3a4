"""One worker of the demo, a process of its own: `python -m jobsync.cli.demo_queue.worker NAME PACE_MS`.

This is what a user's worker looks like: handlers by kind, and `run()`. The line that says that a job was begun is
committed before the work, so that a kill in the middle leaves a trace; the result and the job's `done` commit
together, in `worker.transaction`.
"""

import logging
import sys
import threading
import time
from contextlib import suppress

from jobsync import CoordinationConfig, JobsyncError, LeaseLost, ProcessingWorker, RetryPolicy, RunningJob
from jobsync.api.cluster import Cluster, open_cluster
from jobsync.cli.demo_queue.measure import measure
from jobsync.cli.demo_queue.tables import Tables
from jobsync.cli.processes import watch_lifeline

AT_ONCE = 2
RETRY = RetryPolicy(first_sec=0.4, factor=2.0, jitter=0.1)
ENDLESS_SEC = 60.0
LOOK_SEC = 0.01


class Log:
    """The demo's log, for all handlers of this process: one connection, one at a time."""

    def __init__(self, cluster: Cluster, tables: Tables, worker: str) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self._worker = worker
        self.tables = tables

    def write(self, job: RunningJob, what: str) -> None:
        """Commit one line."""
        with self._lock:
            self.tables.trace(self._cluster, self._worker, job.id, job.attempt, what)


def work(name: str, *, pace_sec: float) -> None:
    """Work at the queue until told to stop; each file takes `pace_sec` or longer."""
    config = CoordinationConfig.from_env()
    worker = ProcessingWorker(
        config, worker_id=name, max_concurrent_jobs=AT_ONCE, retry=RETRY, handle_signals=True, stop_timeout_seconds=5
    )
    with open_cluster(config) as cluster:
        log = Log(cluster, Tables(config.appname), name)

        @worker.handles("measure")
        def handle(job: RunningJob) -> None:
            _measure(worker, job, log, pace_sec)

        @worker.handles("endless")
        def wait_to_be_told(job: RunningJob) -> None:
            _endless(job, log)

        worker.run()


def _measure(worker: ProcessingWorker, job: RunningJob, log: Log, pace_sec: float) -> None:
    begun_sec = time.perf_counter()
    log.write(job, "begin")
    payload = job.payload
    assert isinstance(payload, dict), "the demo enqueues objects"
    if job.attempts - job.crashes <= payload.get("fails", 0):
        log.write(job, "failed")
        raise OSError(f"{payload['item']} cannot be read: staged, attempt {job.attempts}")
    found = measure(payload["item"])
    time.sleep(max(0.0, begun_sec + pace_sec - time.perf_counter()))
    # Lost to another worker: then nothing is written, and who has it now will write it.
    with suppress(LeaseLost), worker.transaction(job) as conn:
        conn.execute(*log.tables.measured_statement(payload["item"], job.worker_id, job.id, found))


def _endless(job: RunningJob, log: Log) -> None:
    """Go on until the job is taken away, as a handler in a loop should."""
    log.write(job, "begin")
    until_sec = time.perf_counter() + ENDLESS_SEC
    while not job.lost and time.perf_counter() < until_sec:
        time.sleep(LOOK_SEC)
    if job.lost:
        log.write(job, "told")


def main(arguments: list[str]) -> int:
    """Run one worker; an error of the library is one line on stderr."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("jobsync").setLevel(logging.INFO)
    watch_lifeline()
    name, pace_ms = arguments
    try:
        work(name, pace_sec=float(pace_ms) / 1000)
    except JobsyncError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
