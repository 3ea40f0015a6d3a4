"""A worker process for the chaos tests: `python -m tests.chaos.queue_main DSN PREFIX NAME`.

Every body that begins is written down at once, by a connection of its own: what ran is known, whoever dies.
"""

import os
import sys
import threading
import time
from contextlib import suppress

import psycopg

from jobsync import CoordinationConfig, ProcessingWorker, RetryPolicy, RunningJob

dsn, prefix, name = sys.argv[1:4]
config = CoordinationConfig(
    dsn=dsn, appname=prefix, total_tokens=100, heartbeat_interval_sec=0.5, heartbeat_timeout_sec=2.0
)
worker = ProcessingWorker(
    config,
    worker_id=name,
    handle_signals=True,
    stop_timeout_seconds=3.0,
    max_concurrent_jobs=int(os.environ.get("SLOTS", "1")),
    retry=RetryPolicy(first_sec=0.0, jitter=0.0),
)
local = threading.local()


def began(job: RunningJob) -> None:
    written = False
    while not written:
        # A database that fails over is waited for: what is tried here is the worker's patience, not the handler's.
        with suppress(psycopg.OperationalError):
            conn = getattr(local, "conn", None)
            if conn is None or conn.closed:
                conn = local.conn = psycopg.connect(dsn, autocommit=True)
            record = f"insert into {prefix}ran (id, worker, attempt) values (%s, %s, %s)"
            written = conn.execute(record, (job.id, name, job.attempt)).rowcount == 1


@worker.handles("quick")
def quick(job: RunningJob) -> None:
    began(job)
    time.sleep(0.001)


@worker.handles("slow")
def slow(job: RunningJob) -> str:
    began(job)
    if job.crashes == 0:
        time.sleep(3600)
    return name


@worker.handles("waits until lost")
def waits_until_lost(job: RunningJob) -> str:
    began(job)
    if job.crashes == 0:
        while not job.lost:
            time.sleep(0.005)
        print(f"{name} was told", flush=True)
    return name


@worker.handles("deadly")
def deadly(job: RunningJob) -> None:
    began(job)
    os._exit(1)


@worker.handles("forks")
def forks(job: RunningJob) -> str:
    child = os.fork()
    if child == 0:
        return "the child's"  # It must not go on as a worker, nor speak on its parent's connection.
    _, status = os.waitpid(child, 0)
    return f"the child ended with {os.waitstatus_to_exitcode(status)}"


@worker.handles("wait for the stop")
def wait_for_the_stop(job: RunningJob) -> str:
    began(job)
    while not worker._hub.is_stopping:  # type: ignore[union-attr]
        time.sleep(0.002)
    return "in time"


print(f"{name} starts", flush=True)
worker.start()
print(f"{name} runs", flush=True)
worker.wait()
print(f"{name} ended", flush=True)
