"""Limits with real workers: what overlaps by the handlers' own log, whatever becomes of the jobs."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from time import monotonic

import pytest

from jobsync import Cancel, CoordinationConfig, JobQueue, NewJob, ProcessingWorker, Retry, RunningJob
from tests.api.jobs import eventually, query

WORKERS, SLOTS = 3, 4


class Log:
    """Who runs now, of which key; and how many did at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = defaultdict[str, int](int)
        self.most = defaultdict[str, int](int)
        self.ran: list[int] = []

    def begin(self, *names: str) -> None:
        with self._lock:
            for name in names:
                self._now[name] += 1
                self.most[name] = max(self.most[name], self._now[name])

    def end(self, job: int, *names: str) -> None:
        with self._lock:
            self.ran.append(job)
            for name in names:
                self._now[name] -= 1


@pytest.fixture
def config(server_dsn: str, prefix: str) -> CoordinationConfig:
    return CoordinationConfig(dsn=server_dsn, appname=prefix)


@pytest.fixture
def queue(config: CoordinationConfig) -> Iterator[JobQueue]:
    with JobQueue(config) as queue:
        yield queue


def work(stack: ExitStack, config: CoordinationConfig, log: Log) -> None:
    """Start workers whose handler ends in every way that there is."""
    for _ in range(WORKERS):
        worker = ProcessingWorker(config, max_concurrent_jobs=SLOTS)

        def crawl(job: RunningJob, worker: ProcessingWorker = worker) -> int | None:
            names = ("all", str(job.payload))
            log.begin(*names)
            until = monotonic() + 0.005
            while monotonic() < until:  # The body of the job lasts.
                pass
            log.end(job.id, *names)
            if job.id % 5 == 0 and job.attempts == 1:
                raise Retry(after_sec=0)
            if job.id % 7 == 0:
                raise Cancel
            if job.id % 11 == 0:
                with worker.transaction(job):
                    return None
            return int(job.id)

        worker.handles("crawl")(crawl)
        stack.enter_context(worker)


def test_no_more_run_at_once_however_they_end(
    queue: JobQueue, config: CoordinationConfig, server_dsn: str, prefix: str
) -> None:
    queue.set_limit("crawl", at_once=5, per_key=2)
    queue.enqueue_many([NewJob("crawl", key, limit_key=key) for key in ("a", "b", "c", "d") for _ in range(25)])
    log = Log()
    with ExitStack() as stack:
        work(stack, config, log)
        eventually(lambda: sum(queue.counts()[end] for end in ("done", "cancelled")) == 100, "all", limit_sec=60)
    assert log.most["all"] <= 5
    assert max(log.most[key] for key in "abcd") <= 2
    assert log.most["all"] > 1
    assert query(server_dsn, f"select count(*) from {prefix}job_place") == [(0,)]
    assert len(set(log.ran)) == 100


def test_a_limit_that_comes_while_jobs_wait_and_one_that_goes(queue: JobQueue, config: CoordinationConfig) -> None:
    held, free = threading.Event(), threading.Event()
    running: set[int] = set()

    def hold(job: RunningJob) -> None:
        running.add(job.id)
        if len(running) == 1:
            held.set()
        free.wait(30)

    queue.enqueue_many([("hold", None)] * 8)
    queue.set_limit("hold", at_once=1)
    with ExitStack() as stack:
        stack.callback(free.set)
        for _ in range(2):
            worker = ProcessingWorker(config, max_concurrent_jobs=SLOTS, poll_interval_ms=50)
            worker.handles("hold")(hold)
            stack.enter_context(worker)
        assert held.wait(20)
        assert queue.counts()["processing"] == 1
        queue.set_limit("hold", at_once=3)
        eventually(lambda: len(running) == 3, "the raised limit is used")
        assert queue.counts()["processing"] == 3
        queue.set_limit("hold")
        eventually(lambda: len(running) == 8, "all run")
        free.set()
        eventually(lambda: queue.counts()["done"] == 8, "all are done")
