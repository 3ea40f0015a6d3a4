"""Connections on the application's event loop, for the bodies of `async with job.transaction(...)`.

The asynchronous side of `jobsync.postgres.pool`, on the same terms: nothing is opened before it is first used,
what idles is closed, a connection that died while it lay idle is found out before it is lent, and a pool that is lent
out says so. A cancelled caller gives its connection back all the same, rolled back.

Belongs to one event loop: the one in which it is first used.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from jobsync.postgres.pool import IDLE_BOUND, PoolTerms, has_spoken, session_ended, transaction_lost
from jobsync.postgres.statement import run_async
from jobsync.postgres.uncancelled import uncancelled

CLOSE_SEC = 1.0


class AsyncPool:
    """A lazy pool of autocommit asynchronous psycopg connections."""

    def __init__(self, terms: PoolTerms) -> None:
        self._terms = terms
        self._opening = asyncio.Lock()
        self._pool: AsyncConnectionPool[AsyncConnection[Any]] | None = None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        """Lend a connection; it is given back clean, or discarded when it broke."""
        pool = await self._opened()
        try:
            conn = await pool.getconn()
            # The pool's own check would pause between one dead connection and the next.
            while has_spoken(conn):
                await uncancelled(_discard(pool, conn))
                conn = await pool.getconn()
        except PoolTimeout as error:
            raise self._terms.why_none(pool.get_stats(), error) from error
        try:
            yield conn
        finally:
            await uncancelled(_give_back(pool, conn))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection[Any]]:
        """Lend a connection in a transaction that may not idle for longer than `IDLE_IN_TRANSACTION_MS`."""
        body_is_over = False
        async with self.connection() as conn:
            try:
                async with conn.transaction():
                    await self._begin(conn)
                    yield conn
                    body_is_over = True
            except psycopg.Error as error:
                if session_ended(conn, error):
                    raise transaction_lost(error, body_is_over=body_is_over) from error
                raise

    async def _begin(self, conn: AsyncConnection[Any]) -> None:
        try:
            await run_async(conn, IDLE_BOUND)
        except psycopg.OperationalError as error:
            raise self._terms.unavailable(str(error).strip()) from error

    async def _opened(self) -> AsyncConnectionPool[AsyncConnection[Any]]:
        async with self._opening:
            if self._pool is None:
                pool: AsyncConnectionPool[AsyncConnection[Any]]
                pool = AsyncConnectionPool(self._terms.conninfo, open=False, **self._terms.options())
                await uncancelled(pool.open())
                self._pool = pool
            return self._pool

    async def close(self) -> None:
        """Close all connections; those that are lent close when they come back."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await uncancelled(pool.close(timeout=CLOSE_SEC))


async def _discard(pool: AsyncConnectionPool[AsyncConnection[Any]], conn: AsyncConnection[Any]) -> None:
    await conn.close()
    await pool.putconn(conn)


async def _give_back(pool: AsyncConnectionPool[AsyncConnection[Any]], conn: AsyncConnection[Any]) -> None:
    try:
        if not conn.closed and conn.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
            await conn.rollback()
    finally:
        await pool.putconn(conn)
