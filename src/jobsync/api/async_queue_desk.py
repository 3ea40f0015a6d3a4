"""Where the talks of an `AsyncJobQueue` are carried out: connections on the application's event loop.

It looks to a `JobQueue` like its desk, and gives coroutines. Nothing waits on the loop: what can only be done waiting
(to find the place, and to see that the schema stands) is done once, by a thread. A cancelled caller gives its
connection back.
"""

import asyncio
import logging
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from jobsync.api.async_threads import Threads, outcome_of
from jobsync.core.errors import JobsyncError, NotRunning
from jobsync.core.settings import Settings
from jobsync.postgres.borrowed import can_copy, checked_async_connection, on_borrowed_async
from jobsync.postgres.job_batches import JobBatches, Reader
from jobsync.postgres.jobs import Jobs
from jobsync.postgres.pool import DEADLOCK_TRIES
from jobsync.postgres.queue_pool import AsyncQueuePool, was_undone
from jobsync.postgres.talk import Talk
from jobsync.postgres.uncancelled import uncancelled
from jobsync.runtime.queue_desk import OpenQueue

R = TypeVar("R")

CANCEL_AGAIN_SEC = 1.0


class AsyncQueueDesk:
    """The asynchronous side of `QueueDesk`; for one event loop."""

    def __init__(self, settings: Settings) -> None:
        self.prefix = settings.prefix
        self.jobs = Jobs(settings.prefix)
        self.batches = JobBatches(self.jobs)
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening = asyncio.Lock()
        self._finding: Future[OpenQueue] | None = None
        self._pool: AsyncQueuePool | None = None
        self._schema: str | None = None
        self._closed = False

    async def do(self, talk: Talk[R]) -> R:
        """Carry a talk out, each statement of which commits by itself."""
        return await (await self._opened()).do(talk)

    async def enqueue(self, talk: Talk[int], connection: Any) -> int:
        """Carry out a talk that stores one job, in the connection's transaction where one is given."""
        return await (self.do(talk) if connection is None else self._on(connection, talk))

    async def enqueue_many(self, reader: Reader, connection: Any) -> list[int]:
        """Store jobs, all or none."""
        if connection is None:
            return await self._store(reader)
        copies = can_copy(checked_async_connection(connection))
        talk = self.batches.enqueue(reader) if copies else self.batches.enqueue_without_copy(reader)
        return await self._on(connection, talk)

    async def _store(self, reader: Reader) -> list[int]:
        """Store jobs in a transaction of their own; again where it met another that wants the same keys."""
        for left in range(DEADLOCK_TRIES - 1, -1, -1):
            try:
                return await (await self._opened()).do_as_one(self.batches.enqueue(reader))
            except JobsyncError as error:
                if not (left and was_undone(error) and reader.again()):
                    raise
        raise AssertionError("the last try returns or raises")

    async def _on(self, connection: Any, talk: Talk[R]) -> R:
        checked_async_connection(connection)
        pool = await self._opened()
        if self._schema is None:
            self._schema = await pool.do(self.jobs.schema())
        return await on_borrowed_async(connection, self.prefix, self._schema, talk, pool.apart)

    async def _opened(self) -> AsyncQueuePool:
        self._require_loop()
        if self._pool is None:
            async with self._opening:
                if self._pool is None:
                    self._pool = AsyncQueuePool((await self._found()).place)
        return self._pool

    async def _found(self) -> OpenQueue:
        """Find the place; who is cancelled meanwhile leaves the thread at it, for the next one."""
        if self._finding is None:
            finder = Threads("jobsync-queue", 1)
            self._finding = finder.submit(lambda: OpenQueue(self._settings))
            finder.close()
            assert self._finding is not None
        finding = self._finding
        try:
            return await outcome_of(finding, late_error_level=logging.DEBUG)
        finally:
            if finding.done() and finding.exception() is not None:
                self._finding = None

    def _require_loop(self) -> None:
        running = asyncio.get_running_loop()
        if self._closed:
            raise NotRunning("this AsyncJobQueue is closed: make another")
        if self._loop is None:
            self._loop = running
        elif self._loop is not running:
            raise NotRunning("this AsyncJobQueue was used on another event loop: use it there, or make another here")

    async def close(self) -> None:
        """Close all connections; the desk serves nothing more."""
        self._closed = True
        async with self._opening:
            pool, self._pool = self._pool, None
            finding, self._finding = self._finding, None
            if pool is not None:
                await pool.close()
            if finding is not None:
                finding.add_done_callback(_let_go)


def _let_go(finding: "Future[OpenQueue]") -> None:
    if finding.exception() is None:
        finding.result().close()


async def surely_cancelled(work: Coroutine[Any, Any, R]) -> R:
    """Await the work; when the caller is cancelled, see that the work ends.

    Before Python 3.12 `asyncio.wait_for`, on which the driver waits, loses a cancellation that comes with its result;
    the call would go on as if nothing had been asked, and wait for a lock for as long as it is held.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((task,))
    except asyncio.CancelledError:
        await uncancelled(_end(task))
        raise
    return task.result()


async def _end(task: "asyncio.Task[Any]") -> None:
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=CANCEL_AGAIN_SEC)
    if not task.cancelled():
        task.exception()  # Looked at, so that nobody reports it as lost: the cancellation goes first.
