# ruff: noqa: PT012 - what raises is the end of a transaction, and its body is the test.
"""`async with job.transaction(task) as conn`: the same promises as `Job.transaction`, on the user's loop."""

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import Any

import psycopg
import pytest

from jobsync import AlreadyDone, AsyncJob, ConnectionsLent, JobsyncError, OwnershipLost
from jobsync.postgres import pool as pools
from jobsync.runtime.clock import boot_sec
from jobsync.runtime.place import TRANSACTIONS
from tests.api.async_jobs import cancelled, eventually, run_async
from tests.api.jobs import query, settings


@pytest.fixture
def results(server_dsn: str, prefix: str) -> str:
    table = f"{prefix}results"
    query(server_dsn, f"create table {table} (item text)")
    return table


async def write(conn: Any, table: str, item: str) -> None:
    await conn.execute(f"insert into {table} values (%s)".encode(), (item,))


def rows(dsn: str, table: str) -> list[str]:
    return sorted(item for (item,) in query(dsn, f"select item from {table}"))


def test_the_writes_and_the_audit_commit_together(server_dsn: str, prefix: str, results: str) -> None:
    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix), run="r") as job:
            async with job.transaction("x") as conn:
                assert isinstance(conn, psycopg.AsyncConnection)
                await write(conn, results, "x")
                assert rows(server_dsn, results) == []
                shown = await (await conn.execute("show idle_in_transaction_session_timeout")).fetchone()
                assert shown == ("5s",)
            assert rows(server_dsn, results) == ["x"]
            assert [row["item"] for row in await job.get_audit()] == ["x"]
            with pytest.raises(AlreadyDone, match="run 'r'"):
                async with job.transaction("x") as conn:
                    await write(conn, results, "again")
            async with job.transaction("x", repeat=True) as conn:
                await write(conn, results, "repeated")
            assert rows(server_dsn, results) == ["repeated", "x"]
            assert len(await job.get_audit()) == 1

    run_async(body())


def test_an_error_rolls_both_back_and_the_task_can_be_done_again(server_dsn: str, prefix: str, results: str) -> None:
    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix), run="r") as job:
            with pytest.raises(KeyError):
                async with job.transaction("x") as conn:
                    await write(conn, results, "x")
                    raise KeyError
            assert rows(server_dsn, results) == []
            assert await job.get_audit() == []
            async with job.transaction("x") as conn:
                await write(conn, results, "x")
            assert rows(server_dsn, results) == ["x"]

    run_async(body())


def test_a_task_of_another_node_is_refused_before_the_body(server_dsn: str, prefix: str) -> None:
    async def body() -> None:
        config = settings(server_dsn, prefix)
        async with AsyncJob("a", coordination_config=config) as a, AsyncJob("b", coordination_config=config) as b:
            await eventually(lambda: len(b.my_tokens) == 50)
            theirs = b.get_my_task_ids(range(200))[0]
            with pytest.raises(OwnershipLost, match="is not node 'a'"):
                async with a.transaction(theirs):
                    pytest.fail("the body ran")

    run_async(body())


def test_a_task_that_was_lost_under_the_body_writes_nothing(server_dsn: str, prefix: str, results: str) -> None:
    async def body() -> None:
        config = settings(server_dsn, prefix, handover_timeout_sec=0.2)
        async with AsyncJob("a", coordination_config=config) as a, AsyncExitStack() as late:
            async with AsyncExitStack() as scouts:
                scout = await scouts.enter_async_context(AsyncJob("b", coordination_config=config))
                await eventually(lambda: len(scout.my_tokens) == 50)
                moves = scout.get_my_task_ids(range(200))
            await eventually(lambda: len(a.my_tokens) == 100)
            with pytest.raises(OwnershipLost, match="nothing is written"):
                async with a.transaction(moves[0]) as conn:
                    await write(conn, results, "x")
                    b = await late.enter_async_context(AsyncJob("b", coordination_config=config))
                    await eventually(lambda: len(b.my_tokens) == 50)
                    assert b.can_claim_task(moves[0])
            assert rows(server_dsn, results) == []
            assert await a.get_audit() == []

    run_async(body())


def test_a_handover_waits_for_the_body(server_dsn: str, prefix: str, results: str) -> None:
    async def body() -> None:
        config = settings(server_dsn, prefix)
        async with AsyncJob("a", coordination_config=config) as a:
            async with AsyncJob("b", coordination_config=config) as b:
                await eventually(lambda: len(b.my_tokens) == 50)
                moves = b.get_my_task_ids(range(200))
            await eventually(lambda: len(a.my_tokens) == 100)
            late = AsyncJob("b", coordination_config=config)
            async with a.transaction(moves[0]) as conn:
                entering = asyncio.create_task(late.__aenter__())
                await eventually(lambda: not a.can_claim_task(moves[0]))
                await asyncio.sleep(0.3)
                assert not late.can_claim_task(moves[0])
                await write(conn, results, "x")
            assert rows(server_dsn, results) == ["x"]
            await entering
            assert late.can_claim_task(moves[0])
            await late.__aexit__(None, None, None)

    run_async(body())


def test_a_claim_commits_only_under_its_own_epoch(server_dsn: str, prefix: str, results: str) -> None:
    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix)) as job:
            claim = await job.claim("x")
            query(server_dsn, f"update {prefix}grant set epoch = epoch + 1")
            with pytest.raises(OwnershipLost):
                async with job.transaction(claim) as conn:
                    await write(conn, results, "x")
            assert rows(server_dsn, results) == []

    run_async(body())


def test_in_a_loop_a_task_done_by_transaction_is_audited_once(server_dsn: str, prefix: str, results: str) -> None:
    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix), run="r") as job:
            async for task in job.tasks(["x", "y", "z"]):
                async with job.transaction(task) as conn:
                    await write(conn, results, str(task.id))
            assert rows(server_dsn, results) == ["x", "y", "z"]
            assert len(await job.get_audit()) == 3

    run_async(body())


def test_many_bodies_at_once_each_commit(server_dsn: str, prefix: str, results: str) -> None:
    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix), run="r") as job:

            async def one(number: int) -> None:
                async with job.transaction(number) as conn:
                    await write(conn, results, f"{number:02}")

            await asyncio.gather(*(one(number) for number in range(30)))
            assert rows(server_dsn, results) == [f"{number:02}" for number in range(30)]
            assert len(await job.get_audit()) == 30

    run_async(body())


def test_bodies_that_hold_every_connection_are_told(
    server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobsync.runtime.place.TRANSACTION_WAIT_SEC", 0.1)

    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix)) as job, AsyncExitStack() as bodies:
            for number in range(TRANSACTIONS):
                await bodies.enter_async_context(job.transaction(number))
            with pytest.raises(ConnectionsLent, match=f"all {TRANSACTIONS} connections"):
                await bodies.enter_async_context(job.transaction("one more"))
            assert await job.add_task("y")
            await job.write_audit()

    run_async(body())


# --- bodies that end otherwise ---------------------------------------------------------------------


def test_a_cancelled_body_is_rolled_back(server_dsn: str, prefix: str, results: str) -> None:
    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix), run="r") as job:
            began = asyncio.Event()

            async def work() -> None:
                async with job.transaction("x") as conn:
                    await write(conn, results, "x")
                    began.set()
                    await conn.execute("select pg_sleep(30)")

            working = asyncio.create_task(work())
            await began.wait()
            await asyncio.sleep(0.02)
            await cancelled(working)
            assert rows(server_dsn, results) == []
            assert await job.get_audit() == []
            async with job.transaction("x") as conn:
                await write(conn, results, "x")
            assert rows(server_dsn, results) == ["x"]

    run_async(body())


def test_cancelled_anywhere_both_are_written_or_neither_and_no_connection_is_lost(
    server_dsn: str, prefix: str, results: str
) -> None:
    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix), run="r") as job:

            async def work(number: int) -> None:
                async with job.transaction(number) as conn:
                    await write(conn, results, f"{number:03}")

            began_sec = boot_sec()
            for number in range(-5, 0):
                await work(number)
            whole_sec = (boot_sec() - began_sec) / 5
            for number in range(100):
                working = asyncio.create_task(work(number))
                # From before the first statement to well after the commit, however fast this machine is now.
                await asyncio.wait({working}, timeout=whole_sec * number / 50)
                working.cancel()
                with suppress(asyncio.CancelledError):
                    await working
            done = sorted(f"{int(row['item']):03}" for row in await job.get_audit())
            assert rows(server_dsn, results) == done
            assert 5 < len(done) < 105, "no cancellation came in the middle: widen the range"
            async with AsyncExitStack() as bodies:  # As many as ever can be had at one time.
                for number in range(TRANSACTIONS):
                    await bodies.enter_async_context(job.transaction(f"again {number}"))

    run_async(body())


def test_a_connection_closed_or_committed_by_the_user_is_told(server_dsn: str, prefix: str, results: str) -> None:
    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix)) as job:
            with pytest.raises(JobsyncError, match="connection was closed"):
                async with job.transaction("x") as conn:
                    await write(conn, results, "x")
                    await conn.close()
            with pytest.raises((JobsyncError, psycopg.ProgrammingError), match="commit"):
                async with job.transaction("x") as conn:
                    await conn.commit()
            with pytest.raises(JobsyncError, match="over"):
                async with job.transaction("x") as conn:
                    with suppress(psycopg.Error):
                        await conn.execute("select 1/0")
            with pytest.raises(psycopg.errors.DivisionByZero):
                async with job.transaction("x") as conn:
                    await conn.execute("select 1/0")
            assert await job.get_audit() == []
            assert rows(server_dsn, results) == []

    run_async(body())


def test_a_body_that_idled_too_long_is_told_so(
    server_dsn: str, prefix: str, results: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix)) as job:
            with pytest.raises(JobsyncError, match="could not be ended, and nothing is written"):
                async with job.transaction("x") as conn:
                    await write(conn, results, "x")
                    await conn.execute("set local idle_in_transaction_session_timeout = '20ms'")
                    await eventually(lambda: pools.has_spoken(conn))
            assert rows(server_dsn, results) == []

    run_async(body())


def test_the_first_transaction_of_a_date_has_tables_made_for_it(server_dsn: str, prefix: str, results: str) -> None:
    async def body() -> None:
        given = settings(server_dsn, prefix)
        async with AsyncJob("a", coordination_config=given) as job, job.transaction("x") as conn:
            await write(conn, results, "x")
        assert query(server_dsn, f"select item from {prefix}audit_by_date") == [("x",)]
        assert query(server_dsn, f"select item from {prefix}audit_rest") == []

    run_async(body())
