"""A database operation as a value: SQL from a file, its arguments, and the shape of its rows.

The `.sql` files bear the default prefix `sync_` and are valid SQL as they stand; another prefix takes its place when
they are loaded. A statement uses PostgreSQL's own `$1` placeholders, so the same text runs on a psycopg connection
(`run`, `run_async`) and, without waiting inside libpq, on the node's own session (`jobsync.postgres.session`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection, AsyncRawCursor, Connection, RawCursor
from psycopg.rows import namedtuple_row, tuple_row

Row = tuple[Any, ...]
SQL_HOME = Path(__file__).parent  # Not importlib.resources, which takes as long to load as a small fleet to be asked.
_PREFIX = re.compile(r"\bsync_")


@lru_cache(maxsize=512)
def load_sql(folder: str, name: str, prefix: str) -> str:
    """Read `folder/name.sql` with the fleet's prefix in place of `sync_`."""
    text = (SQL_HOME / folder / f"{name}.sql").read_text(encoding="utf-8")
    return _PREFIX.sub(prefix.lower(), text)  # PostgreSQL folds unquoted names, but not the names of channels.


@dataclass(frozen=True, slots=True)
class Statement:
    """One operation: its SQL with `$1` placeholders, and the arguments."""

    sql: str
    args: tuple[Any, ...] = ()


def statement(name: str, prefix: str, *args: object) -> Statement:
    """Make a statement of `statements/name.sql`."""
    return Statement(load_sql("statements", name, prefix), args)


def call(function: str, prefix: str, *args: object, types: Sequence[str] = ()) -> Statement:
    """Make a statement that calls one of the schema's functions and gives its columns."""
    marks = ", ".join(f"${i}::{kind}" for i, kind in enumerate(types, start=1))
    return Statement(f"select * from {prefix}{function}({marks})", args)


def run(conn: Connection[Any], work: Statement) -> list[Row]:
    """Execute a statement on a psycopg connection and give its rows."""
    with RawCursor(conn, row_factory=tuple_row) as cursor:
        cursor.execute(work.sql, work.args, prepare=False)
        return cursor.fetchall() if cursor.description else []


def run_named(conn: Connection[Any], work: Statement) -> list[Any]:
    """Execute a statement and give its rows with their columns' names."""
    with RawCursor(conn, row_factory=namedtuple_row) as cursor:
        cursor.execute(work.sql, work.args, prepare=False)
        return cursor.fetchall() if cursor.description else []


async def run_async(conn: AsyncConnection[Any], work: Statement) -> list[Row]:
    """Execute a statement on an asynchronous psycopg connection and give its rows."""
    async with AsyncRawCursor(conn, row_factory=tuple_row) as cursor:
        await cursor.execute(work.sql, work.args, prepare=False)
        return await cursor.fetchall() if cursor.description else []
