"""Jobs go in, are seen as they are, and are steered."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from jobsync import CoordinationConfig, JobQueue, NewJob


@pytest.fixture
def queue(server_dsn: str, prefix: str) -> Iterator[JobQueue]:
    with JobQueue(CoordinationConfig(dsn=server_dsn, appname=prefix)) as queue:
        yield queue


def test_a_job_is_stored_with_every_default(queue: JobQueue) -> None:
    number = queue.enqueue("resize", {"path": "a.png"})
    job = queue.get(number)
    assert job is not None
    assert (job.kind, job.payload, job.queue, job.status, job.priority) == (
        "resize",
        {"path": "a.png"},
        "default",
        "pending",
        0,
    )
    assert (job.attempts, job.crashes, job.max_attempts, job.progress) == (0, 0, 3, 0)
    assert (job.job_id, job.affinity, job.limit_key, job.result, job.last_error, job.locked_by) == (None,) * 6
    assert job.run_at == job.created_at == job.updated_at


def test_a_job_is_stored_with_everything_given(queue: JobQueue) -> None:
    due = datetime(2099, 1, 2, 3, 4, 5, 600, tzinfo=UTC)
    given = {
        "job_id": "k\t'\"\\NULL{}",
        "priority": -5,
        "max_attempts": 1,
        "affinity": "ключ",
        "limit_key": "l",
        "queue": "q\n",
    }
    number = queue.enqueue("k", [1, None, "\\ \t \n é 😀"], run_at=due, **given)  # type: ignore[arg-type]
    job = queue.get(number)
    assert job is not None
    assert {name: getattr(job, name) for name in given} == given
    assert (job.payload, job.run_at, job.status) == ([1, None, "\\ \t \n é 😀"], due, "pending")


def test_a_delay_counts_from_the_clock_of_the_database(queue: JobQueue) -> None:
    job = queue.get(queue.enqueue("k", run_at=timedelta(hours=1)))
    assert job is not None
    assert timedelta(minutes=59) < job.run_at - job.created_at <= timedelta(hours=1)


def test_counts_name_every_status(queue: JobQueue) -> None:
    assert queue.counts() == dict.fromkeys(("pending", "processing", "retry", "done", "failed", "cancelled"), 0)
    queue.enqueue("k")
    queue.enqueue("k", queue="other")
    queue.cancel(queue.enqueue("k", queue="other", run_at=timedelta(1)))
    assert queue.counts()["pending"] == 2
    assert queue.counts(queue="other") == {
        "pending": 1, "processing": 0, "retry": 0, "done": 0, "failed": 0, "cancelled": 1,
    }  # fmt: skip


def test_a_cancelled_job_can_be_run_again(queue: JobQueue) -> None:
    number = queue.enqueue("k")
    assert queue.cancel(number)
    assert not queue.cancel(number)
    assert queue.retry(number)
    assert not queue.retry(number)
    assert queue.counts()["pending"] == 1


def test_what_does_not_exist_is_nothing(queue: JobQueue) -> None:
    assert queue.get(1) is None
    assert queue.get_by_job_id("none") is None
    assert not queue.cancel(1)
    assert not queue.retry(1)
    assert queue.errors(1) == []


def test_many_jobs_go_in_at_once_in_order(queue: JobQueue) -> None:
    ids = queue.enqueue_many([("a", 0), NewJob("b", 1, priority=7), ("a", 2), NewJob("a", 3, max_attempts=2)])
    assert ids == sorted(ids)
    assert [queue.get(number).payload for number in ids] == [0, 1, 2, 3]  # type: ignore[union-attr]
    assert queue.counts()["pending"] == 4
