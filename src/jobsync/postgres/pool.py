"""Connections for everything that may wait: claims, audits, users' transactions, questions of administration.

A pool starts at zero and opens nothing until it is first used, so that an idle node costs the server one
connection. Nothing here depends on session state, so a pooler in transaction mode may stand in between. A connection
that died while it lay idle (a restart of the server) is found out before it is lent.
"""

import select
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg_pool import ConnectionPool, PoolTimeout

from jobsync.core.errors import ConnectionsLent, JobsyncError, TransactionLost
from jobsync.postgres.statement import Row, Statement, run

IDLE_CONNECTION_SEC = 60.0
CLOSE_SEC = 1.0
DEADLOCK_TRIES = 4
IDLE_IN_TRANSACTION_MS = 5_000  # What holds a grant makes a fence of its node wait.
IDLE_BOUND = Statement(
    "select set_config('idle_in_transaction_session_timeout', $1::text, true)", (f"{IDLE_IN_TRANSACTION_MS}ms",)
)


@dataclass(frozen=True, slots=True)
class PoolTerms:
    """What a pool promises: whither, how many connections at most, how long it waits for one, how it says "away"."""

    conninfo: str = field(repr=False)
    size: int
    wait_sec: float
    unavailable: Callable[[str], JobsyncError]

    def options(self) -> dict[str, Any]:
        """Give the options of psycopg's pools, of either kind."""
        return {
            "kwargs": {"autocommit": True, "prepare_threshold": None},
            "min_size": 0,
            "max_size": self.size,
            "max_idle": IDLE_CONNECTION_SEC,
            "timeout": self.wait_sec,
            "reconnect_timeout": self.wait_sec,
            "num_workers": 1,
            "name": "jobsync",
        }

    def why_none(self, stats: Mapping[str, int], error: PoolTimeout) -> JobsyncError:
        """Tell a pool that is lent out from a database that is away."""
        if stats.get("pool_size", 0) < self.size or stats.get("pool_available", 0):
            return self.unavailable(str(error))
        return ConnectionsLent(
            f"all {self.size} connections of this node are lent, and none came back within {self.wait_sec:g} s: "
            "job.transaction() holds one for the time of its body; use fewer bodies at a time, or shorter ones"
        )


class Pool:
    """A lazy pool of autocommit psycopg connections. Errors of reaching the server are given as `unavailable` says."""

    def __init__(
        self, conninfo: str, *, size: int, wait_sec: float, unavailable: Callable[[str], JobsyncError]
    ) -> None:
        self._conninfo = conninfo
        self._size = size
        self._wait_sec = wait_sec
        self._unavailable = unavailable
        self._lock = threading.RLock()  # reentrant: a signal handler may leave the job
        self._pool: ConnectionPool[Connection[Any]] | None = None

    @contextmanager
    def connection(self) -> Iterator[Connection[Any]]:
        """Lend a connection; it is given back clean, or discarded when it broke."""
        pool = self._opened()
        try:
            conn = pool.getconn()
            # The pool's own check would pause between one dead connection and the next.
            while has_spoken(conn):
                conn.close()
                pool.putconn(conn)
                conn = pool.getconn()
        except PoolTimeout as error:
            raise self.terms.why_none(pool.get_stats(), error) from error
        try:
            yield conn
        finally:
            _clean(conn)
            pool.putconn(conn)

    @contextmanager
    def transaction(self) -> Iterator[Connection[Any]]:
        """Lend a connection in a transaction that may not idle for longer than `IDLE_IN_TRANSACTION_MS`."""
        body_is_over = False
        with self.connection() as conn:
            try:
                with conn.transaction():
                    self._begin(conn)
                    yield conn
                    body_is_over = True
            except psycopg.Error as error:
                if session_ended(conn, error):
                    raise transaction_lost(error, body_is_over=body_is_over) from error
                raise

    def _begin(self, conn: Connection[Any]) -> None:
        try:
            run(conn, IDLE_BOUND)
        except psycopg.OperationalError as error:
            raise self._unavailable(str(error).strip()) from error

    def run_all(self, works: list[Statement]) -> None:
        """Execute statements in one transaction."""
        try:
            with self.transaction() as conn:
                for work in works:
                    run(conn, work)
        except TransactionLost as error:
            raise self._unavailable(str(error)) from error
        except psycopg.Error as error:
            if is_away(error):
                raise self._unavailable(str(error).strip()) from error
            raise JobsyncError(f"the database refused jobsync's statement: {str(error).strip()}") from error

    def run(self, work: Statement) -> list[Row]:
        """Execute one statement on a lent connection; again where it met another in a deadlock, which undid it."""
        for left in range(DEADLOCK_TRIES - 1, -1, -1):
            try:
                with self.connection() as conn:
                    return run(conn, work)
            except ConnectionsLent as error:
                raise self._unavailable(
                    f"all {self._size} connections for claims and audits wait for answers: look for locks on the tables"
                ) from error
            except psycopg.Error as error:
                if error.sqlstate in {"40P01", "40001"} and left:
                    continue
                if is_away(error):
                    raise self._unavailable(str(error).strip()) from error
                raise JobsyncError(f"the database refused jobsync's statement: {str(error).strip()}") from error
        raise AssertionError("the last try returns or raises")

    def run_apart(self, work: Statement) -> list[Row]:
        """Execute one statement that takes long on a connection of its own: the pool's stay free for others."""
        try:
            with psycopg.connect(self._conninfo, autocommit=True, prepare_threshold=None) as conn:
                return run(conn, work)
        except psycopg.Error as error:
            if is_away(error):
                raise self._unavailable(str(error).strip()) from error
            raise JobsyncError(f"the database refused jobsync's statement: {str(error).strip()}") from error

    def _opened(self) -> ConnectionPool[Connection[Any]]:
        with self._lock:
            if self._pool is None:
                self._pool = ConnectionPool(self._conninfo, open=True, **self.terms.options())
            return self._pool

    @property
    def terms(self) -> PoolTerms:
        """What this pool promises; another to the same place can be made of it."""
        return PoolTerms(self._conninfo, self._size, self._wait_sec, self._unavailable)

    def close(self) -> None:
        """Close all connections; those that are lent close when they come back."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            # A signal handler that leaves the job may have interrupted this very thread inside the pool, with its lock.
            closing = threading.Thread(target=pool.close, kwargs={"timeout": CLOSE_SEC}, daemon=True)
            closing.start()
            closing.join(2 * CLOSE_SEC)


def _clean(conn: Connection[Any]) -> None:
    """End what is open; a connection on which a signal's exception interrupted a statement can only be closed."""
    match conn.info.transaction_status:
        case psycopg.pq.TransactionStatus.ACTIVE:
            conn.close()
        case psycopg.pq.TransactionStatus.INTRANS | psycopg.pq.TransactionStatus.INERROR:
            conn.rollback()


def has_spoken(conn: Connection[Any] | AsyncConnection[Any]) -> bool:
    """Tell whether the server said something on an idle connection: nothing but good-bye comes unasked."""
    poller = select.poll()
    poller.register(conn.fileno(), select.POLLIN)
    return bool(poller.poll(0))


def session_ended(conn: Connection[Any] | AsyncConnection[Any], error: psycopg.Error) -> bool:
    """Tell whether a statement failed since its session is over, as against the statement itself."""
    # 25P03, 25P04: the transaction idled or lasted for too long, which ends the session as well.
    return conn.broken or is_away(error) or error.sqlstate in {"25P03", "25P04"}


def transaction_lost(error: psycopg.Error, *, body_is_over: bool) -> TransactionLost:
    """Say that a transaction's session is over, and what that leaves open."""
    why = str(error).strip()
    if body_is_over:
        return TransactionLost(f"{why} (at COMMIT: do the task again; AlreadyDone tells if the commit took place)")
    return TransactionLost(
        f"{why} (within the transaction: nothing is written; do the task again, and long work before the block, since "
        "the server cuts off a body that idles for over 5 s)"
    )


def is_away(error: psycopg.Error) -> bool:
    """Tell whether the server could not be reached or refuses service, as against refusing this statement."""
    if not isinstance(error, psycopg.OperationalError):
        return False
    # 08: connection; 53: out of resources; 57P: being ended; no state: libpq's own, without a server's answer.
    return error.sqlstate is None or error.sqlstate.startswith(("08", "53", "57P"))
