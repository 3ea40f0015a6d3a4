"""What is fetched ahead: it goes back where handlers are slow, and before a stop."""

import asyncio
import threading
from contextlib import ExitStack
from datetime import timedelta

import pytest

from jobsync import RunningJob
from jobsync.runtime.clock import boot_sec
from jobsync.runtime.worker.hub import Hub
from tests.api.jobs import eventually, query
from tests.worker.support import await_status, hub_of, leases, queue, stored, worker


def test_what_waits_behind_a_slow_job_goes_to_others(server_dsn: str, prefix: str) -> None:
    go = threading.Event()
    began: dict[int, float] = {}

    def handle(job: RunningJob) -> None:
        began[job.id] = boot_sec()
        if job.payload == "slow":
            go.wait(60)

    workers = [worker(server_dsn, prefix, worker_id=name) for name in ("one", "two")]
    for each in workers:
        each.handles("x")(handle)
    with queue(server_dsn, prefix) as jobs, workers[0], workers[1]:
        ids = jobs.enqueue_many([("x", "slow" if number == 0 else number) for number in range(100)])
        eventually(lambda: len(began) == 100, "all began although the first one runs")
        assert all(each.get_status().fetched_jobs == 0 for each in workers)
        # The bound is 100 ms after the slow one began; here the machine may be five times slower.
        assert max(began.values()) - began[ids[0]] < 1.5
        assert stored(jobs, ids[0]).status == "processing"
        go.set()
        eventually(lambda: jobs.counts()["done"] == 100, "all are done")
        assert {stored(jobs, job_number).attempts for job_number in ids} == {1}


def test_a_stop_gives_back_what_has_not_begun_and_lets_the_rest_end(server_dsn: str, prefix: str) -> None:
    go, began = threading.Event(), threading.Event()
    made = worker(server_dsn, prefix)

    @made.handles("x")
    def x(job: RunningJob) -> str:
        began.set()
        go.wait(60)
        return "ended"

    with queue(server_dsn, prefix) as jobs:
        ids = jobs.enqueue_many([("x", number) for number in range(20)])
        made.start()
        assert began.wait(20)
        stopper = threading.Thread(target=made.stop)
        stopper.start()
        eventually(lambda: jobs.counts()["pending"] == 19, "what has not begun is given back")
        assert made.get_status().active_jobs == 1
        go.set()
        stopper.join(20)
        assert [stored(jobs, job_number).status for job_number in ids] == ["done"] + ["pending"] * 19
        assert stored(jobs, ids[1]).attempts == 0
        assert leases(server_dsn, prefix) == 0


def test_a_handler_that_never_returns_is_left_and_its_job_released_uncharged(server_dsn: str, prefix: str) -> None:
    go, lost = threading.Event(), threading.Event()
    began = threading.Event()
    made = worker(server_dsn, prefix, max_concurrent_jobs=2, worker_id="one")

    @made.handles("never")
    def never(job: RunningJob) -> str:
        began.set()
        go.wait(60)
        if job.lost:
            lost.set()
        return "too late"

    @made.handles("never awaited")
    async def never_awaited(job: RunningJob) -> None:
        await asyncio.sleep(3600)

    with queue(server_dsn, prefix) as jobs:
        ids = [jobs.enqueue("never"), jobs.enqueue("never awaited")]
        made.start()
        eventually(lambda: made.get_status().active_jobs == 2, "both run")
        assert made.stop(timeout=0.1) is False
        for job_number in ids:
            job = jobs.get(job_number)
            assert job is not None
            assert (job.status, job.attempts, job.crashes) == ("pending", 0, 0)
        go.set()
        assert lost.wait(20)
        other = worker(server_dsn, prefix, worker_id="two")
        other.handles("never")(lambda job: "in time")
        with other:
            assert await_status(jobs, ids[0], "done").result == "in time"


def test_a_handler_may_stop_its_worker(server_dsn: str, prefix: str) -> None:
    made = worker(server_dsn, prefix)
    made.handles("x")(lambda job: made.stop())
    with queue(server_dsn, prefix) as jobs:
        job_number = jobs.enqueue("x")
        made.run()
        assert stored(jobs, job_number).result is False
        assert not made.get_status().is_running


def test_an_idle_worker_stops_at_once_and_is_forgotten(server_dsn: str, prefix: str) -> None:
    made = worker(server_dsn, prefix, stop_timeout_seconds=3600)
    made.handles("x")(lambda job: None)
    with queue(server_dsn, prefix) as jobs:
        made.start()
        jobs.enqueue("y")
        made.stop()
        assert [each.kind for each in jobs.unknown_kinds()] == ["y"]
        assert made.wait(0)


def test_what_a_look_lets_wait_is_taken_at_once_where_no_notification_arrives(
    server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a pooler: the job was delayed after the last look, so that nobody knew when it would be due."""
    monkeypatch.setattr(Hub, "heard", lambda _: None)
    made = worker(server_dsn, prefix, poll_interval_ms=86_400_000)
    made.handles("x")(lambda job: job.id)
    with queue(server_dsn, prefix) as jobs, ExitStack() as stack:
        first = jobs.enqueue("x")  # So that the worker has something to ask for.
        stack.enter_context(made)
        await_status(jobs, first, "done")
        hub = hub_of(made)
        eventually(lambda: not hub._stock.may_wait and not hub.gate.may_wait, "it has seen that nothing waits")
        number = jobs.enqueue("x", run_at=timedelta(milliseconds=50))
        due = f"select run_at <= clock_timestamp() from {prefix}job_later where id = {number}"
        eventually(lambda: query(server_dsn, due) == [(True,)], "it is due")
        hub._care.heard()
        hub.wake()
        await_status(jobs, number, "done")
