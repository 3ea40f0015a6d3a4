"""`AsyncPool` on a real server: lazy, bounded, finds out dead connections, loses none to cancellation."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import psycopg
import pytest

from jobsync.core.errors import ConnectionsLent, DatabaseUnavailable
from jobsync.postgres.async_pool import AsyncPool
from jobsync.postgres.pool import PoolTerms
from jobsync.postgres.statement import Statement, run_async
from jobsync.postgres.uncancelled import uncancelled
from tests.api.async_jobs import eventually
from tests.api.async_jobs import run_async as on_a_loop
from tests.api.jobs import query

SIZE = 3


def terms(dsn: str, *, wait_sec: float = 5.0) -> PoolTerms:
    return PoolTerms(f"{dsn} application_name=pooled", SIZE, wait_sec, DatabaseUnavailable)


def connections(dsn: str) -> list[int]:
    return [pid for (pid,) in query(dsn, "select pid from pg_stat_activity where application_name = 'pooled'")]


@pytest.fixture
def own_dsn(private_server: Any) -> str:
    dsn: str = private_server.dsn
    return dsn


def test_it_opens_nothing_before_it_is_used_and_closes_all(own_dsn: str) -> None:
    async def body() -> None:
        pool = AsyncPool(terms(own_dsn))
        await pool.close()
        assert connections(own_dsn) == []
        async with pool.connection() as conn:
            assert await run_async(conn, Statement("select 1")) == [(1,)]
            assert len(connections(own_dsn)) == 1
        async with pool.connection():
            assert len(connections(own_dsn)) == 1, "it is lent again"
        await pool.close()
        await eventually(lambda: connections(own_dsn) == [])

    on_a_loop(body())


def test_the_first_users_at_one_time_share_one_pool(own_dsn: str) -> None:
    async def body() -> None:
        pool = AsyncPool(terms(own_dsn))

        async def use() -> None:
            async with pool.connection() as conn:
                await run_async(conn, Statement("select pg_sleep(0.01)"))

        await asyncio.gather(*(use() for _ in range(10)))
        assert len(connections(own_dsn)) <= SIZE
        await pool.close()

    on_a_loop(body())


def test_a_pool_that_is_lent_out_and_a_database_that_is_away_are_told_apart(own_dsn: str) -> None:
    async def body() -> None:
        pool = AsyncPool(terms(own_dsn, wait_sec=0.2))
        async with AsyncExitStack() as lent:
            for _ in range(SIZE):
                await lent.enter_async_context(pool.connection())
            with pytest.raises(ConnectionsLent, match="all 3 connections"):
                await lent.enter_async_context(pool.connection())
        await pool.close()
        away = AsyncPool(PoolTerms("host=127.0.0.1 port=1 dbname=x", SIZE, 0.2, DatabaseUnavailable))
        with pytest.raises(DatabaseUnavailable):
            async with away.connection():
                pytest.fail("it connected")
        await away.close()

    on_a_loop(body())


def test_dead_connections_are_found_out_before_they_are_lent(own_dsn: str) -> None:
    async def body() -> None:
        pool = AsyncPool(terms(own_dsn))
        async with AsyncExitStack() as lent:
            for _ in range(SIZE):
                await lent.enter_async_context(pool.connection())
        query(own_dsn, "select pg_terminate_backend(pid) from unnest(%s::int[]) pid", connections(own_dsn))
        await eventually(lambda: connections(own_dsn) == [])
        for _ in range(SIZE):
            async with pool.transaction() as conn:
                assert await run_async(conn, Statement("select 1")) == [(1,)]
        await pool.close()

    on_a_loop(body())


def test_a_connection_comes_back_clean(own_dsn: str) -> None:
    async def body() -> None:
        pool = AsyncPool(terms(own_dsn))
        async with pool.connection() as conn:
            await conn.execute("begin")
            pid = conn.info.backend_pid
        async with pool.connection() as conn:
            assert conn.info.backend_pid == pid
            assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        await pool.close()

    on_a_loop(body())


def test_cancellation_anywhere_loses_no_connection(own_dsn: str) -> None:
    async def body() -> None:
        pool = AsyncPool(terms(own_dsn, wait_sec=2.0))

        async def use() -> None:
            async with pool.transaction() as conn:
                await run_async(conn, Statement("select pg_sleep(0.001)"))

        for steps in range(90):
            users = [asyncio.create_task(use()) for _ in range(SIZE + 1)]
            for _ in range(steps // 3):
                await asyncio.sleep(0)
            for again in range(4):  # Also while it gives its connection back.
                for user in users:
                    user.cancel()
                for _ in range(again):
                    await asyncio.sleep(0)
            await asyncio.wait(users)
        async with AsyncExitStack() as lent:
            for _ in range(SIZE):
                await lent.enter_async_context(pool.connection())
        await pool.close()

    on_a_loop(body())


def test_what_must_be_finished_is_finished_and_the_cancellation_goes_on() -> None:
    async def body() -> None:
        ended, may_end = [], asyncio.Event()

        async def work() -> int:
            await may_end.wait()
            ended.append(True)
            return 5

        asyncio.get_running_loop().call_soon(may_end.set)
        assert await uncancelled(work()) == 5
        may_end.clear()
        waiting = asyncio.create_task(uncancelled(work()))
        for _ in range(3):
            await asyncio.sleep(0)
            waiting.cancel()
        await asyncio.sleep(0.01)
        assert not waiting.done()
        may_end.set()
        await asyncio.wait((waiting,))
        assert waiting.cancelled()
        assert ended == [True, True]

    on_a_loop(body())
