"""A worker's own connection: several statements in one round trip and one transaction, rows as cheap as they can be.

Not for other threads than its owner's. A line that broke connects anew at its next use; what was under way then may
have been committed or not, and its caller has to ask.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import Connection, RawCursor
from psycopg.rows import tuple_row
from psycopg.types.numeric import Int8BinaryLoader

from jobsync.core.errors import JobsyncError
from jobsync.postgres.pool import is_away
from jobsync.postgres.session import session_conninfo
from jobsync.postgres.statement import Row, Statement

REFUSED_DATA = ("22", "23", "54")  # A value that cannot be stored, against a constraint, or beyond a limit.


class LineBroken(Exception):  # noqa: N818 - named for what happened
    """The connection is gone; whether the last transaction was committed is unknown."""


class LineRefused(Exception):  # noqa: N818
    """The server refused a statement on a sound connection: nothing of the transaction is written."""

    def __init__(self, error: psycopg.Error) -> None:
        super().__init__(str(error).strip())
        self.is_data = (error.sqlstate or "").startswith(REFUSED_DATA)


class WorkerLine:
    """One connection that is opened when it is needed."""

    def __init__(self, conninfo: str, unavailable: Callable[[str], JobsyncError]) -> None:
        self._conninfo = session_conninfo(conninfo)
        self._unavailable = unavailable
        self._conn: Connection[Any] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the connection stands, as far as is known."""
        return self._conn is not None

    def open(self) -> None:
        """Connect, if it is not connected. Raises DatabaseUnavailable."""
        if self._conn is not None:
            return
        try:
            conn = psycopg.connect(self._conninfo, autocommit=True, prepare_threshold=None)
        except psycopg.OperationalError as error:
            raise self._unavailable(str(error)) from None
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
        try:
            if len(works) == 1:
                return [_rows(_begin(conn, works[0]))]
            # Without BEGIN: what is sent before one Sync is one transaction of the server.
            with conn.pipeline():
                cursors = [_begin(conn, work) for work in works]
            return [_rows(cursor) for cursor in cursors]
        except psycopg.Error as error:
            if conn.closed or conn.broken or is_away(error):
                self.close()
                raise LineBroken(str(error).strip()) from error
            raise LineRefused(error) from error

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


def _begin(conn: Connection[Any], work: Statement) -> RawCursor[Row]:
    cursor = RawCursor(conn, row_factory=tuple_row)
    cursor.execute(work.sql, work.args, prepare=False, binary=True)
    return cursor


def _rows(cursor: RawCursor[Row]) -> list[Row]:
    return cursor.fetchall() if cursor.description else []
