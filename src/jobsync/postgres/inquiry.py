"""One connection for people who look at a fleet and steer it, with every error in the words of this package.

Whoever asks runs no node: nothing is registered and nothing waits. A snapshot is one transaction of its own, so that
what it shows of nodes, tokens and history belongs to one instant.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import Connection

from jobsync.core.errors import JobsyncError, SchemaError, redact
from jobsync.postgres.reception import Place, visiting
from jobsync.postgres.schema import Installed, ensure_schema, finish_schema, installed
from jobsync.postgres.statement import Row, Statement, run


class Inquiry:
    """Statements on one autocommit connection; make it with `inquire`. Not for use by two threads at once."""

    def __init__(self, conn: Connection[Any], place: Place) -> None:
        self._conn = conn
        self._place = place

    def run(self, work: Statement) -> list[Row]:
        """Execute one statement. Raises DatabaseUnavailable, SchemaError or JobsyncError, without passwords."""
        with self._translated():
            return run(self._conn, work)

    def is_direct(self, backend_pid: int, client_port: int | None) -> bool:
        """Tell whether the backend that answered is the one that was connected to, through no pooler or proxy."""
        from jobsync.postgres.session import leads_straight_to  # noqa: PLC0415 - of all who inquire, only the doctor asks

        own_pid = self._conn.pgconn.backend_pid
        return leads_straight_to(backend_pid, client_port, own_pid=own_pid, fileno=self._conn.fileno())

    def hear_itself(self, channel: str, within_sec: float) -> bool:
        """Listen to a channel, notify it, and tell whether that arrived. The channel's name is the caller's own."""
        with self._translated():
            run(self._conn, Statement(f'listen "{channel}"'))
            run(self._conn, Statement("select pg_notify($1::text, '')", (channel,)))
            heard = next(self._conn.notifies(timeout=within_sec, stop_after=1), None)
            run(self._conn, Statement(f'unlisten "{channel}"'))
        return heard is not None

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let all statements inside the block see one instant; they may only read."""
        with self._translated(), self._conn.transaction():
            run(self._conn, Statement("set transaction isolation level repeatable read, read only"))
            yield

    def schema(self, prefix: str) -> Installed:
        """Tell how far the schema in the database is; its version is 0 if there is none."""
        with self._translated():
            return installed(self._conn, prefix)

    def migrate(self, prefix: str) -> bool:
        """Bring the schema up to this program's version; True if anything was done."""
        with self._translated():
            return ensure_schema(self._conn, prefix)

    def finish_migration(self, prefix: str) -> bool:
        """Take away what only older programs need; True if there was anything."""
        with self._translated():
            return finish_schema(self._conn, prefix)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except psycopg.OperationalError as error:
            raise self._place.unavailable(str(error)) from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise SchemaError(
                f"{self._told(error)}: ask on {self._place.shown}, as a role that may read the fleet's tables"
            ) from error
        except psycopg.Error as error:
            raise JobsyncError(f"{self._place.shown} refused a statement: {self._told(error)}") from error

    def _told(self, error: psycopg.Error) -> str:
        return redact(str(error).strip().partition("\n")[0], self._place.secrets)


@contextmanager
def inquire(place: Place) -> Iterator[Inquiry]:
    """Open a connection for as long as the block runs. Raises DatabaseUnavailable naming the place."""
    with visiting(place) as conn:
        yield Inquiry(conn, place)
