"""Asynchronous connections for handlers on a worker's event loop, without a task of their own on it.

A pool of the driver keeps tasks on the loop, which ends with the worker, and with each job that a test runs inline.
Here a connection is opened where none lies idle, and lies idle for `IDLE_CONNECTION_SEC` at most. Nobody waits for
another's: a worker has no more handlers than slots.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from jobsync.postgres.pool import IDLE_CONNECTION_SEC, PoolTerms, has_spoken
from jobsync.postgres.uncancelled import uncancelled


class AsyncLoans:
    """Lends autocommit asynchronous connections, one to a caller."""

    def __init__(self, terms: PoolTerms) -> None:
        self._terms = terms
        self._conninfo = make_conninfo(
            "", **{"connect_timeout": max(2, int(terms.wait_sec)), **conninfo_to_dict(terms.conninfo)}
        )
        self._idle: list[tuple[AsyncConnection[Any], float]] = []
        self._is_closed = False

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        """Lend a connection; it is kept if it comes back clean."""
        conn = self._idle_one() or await self._opened()
        try:
            yield conn
        finally:
            await uncancelled(self._give_back(conn))

    def close(self) -> None:
        """Close all that lie idle; those that are lent close when they come back. From any thread."""
        self._is_closed = True
        while self._idle:
            conn, _ = self._idle.pop()
            conn.pgconn.finish()

    def _idle_one(self) -> AsyncConnection[Any] | None:
        while self._idle:
            conn, _ = self._idle.pop()
            if not conn.closed and not has_spoken(conn):
                return conn
            conn.pgconn.finish()  # It died while it lay idle.
        return None

    async def _opened(self) -> AsyncConnection[Any]:
        try:
            return await AsyncConnection.connect(self._conninfo, autocommit=True, prepare_threshold=None)
        except psycopg.OperationalError as error:
            raise self._terms.unavailable(str(error).strip()) from error

    async def _give_back(self, conn: AsyncConnection[Any]) -> None:
        is_clean = not conn.closed and conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        if not is_clean or self._is_closed:
            await conn.close()
            return
        loop = asyncio.get_running_loop()
        self._idle.append((conn, loop.time()))
        loop.call_later(IDLE_CONNECTION_SEC, self._drop_old, loop)

    def _drop_old(self, loop: asyncio.AbstractEventLoop) -> None:
        # The last to come back is the first to be lent again, so the old ones are in front.
        while self._idle and self._idle[0][1] <= loop.time() - IDLE_CONNECTION_SEC:
            conn, _ = self._idle.pop(0)
            conn.pgconn.finish()
