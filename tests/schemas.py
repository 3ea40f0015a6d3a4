"""Schemas that serve one test after the other: a test gets tables as new, and what it leaves is emptied for the next.

To create and drop some thirty tables and eighty functions costs more CPU than most tests that play with them. A schema
serves again only if nothing can tell: its catalogue entries are those that it was created with, no session is left that
has to do with it, and every file that a table has grown is cut off, so that plans and orders of rows are those of new
tables. A schema of which one of these is not so is dropped.
"""

import json
from time import monotonic, sleep
from typing import Any

import psycopg
from psycopg import Connection, sql

from jobsync.postgres.schema import ensure_schema

MOST_USES = 50
SESSIONS_END_WITHIN_SEC = 2.0

# Who made an entry, and when, is in its xmin. That of a table changes when its file does; what says more is listed.
_ENTRIES = """
with marked as (select oid from pg_class where starts_with(relname, %(prefix)s))
select md5(string_agg(entry, ' ' order by entry)) from (
    select concat_ws(':', c.oid, relname, relkind, relnatts, relchecks, relhastriggers, relhasrules, relacl, reloptions,
                     relowner, relnamespace, relrowsecurity, relispartition) as entry
      from pg_class c join marked using (oid)
    union all select concat_ws(':', attrelid, attnum, a.xmin) from pg_attribute a join marked on attrelid = marked.oid
    union all select concat_ws(':', d.oid, d.xmin) from pg_attrdef d join marked on adrelid = marked.oid
    union all select concat_ws(':', k.oid, k.xmin) from pg_constraint k join marked on conrelid = marked.oid
    union all select concat_ws(':', t.oid, t.xmin) from pg_trigger t join marked on tgrelid = marked.oid
    union all select concat_ws(':', s.seqrelid, s.xmin) from pg_sequence s join marked on seqrelid = marked.oid
    union all select concat_ws(':', p.oid, p.xmin) from pg_proc p where starts_with(proname, %(prefix)s)
    union all select concat_ws(':', t.oid, t.xmin) from pg_type t where starts_with(typname, %(prefix)s)
    union all select concat_ws(':', n.oid, n.xmin) from pg_namespace n where starts_with(nspname, %(prefix)s)
) entries
"""
_TABLES = """
select relname, pg_relation_size(oid) > 0 from pg_class where starts_with(relname, %s) and relkind = 'r' order by 1
"""
_SEQUENCES = "select relname from pg_class where starts_with(relname, %s) and relkind = 'S' order by 1"
_SESSIONS = (
    "select count(*) from pg_stat_activity where pid <> pg_backend_pid() and strpos(lower(query), lower(%s)) > 0"
)


class Schema:
    """One schema as it was created: what the catalogue says of it, and the rows that it began with."""

    def __init__(self, conn: Connection[Any], prefix: str) -> None:
        ensure_schema(conn, prefix)
        self.prefix = prefix
        self._uses = 0
        self._entries = self._entries_now(conn)
        self._rows = {table: _rows_of(conn, table) for table, used in conn.execute(_TABLES, (prefix,)) if used}
        self._numbers = {name: _number_of(conn, name) for (name,) in conn.execute(_SEQUENCES, (prefix,)).fetchall()}

    def _entries_now(self, conn: Connection[Any]) -> object:
        return conn.execute(_ENTRIES, {"prefix": self.prefix}).fetchone()

    def renewed(self, conn: Connection[Any]) -> bool:
        """Make it as new; False, with nothing promised of it, if that cannot be done or it has served long enough."""
        self._uses += 1
        if self._uses >= MOST_USES or not self._is_left(conn) or self._entries_now(conn) != self._entries:
            return False
        used = [name for name, grown in conn.execute(_TABLES, (self.prefix,)) if grown]
        with conn.transaction():
            # Triggers sleep: a row's end is an event to them.
            conn.execute("set local lock_timeout = '2s'; set local session_replication_role = replica")
            if used:
                conn.execute(sql.SQL("truncate {} cascade").format(sql.SQL(", ").join(map(sql.Identifier, used))))
            for table, rows in self._rows.items():
                conn.execute(
                    sql.SQL(
                        "insert into {0} overriding system value select * from json_populate_recordset(null::{0}, %s)"
                    ).format(sql.Identifier(table)),
                    (json.dumps(rows),),
                )
            for name, (number, is_called) in self._numbers.items():
                conn.execute("select setval(%s::regclass, %s, %s)", (name, number, is_called))
        return True

    def _is_left(self, conn: Connection[Any]) -> bool:
        """Wait for sessions that are being closed: one that is still at work could write into the next test's rows."""
        until = monotonic() + SESSIONS_END_WITHIN_SEC
        while conn.execute(_SESSIONS, (self.prefix,)).fetchone() != (0,):
            if monotonic() > until:
                return False
            sleep(0.005)
        return True


def _rows_of(conn: Connection[Any], table: str) -> list[Any]:
    query = sql.SQL("select coalesce(json_agg(t), '[]') from {} t").format(sql.Identifier(table))
    row = conn.execute(query).fetchone()
    assert row is not None
    return list(row[0])


def _number_of(conn: Connection[Any], sequence: str) -> tuple[int, bool]:
    row = conn.execute(sql.SQL("select last_value, is_called from {}").format(sql.Identifier(sequence))).fetchone()
    assert row is not None
    return row[0], row[1]


class Schemas:
    """The schemas of one test process on one server."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._free: list[Schema] = []
        self._lent: dict[str, Schema] = {}

    def lend(self, new_prefix: str) -> str:
        """Give the prefix of a schema that is as new; if none is free, one is created under `new_prefix`."""
        if self._free:
            schema = self._free.pop()
        else:
            with psycopg.connect(self._dsn, autocommit=True) as conn:
                schema = Schema(conn, new_prefix)
        self._lent[schema.prefix] = schema
        return schema.prefix

    def take_back(self, prefix: str) -> bool:
        """Take a schema back; False if it is of no more use, and is to be dropped."""
        schema = self._lent.pop(prefix)
        try:
            with psycopg.connect(self._dsn, autocommit=True) as conn:
                renewed = schema.renewed(conn)
        except psycopg.Error:
            return False  # Somebody holds a lock, or this role may not: dropping it tells what is wrong, if it matters.
        if renewed:
            self._free.append(schema)
        return renewed

    def free(self) -> list[str]:
        """Name the schemas that nobody uses, to be dropped in the end."""
        return [schema.prefix for schema in self._free]
