"""What mypy knows of a running job: every attribute has a type of its own, and none is Any but what JSON carries."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, assert_type

from jobsync import ProcessingWorker, RunningJob
from jobsync.core.holding import Fence
from jobsync.runtime.worker.job_transaction import JobTransaction


def look_at(worker: ProcessingWorker, job: RunningJob) -> None:
    """For mypy alone: it is never called."""
    assert_type(job.id, int)
    assert_type(job.job_id, str | None)
    assert_type(job.queue, str)
    assert_type(job.kind, str)
    assert_type(job.payload, Any)
    assert_type(job.priority, int)
    assert_type(job.attempts, int)
    assert_type(job.crashes, int)
    assert_type(job.max_attempts, int)
    assert_type(job.affinity, str | None)
    assert_type(job.attempt, int)
    assert_type(job.epoch, int)
    assert_type(job.place, int)
    assert_type(job.worker_id, str)
    assert_type(job.fence, Fence)
    assert_type(job.created_at, datetime)
    assert_type(job.lost, bool)
    assert_type(job.token, int | None)
    assert_type(job.trace_context, str | None)
    assert_type(worker.transaction(job), JobTransaction)


def test_every_public_attribute_is_looked_at() -> None:
    checked: Callable[..., None] = look_at
    names = {name for name in vars(RunningJob) if not name.startswith("_")}
    methods = {"raise_if_lost", "update_progress", "lose", "as_attempt"}
    of_slots = {"has_ended", "is_ending", "is_plain", "uncommitted"}
    assert names - methods - of_slots == set(checked.__code__.co_names) & names
