"""What tests of `ProcessingWorker` share: a worker and a queue of one fleet, and bounded waiting."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jobsync import JobQueue, ProcessingWorker, RetryPolicy
from jobsync.runtime.worker.hub import Hub
from tests.api.jobs import eventually, query, settings

AT_ONCE = RetryPolicy(first_sec=0.0, jitter=0.0)


def worker(dsn: str, prefix: str, **given: Any) -> ProcessingWorker:
    """Make a worker that is not started; failures are tried again at once."""
    return ProcessingWorker(settings(dsn, prefix), **{"retry": AT_ONCE, "stop_timeout_seconds": 5.0, **given})


@contextmanager
def queue(dsn: str, prefix: str) -> Iterator[JobQueue]:
    """Open a queue."""
    with JobQueue(settings(dsn, prefix)) as opened:
        yield opened


def hub_of(made: ProcessingWorker) -> Hub:
    """Give the hub of a worker that has started."""
    assert made._hub is not None
    return made._hub


def status(jobs: JobQueue, job_number: int) -> str:
    job = jobs.get(job_number)
    return "gone" if job is None else job.status


def stored(jobs: JobQueue, job_number: int) -> Any:
    """Give a job that is there."""
    job = jobs.get(job_number)
    assert job is not None
    return job


def await_status(jobs: JobQueue, job_number: int, *wanted: str, limit_sec: float = 20.0) -> Any:
    """Wait until a job has one of these statuses, and give it."""
    eventually(lambda: status(jobs, job_number) in wanted, f"job {job_number} is {wanted}", limit_sec=limit_sec)
    return stored(jobs, job_number)


def leases(dsn: str, prefix: str) -> int:
    """Count the leases that stand."""
    return int(query(dsn, f"select count(*) from {prefix}job_lease")[0][0])
