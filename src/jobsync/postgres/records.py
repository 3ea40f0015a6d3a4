"""Claims and audits as statements: who works on a task, and that it is done.

Within a run a task has one claim and at most one audit, by unique constraints. Without a run a date takes the
run's place for audits, and the newest claim of a date stands.

What has no run lies in one table a day (`make_day`, `drop_day`), so that a day is thrown away as a whole.
"""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, cast

import psycopg
from psycopg import AsyncConnection, Connection

from jobsync.core.errors import JobsyncError, TransactionLost
from jobsync.core.holding import Fence
from jobsync.postgres.pool import session_ended
from jobsync.postgres.statement import Statement, call, run, run_async, statement

SAMPLES = 16


class Records:
    """Makes the statements of one fleet (prefix) for one node."""

    def __init__(self, prefix: str, node: str) -> None:
        self._prefix = prefix
        self._node = node

    def claim(
        self, incarnation: int, day: date, run_name: str | None, items: Sequence[str], tokens: Iterable[int]
    ) -> Statement:
        """Claim tasks; the rows name those that are the caller's now."""
        right = (self._node, incarnation, day, text_array(items), int_array(tokens))
        if run_name is None:
            return statement("claim_by_date", self._prefix, *right)
        return statement("claim_in_run", self._prefix, *right, run_name)

    def claim_fresh(
        self, incarnation: int, day: date, run_name: str | None, items: Sequence[str], tokens: Iterable[int]
    ) -> Statement:
        """Claim tasks that were most likely never claimed, at half the cost.

        The one row is a count: what is missing in it was claimed already, or its token is not held; in a run it is 0
        where any was done already. An error for which `is_duplicate` where that was found out late, and nothing is
        claimed then. Ask `claim` in all these cases.
        """
        right = (self._node, incarnation, day, text_array(items), int_array(tokens))
        if run_name is None:
            return statement("claim_fresh_by_date", self._prefix, *right, _few(items))
        types = ("text", "bigint", "date", "text[]", "integer[]", "text", "text[]")
        return call("claim_fresh_in_run", self._prefix, *right, run_name, _few(items), types=types)

    def release(self, incarnation: int, day: date, run_name: str | None, items: Sequence[str]) -> Statement:
        """Let go of claims that were not audited."""
        kind, scope = ("release_by_date", day) if run_name is None else ("release_in_run", run_name)
        return statement(kind, self._prefix, self._node, incarnation, scope, text_array(items))

    def audit(self, claimed_by: dict[str, int], day: date, run_name: str | None) -> Statement:
        """Record that tasks are done, each by the incarnation that claimed it; in a run the rows name the recorded."""
        items = text_array(list(claimed_by))
        if run_name is None:
            return statement("audit_by_date", self._prefix, self._node, day, items)
        holders = int_array(claimed_by.values())
        return statement("audit_in_run", self._prefix, self._node, items, holders, day, run_name)

    def audit_fresh(self, incarnation: int, items: Sequence[str], day: date, run_name: str | None) -> Statement:
        """Record that tasks are done that were most likely never recorded, at half the cost.

        In a run `incarnation` must have claimed them all and let go of none. The one row is a count: 0 where one of a
        few samples was recorded, or where that registration does not stand any more. An error for which `is_duplicate`
        where any other was recorded. Ask `audit` then.
        """
        if run_name is None:
            return statement("audit_fresh_by_date", self._prefix, self._node, day, text_array(items), _few(items))
        return statement("audit_fresh_in_run", self._prefix, self._node, incarnation, day, run_name, text_array(items))

    def read_audit(self, day: date, run_name: str | None) -> Statement:
        """List what is done: (node, item, date)."""
        if run_name is None:
            return statement("read_audit_by_date", self._prefix, day)
        return statement("read_audit_in_run", self._prefix, run_name)

    def audited_in_run(self, run_name: str, items: Sequence[str]) -> Statement:
        """Ask which of these tasks somebody has done."""
        return statement("audited_in_run", self._prefix, run_name, text_array(items))

    def incomplete(self, day: date, run_name: str | None, older_than_sec: float) -> Statement:
        """List tasks whose claimant is gone and that nobody did."""
        if run_name is None:
            return statement("incomplete_by_date", self._prefix, day, older_than_sec)
        return statement("incomplete_in_run", self._prefix, run_name, older_than_sec)

    def enter_run(self, run_name: str, day: date | None) -> Statement:
        """Fix a run's date, or learn it: one row in any case."""
        return statement("enter_run", self._prefix, run_name, day)

    def make_day(self, day: date) -> Statement:
        """See that a date has tables of its own; the one row says whether it has."""
        return call("make_day", self._prefix, day, types=("date",))

    def drop_day(self) -> Statement:
        """Drop one table of a day that is past its retention: 'dropped', 'busy' or 'nothing'."""
        return call("drop_day", self._prefix)

    def finish(
        self, fence: Fence, token: int, item: str, day: date, run_name: str | None, *, repeat: bool
    ) -> Statement:
        """End a user's transaction: 'done', 'already' or 'lost'."""
        types = ("text", "bigint", "bigint", "integer", "text", "date", "text", "boolean")
        right = (self._node, fence.incarnation, fence.epoch, token)
        return call("finish_task", self._prefix, *right, item, day, run_name, repeat, types=types)


def text_array(items: Sequence[str | None]) -> str:
    """Write texts as an array's literal: many times quicker than having each adapted by itself."""
    if None in items:
        return f"{{{','.join(map(_element, items))}}}"
    texts = cast("Sequence[str]", items)
    if not texts:
        return "{}"
    joined = '","'.join(texts)
    if "\\" in joined or joined.count('"') != 2 * (len(texts) - 1):
        return f"{{{','.join(map(_element, texts))}}}"
    return f'{{"{joined}"}}'


def _element(text: str | None) -> str:
    if text is None:
        return "NULL"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def int_array(numbers: Iterable[int]) -> str:
    """Write numbers as an array's literal."""
    return f"{{{str(list(numbers))[1:-1]}}}"


def is_duplicate(error: JobsyncError) -> bool:
    """Tell whether the database refused a statement since a row was there already."""
    return isinstance(error.__cause__, psycopg.errors.UniqueViolation)


def _few(items: Sequence[str]) -> str:
    return text_array(items[:: max(1, len(items) // SAMPLES)])


def is_usable(conn: Connection[Any] | AsyncConnection[Any]) -> bool:
    """Tell whether the user left the connection open, in a transaction that can commit."""
    return not conn.closed and conn.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS


def end_transaction(conn: Connection[Any], finish: Statement, text: str) -> str:
    """Execute the last statement of a task's transaction and give its outcome."""
    try:
        outcome: str = run(conn, finish)[0][0]
    except psycopg.IntegrityError:
        raise  # A constraint that the user had deferred to this moment.
    except psycopg.Error as error:
        raise _could_not_end(conn, text, error) from error
    return outcome


async def end_transaction_async(conn: AsyncConnection[Any], finish: Statement, text: str) -> str:
    """Do the same on an asynchronous connection."""
    try:
        outcome: str = (await run_async(conn, finish))[0][0]
    except psycopg.IntegrityError:
        raise
    except psycopg.Error as error:
        raise _could_not_end(conn, text, error) from error
    return outcome


def _could_not_end(conn: Connection[Any] | AsyncConnection[Any], text: str, error: psycopg.Error) -> JobsyncError:
    if session_ended(conn, error):
        return TransactionLost(
            f"the transaction of task {text!r} could not be ended, and nothing is written: {str(error).strip()} "
            "(do it again, and long work before the block: the server cuts off a body that idles for over 5 s)"
        )
    return JobsyncError(
        f"the transaction of task {text!r} could not be ended, and nothing is written: {str(error).strip()} "
        "(a body that sets search_path must set it back)"
    )
