"""Claims and audits as statements: who works on a task, and that it is done.

Within a run a task has one claim and at most one audit, by unique constraints. Without a run a date takes the
run's place for audits, and the newest claim of a date stands.
"""

from datetime import date
from typing import Any

import psycopg
from psycopg import AsyncConnection, Connection

from jobsync.core.errors import JobsyncError
from jobsync.core.holding import Fence
from jobsync.postgres.statement import Statement, call, run, run_async, statement


class Records:
    """Makes the statements of one fleet (prefix) for one node."""

    def __init__(self, prefix: str, node: str) -> None:
        self._prefix = prefix
        self._node = node

    def claim(
        self, incarnation: int, day: date, run_name: str | None, items: list[str], tokens: list[int]
    ) -> Statement:
        """Claim tasks; the rows name those that are the caller's now."""
        if run_name is None:
            return statement("claim_by_date", self._prefix, self._node, incarnation, day, items, tokens)
        return statement("claim_in_run", self._prefix, self._node, incarnation, day, items, tokens, run_name)

    def release(self, incarnation: int, day: date, run_name: str | None, items: list[str]) -> Statement:
        """Let go of claims that were not audited."""
        return statement("release_claims", self._prefix, self._node, incarnation, day, items, run_name)

    def audit(self, claimed_by: dict[str, int], day: date, run_name: str | None) -> Statement:
        """Record that tasks are done, each by the incarnation that claimed it; in a run the rows name the recorded."""
        items = list(claimed_by)
        if run_name is None:
            return statement("audit_by_date", self._prefix, self._node, day, items)
        return statement("audit_in_run", self._prefix, self._node, items, list(claimed_by.values()), day, run_name)

    def read_audit(self, day: date, run_name: str | None) -> Statement:
        """List what is done: (node, item, date)."""
        return statement("read_audit", self._prefix, day, run_name)

    def audited_in_run(self, run_name: str, items: list[str]) -> Statement:
        """Ask which of these tasks somebody has done."""
        return statement("audited_in_run", self._prefix, run_name, items)

    def incomplete(self, day: date, run_name: str | None, older_than_sec: float) -> Statement:
        """List tasks whose claimant is gone and that nobody did."""
        return statement("incomplete_tasks", self._prefix, day, run_name, older_than_sec)

    def enter_run(self, run_name: str, day: date | None) -> Statement:
        """Fix a run's date, or learn it."""
        return statement("enter_run", self._prefix, run_name, day)

    def finish(
        self, fence: Fence, token: int, item: str, day: date, run_name: str | None, *, repeat: bool
    ) -> Statement:
        """End a user's transaction: 'done', 'already' or 'lost'."""
        types = ("text", "bigint", "bigint", "integer", "text", "date", "text", "boolean")
        right = (self._node, fence.incarnation, fence.epoch, token)
        return call("finish_task", self._prefix, *right, item, day, run_name, repeat, types=types)


def is_usable(conn: Connection[Any] | AsyncConnection[Any]) -> bool:
    """Tell whether the user left the connection open, in a transaction that can commit."""
    return not conn.closed and conn.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS


def end_transaction(conn: Connection[Any], finish: Statement, text: str) -> str:
    """Execute the last statement of a task's transaction and give its outcome."""
    try:
        outcome: str = run(conn, finish)[0][0]
    except psycopg.Error as error:
        raise _could_not_end(text, error) from error
    return outcome


async def end_transaction_async(conn: AsyncConnection[Any], finish: Statement, text: str) -> str:
    """Do the same on an asynchronous connection."""
    try:
        outcome: str = (await run_async(conn, finish))[0][0]
    except psycopg.Error as error:
        raise _could_not_end(text, error) from error
    return outcome


def _could_not_end(text: str, error: psycopg.Error) -> JobsyncError:
    return JobsyncError(
        f"the transaction of task {text!r} could not be ended, and nothing is written: {str(error).strip()} "
        "(the server cuts off a body that idles for over 5 s; one that sets search_path must set it back)"
    )
