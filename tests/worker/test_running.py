"""Running jobs: what handlers return and raise, and what becomes of their jobs."""

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest

from jobsync import Cancel, InvalidArgument, LeaseLost, NotRunning, ProcessingWorker, Retry, RunningJob
from tests.api.jobs import eventually, settings
from tests.worker.support import await_status, leases, queue, stored, worker


def test_a_handler_that_returns_makes_its_job_done_with_its_result(server_dsn: str, prefix: str) -> None:
    seen: list[RunningJob] = []
    with queue(server_dsn, prefix) as jobs:
        made = worker(server_dsn, prefix, worker_id="one")

        @made.handles("add")
        def add(job: RunningJob) -> Any:
            seen.append(job)
            return {"sum": sum(job.payload), "text": 'a "quoted" \\ text, {NULL}'}

        job_number = jobs.enqueue("add", [1, 2], priority=5, job_id="my own")
        with made:
            job = await_status(jobs, job_number, "done")
            assert job.result == {"sum": 3, "text": 'a "quoted" \\ text, {NULL}'}
            assert (job.attempts, job.crashes, job.progress, job.last_error) == (1, 0, 100, None)
            (ran,) = seen
            assert (ran.id, ran.kind, ran.queue, ran.job_id, ran.priority) == (
                job_number,
                "add",
                "default",
                "my own",
                5,
            )
            assert (ran.attempts, ran.crashes, ran.max_attempts, ran.affinity) == (1, 0, 3, None)
            assert ran.created_at == job.created_at
            assert ran.worker_id == "one"
            assert ran.attempt == job.attempt == ran.fence.epoch
            eventually(lambda: leases(server_dsn, prefix) == 0, "the lease is over")


def test_many_jobs_of_many_kinds_are_each_run_once_and_leave_no_lease(server_dsn: str, prefix: str) -> None:
    ran: list[int] = []
    made = worker(server_dsn, prefix, max_concurrent_jobs=4)
    for kind in ("a", "b", "c"):

        @made.handles(kind)
        def handle(job: RunningJob) -> Any:
            ran.append(job.id)
            return job.id if job.id % 3 == 0 else None

    with queue(server_dsn, prefix) as jobs, made:
        ids = jobs.enqueue_many([("abc"[number % 3], number) for number in range(3000)])
        eventually(lambda: jobs.counts()["done"] == 3000, "all are done", limit_sec=60)
        assert sorted(ran) == sorted(ids)
        assert [stored(jobs, job_number).result for job_number in ids[:6]] == [
            job_number if job_number % 3 == 0 else None for job_number in ids[:6]
        ]
        eventually(lambda: leases(server_dsn, prefix) == 0, "no lease is left")


def test_sync_and_async_handlers_share_one_cap(server_dsn: str, prefix: str) -> None:
    lock, running, most = threading.Lock(), [0], [0]

    def enter(change: int) -> None:
        with lock:
            running[0] += change
            most[0] = max(most[0], running[0])

    made = worker(server_dsn, prefix, max_concurrent_jobs=3)

    @made.handles("sync")
    def sync(job: RunningJob) -> None:
        enter(1)
        threading.Event().wait(0.002)
        enter(-1)

    @made.handles("async")
    async def awaited(job: RunningJob) -> str:
        enter(1)
        await asyncio.sleep(0.002)
        enter(-1)
        return "awaited"

    with queue(server_dsn, prefix) as jobs, made:
        ids = jobs.enqueue_many([(("sync", "async")[number % 2], None) for number in range(300)])
        eventually(lambda: jobs.counts()["done"] == 300, "all are done", limit_sec=60)
        assert most[0] == 3
        assert stored(jobs, ids[1]).result == "awaited"


def test_a_failure_is_tried_again_until_the_last_attempt(server_dsn: str, prefix: str) -> None:
    attempts: list[int] = []
    made = worker(server_dsn, prefix)

    @made.handles("bad")
    def bad(job: RunningJob) -> None:
        attempts.append(job.attempts)
        raise ValueError("no such file \0 password=geheim")

    with queue(server_dsn, prefix) as jobs, made:
        job_number = jobs.enqueue("bad", max_attempts=3)
        job = await_status(jobs, job_number, "failed")
        assert attempts == [1, 2, 3]
        assert (job.attempts, job.crashes) == (3, 0)
        assert "Traceback" in job.last_error
        assert "ValueError: no such file" in job.last_error
        assert "geheim" not in job.last_error
        assert "slots.py" not in job.last_error
        assert len(jobs.errors(job_number)) == 3


def test_an_async_failure_has_its_traceback_too(server_dsn: str, prefix: str) -> None:
    made = worker(server_dsn, prefix)

    @made.handles("bad")
    async def bad(job: RunningJob) -> None:
        await asyncio.sleep(0)
        raise ValueError("x" * 20_000)

    with queue(server_dsn, prefix) as jobs, made:
        job = await_status(jobs, jobs.enqueue("bad", max_attempts=1), "failed")
        assert len(job.last_error) <= 8_000
        assert job.last_error.startswith("Traceback")


def test_retry_says_when_and_cancel_ends_it(server_dsn: str, prefix: str) -> None:
    made = worker(server_dsn, prefix)

    @made.handles("later")
    def later(job: RunningJob) -> None:
        raise Retry(after_sec=3600, reason="the other side sleeps")

    @made.handles("never")
    def never(job: RunningJob) -> None:
        raise Cancel("nobody wants it")

    with queue(server_dsn, prefix) as jobs, made:
        job_number = jobs.enqueue("later")
        job = await_status(jobs, job_number, "retry")
        assert timedelta(minutes=59) < job.run_at - job.created_at < timedelta(minutes=61)
        assert job.last_error == "Retry: the other side sleeps"
        cancelled = await_status(jobs, jobs.enqueue("never"), "cancelled")
        assert cancelled.last_error == "Cancel: nobody wants it"
        last = await_status(jobs, jobs.enqueue("later", max_attempts=1), "failed")
        assert last.attempts == 1


@pytest.mark.parametrize("value", [object(), {1: "a"}, float("nan"), "\0", "\ud800", {"a": b"bytes"}])
def test_a_result_that_is_no_json_fails_the_job_with_a_clear_error(server_dsn: str, prefix: str, value: object) -> None:
    made = worker(server_dsn, prefix)
    made.handles("odd")(lambda job: value)
    with queue(server_dsn, prefix) as jobs, made:
        job = await_status(jobs, jobs.enqueue("odd", max_attempts=2), "failed")
        assert job.attempts == 2
        assert "return value" in job.last_error


def test_a_result_that_only_the_database_refuses_fails_its_own_job_alone(server_dsn: str, prefix: str) -> None:
    made = worker(server_dsn, prefix)
    made.handles("fine")(lambda job: "fine")
    # A number that Python writes and jsonb cannot hold.
    made.handles("odd")(lambda job: 10**200_000 if not hasattr(int, "x") else None)
    with queue(server_dsn, prefix) as jobs:
        ids = jobs.enqueue_many([("fine", None)] * 5 + [("odd", None)] + [("fine", None)] * 5)
        with made:
            for job_number in ids:
                await_status(jobs, job_number, "failed" if job_number == ids[5] else "done")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_handler_cannot_end_the_worker(server_dsn: str, prefix: str, error: BaseException, is_async: bool) -> None:
    made = worker(server_dsn, prefix)

    async def awaited(job: RunningJob) -> None:
        raise error

    def sync(job: RunningJob) -> None:
        raise error

    made.handles("bad")(awaited if is_async else sync)
    made.handles("good")(lambda job: None)
    with queue(server_dsn, prefix) as jobs, made:
        job = await_status(jobs, jobs.enqueue("bad", max_attempts=1), "failed")
        assert type(error).__name__ in job.last_error
        await_status(jobs, jobs.enqueue("good"), "done")
        assert made.get_status().is_running


class EveryKind(ProcessingWorker):
    def process_job(self, job: RunningJob) -> Any:
        return [job.kind, job.payload]


class EveryKindAwaited(ProcessingWorker):
    async def process_job(self, job: RunningJob) -> Any:
        await asyncio.sleep(0)
        return [job.kind, job.payload]


@pytest.mark.parametrize("kind", [EveryKind, EveryKindAwaited])
def test_a_subclass_gets_every_kind_those_that_are_new_as_well(
    server_dsn: str, prefix: str, kind: type[ProcessingWorker]
) -> None:
    with queue(server_dsn, prefix) as jobs, kind(settings(server_dsn, prefix)):
        for name in ("a", "b", "c"):
            assert await_status(jobs, jobs.enqueue(name, name), "done").result == [name, name]


def test_an_unknown_kind_waits_for_a_worker_that_knows_it(server_dsn: str, prefix: str) -> None:
    with queue(server_dsn, prefix) as jobs:
        first = worker(server_dsn, prefix)
        first.handles("known")(lambda job: None)
        with first:
            unknown = jobs.enqueue("unknown")
            other_queue = jobs.enqueue("known", queue="elsewhere")
            await_status(jobs, jobs.enqueue("known"), "done")
            assert stored(jobs, unknown).status == stored(jobs, other_queue).status == "pending"
            assert [(each.queue, each.kind) for each in jobs.unknown_kinds()] == [
                ("default", "unknown"),
                ("elsewhere", "known"),
            ]
        second = worker(server_dsn, prefix, queues=("default", "elsewhere"))
        second.handles("unknown")(lambda job: None)
        second.handles("known")(lambda job: None)
        with second:
            await_status(jobs, unknown, "done")
            await_status(jobs, other_queue, "done")
            assert jobs.unknown_kinds() == []


def test_higher_priorities_run_first(server_dsn: str, prefix: str) -> None:
    ran: list[int] = []
    made = worker(server_dsn, prefix)
    made.handles("x")(lambda job: ran.append(job.priority))
    with queue(server_dsn, prefix) as jobs:
        for priority in (0, 5, -3, 9):
            jobs.enqueue("x", priority=priority)
        with made:
            eventually(lambda: len(ran) == 4, "all ran")
    assert ran == [9, 5, 0, -3]


def test_a_delayed_job_runs_when_it_is_due(server_dsn: str, prefix: str) -> None:
    made = worker(server_dsn, prefix, poll_interval_ms=60_000)
    made.handles("x")(lambda job: None)
    with queue(server_dsn, prefix) as jobs, made:
        far = jobs.enqueue("x", run_at=timedelta(hours=1))
        near = jobs.enqueue("x", run_at=timedelta(seconds=0.3))
        job = await_status(jobs, near, "done")
        assert job.finished_at - job.created_at >= timedelta(seconds=0.3)
        assert stored(jobs, far).status == "pending"


def test_progress_is_seen_and_a_lost_attempt_is_told(server_dsn: str, prefix: str) -> None:
    go, told = threading.Event(), list[BaseException]()
    made = worker(server_dsn, prefix)

    @made.handles("x")
    def x(job: RunningJob) -> None:
        job.update_progress(50, "half way")
        go.wait(20)
        try:
            made.update_progress(job.id, 60)
        except LeaseLost as error:
            told.append(error)
            assert job.lost

    with queue(server_dsn, prefix) as jobs, made:
        job_number = jobs.enqueue("x")
        eventually(lambda: stored(jobs, job_number).progress == 50, "progress")
        assert stored(jobs, job_number).progress_message == "half way"
        assert jobs.cancel(job_number)
        go.set()
        eventually(lambda: told, "told")
        assert stored(jobs, job_number).status == "cancelled"
        with pytest.raises(LeaseLost):
            made.update_progress(job_number, 70)


@pytest.mark.parametrize(
    ("released_as", "stands_as"), [("done", "done"), ("failed", "failed"), ("retry", "done"), ("pending", "done")]
)
@pytest.mark.parametrize("max_attempts", [3, 1])
def test_a_handler_may_release_its_job_itself(
    server_dsn: str, prefix: str, released_as: str, stands_as: str, max_attempts: int
) -> None:
    made = worker(server_dsn, prefix)
    runs: list[int] = []

    @made.handles("x")
    def x(job: RunningJob) -> Any:
        runs.append(job.attempts)
        if len(runs) == 1:
            made.release_lease(
                job.id,
                released_as,
                error="so" if released_as == "failed" else None,
                result=[7] if released_as == "done" else None,
            )
        return None

    with queue(server_dsn, prefix) as jobs, made:
        job_number = jobs.enqueue("x", max_attempts=max_attempts)
        if released_as == "retry" and max_attempts == 1:
            stands_as = "failed"
        job = await_status(jobs, job_number, stands_as)
        assert job.result == ([7] if released_as == "done" else None)
        eventually(lambda: leases(server_dsn, prefix) == 0, "no lease is left")
        expected = {"pending": [1, 1], "retry": [1, 2] if max_attempts == 3 else [1]}.get(released_as, [1])
        assert runs == expected


def test_what_is_wrong_is_refused_at_the_call(server_dsn: str, prefix: str) -> None:
    made = worker(server_dsn, prefix)
    with pytest.raises(InvalidArgument, match="knows no kind"):
        made.start()
    made.handles("x")(lambda job: None)
    with pytest.raises(InvalidArgument, match="handler already"):
        made.handles("x")(lambda job: None)
    with pytest.raises(InvalidArgument):
        made.handles("y")(lambda: None)
    for given in (
        {"max_concurrent_jobs": 0},
        {"lease_duration_seconds": 0},
        {"lease_extension_threshold_percent": 100},
        {"queues": "default"},
        {"queues": ()},
        {"poll_interval_ms": 1},
        {"retry": 3},
        {"worker_id": "a\0b"},
        {"node": "n"},
        {"job_retention_days": -1},
        {"stop_timeout_seconds": None},
    ):
        with pytest.raises(InvalidArgument):
            worker(server_dsn, prefix, **given)
    with pytest.raises(NotRunning):
        made.update_progress(1, 1)
    made.start()
    with pytest.raises(NotRunning):
        made.start()
    made.stop()
    assert not made.get_status().is_running
