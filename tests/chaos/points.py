"""Named points inside the exactly-once path at which a worker process holds still, to be killed or woken there.

Nothing of this is in the product: functions of it are wrapped, in the worker process alone. Where a point is armed,
the process tells its starter that it has come there, on standard output, and then either hangs in the one thread that
came there (the node goes on beating, and is killed later) or stops the whole process by SIGSTOP.
"""

import signal
import threading
from collections.abc import Callable
from typing import Any

import psycopg

from jobsync.api.loop_desk import LoopDesk
from jobsync.postgres.pool import Pool
from jobsync.runtime import transactions
from jobsync.runtime.ledger import Ledger

# In the order in which a task comes by them.
BEFORE_TRANSACTION = "before the transaction"
IN_BODY = "in the body"
AFTER_LAST_STATEMENT = "after the last statement"
BEFORE_COMMIT = "between finish and COMMIT"
COMMIT_SENT = "between COMMIT and its reply"
AFTER_COMMIT = "after COMMIT"
BEFORE_RELEASE = "before a release"
AFTER_RELEASE = "after a release"
IN_HANDOVER = "in a hand-over"


class Points:
    """Holds the process still where it is armed, once."""

    def __init__(self, say: Callable[..., None]) -> None:
        self._say = say
        self._point: str | None = None
        self._after = 0
        self._stops = False

    def arm(self, point: str, *, after: int, stops: bool) -> None:
        """Hold still at the point when it is come by for the time number `after`, counted from 0."""
        self._after, self._stops, self._point = after, stops, point

    def reach(self, point: str) -> None:
        """Say that the point is reached; hold still if it is armed and due."""
        if point != self._point:
            return
        if self._after:
            self._after -= 1
            return
        self._point = None
        self._say(reached=point)
        if self._stops:
            # Sent to this very thread, which then goes no step further; the whole process stops with it.
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        else:
            threading.Event().wait()

    def wrap(self) -> None:
        """Put the points that lie inside jobsync into their places."""
        self._around(transactions, "end_transaction", after=BEFORE_COMMIT)
        self._around(psycopg.Transaction, "__exit__", after=AFTER_COMMIT)
        self._send_commit_first()
        self._around(Ledger, "release", before=BEFORE_RELEASE, after=AFTER_RELEASE)

    def _send_commit_first(self) -> None:
        """Where it is armed, send the COMMIT and hold still before anything of its reply is read."""
        leave = psycopg.Transaction.__exit__

        def wrapped(transaction: psycopg.Transaction, *error: Any) -> Any:
            if self._point == COMMIT_SENT and not self._after and error[0] is None:
                pgconn = transaction.connection.pgconn
                pgconn.send_query(b"COMMIT")
                pgconn.flush()
                self.reach(COMMIT_SENT)
                while pgconn.get_result():
                    pass  # The COMMIT that follows finds no transaction, which is a warning of the server's.
            else:
                self.reach(COMMIT_SENT)
            return leave(transaction, *error)

        psycopg.Transaction.__exit__ = wrapped  # type: ignore[method-assign]

    def _around(self, owner: Any, name: str, *, before: str = "", after: str = "") -> None:
        original = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.reach(before)
            result = original(*args, **kwargs)
            self.reach(after)
            return result

        setattr(owner, name, wrapped)


def claim_everything() -> None:
    """Break the rule on purpose: whoever owns a token may claim its tasks, whoever has or had them."""
    claim_now = Ledger.claim_now

    def for_anybody(self: Ledger, items: list[str], *given: Any) -> set[str]:
        claim_now(self, items, *given)
        return set(items)

    Ledger.claim_now = for_anybody  # type: ignore[assignment, method-assign]
    LoopDesk.claim_stands = lambda self, text, incarnation: True  # type: ignore[method-assign]


def forget_the_transaction() -> None:
    """Break the rule on purpose: every statement of the user's is committed for itself."""

    def transaction(self: Pool) -> Any:
        return self.connection()

    Pool.transaction = transaction  # type: ignore[method-assign]
    transactions.is_usable = lambda conn: True  # type: ignore[attr-defined]
