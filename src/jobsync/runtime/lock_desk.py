"""Registering and clearing locks, one change at a time.

What a `lock_provider` does is one change: it is gathered while the provider runs and written in one short transaction
when it has returned, so that a restart which clears and registers the same locks moves nothing, and a slow
provider keeps nobody waiting. A change of locks takes effect by itself: a trigger tells the leader.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from jobsync.core.pins import NewLock
from jobsync.postgres.locks import LockRow, LockStatements, lock_row
from jobsync.postgres.pool import Pool
from jobsync.postgres.statement import Statement


class LockDesk:
    """The locks of one fleet, changed in the name of one node."""

    def __init__(self, pool: Pool, prefix: str, creator: str) -> None:
        self._pool = pool
        self._statements = LockStatements(prefix)
        self._creator = creator
        self._gathered: list[Statement] | None = None

    @contextmanager
    def one_change(self) -> Iterator[None]:
        """Let everything inside take effect together when the block ends, or, if it raises, not at all."""
        gathered = self._gathered = []
        try:
            yield
        finally:
            self._gathered = None
        if gathered:
            self._pool.run_all(gathered)

    def register(self, locks: list[NewLock], expires_in_days: float | None) -> None:
        """Store locks."""
        self._change(self._statements.register(locks, self._creator, expires_in_days))

    def list_all(self) -> list[LockRow]:
        """List what is stored and has not expired."""
        return [lock_row(row) for row in self._pool.run(self._statements.list_all())]

    def clear_own(self) -> int:
        """Remove the locks that this node's name created."""
        return self.clear_by(self._creator)

    def clear_by(self, creator: str) -> int:
        """Remove the locks of one creator; give how many are stored."""
        stored = 0 if self._gathered is None else sum(row.created_by == creator for row in self.list_all())
        return self._clear(creator, stored)

    def clear_all(self) -> int:
        """Remove all locks; give how many are stored."""
        return self._clear(None, len(self.list_all()) if self._gathered is not None else 0)

    def _clear(self, creator: str | None, stored: int) -> int:
        work = self._statements.clear(creator)
        if self._gathered is not None:
            self._gathered.append(work)
            return stored
        return int(self._pool.run(work)[0][0])

    def _change(self, work: Statement) -> None:
        if self._gathered is not None:
            self._gathered.append(work)
        else:
            self._pool.run(work)
