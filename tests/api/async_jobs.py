"""What tests of `AsyncJob` share: a bounded run, a bounded wait, a job of small quick settings."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg

from jobsync.runtime.clock import boot_sec
from tests.api.jobs import LIMIT_SEC, query

R = TypeVar("R")


def run_async(body: Coroutine[Any, Any, R], *, limit_sec: float = 60.0) -> R:
    """Run a test's body on a loop of its own; fail when it takes too long."""

    async def bounded() -> R:
        async with asyncio.timeout(limit_sec):
            return await body

    return asyncio.run(bounded())


async def eventually(condition: Callable[[], object], what: str = "", *, limit_sec: float = LIMIT_SEC) -> None:
    """Wait until the condition holds, letting the loop run; fail when it still does not after the limit."""
    until_sec = boot_sec() + limit_sec
    while not condition():
        assert boot_sec() < until_sec, f"not within {limit_sec:g} s: {what or condition}"
        await asyncio.sleep(0.003)


async def cancelled(task: "asyncio.Task[Any]") -> None:
    """Cancel a task and see that it ends as cancelled."""
    task.cancel()
    await asyncio.wait((task,))
    assert task.cancelled()


class HeldClaims:
    """Keeps every claim of a fleet waiting in the database until it is let go."""

    def __init__(self, dsn: str, prefix: str) -> None:
        self._dsn, self._table = dsn, f"{prefix}claim"
        self._conn = psycopg.connect(dsn)
        self._conn.execute(f"lock table {self._table} in share row exclusive mode".encode())

    def is_waited_for(self) -> bool:
        """Tell whether somebody waits here to claim."""
        text = "select 1 from pg_locks where not granted and starts_with(relation::regclass::text, %s)"
        return bool(query(self._dsn, text, self._table))

    def let_go(self) -> None:
        """Let claims through."""
        self._conn.close()


@contextmanager
def held_claims(dsn: str, prefix: str) -> Iterator[HeldClaims]:
    """Hold claims up; at the end they are let go."""
    held = HeldClaims(dsn, prefix)
    try:
        yield held
    finally:
        held.let_go()
