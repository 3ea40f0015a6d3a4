"""The transaction in which a job's writes and its `done` commit together, for threads and for coroutines."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any

from jobsync.core.errors import JobsyncError, LeaseLost
from jobsync.core.queue.new_job import payload_text
from jobsync.core.queue.states import DONE
from jobsync.postgres.async_loans import AsyncLoans
from jobsync.postgres.leases import Leases
from jobsync.postgres.pool import Pool
from jobsync.postgres.records import end_transaction, end_transaction_async, is_usable
from jobsync.postgres.statement import Statement
from jobsync.runtime.worker.running_job import RunningJob


class JobTransaction:
    """Lends a psycopg connection, by `with` or (an asynchronous one) by `async with`, in a transaction of one job.

    At the end of the block the job's `done` is written in it, with `result`, which the block may set, and both commit
    together; or nothing is written. Raises LeaseLost where the job is no longer this attempt's. An error within the
    block undoes it and goes on, and so do psycopg's own errors at COMMIT: then the job is not told as done, whatever
    its handler makes of the error. For one block.
    """

    def __init__(self, job: RunningJob, leases: Leases, pool: Pool, loans: AsyncLoans, result: object) -> None:
        self.result = result
        self._job = job
        self._leases = leases
        self._pool = pool
        self._loans = loans
        self._way: AbstractContextManager[Any] | None = None
        self._async_way: AbstractAsyncContextManager[Any] | None = None
        self._finish()  # A result that cannot be stored is refused before anything is done.

    def __enter__(self) -> Any:
        self._way = self._lent()
        return self._way.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._way is not None
        return self._way.__exit__(kind, error, trace)

    async def __aenter__(self) -> Any:
        self._async_way = self._lent_async()
        return await self._async_way.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._async_way is not None
        return await self._async_way.__aexit__(kind, error, trace)

    @contextmanager
    def _lent(self) -> Iterator[Any]:
        self._begin()
        body_is_over = is_done = False
        try:
            with self._pool.connection() as conn:
                with conn.transaction():
                    yield conn
                    body_is_over = True
                    self._require_open(is_open=is_usable(conn))
                    self._require_mine(is_mine=bool(end_transaction(conn, self._finish(), repr(self._job))))
                    is_done = True
                # Not so where the body asked for a rollback (psycopg.Rollback): then the handler's return is the end.
                self._job.has_ended = is_done
        except BaseException as error:
            self._note(error, body_is_over=body_is_over)
            raise

    @asynccontextmanager
    async def _lent_async(self) -> AsyncIterator[Any]:
        self._begin()
        body_is_over = is_done = False
        try:
            async with self._loans.connection() as conn:
                async with conn.transaction():
                    yield conn
                    body_is_over = True
                    self._require_open(is_open=is_usable(conn))
                    ended = await end_transaction_async(conn, self._finish(), repr(self._job))
                    self._require_mine(is_mine=bool(ended))
                    is_done = True
                self._job.has_ended = is_done
        except BaseException as error:
            self._note(error, body_is_over=body_is_over)
            raise

    def _begin(self) -> None:
        self._job.raise_if_lost()
        if self._job.has_ended:
            raise LeaseLost(f"{self._job!r} has ended already: nothing is written")

    def _finish(self) -> Statement:
        text = None if self.result is None else payload_text(self.result)
        return self._leases.end(self._job.as_attempt(), DONE, result=text)

    def _require_open(self, *, is_open: bool) -> None:
        self._job.is_plain = False  # From here on it may have ended.
        self._job.is_ending = True
        if not is_open:
            raise JobsyncError(
                f"the transaction of {self._job!r} is over: its connection was closed, committed or broken inside the "
                "block; leave commit and rollback to worker.transaction"
            )

    def _require_mine(self, *, is_mine: bool) -> None:
        if not is_mine:
            self._job.lose()
            raise LeaseLost(f"{self._job!r} is no longer this attempt's: nothing is written; its handler should stop")

    def _note(self, error: BaseException, *, body_is_over: bool) -> None:
        self._job.is_ending = False
        if body_is_over and not self._job.has_ended:
            self._job.is_plain = False
            self._job.uncommitted = error
