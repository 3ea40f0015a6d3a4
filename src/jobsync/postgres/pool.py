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
IDLE_IN_TRANSACTION_MS = 5_000  # What holds a grant makes a fence of its node wait.


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
    def transaction(self) -> Iterator[Connection[Any]]:
        """Lend a connection in a transaction that may not idle for longer than `IDLE_IN_TRANSACTION_MS`.

        A lent connection may have died since it was last used (a restart of the server); the statement that sets the
        bound finds that out, and another connection is taken, before the caller has done anything.
        """
        bound = "select set_config('idle_in_transaction_session_timeout', $1::text, true)"
        for attempts_left in range(self._size, -1, -1):
            lent = False
            try:
                with self.connection() as conn, conn.transaction():
                    run(conn, Statement(bound, (f"{IDLE_IN_TRANSACTION_MS}ms",)))
                    lent = True
                    yield conn
            except psycopg.OperationalError as error:
                if lent:
                    raise
                if not attempts_left:
                    raise self._unavailable(str(error).strip()) from error
            else:
                return

    def run_all(self, works: list[Statement]) -> None:
        """Execute statements in one transaction."""
        try:
            with self.transaction() as conn:
                for work in works:
                    run(conn, work)
        except psycopg.Error as error:
            if _is_away(error):
                raise self._unavailable(str(error).strip()) from error
            raise JobsyncError(f"the database refused jobsync's statement: {str(error).strip()}") from error

    def run(self, work: Statement) -> list[Row]:
        """Execute one statement on a lent connection."""
        try:
            with self.connection() as conn:
                return run(conn, work)
        except psycopg.Error as error:
            if _is_away(error):
                raise self._unavailable(str(error).strip()) from error
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


def _is_away(error: psycopg.Error) -> bool:
    """Tell whether the server could not be reached or refuses service, as against refusing this statement."""
    if not isinstance(error, psycopg.OperationalError):
        return False
    # 08: connection; 53: out of resources; 57P: being ended; no state: libpq's own, without a server's answer.
    return error.sqlstate is None or error.sqlstate.startswith(("08", "53", "57P"))
