"""The exactly-once path on the application's event loop; see `jobsync.runtime.transactions`, which decides."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from jobsync.postgres.async_pool import AsyncPool
from jobsync.postgres.records import end_transaction_async, is_usable
from jobsync.runtime.transactions import OwnedWork


@asynccontextmanager
async def owned_transaction_async(work: OwnedWork, pool: AsyncPool) -> AsyncIterator[Any]:
    """Lend an asynchronous psycopg connection in a transaction that commits only with the task's audit.

    Raises OwnershipLost and AlreadyDone as `owned_transaction` does. A cancelled body is rolled back.
    """
    work.node.hands.take(work.token)
    try:
        fence = work.required_fence()
        async with pool.transaction() as conn:
            yield conn
            if not is_usable(conn):
                raise work.over_too_soon()
            work.require_done(await end_transaction_async(conn, work.finish(fence), work.text))
    finally:
        work.node.hands.put_back(work.token)
