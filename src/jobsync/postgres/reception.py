"""The first visit to a database: is it there, may we in, does the schema stand, what date is it.

Made on a connection of its own before a node's engine starts, so that whatever is wrong is told at once, in the
words of whoever asked, and never with a password in it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from jobsync.core.errors import (
    MASK,
    DatabaseUnavailable,
    InvalidSettings,
    JobsyncError,
    passwords_in,
    redact,
    shown_conninfo,
)
from jobsync.core.settings import Settings
from jobsync.postgres.schema import ensure_schema, installed, refuse_misfit, refuse_missing
from jobsync.postgres.statement import Statement, run

CONNECT_TIMEOUT_SEC = 10


@dataclass(frozen=True, slots=True)
class Place:
    """Where the database is: a conninfo for connecting, and how to name it without the password."""

    conninfo: str = field(repr=False)
    shown: str
    secrets: tuple[str, ...] = field(repr=False)

    def unavailable(self, reason: str) -> JobsyncError:
        """Say that the database cannot be reached, naming host, port and database, never the password."""
        return DatabaseUnavailable(
            f"no connection to {self.shown}: {redact(reason.strip(), self.secrets)}; check that the server runs, and "
            "the host, port, database, user and password given"
        )


def place_of(settings: Settings, dsn: str | None) -> Place:
    """Make the place of a DSN, or of the five single fields where there is none."""
    pieces = passwords_in(dsn or "")
    try:
        if dsn is None:
            given: dict[str, Any] = {
                "host": settings.host,
                "port": settings.port,
                "dbname": settings.dbname,
                "user": settings.user,
                "password": settings.password,
            }
        else:
            given = dict(conninfo_to_dict(dsn))
    except psycopg.Error as error:
        told = redact(str(error), (settings.password, dsn, *pieces))
        raise InvalidSettings(f"dsn is no valid connection string: {told}") from None
    given.setdefault("connect_timeout", CONNECT_TIMEOUT_SEC)
    # Left to itself the session takes the database's own: with SQL_ASCII, psycopg gives every text as bytes.
    given["client_encoding"] = "utf8"
    secrets = (*(str(given[key]) for key in ("password", "sslpassword") if given.get(key)), *pieces)
    where = f"{given.get('host', 'the local socket')}:{given.get('port', 5432)}"
    shown = f"PostgreSQL at {where}, database {given.get('dbname')!r}, user {given.get('user')!r}"
    if dsn is not None and shown_conninfo(dsn) == MASK:
        # A password with an @ or / that was not encoded: libpq takes a part of it for the host or the database.
        shown = redact(shown, pieces)
    return Place(make_conninfo("", **given), shown, secrets)


def connect(place: Place) -> Connection[Any]:
    """Open one autocommit connection; what goes wrong in reaching the server is a DatabaseUnavailable."""
    try:
        return psycopg.connect(place.conninfo, autocommit=True, prepare_threshold=None)
    except psycopg.OperationalError as error:
        raise place.unavailable(str(error)) from None


@contextmanager
def visiting(place: Place) -> Iterator[Connection[Any]]:
    """Open one autocommit connection for a while."""
    with connect(place) as conn:
        yield conn


def receive(place: Place, prefix: str) -> date:
    """See that the schema stands, creating it if need be, and give the database's date."""
    with visiting(place) as conn:
        ensure_schema(conn, prefix)
        today = run(conn, Statement("select current_date"))[0][0]
        assert isinstance(today, date)
        return today


def look_in(place: Place, prefix: str) -> None:
    """See that the schema stands and fits, and make nothing. Raises SchemaError where it does not."""
    with visiting(place) as conn:
        found = installed(conn, prefix)
        refuse_missing(found, prefix, place.shown)
        refuse_misfit(found, prefix)
