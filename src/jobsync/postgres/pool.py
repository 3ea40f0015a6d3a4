"""Connections for everything that may wait: claims, audits, users' transactions, questions of administration.

The pool starts at zero and opens nothing until it is first used, so that an idle node costs the server one
connection. Nothing here depends on session state, so a pooler in transaction mode may stand in between.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import Connection
from psycopg_pool import ConnectionPool, PoolTimeout

from jobsync.core.errors import JobsyncError
from jobsync.postgres.statement import Row, Statement, run

IDLE_CONNECTION_SEC = 60.0


class Pool:
    """A lazy pool of autocommit psycopg connections. Errors of reaching the server are given as `unavailable` says."""

    def __init__(
        self, conninfo: str, *, size: int, wait_sec: float, unavailable: Callable[[str], JobsyncError]
    ) -> None:
        self._conninfo = conninfo
        self._size = size
        self._wait_sec = wait_sec
        self._unavailable = unavailable
        self._lock = threading.Lock()
        self._pool: ConnectionPool[Connection[Any]] | None = None

    @contextmanager
    def connection(self) -> Iterator[Connection[Any]]:
        """Lend a connection; it is given back clean, or discarded when it broke."""
        pool = self._opened()
        try:
            conn = pool.getconn()
        except PoolTimeout as error:
            raise self._unavailable(str(error)) from error
        try:
            yield conn
        finally:
            if not conn.closed and conn.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                conn.rollback()
            pool.putconn(conn)

    @contextmanager
    def transaction(self, first: Statement) -> Iterator[Connection[Any]]:
        """Lend a connection in a transaction whose first statement is `first`.

        A lent connection may have died since it was last used (a restart of the server); `first` finds that out, and
        another connection is taken, before the caller has done anything.
        """
        for attempt in range(self._size + 1):
            with self.connection() as conn:
                try:
                    conn.execute("begin")
                    run(conn, first)
                except psycopg.OperationalError as error:
                    if attempt == self._size:
                        raise self._unavailable(str(error).strip()) from error
                    continue
                with _ending(conn):
                    yield conn
                return

    def run(self, work: Statement) -> list[Row]:
        """Execute one statement on a lent connection."""
        try:
            with self.connection() as conn:
                return run(conn, work)
        except psycopg.OperationalError as error:
            raise self._unavailable(str(error).strip()) from error
        except psycopg.Error as error:
            raise JobsyncError(f"the database refused jobsync's statement: {str(error).strip()}") from error

    def _opened(self) -> ConnectionPool[Connection[Any]]:
        with self._lock:
            if self._pool is None:
                self._pool = ConnectionPool(
                    self._conninfo,
                    kwargs={"autocommit": True, "prepare_threshold": None},
                    min_size=0,
                    max_size=self._size,
                    max_idle=IDLE_CONNECTION_SEC,
                    timeout=self._wait_sec,
                    reconnect_timeout=self._wait_sec,
                    num_workers=1,
                    open=True,
                    name="jobsync",
                )
            return self._pool

    def close(self) -> None:
        """Close all connections; those that are lent close when they come back."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close(timeout=1.0)


@contextmanager
def _ending(conn: Connection[Any]) -> Iterator[None]:
    """Commit at the end, roll back on any exception; a connection that the block closed is left as it is."""
    try:
        yield
    except BaseException:
        if not conn.closed:
            conn.rollback()
        raise
    conn.commit()
