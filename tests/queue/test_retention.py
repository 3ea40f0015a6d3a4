"""Workers prune what ended long ago by themselves."""

from collections.abc import Iterator

import pytest

from jobsync import CoordinationConfig, JobQueue, ProcessingWorker
from jobsync.runtime.worker import care
from tests.api.jobs import eventually, query


@pytest.fixture
def config(server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> CoordinationConfig:
    monkeypatch.setattr(care, "FIRST_PRUNE_SEC", 0.0)
    return CoordinationConfig(dsn=server_dsn, appname=prefix)


@pytest.fixture
def queue(config: CoordinationConfig) -> Iterator[JobQueue]:
    with JobQueue(config) as queue:
        yield queue


def aged(queue: JobQueue, server_dsn: str, prefix: str, count: int, days: float) -> None:
    """Store jobs that ended so many days ago."""
    ids = queue.enqueue_many([("old", None)] * count)
    for number in ids[:1]:
        assert queue.cancel(number)
    queue.cancel_all(kind="old")
    query(
        server_dsn,
        f"update {prefix}job_end set finished_at = now() - interval '1 day' * {days} "
        f"where id between {ids[0]} and {ids[-1]}",
    )


def worker_of(config: CoordinationConfig, **given: float | None) -> ProcessingWorker:
    worker = ProcessingWorker(config, **given)  # type: ignore[arg-type]
    worker.handles("k")(lambda job: None)
    return worker


def test_it_is_on_by_default_and_keeps_seven_days(
    queue: JobQueue, config: CoordinationConfig, server_dsn: str, prefix: str
) -> None:
    aged(queue, server_dsn, prefix, 2500, days=7.5)
    aged(queue, server_dsn, prefix, 3, days=6.5)
    with worker_of(config):
        eventually(lambda: queue.counts()["cancelled"] == 3, "the old ones are gone")
    assert query(server_dsn, f"select count(*) from {prefix}job_body") == [(3,)]


def test_none_keeps_for_ever(queue: JobQueue, config: CoordinationConfig, server_dsn: str, prefix: str) -> None:
    aged(queue, server_dsn, prefix, 3, days=10_000)
    with worker_of(config, job_retention_days=None):
        queue.enqueue("k")
        eventually(lambda: queue.counts()["done"] == 1, "the worker has looked")
    assert queue.counts()["cancelled"] == 3
