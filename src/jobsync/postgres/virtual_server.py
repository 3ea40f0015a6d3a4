"""A real PostgreSQL whose outer world is made up: the product's SQL in virtual time, on virtual sessions.

Model: one connection carries out the statements of a whole simulated fleet, one after the other. With each goes what
the product's functions may ask PostgreSQL about the world: the time, the session that asks, which sessions stand, when
the server was started. `virtual/outer_world.sql` answers in PostgreSQL's place, by functions of the same names that the
search path finds first; tables, functions, constraints, triggers, locks and notifications are PostgreSQL's own.

Further connections play users' transactions, which hold locks over virtual time.

Not simulated: two statements at work at the same instant. Each runs alone, from its first lock to its commit.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.conninfo import make_conninfo

from jobsync.postgres.schema import ensure_schema
from jobsync.postgres.session import is_lock_conflict, is_session_over
from jobsync.postgres.statement import Row, Statement, load_sql, run

PREFIX = "sync_"
USERS = 4
TABLES = ("meta", "node", "grant", "target", "lock", "steering", "rebalance", "handover")
SEARCH_PATH = "set search_path = sync_virtual, pg_catalog"
QUIET = "set client_min_messages = error"
_SURROUNDINGS = (
    b"select set_config('virtual.now', $1, false), set_config('virtual.pid', $2, false), "
    b"set_config('virtual.boot', $3, false), set_config('virtual.system', $4, false), "
    b"set_config('virtual.timeline', $5, false)"
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a statement may ask of the world: the clock, the asking session, the server's start and its name."""

    now_sec: float
    pid: int
    boot_sec: float
    system_id: str
    timeline: str

    def texts(self) -> list[bytes]:
        """Give them as the server takes them."""
        return [str(each).encode() for each in (self.now_sec, self.pid, self.boot_sec, self.system_id, self.timeline)]


@dataclass(frozen=True, slots=True)
class Performed:
    """The outcome of one statement: its rows, or why it failed; and whom it notified, as (channel, payload).

    `busy`: it failed on somebody's lock alone, and may be asked again. `over`: its session is of no more use. `seen`
    has the rows of the look that went with it.
    """

    rows: list[Row]
    notified: list[tuple[str, str]]
    error: str | None = None
    busy: bool = False
    over: bool = False
    seen: list[Row] = field(default_factory=list)


class VirtualServer:
    """The database of one simulated fleet: a database of a real server, for this object alone.

    A context manager. Errors that are no lock conflicts come back in `Performed.error` like any other; what to make of
    them is the caller's.
    """

    def __init__(self, dsn: str) -> None:
        self._conn = psycopg.connect(dsn, autocommit=True)
        self._users = [psycopg.connect(dsn) for _ in range(USERS)]
        self._names: dict[str, bytes] = {}
        self.statements = 0
        self._install()
        self._pg = self._conn.pgconn
        self._pg.enter_pipeline_mode()

    def _install(self) -> None:
        self._conn.execute(QUIET)
        self._conn.execute("drop schema if exists sync_virtual cascade")
        self._conn.execute(load_sql("virtual", "outer_world", PREFIX).encode())
        self._conn.execute(f"{SEARCH_PATH}; {QUIET}")
        for user in self._users:
            user.execute(f"{SEARCH_PATH}; {QUIET}; set lock_timeout = '1ms'")
            user.commit()
        self._conn.execute("set virtual.now = 0; set virtual.boot = 0; set virtual.pid = 0; set virtual.seed = 0")
        ensure_schema(self._conn, PREFIX)
        for table in TABLES:
            # A vacuum comes when it likes, and moves rows about.
            self._conn.execute(f"alter table sync_{table} set (autovacuum_enabled = off)".encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the connections; the database stays as it is."""
        for conn in (*self._users, self._conn):
            conn.close()

    # --- statements ------------------------------------------------------------------------------

    def perform(self, work: Statement, surroundings: Surroundings, look: Statement | None = None) -> Performed:
        """Carry one statement out, alone and at once; and have a look at what it made of the rows, on the same way."""
        pg = self._pg
        self.statements += 1
        name = self._names.get(work.sql) or self._prepared(work.sql)
        eye = None if look is None else self._names.get(look.sql) or self._prepared(look.sql)
        around = self._names.get("around") or self._prepared_as("around", _SURROUNDINGS)
        pg.send_query_prepared(around, surroundings.texts())
        pg.send_query_prepared(name, [_text(value) for value in work.args])
        if eye is not None:
            pg.send_query_prepared(eye, [])
        before, result, *seen = self._results(2 if eye is None else 3)
        self._check(before)
        notified = []
        while (notify := pg.notifies()) is not None:
            notified.append((notify.relname.decode(), notify.extra.decode()))
        notified.sort()  # Their order follows that of rows, which no table promises.
        if result.status == pq.ExecStatus.TUPLES_OK:
            return Performed(_rows(result), notified, seen=_rows(seen[0]) if seen else [])
        if result.status == pq.ExecStatus.COMMAND_OK:
            return Performed([], notified)
        failure = psycopg.errors.error_from_result(result, encoding="utf-8")
        return Performed(
            [], notified, str(failure).strip(), busy=is_lock_conflict(failure), over=is_session_over(failure)
        )

    def _prepared(self, sql: str) -> bytes:
        return self._prepared_as(sql, sql.encode())

    def _prepared_as(self, key: str, sql: bytes) -> bytes:
        name = f"v{len(self._names)}".encode()
        self._pg.send_prepare(name, sql)
        (result,) = self._results(1)
        self._check(result)
        self._names[key] = name
        return name

    def _results(self, count: int) -> list[Any]:
        """Wait for the ends of what was sent since the last time."""
        pg = self._pg
        pg.pipeline_sync()
        results: list[Any] = []
        while True:
            result = pg.get_result()
            if result is None:
                continue
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                break
            results.append(result)
        assert len(results) == count
        return results

    def script(self, sql: str, *values: tuple[str, str]) -> None:
        """Run some SQL that gives nothing; `values` are settings that it reads."""
        self._pg.exit_pipeline_mode()
        try:
            # Not by the driver: it forgets every prepared statement, those of others included, after an ALTER.
            for name, value in values:
                self._check(self._pg.exec_params(b"select set_config($1, $2, false)", [name.encode(), value.encode()]))
            self._check(self._pg.exec_(sql.encode()))
        finally:
            self._pg.enter_pipeline_mode()

    @staticmethod
    def _check(result: Any) -> None:
        if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
            raise psycopg.errors.error_from_result(result, encoding="utf-8")

    # --- the world around -------------------------------------------------------------------------

    def reset(self, seed: int) -> None:
        """Begin anew with empty tables, no session, and dice of this seed."""
        for user in range(USERS):
            self.end_user(user, commit=False)
        self.script(load_sql("virtual", "reset", PREFIX), ("virtual.seed", str(seed)))

    def tidy(self) -> None:
        """Vacuum and analyse the tables, as a server does by itself that runs for a while."""
        self.script("vacuum (analyze) " + ", ".join(f"sync_{table}" for table in TABLES))

    def open_session(self, pid: int, start_sec: float) -> None:
        """Let the server have a session."""
        work = Statement(
            "insert into sync_virtual.session (pid, backend_start) values ($1::integer, to_timestamp($2::float8))",
            (pid, start_sec),
        )
        self.perform(work, _NOWHERE)

    def close_sessions(self, pids: Sequence[int]) -> None:
        """Let the server have some sessions no more."""
        listed = "{" + ",".join(map(str, pids)) + "}"
        self.perform(Statement("delete from sync_virtual.session where pid = any ($1::integer[])", (listed,)), _NOWHERE)

    def copy_rows(self) -> str:
        """Copy every row, as a standby does; give it as one opaque text."""
        return str(self.perform(Statement(load_sql("virtual", "copy_rows", PREFIX)), _NOWHERE).rows[0][0])

    def put_rows_back(self, kept: str, *, numbers_ahead: int) -> None:
        """Go on from an older copy; up to `numbers_ahead` of the numbers drawn since are not drawn again."""
        settings = (("virtual.kept", kept), ("virtual.ahead", str(numbers_ahead)))
        self.script(load_sql("virtual", "put_rows_back", PREFIX), *settings)

    # --- users' transactions --------------------------------------------------------------------

    def ask_user(self, user: int, work: Statement) -> Performed:
        """Run a statement in the transaction of one of the `USERS`, which stays open and holds its locks."""
        try:
            return Performed(run(self._users[user], work), [])
        except psycopg.Error as error:
            return Performed([], [], str(error).strip(), busy=is_lock_conflict(error))

    def end_user(self, user: int, *, commit: bool) -> None:
        """End the transaction of a user."""
        if commit:
            self._users[user].commit()
        else:
            self._users[user].rollback()


_NOWHERE = Surroundings(0.0, 0, 0.0, "", "")


def _text(value: object) -> bytes | None:
    return None if value is None else str(value).encode()


def _rows(result: Any) -> list[Row]:
    transformer = Transformer.from_context(None)
    transformer.set_pgresult(result)
    return transformer.load_rows(0, result.ntuples, tuple)


def new_database(dsn: str) -> str:
    """Make an empty database on a server; gives the conninfo that leads to it."""
    name = f"simulation_{secrets.token_hex(4)}"
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(f"create database {name}".encode())
    return make_conninfo(dsn, dbname=name)


def make_quick(dsn: str) -> None:
    """Let a server of the caller's own do without what costs time and serves durability alone."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        for setting in ("fsync = off", "full_page_writes = off", "autovacuum = off"):
            conn.execute(f"alter system set {setting}".encode())
        conn.execute("select pg_reload_conf()")
