"""The exactly-once path: the user's writes and the audit of the task commit together, or not at all.

Whether the task is still this node's is decided at the end, by locks in the database and by no clock: the last
statement before COMMIT holds the grant until the transaction ends, so neither a hand-over nor a fence can pass it.
A hand-over of the token waits for the body, and a fence for the commit; both waits are bounded.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jobsync.core.errors import AlreadyDone, JobsyncError, OwnershipLost
from jobsync.core.holding import Fence
from jobsync.postgres.records import Records, end_transaction, is_usable
from jobsync.runtime.ledger import Ledger
from jobsync.runtime.node import Node


@contextmanager
def owned_transaction(
    node: Node, ledger: Ledger, records: Records, *, text: str, token: int, fence: Fence | None, repeat: bool
) -> Iterator[Any]:
    """Lend a psycopg connection in a transaction that commits only with the task's audit.

    `fence` is the right under which the task was taken up; None: it is not this node's. A task in hand keeps its fence
    while its token is handed over, since the hand-over waits for the body: the database decides at the end.
    Raises OwnershipLost when the token (in a run: or the claim) is not this node's, AlreadyDone when the task is
    audited already and `repeat` is False; in both cases nothing is written.
    """
    if fence is None:
        raise OwnershipLost(
            f"task {text!r} is not node {node.name!r}'s (token {token}): its owner does it; go on to the next"
        )
    node.hands.take(token)
    try:
        with node.transactions.transaction() as conn:
            yield conn
            if not is_usable(conn):
                raise JobsyncError(
                    f"the transaction of task {text!r} is over: its connection was closed, committed or broken inside "
                    "the block; leave commit and rollback to job.transaction"
                )
            finish = records.finish(fence, token, text, ledger.day, ledger.run_name, repeat=repeat)
            outcome = end_transaction(conn, finish, text)
            _refuse(outcome, node.name, text, ledger)
    finally:
        node.hands.put_back(token)


def _refuse(outcome: str, node: str, text: str, ledger: Ledger) -> None:
    if outcome == "lost":
        raise OwnershipLost(
            f"task {text!r} was lost to another node while {node!r} worked on it: nothing is written; "
            "its new owner does it"
        )
    if outcome == "already":
        scope = f"in run {ledger.run_name!r}" if ledger.run_name is not None else f"for {ledger.day}"
        raise AlreadyDone(
            f"task {text!r} is done already {scope}: nothing is written; pass repeat=True for work that repeats"
        )
