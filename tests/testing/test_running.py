"""`run_pending` and its like: in the caller's thread, in the order of a worker, by the test's clock."""

import asyncio
import threading
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from jobsync import (
    Cancel,
    CoordinationConfig,
    InvalidArgument,
    JobQueue,
    NewJob,
    NotRunning,
    ProcessingWorker,
    Retry,
    RetryPolicy,
    RunningJob,
)
from jobsync.testing import (
    TestClock,
    run_next,
    run_pending,
    run_pending_async,
    run_pending_or_raise,
    run_pending_or_raise_async,
)
from jobsync.testing import running as running_module
from tests.api.jobs import eventually, query


def ignore(job: RunningJob) -> None:
    pass


def test_what_waits_runs_here_and_now(queue: JobQueue) -> None:
    seen: list[Any] = []

    def resize(job: RunningJob) -> dict[str, int]:
        seen.append((threading.current_thread(), job.payload, job.attempts, job.worker_id))
        return {"bytes": 7}

    number = queue.enqueue("resize", {"file": "a"})
    (ran,) = run_pending({"resize": resize}, queue)
    assert seen == [(threading.current_thread(), {"file": "a"}, 1, "jobsync-testing")]
    assert (ran.id, ran.kind, ran.status, ran.result, ran.error) == (number, "resize", "done", {"bytes": 7}, None)
    job = queue.get(number)
    assert job is not None
    assert (job.status, job.result, job.attempts) == ("done", {"bytes": 7}, 1)
    assert run_pending({"resize": resize}, queue) == []


def test_the_order_is_a_workers(queue: JobQueue) -> None:
    queue.enqueue_many(
        [
            NewJob("k", "low"),
            NewJob("k", "line 1", affinity="a", priority=5),
            NewJob("k", "high", priority=9),
            NewJob("k", "last attempt", max_attempts=1, priority=7),
            NewJob("k", "line 2", affinity="a", priority=5),
            NewJob("k", "low too"),
            NewJob("k", "other queue", queue="mail", priority=8),
        ]
    )
    assert [ran.payload for ran in run_pending({"k": ignore}, queue)] == [
        "high", "other queue", "last attempt", "line 1", "line 2", "low", "low too",
    ]  # fmt: skip


def test_what_a_handler_enqueues_runs_as_well_and_at_its_turn(queue: JobQueue) -> None:
    def first(job: RunningJob) -> None:
        queue.enqueue("second", priority=10)

    queue.enqueue_many([("first", 1), ("third", 3)])
    ran = run_pending({"first": first, "second": ignore, "third": ignore}, queue)
    assert [each.kind for each in ran] == ["first", "second", "third"]


def test_one_job_runs_where_one_is_asked_for(queue: JobQueue) -> None:
    queue.enqueue_many([("k", 1), ("k", 2)])
    assert [getattr(run_next({"k": ignore}, queue), "payload", None) for _ in range(3)] == [1, 2, None]


def test_kinds_without_a_handler_wait(queue: JobQueue) -> None:
    queue.enqueue("other")
    assert run_pending({"k": ignore}, queue) == []
    assert queue.counts()["pending"] == 1


# --- errors --------------------------------------------------------------------------------------


def fail(job: RunningJob) -> None:
    raise ZeroDivisionError(f"attempt {job.attempts}")


def test_an_error_is_written_down_and_tried_again_when_its_time_has_come(queue: JobQueue) -> None:
    worker = ProcessingWorker(CoordinationConfig(), retry=RetryPolicy(first_sec=60, factor=2, jitter=0.5))
    worker.handles("k")(fail)
    clock = TestClock(queue)
    number = queue.enqueue("k")
    (first,) = run_pending(worker, queue, clock=clock)
    assert first.status == "retry"
    assert str(first.error) == "attempt 1"
    assert run_pending(worker, queue, clock=clock) == []
    clock.advance(61)
    (second,) = run_pending(worker, queue, clock=clock)
    assert (second.status, second.attempts) == ("retry", 2)
    clock.advance(61)
    assert run_pending(worker, queue, clock=clock) == []
    clock.advance(timedelta(minutes=1))
    (third,) = run_pending(worker, queue, clock=clock)
    assert third.status == "failed"
    job = queue.get(number)
    assert job is not None
    assert job.status == "failed"
    assert "ZeroDivisionError: attempt 3" in str(job.last_error)
    assert len(queue.errors(number)) == 3


def test_an_error_can_be_raised_where_the_test_stands(queue: JobQueue) -> None:
    ids = queue.enqueue_many([("k", 1), ("good", 2)])
    with pytest.raises(ZeroDivisionError, match="attempt 1"):
        run_pending_or_raise({"k": fail, "good": ignore}, queue)
    assert [getattr(queue.get(each), "status", None) for each in ids] == ["retry", "pending"]
    assert [ran.kind for ran in run_pending_or_raise({"good": ignore}, queue)] == ["good"]


def test_retry_and_cancel_do_what_they_say(queue: JobQueue) -> None:
    def later(job: RunningJob) -> None:
        if job.attempts == 1:
            raise Retry(after_sec=3600)

    def never(job: RunningJob) -> None:
        raise Cancel("not wanted")

    queue.enqueue("later")
    queue.enqueue("never")
    clock = TestClock(queue)
    handlers = {"later": later, "never": never}
    assert [ran.status for ran in run_pending(handlers, queue, clock=clock)] == ["retry", "cancelled"]
    clock.advance(timedelta(hours=1))
    assert [ran.status for ran in run_pending(handlers, queue, clock=clock)] == ["done"]


def test_a_result_that_is_no_json_fails_the_job(queue: JobQueue) -> None:
    number = queue.enqueue("k", max_attempts=1)
    (ran,) = run_pending({"k": lambda job: {1, 2}}, queue)
    assert ran.status == "failed"
    assert "return value" in str(queue.errors(number)[0].error)


def test_a_test_that_ends_in_a_handler_gives_the_job_back(queue: JobQueue) -> None:
    number = queue.enqueue("k")
    with pytest.raises(pytest.fail.Exception):
        run_pending({"k": lambda job: pytest.fail("seen enough")}, queue)
    job = queue.get(number)
    assert job is not None
    assert (job.status, job.attempts) == ("pending", 0)


# --- time ----------------------------------------------------------------------------------------


def test_a_delayed_job_runs_when_the_clock_is_advanced(queue: JobQueue) -> None:
    clock = TestClock(queue)
    queue.enqueue("k", run_at=timedelta(hours=2))
    assert run_pending({"k": ignore}, queue, clock=clock) == []
    clock.advance(timedelta(hours=1))
    assert run_pending({"k": ignore}, queue, clock=clock) == []
    clock.advance(3600)
    assert len(run_pending({"k": ignore}, queue, clock=clock)) == 1
    queue.enqueue("k", run_at=clock.after(60))
    assert run_pending({"k": ignore}, queue, clock=clock) == []
    clock.advance(60)
    assert len(run_pending({"k": ignore}, queue, clock=clock)) == 1


def test_without_a_clock_what_is_delayed_waits(queue: JobQueue) -> None:
    queue.enqueue("k", run_at=timedelta(hours=2))
    assert run_pending({"k": ignore}, queue) == []


def test_periodic_jobs_run_when_the_clock_is_advanced(queue: JobQueue) -> None:
    clock = TestClock(queue)
    queue.schedule("nightly", "0 2 * * *", "report")
    assert run_pending({"report": ignore}, queue, clock=clock) == []
    names = []
    for _ in range(3):
        clock.advance(timedelta(days=1))
        (ran,) = run_pending({"report": ignore}, queue, clock=clock)
        names.append(getattr(queue.get(ran.id), "job_id", None))
    assert len(set(names)) == 3
    assert all(str(name).startswith("nightly@") for name in names)


def test_time_does_not_go_back(queue: JobQueue) -> None:
    with pytest.raises(InvalidArgument):
        TestClock(queue).advance(-1)


# --- what handlers may do ------------------------------------------------------------------------


def test_a_workers_own_methods_work_inside_its_handlers(
    queue: JobQueue, config: CoordinationConfig, server_dsn: str, prefix: str
) -> None:
    query(server_dsn, f"create table {prefix}mine (id bigint)")
    worker = ProcessingWorker(config)

    @worker.handles("commit")
    def commit(job: RunningJob) -> None:
        worker.update_progress(job.id, 50, "half way")
        with worker.transaction(job) as conn:
            conn.execute(f"insert into {prefix}mine values (%s)", (job.id,))

    @worker.handles("release")
    def release(job: RunningJob) -> None:
        worker.release_lease(job.id, "failed", error="by hand")

    @worker.handles("progress")
    def progress(job: RunningJob) -> None:
        queue.update_progress(job.id, 30)
        job.update_progress(40, "there")

    ids = [queue.enqueue(kind) for kind in ("commit", "release", "progress")]
    ran = run_pending_or_raise(worker, queue)
    assert [each.status for each in ran] == [None, None, "done"]
    jobs = [queue.get(each) for each in ids]
    assert [job.status for job in jobs if job] == ["done", "failed", "done"]
    assert [job.progress_message for job in jobs if job] == ["half way", None, "there"]
    assert query(server_dsn, f"select id from {prefix}mine") == [(ids[0],)]


def test_a_job_that_is_cancelled_while_it_runs_stays_cancelled(queue: JobQueue) -> None:
    number = queue.enqueue("k")
    (ran,) = run_pending({"k": lambda job: queue.cancel(job.id) and None}, queue)
    assert ran.status is None
    assert getattr(queue.get(number), "status", None) == "cancelled"


def test_a_worker_by_subclass_and_its_queues(queue: JobQueue, config: CoordinationConfig) -> None:
    class Mailer(ProcessingWorker):
        def process_job(self, job: RunningJob) -> str:
            return str(job.kind).upper()

    queue.enqueue("a", queue="mail")
    queue.enqueue("b")
    assert [ran.result for ran in run_pending(Mailer(config, queues=["mail"]), queue)] == ["A"]


def test_a_handler_that_stops_its_worker_is_the_last(queue: JobQueue, config: CoordinationConfig) -> None:
    worker = ProcessingWorker(config)
    worker.handles("k")(lambda job: worker.stop() and None)
    queue.enqueue_many([("k", 1), ("k", 2)])
    assert len(run_pending(worker, queue)) == 1
    assert len(run_pending(worker, queue)) == 1


def test_limits_and_pauses_hold(queue: JobQueue) -> None:
    queue.set_limit("k", at_once=1)
    queue.enqueue_many([("k", 1), ("k", 2)])
    queue.pause()
    assert run_pending({"k": ignore}, queue) == []
    queue.resume()
    assert len(run_pending({"k": ignore}, queue)) == 2


# --- asyncio -------------------------------------------------------------------------------------


def test_async_handlers_run_without_a_loop_and_on_the_callers(queue: JobQueue) -> None:
    async def work(job: RunningJob) -> int:
        await asyncio.sleep(0)
        queue.update_progress(job.id, 10)
        return int(job.payload)

    queue.enqueue_many([("k", 1), ("plain", 2)])
    handlers = {"k": work, "plain": ignore}
    assert [ran.result for ran in run_pending(handlers, queue)] == [1, None]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        seen = []

        async def here(job: RunningJob) -> None:
            seen.append(asyncio.get_running_loop())

        queue.enqueue_many([("k", 1), ("plain", 2)])
        with pytest.raises(NotRunning, match="run_pending_async"):
            run_pending({"k": here}, queue)
        assert queue.counts()["pending"] == 2
        assert len(await run_pending_async({"k": here, "plain": ignore}, queue)) == 2
        assert seen == [loop]

        async def broken(job: RunningJob) -> None:
            raise ZeroDivisionError

        queue.enqueue("k")
        with pytest.raises(ZeroDivisionError):
            await run_pending_or_raise_async({"k": broken}, queue)

    asyncio.run(main())


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("handlers", [None, {}, [], "k", {"": ignore}])
def test_what_are_no_handlers_is_refused(queue: JobQueue, handlers: Any) -> None:
    with pytest.raises(InvalidArgument):
        run_pending(handlers, queue)


def test_a_worker_that_runs_is_refused(queue: JobQueue, config: CoordinationConfig) -> None:
    worker = ProcessingWorker(config)
    worker.handles("k")(ignore)
    with worker, pytest.raises(NotRunning, match="was started"):
        run_pending(worker, queue)


def test_a_queue_that_never_gets_idle_is_told(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_module, "MOST_JOBS", 5)
    queue.enqueue("k")
    with pytest.raises(AssertionError, match="not idle after 5 jobs"):
        run_pending({"k": lambda job: queue.enqueue("k") and None}, queue)


def test_nothing_is_left_behind(queue: JobQueue, server_dsn: str, prefix: str) -> None:
    queue.enqueue("k")
    before = threading.active_count()
    run_pending({"k": ignore}, queue)
    assert query(server_dsn, f"select count(*) from {prefix}node") == [(0,)]
    assert query(server_dsn, f"select count(*) from {prefix}job_lease") == [(0,)]
    eventually(lambda: threading.active_count() <= before, "its threads have ended")
    with psycopg.connect(server_dsn) as conn:
        assert conn.execute(f"select count(*) from {prefix}job".encode()).fetchone() == (1,)


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), GeneratorExit()])
@pytest.mark.parametrize("is_async", [False, True])
def test_what_would_end_a_process_fails_the_attempt_as_in_a_worker(
    queue: JobQueue, error: BaseException, is_async: bool
) -> None:
    async def awaited(job: RunningJob) -> None:
        raise error

    def called(job: RunningJob) -> None:
        raise error

    number = queue.enqueue("k", max_attempts=1)
    (ran,) = run_pending({"k": awaited if is_async else called}, queue)
    assert (ran.status, type(ran.error)) == ("failed", type(error))
    job = queue.get(number)
    assert job is not None
    assert (job.status, job.attempts) == ("failed", 1)


def test_a_cancelled_test_gives_the_job_back(queue: JobQueue) -> None:
    began = asyncio.Event()

    async def hang(job: RunningJob) -> None:
        began.set()
        await asyncio.Event().wait()

    async def cancelled() -> None:
        running = asyncio.create_task(run_pending_async({"k": hang}, queue))
        await began.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    number = queue.enqueue("k")
    asyncio.run(cancelled())
    job = queue.get(number)
    assert job is not None
    assert (job.status, job.attempts) == ("pending", 0)
