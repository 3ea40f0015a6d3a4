"""Registering and clearing locks, one change at a time.

What a `lock_provider` does is one change: it runs inside one transaction, so that a restart which clears and registers
the same locks moves nothing. A change of locks takes effect by itself: a trigger tells the leader.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jobsync.postgres.locks import LockRow, LockStatements, NewLock, lock_row
from jobsync.postgres.pool import Pool
from jobsync.postgres.records import bound_idle
from jobsync.postgres.statement import Row, Statement, run

PROVIDER_IDLE_MS = 300_000


class LockDesk:
    """The locks of one fleet, changed in the name of one node."""

    def __init__(self, pool: Pool, prefix: str, creator: str) -> None:
        self._pool = pool
        self._statements = LockStatements(prefix)
        self._creator = creator
        self._in_change: Any = None

    @contextmanager
    def one_change(self) -> Iterator[None]:
        """Let everything inside take effect together, or not at all."""
        with self._pool.transaction(bound_idle(PROVIDER_IDLE_MS)) as conn:
            self._in_change = conn
            try:
                yield
            finally:
                self._in_change = None

    def register(self, locks: list[NewLock], expires_in_days: float | None) -> None:
        """Store locks."""
        self._run(self._statements.register(locks, self._creator, expires_in_days))

    def list_all(self) -> list[LockRow]:
        """List what has not expired."""
        return [lock_row(row) for row in self._run(self._statements.list_all())]

    def clear_own(self) -> int:
        """Remove the locks that this node's name created."""
        return self.clear_by(self._creator)

    def clear_by(self, creator: str) -> int:
        """Remove the locks of one creator."""
        return int(self._run(self._statements.clear(creator))[0][0])

    def clear_all(self) -> int:
        """Remove all locks."""
        return int(self._run(self._statements.clear(None))[0][0])

    def _run(self, work: Statement) -> list[Row]:
        return run(self._in_change, work) if self._in_change is not None else self._pool.run(work)
