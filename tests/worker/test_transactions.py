"""`worker.transaction(job)`, by `with` and by `async with`: the writes and `done` commit together, or neither does."""

import asyncio
import json
import signal
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from jobsync import LeaseLost, ProcessingWorker, RunningJob
from tests.api.jobs import eventually, query, run_script
from tests.worker.support import await_status, hub_of, leases, queue, worker
from tests.worker.test_fencing import take_away

BOTH_WAYS = pytest.mark.parametrize("way", ["with", "async with"])
Write = Callable[[RunningJob, Callable[[str], object], Any], None]


def register(made: ProcessingWorker, way: str, table: str, before_end: Write, outcomes: list[object]) -> None:
    """Register a handler that writes its job's id, passes over every error of its transaction, and says what it was."""

    def transaction_of(job: RunningJob) -> Any:
        return made.transaction(job)

    @made.handles("with")
    def write(job: RunningJob) -> str:
        tx = transaction_of(job)
        try:
            with tx as conn:
                conn.execute(f"insert into {table} values (%s)", (job.id,))
                before_end(job, conn.execute, tx)
        except Exception as error:
            outcomes.append(error)
        return "returned"

    @made.handles("async with")
    async def write_async(job: RunningJob) -> str:
        tx = transaction_of(job)
        try:
            async with tx as conn:
                await conn.execute(f"insert into {table} values (%s)", (job.id,))
                before_end(job, lambda _: None, tx)
                await asyncio.sleep(0)
        except Exception as error:
            outcomes.append(error)
        return "returned"


@pytest.fixture
def table(server_dsn: str, prefix: str) -> str:
    table = f"{prefix}written"
    query(server_dsn, f"create table {table} (id bigint)")
    return table


@BOTH_WAYS
def test_its_result_is_stored_with_done(server_dsn: str, prefix: str, table: str, way: str) -> None:
    def before_end(job: RunningJob, _: object, tx: Any) -> None:
        tx.result = {"of": job.payload} if job.payload != "unstorable" else {1: 2}

    made, outcomes = worker(server_dsn, prefix), list[object]()
    register(made, way, table, before_end, outcomes)
    with queue(server_dsn, prefix) as jobs, made:
        assert await_status(jobs, jobs.enqueue(way, 7), "done").result == {"of": 7}
        assert not outcomes
        job = await_status(jobs, jobs.enqueue(way, "unstorable", max_attempts=1), "failed")
        assert "cannot be stored as JSON" in job.last_error
        assert query(server_dsn, f"select count(*) from {table}") == [(1,)]


def test_a_result_that_is_known_before_is_given_with_the_call(server_dsn: str, prefix: str) -> None:
    made = worker(server_dsn, prefix)

    @made.handles("x")
    def x(job: RunningJob) -> None:
        with made.transaction(job, result=job.payload if job.attempts == 2 else {1: 2}):
            assert job.attempts == 2, "refused before anything is done"

    with queue(server_dsn, prefix) as jobs, made:
        job = await_status(jobs, jobs.enqueue("x", [1e22], max_attempts=2), "done", "failed")
        assert (job.status, job.result, job.attempts) == ("done", [1e22], 2)


@BOTH_WAYS
def test_nothing_is_written_and_nothing_told_where_the_lease_was_lost(
    server_dsn: str, prefix: str, table: str, way: str
) -> None:
    def before_end(job: RunningJob, _: object, __: object) -> None:
        if not job.crashes:
            take_away(server_dsn, prefix)

    made, outcomes = worker(server_dsn, prefix), list[object]()
    register(made, way, table, before_end, outcomes)
    with queue(server_dsn, prefix) as jobs, made:
        job = await_status(jobs, jobs.enqueue(way), "done")
        assert (job.attempts, job.crashes) == (2, 1)
        assert query(server_dsn, f"select count(*) from {table}") == [(1,)]
        eventually(lambda: leases(server_dsn, prefix) == 0, "no lease is left")
    assert not [error for error in outcomes if not isinstance(error, LeaseLost)]


@BOTH_WAYS
def test_an_error_at_commit_is_psycopgs_own_and_the_job_is_not_told_as_done(
    server_dsn: str, prefix: str, table: str, way: str
) -> None:
    query(server_dsn, f"alter table {table} add unique (id) deferrable initially deferred")
    made, outcomes = worker(server_dsn, prefix), list[object]()
    register(made, way, table, lambda *_: None, outcomes)
    with queue(server_dsn, prefix) as jobs:
        number = jobs.enqueue(way, max_attempts=1)
        query(server_dsn, f"insert into {table} values (%s)", number)
        with made:
            assert "UniqueViolation" in await_status(jobs, number, "failed", "done").last_error
            [error] = outcomes
            assert isinstance(error, psycopg.errors.UniqueViolation)
    assert query(server_dsn, f"select count(*) from {table}") == [(1,)]


def test_a_coroutine_that_is_cancelled_in_its_block_writes_nothing(server_dsn: str, prefix: str, table: str) -> None:
    made, errors = worker(server_dsn, prefix), list[BaseException]()

    @made.handles("x")
    async def x(job: RunningJob) -> None:
        try:
            async with made.transaction(job) as conn:
                await conn.execute(f"insert into {table} values (%s)", (job.id,))
                await asyncio.sleep(3600)
        except asyncio.CancelledError as error:
            errors.append(error)
            raise

    @made.handles("next")
    async def after(job: RunningJob) -> None:
        async with made.transaction(job) as conn:
            await conn.execute(f"insert into {table} values (%s)", (job.id,))

    with queue(server_dsn, prefix) as jobs, made:
        number = jobs.enqueue("x")
        in_block = f"select count(*) from pg_locks where relation = '{table}'::regclass"
        eventually(lambda: query(server_dsn, in_block) != [(0,)], "it is in its block")
        assert jobs.cancel(number)
        following = jobs.enqueue("next")
        await_status(jobs, following, "done")
        assert errors
        assert query(server_dsn, f"select id from {table}") == [(following,)]


def test_coroutines_have_a_connection_each_and_share_them_one_after_the_other(
    server_dsn: str, prefix: str, table: str
) -> None:
    query(server_dsn, f"alter table {table} add pid integer")
    made = worker(server_dsn, prefix, max_concurrent_jobs=3)
    inside, most = 0, 0

    @made.handles("x")
    async def x(job: RunningJob) -> None:
        nonlocal inside, most
        async with made.transaction(job) as conn:
            await conn.execute(f"insert into {table} values (%s, pg_backend_pid())", (job.id,))
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.02)
            inside -= 1

    with queue(server_dsn, prefix) as jobs:
        jobs.enqueue_many([("x", None)] * 30)
        with made:
            eventually(lambda: jobs.counts()["done"] == 30, "all are done")
        assert most > 1
        [(rows, pids)] = query(server_dsn, f"select count(distinct id), array_agg(distinct pid) from {table}")
        assert rows == 30
        assert len(pids) <= 3
        gone = f"select count(*) from pg_stat_activity where pid = any ('{{{','.join(map(str, pids))}}}')"
        eventually(lambda: query(server_dsn, gone) == [(0,)], "the connections are closed")


KILLED = """
    import asyncio, json, sys
    from jobsync import CoordinationConfig, ProcessingWorker

    dsn, prefix, where = sys.argv[1:]
    made = ProcessingWorker(CoordinationConfig(dsn=dsn, appname=prefix))

    @made.handles("x")
    async def x(job):
        tx = made.transaction(job, result=job.attempts)
        async with tx as conn:
            await conn.execute(f"insert into {prefix}written values (%s)", [job.id])
            if where == "in the block":
                print(json.dumps(job.id))
                await asyncio.sleep(3600)
        print(json.dumps(job.id))
        await asyncio.sleep(3600)

    made.run()
"""


@pytest.mark.chaos
@pytest.mark.parametrize("where", ["in the block", "behind it"])
def test_whoever_is_killed_has_written_all_or_nothing(server_dsn: str, prefix: str, table: str, where: str) -> None:
    with queue(server_dsn, prefix) as jobs:
        number = jobs.enqueue("x")
        with run_script(KILLED, server_dsn, prefix, where) as process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline()) == number
            process.send_signal(signal.SIGKILL)
        made = worker(server_dsn, prefix)

        @made.handles("x")
        async def x(job: RunningJob) -> None:
            async with made.transaction(job, result=job.attempts) as conn:
                await conn.execute(f"insert into {table} values (%s)", (job.id,))

        with made:
            job = await_status(jobs, number, "done")
            eventually(lambda: leases(server_dsn, prefix) == 0, "no lease is left")
        assert job.result == (2 if where == "in the block" else 1)
        assert query(server_dsn, f"select id from {table}") == [(number,)]


@BOTH_WAYS
def test_who_has_just_committed_is_not_told_that_its_job_is_gone(
    server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Between the COMMIT and its answer the database says that the job is over, and its handler does not know yet."""
    made, told = worker(server_dsn, prefix), list[bool]()

    def look() -> None:
        hub = hub_of(made)
        before = hub._care._looked_sec
        hub._care.heard()
        hub.wake()
        eventually(lambda: hub._care._looked_sec > before, "it has looked")

    class Slow(psycopg.Transaction):
        def __exit__(self, *error: Any) -> Any:  # noqa: PYI036
            result = super().__exit__(*error)
            look()
            return result

    class AsyncSlow(psycopg.AsyncTransaction):
        async def __aexit__(self, *error: Any) -> Any:  # noqa: PYI036
            result = await super().__aexit__(*error)
            await asyncio.to_thread(look)
            return result

    @made.handles("with")
    def sync(job: RunningJob) -> None:
        monkeypatch.setattr("psycopg.connection.Transaction", Slow)
        with made.transaction(job):
            pass
        monkeypatch.undo()
        told.append(job.lost)

    @made.handles("async with")
    async def not_sync(job: RunningJob) -> None:
        monkeypatch.setattr("psycopg.connection_async.AsyncTransaction", AsyncSlow)
        async with made.transaction(job):
            pass
        monkeypatch.undo()
        await asyncio.sleep(0)
        told.append(job.lost)

    with queue(server_dsn, prefix) as jobs, made:
        await_status(jobs, jobs.enqueue(way), "done")
        eventually(lambda: told, "its handler goes on")
    assert told == [False]
