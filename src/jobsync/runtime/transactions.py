"""The exactly-once path: the user's writes and the audit of the task commit together, or not at all.

Whether the task is still this node's is decided at the end, by locks in the database and by no clock: the last
statement before COMMIT holds the grant until the transaction ends, so neither a hand-over nor a fence can pass it.
A hand-over of the token waits for the body, and a fence for the commit; both waits are bounded.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jobsync.core.errors import AlreadyDone, JobsyncError, OwnershipLost
from jobsync.core.holding import Fence
from jobsync.core.messages import Fact, FactKind
from jobsync.postgres.records import Records, end_transaction, is_usable
from jobsync.postgres.statement import Statement
from jobsync.runtime.ledger import Ledger
from jobsync.runtime.node import Node


@dataclass(frozen=True, slots=True)
class OwnedWork:
    """One task's way through a transaction: what is decided before its body, and after.

    `find_fence` gives the right under which the task was taken up, at the instant of asking; None: it is not this
    node's. A task in hand keeps its fence while its token is handed over, since the hand-over waits for the body: the
    database decides at the end.
    """

    node: Node
    ledger: Ledger
    records: Records
    text: str
    token: int
    find_fence: Callable[[], Fence | None]
    repeat: bool

    def required_fence(self) -> Fence:
        """Give the right to do the task, or raise OwnershipLost before anything is begun.

        To be asked with the token in hand: a hand-over that begins after the answer waits for the body then.
        """
        fence = self.find_fence()
        if fence is None:
            raise OwnershipLost(
                f"task {self.text!r} is not node {self.node.name!r}'s (token {self.token}): its owner does it; "
                "go on to the next"
            )
        return fence

    def finish(self, fence: Fence) -> Statement:
        """Make the last statement before COMMIT; its outcome is for `require_done`."""
        day, run_name = self.ledger.day, self.ledger.run_name
        return self.records.finish(fence, self.token, self.text, day, run_name, repeat=self.repeat)

    def over_too_soon(self) -> JobsyncError:
        """Say that the body left no transaction to commit."""
        return JobsyncError(
            f"the transaction of task {self.text!r} is over: its connection was closed, committed or broken inside "
            "the block; leave commit and rollback to job.transaction"
        )

    def require_done(self, outcome: str) -> None:
        """Raise what rolls the transaction back, unless the last statement said that the task is done by it."""
        if outcome == "lost":
            text = f"node {self.node.name!r}: a transaction of task {self.text!r} was refused: the task was lost"
            self.node.say(Fact(FactKind.WRITE_REFUSED, text, "debug"))
            raise OwnershipLost(
                f"task {self.text!r} was lost to another node while {self.node.name!r} worked on it: nothing is "
                "written; its new owner does it"
            )
        if outcome == "already":
            run_name = self.ledger.run_name
            scope = f"in run {run_name!r}" if run_name is not None else f"for {self.ledger.day}"
            raise AlreadyDone(
                f"task {self.text!r} is done already {scope}: nothing is written; pass repeat=True for work that "
                "repeats"
            )


@contextmanager
def owned_transaction(work: OwnedWork) -> Iterator[Any]:
    """Lend a psycopg connection in a transaction that commits only with the task's audit.

    Raises OwnershipLost when the token (in a run: or the claim) is not this node's, AlreadyDone when the task is
    audited already and may not repeat; in both cases nothing is written.
    """
    work.ledger.see_to_day()
    work.node.hands.take(work.token)
    try:
        fence = work.required_fence()
        with work.node.transactions.transaction() as conn:
            yield conn
            if not is_usable(conn):
                raise work.over_too_soon()
            work.require_done(end_transaction(conn, work.finish(fence), work.text))
    finally:
        work.node.hands.put_back(work.token)
