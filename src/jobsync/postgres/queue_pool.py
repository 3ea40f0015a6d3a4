"""A pool on which a queue's talks are carried out, each statement by itself or a whole talk in one transaction.

What goes wrong is told in jobsync's words: DatabaseUnavailable where the server cannot be reached, ConnectionsLent
where every connection is at work, JobsyncError for the rest, with the driver's error as its cause.
"""

import select
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeVar

import psycopg
from psycopg import Connection

from jobsync.core.errors import ConnectionsLent, JobsyncError
from jobsync.postgres.async_pool import AsyncPool
from jobsync.postgres.pool import DEADLOCK_TRIES, Pool, is_away
from jobsync.postgres.quick import Quick
from jobsync.postgres.reception import Place
from jobsync.postgres.statement import Row, Statement
from jobsync.postgres.talk import Apart, Copy, Step, Talk, converse, converse_async, say, say_async

R = TypeVar("R")

SIZE = 8
APART_SIZE = 2  # They wait for nobody who holds a connection of the other pool, so that nobody waits in a ring.
WAIT_SEC = 10.0
BACKEND = Statement("select pg_backend_pid()")
TRY_AGAIN = {"40P01", "40001"}  # Met another in a deadlock, or in a serializable transaction, which undid it.


def was_undone(error: JobsyncError) -> bool:
    """Tell whether a transaction was undone only since it met another, so that the same again may go well."""
    return getattr(error.__cause__, "sqlstate", None) in TRY_AGAIN


class QueuePool:
    """The synchronous side; safe for many threads."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._pool = _pool(place, SIZE)
        self._apart = _pool(place, APART_SIZE)
        # One connection is not given back after each statement: a pool's way costs a tenth of a commit. Whoever comes
        # while another has it goes the pool's way. A deque, whose pop and append are whole in every thread.
        self._kept: deque[Kept | None] = deque([None])
        self._is_closed = False

    def do(self, talk: Talk[R]) -> R:
        """Carry a talk out, each statement of which commits by itself."""
        return converse(talk, lambda step: self._run_kept(_work_of(step)))

    def do_as_one(self, talk: Talk[R]) -> R:
        """Carry a talk out in one transaction."""
        with told(self._place), self._pool.connection() as conn, conn.transaction():
            return converse(talk, lambda step: self.apart(step.work) if isinstance(step, Apart) else say(conn, step))

    def apart(self, work: Statement) -> list[Row]:
        """Execute one statement while a talk of this pool holds a connection."""
        return self._run(self._apart, work)

    def _run(self, pool: Pool, work: Statement | Copy) -> list[Row]:
        for left in range(DEADLOCK_TRIES - 1, -1, -1):
            with told(self._place), pool.connection() as conn:
                try:
                    return say(conn, work)
                except psycopg.Error as error:
                    if not (left and error.sqlstate in TRY_AGAIN):
                        raise
        raise AssertionError("the last try returns or raises")

    def _run_kept(self, work: Statement | Copy) -> list[Row]:
        try:
            kept = self._kept.pop()
        except IndexError:
            return self._run(self._pool, work)
        try:
            with told(self._place):
                if kept is not None and kept.has_spoken:
                    kept.give_back()
                    kept = None
                kept = kept or Kept(self._pool)
                return kept.say(work)
        except JobsyncError as error:
            if not was_undone(error):
                raise
        finally:
            if kept is not None and (self._is_closed or not kept.is_idle):
                kept.give_back()
                kept = None
            self._kept.append(kept)
        return self._run(self._pool, work)

    def close(self) -> None:
        """Close all connections; those that are lent close when they come back."""
        self._is_closed = True
        with suppress(IndexError):  # Then it is lent.
            kept = self._kept.pop()
            if kept is not None:
                kept.give_back()
            self._kept.append(None)
        self._pool.close()
        self._apart.close()


class Kept:
    """A connection of a pool that is lent for longer than one statement."""

    def __init__(self, pool: Pool) -> None:
        self._loan = pool.connection()
        self.conn: Connection[Any] = self._loan.__enter__()
        # Behind a pooler the next statement may meet another session, which knows nothing of what was prepared. A
        # pooler makes up a process id of its own; a mere proxy passes the server's on, and does no harm.
        is_direct = say(self.conn, BACKEND)[0][0] == self.conn.info.backend_pid
        self._quick = Quick(self.conn) if is_direct else None
        # Both are asked for every statement, so nothing is made anew for it.
        self._pg = self.conn.pgconn
        self._poller = select.poll()
        self._poller.register(self._pg.socket, select.POLLIN)

    def say(self, work: Statement | Copy) -> list[Row]:
        """Say one thing on it, and give the answer."""
        if self._quick is not None and isinstance(work, Statement) and Quick.can_say(work):
            return self._quick.say(work)
        return say(self.conn, work)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way on it, and it is open."""
        return self._pg.transaction_status == psycopg.pq.TransactionStatus.IDLE

    @property
    def has_spoken(self) -> bool:
        """Whether the server said something unasked: nothing but good-bye."""
        return bool(self._poller.poll(0))

    def give_back(self) -> None:
        """Give it back to the pool, which throws it away if it broke."""
        self._loan.__exit__(None, None, None)


class AsyncQueuePool:
    """The asynchronous side; for one event loop."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._pool = AsyncPool(_pool(place, SIZE).terms)
        self._apart = AsyncPool(_pool(place, APART_SIZE).terms)

    async def do(self, talk: Talk[R]) -> R:
        """Carry a talk out, each statement of which commits by itself."""
        return await converse_async(talk, lambda step: self._run(self._pool, _work_of(step)))

    async def do_as_one(self, talk: Talk[R]) -> R:
        """Carry a talk out in one transaction."""
        with told(self._place):
            async with self._pool.connection() as conn, conn.transaction():
                return await converse_async(
                    talk, lambda step: self.apart(step.work) if isinstance(step, Apart) else say_async(conn, step)
                )

    async def apart(self, work: Statement) -> list[Row]:
        """Execute one statement while a talk of this pool holds a connection."""
        return await self._run(self._apart, work)

    async def _run(self, pool: AsyncPool, work: Statement | Copy) -> list[Row]:
        for left in range(DEADLOCK_TRIES - 1, -1, -1):
            with told(self._place):
                async with pool.connection() as conn:
                    try:
                        return await say_async(conn, work)
                    except psycopg.Error as error:
                        if not (left and error.sqlstate in TRY_AGAIN):
                            raise
        raise AssertionError("the last try returns or raises")

    async def close(self) -> None:
        """Close all connections; those that are lent close when they come back."""
        await self._pool.close()
        await self._apart.close()


def _work_of(step: Step) -> Statement | Copy:
    return step.work if isinstance(step, Apart) else step


def _pool(place: Place, size: int) -> Pool:
    return Pool(place.conninfo, size=size, wait_sec=WAIT_SEC, unavailable=place.unavailable)


class told:  # noqa: N801 - read as a phrase: `with told(place)`
    """Tell in jobsync's words what goes wrong within."""

    __slots__ = ("_place",)

    def __init__(self, place: Place) -> None:
        self._place = place

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, ConnectionsLent):
            raise ConnectionsLent(
                f"all connections of this queue (at most {SIZE}) are at work, and none came back within {WAIT_SEC:g} s"
                ": enqueue many jobs by one enqueue_many, or look for locks on the tables"
            ) from error
        if isinstance(error, psycopg.Error):
            if is_away(error):
                raise self._place.unavailable(str(error).strip()) from error
            raise JobsyncError(f"the database refused jobsync's statement: {str(error).strip()}") from error
