"""A worker's own connection: several statements in one round trip and one transaction, rows as cheap as they can be.

Not for other threads than its owner's. A line that broke connects anew at its next use; what was under way then may
have been committed or not, and its caller has to ask.

Whatever is said on it has a deadline on this side, after which the connection is abandoned: where packets are dropped
without a word, the system would wait for a minute. The server is asked to give the statement up, so that those which
wait for a lock do not pile up there. Every deadline that was missed doubles the next one: what only takes long is done
in the end.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

import psycopg
from psycopg import Connection, RawCursor
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import tuple_row
from psycopg.types.numeric import Int8BinaryLoader

from jobsync.core.errors import JobsyncError
from jobsync.postgres.pool import is_away
from jobsync.postgres.session import session_conninfo
from jobsync.postgres.statement import Row, Statement

R = TypeVar("R")

DEADLINE_SEC: Final = 10.0
MOST_DOUBLINGS: Final = 3
CANCEL_SEC: Final = 1.0
LATE: Final = "the database did not answer in time, and the connection to it was abandoned"
REFUSED_DATA = ("22", "23", "54")  # A value that cannot be stored, against a constraint, or beyond a limit.


class LineBroken(Exception):  # noqa: N818 - named for what happened
    """The connection is gone; whether the last transaction was committed is unknown."""


class LineRefused(Exception):  # noqa: N818
    """The server refused a statement on a sound connection: nothing of the transaction is written."""

    def __init__(self, error: psycopg.Error) -> None:
        super().__init__(str(error).strip())
        self.is_data = (error.sqlstate or "").startswith(REFUSED_DATA)


class Punctual(Connection[Any]):
    """A connection on which no wait lasts beyond `until_sec`; `is_late` tells that one would have."""

    until_sec = float("inf")
    is_late = False
    clock: Callable[[], float]

    def wait(self, gen: PQGen[R], *args: Any, **kwargs: Any) -> R:
        """Wait as every connection does, and raise an error at the deadline."""
        return super().wait(self._in_time(gen), *args, **kwargs)

    def _in_time(self, gen: PQGen[R]) -> PQGen[R]:
        """Go on as `gen` does. While nothing arrives the driver looks in ten times a second, with nothing to give."""
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and self.clock() >= self.until_sec:
                    self.is_late = True
                    raise psycopg.OperationalError(LATE)
                wanted = gen.send(ready)
        except StopIteration as end:
            result: R = end.value
            return result


class WorkerLine:
    """One connection that is opened when it is needed; `clock` gives seconds, by which deadlines are kept."""

    def __init__(self, conninfo: str, unavailable: Callable[[str], JobsyncError], clock: Callable[[], float]) -> None:
        given = conninfo_to_dict(session_conninfo(conninfo))
        self._conninfo = make_conninfo("", **{"connect_timeout": int(DEADLINE_SEC), **given})
        self._unavailable = unavailable
        self._clock = clock
        self._conn: Punctual | None = None
        self._missed = 0  # Deadlines, one after the other.

    @property
    def is_open(self) -> bool:
        """Whether the connection stands, as far as is known."""
        return self._conn is not None

    def open(self) -> None:
        """Connect, if it is not connected. Raises DatabaseUnavailable."""
        if self._conn is not None:
            return
        try:
            conn = Punctual.connect(self._conninfo, autocommit=True, prepare_threshold=None)
        except psycopg.OperationalError as error:
            raise self._unavailable(str(error)) from None
        conn.clock = self._clock
        # Instants stay the numbers that they are on the wire: hardly any handler asks when its job was created.
        conn.adapters.register_loader("timestamptz", Int8BinaryLoader)
        self._conn = conn

    def run(self, *works: Statement) -> list[list[Row]]:
        """Execute statements in one round trip and one transaction; give the rows of each.

        Raises LineBroken or LineRefused, and DatabaseUnavailable where it had to connect and could not.
        """
        self.open()
        conn = self._conn
        assert conn is not None
        conn.until_sec = self._clock() + DEADLINE_SEC * 2 ** min(self._missed, MOST_DOUBLINGS)
        try:
            answers = _say(conn, works)
        except psycopg.Error as error:
            if conn.is_late:  # The end of a pipeline may have put an error of its own in place of that one.
                self._missed += 1
                self._abandon(conn)
                raise LineBroken(LATE) from error
            if conn.closed or conn.broken or is_away(error):
                self.close()
                raise LineBroken(str(error).strip()) from error
            raise LineRefused(error) from error
        self._missed = 0
        return answers

    def _abandon(self, conn: Punctual) -> None:
        if psycopg.capabilities.has_cancel_safe():  # What older libraries do may itself wait for a minute.
            with suppress(psycopg.Error):
                conn.cancel_safe(timeout=CANCEL_SEC)
        self.close()

    def close(self) -> None:
        """End the connection."""
        conn, self._conn = self._conn, None
        if conn is not None:
            with suppress(psycopg.Error):
                conn.close()

    def disown(self) -> None:
        """In a forked child: let go of the descriptor without a word to the server, for it is the parent's."""
        conn, self._conn = self._conn, None
        if conn is not None:
            with suppress(Exception):  # It may be closed already; a child has nothing to lose.
                os.close(conn.fileno())


def _say(conn: Connection[Any], works: Sequence[Statement]) -> list[list[Row]]:
    if len(works) == 1:
        return [_rows(_begin(conn, works[0]))]
    # Without BEGIN: what is sent before one Sync is one transaction of the server.
    with conn.pipeline():
        cursors = [_begin(conn, work) for work in works]
    return [_rows(cursor) for cursor in cursors]


def _begin(conn: Connection[Any], work: Statement) -> RawCursor[Row]:
    cursor = RawCursor(conn, row_factory=tuple_row)
    cursor.execute(work.sql, work.args, prepare=False, binary=True)
    return cursor


def _rows(cursor: RawCursor[Row]) -> list[Row]:
    return cursor.fetchall() if cursor.description else []
