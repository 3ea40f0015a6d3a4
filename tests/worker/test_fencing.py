"""Attempts are fenced: what an attempt does that lost its lease changes nothing, and its handler is told."""

import asyncio
import threading

import psycopg
import pytest

from jobsync import LeaseLost, RunningJob
from tests.api.jobs import eventually, query
from tests.worker.support import await_status, leases, queue, stored, worker


def take_away(dsn: str, prefix: str) -> None:
    """Let every lease run out in the database, and its jobs go to others."""
    query(dsn, f"update {prefix}job_lease set locked_until = clock_timestamp()")
    query(dsn, f"select {prefix}job_recover()")


def test_a_late_result_is_refused_and_the_handler_is_told(server_dsn: str, prefix: str) -> None:
    go, told = threading.Event(), threading.Event()
    made = worker(server_dsn, prefix, lease_duration_seconds=3600)

    @made.handles("x")
    def x(job: RunningJob) -> str:
        if job.crashes == 0:
            eventually(lambda: job.lost, "it is told")
            with pytest.raises(LeaseLost):
                job.raise_if_lost()
            told.set()
            go.wait(20)
            return "late"
        return "new"

    with queue(server_dsn, prefix) as jobs, made:
        job_number = jobs.enqueue("x")
        eventually(lambda: made.get_status().active_jobs == 1, "it runs")
        take_away(server_dsn, prefix)
        assert told.wait(20)
        go.set()
        job = await_status(jobs, job_number, "done")
        assert job.result == "new"
        assert (job.attempts, job.crashes) == (2, 1)
        assert "ran out" in job.last_error
        eventually(lambda: made.get_status().active_jobs == 0, "both ended")
        assert stored(jobs, job_number).result == "new"


@pytest.mark.parametrize("cause", ["cancelled", "lost"])
def test_a_coroutine_whose_job_is_gone_is_cancelled(server_dsn: str, prefix: str, cause: str) -> None:
    ended = list[BaseException]()
    made = worker(server_dsn, prefix)

    @made.handles("x")
    async def x(job: RunningJob) -> None:
        if job.crashes:
            return
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError as error:
            ended.append(error)
            raise

    with queue(server_dsn, prefix) as jobs, made:
        job_number = jobs.enqueue("x")
        eventually(lambda: made.get_status().active_jobs == 1, "it runs")
        if cause == "cancelled":
            assert jobs.cancel(job_number)
        else:
            take_away(server_dsn, prefix)
        eventually(lambda: ended, "it is cancelled")
        await_status(jobs, job_number, "cancelled" if cause == "cancelled" else "done")
        eventually(lambda: leases(server_dsn, prefix) == 0, "no lease is left")


def test_a_transaction_commits_with_done_or_not_at_all(server_dsn: str, prefix: str) -> None:
    table = f"{prefix}written"
    query(server_dsn, f"create table {table} (id bigint, how text)")
    go, outcome = threading.Event(), list[object]()
    made = worker(server_dsn, prefix, max_concurrent_jobs=3)

    @made.handles("write")
    def write(job: RunningJob) -> str:
        how = job.payload
        try:
            with made.transaction(job) as conn:
                conn.execute(f"insert into {table} values (%s, %s)", (job.id, how))
                if how == "rolls back":
                    raise psycopg.Rollback
                if how == "raises" and job.attempts == 1:
                    raise ValueError("not yet")
                if how == "loses":
                    take_away(server_dsn, prefix)
        except LeaseLost as error:
            outcome.append(error)
            go.wait(20)
            raise
        return "returned"

    with queue(server_dsn, prefix) as jobs, made:
        ids = {how: jobs.enqueue("write", how) for how in ("commits", "rolls back", "raises")}
        finished = {how: await_status(jobs, job_number, "done") for how, job_number in ids.items()}
        assert finished["commits"].result is None
        assert finished["rolls back"].result == "returned"
        assert finished["raises"].attempts == 2
        job_number = jobs.enqueue("write", "loses", max_attempts=1)
        job = await_status(jobs, job_number, "failed")
        eventually(lambda: outcome, "told")
        go.set()
        assert job.crashes == 1
        rows = query(server_dsn, f"select how, count(*) from {table} group by 1 order by 1")
        assert rows == [("commits", 1), ("raises", 1)]
        eventually(lambda: leases(server_dsn, prefix) == 0, "no lease is left")


def test_a_lease_is_extended_for_as_long_as_its_job_runs(server_dsn: str, prefix: str) -> None:
    go = threading.Event()
    made = worker(server_dsn, prefix, lease_duration_seconds=1, lease_extension_threshold_percent=30)
    made.handles("x")(lambda job: go.wait(60))
    with queue(server_dsn, prefix) as jobs, made:
        job_number = jobs.enqueue("x")
        eventually(lambda: made.get_status().active_jobs == 1, "it runs")
        first = stored(jobs, job_number).locked_until
        # Longer than three leases of it.
        eventually(lambda: (stored(jobs, job_number).locked_until - first).total_seconds() > 3, "it is extended")
        assert jobs.reset_expired_leases() == 0
        go.set()
        assert await_status(jobs, job_number, "done").crashes == 0
