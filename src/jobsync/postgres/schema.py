"""Creating and changing the schema: many nodes may race to it on an empty database, and two versions may share it.

Each step is one transaction under one advisory lock: who comes second finds it done. A version comes in two phases:

* **pre**, before the first new program: tables from `migrations/NNNN_*.sql`, each applied once, in order; functions
  from `functions/*.sql`, replaced as a whole. It only adds, so programs of older versions go on.
* **post**, after the last old program: `removals/NNNN_*.sql` takes away what only programs older than NNNN need. It
  is refused while a node of such a program may be alive.

`sync_meta` tells how far both have come, and so whether a program fits: `schema_version` is at least the program's own
version, and `oldest_program` at most.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import Connection

from jobsync.core.errors import SchemaError
from jobsync.postgres.statement import SQL_HOME, Row, Statement, load_sql, run, statement

OLDEST_SERVER = 140000
PROGRAM_TOO_OLD = "42000"  # What sync_register says to a program that the schema does not fit any more.

# A table that is changed is asked for for so long at a time: behind whoever waits for one, everybody else waits too.
LOCK_WAIT_MS = 100
LOCK_TRIES = 50
LOCK_PAUSE_SEC = 0.2

MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class Installed:
    """How far a schema is, and the oldest program that it lets live; 0 and 0 where there is none."""

    version: int = 0
    oldest_program: int = 0


def migrations() -> list[tuple[int, str]]:
    """List what adds, as (version, file name without its ending), in order."""
    return _numbered("migrations")


def removals() -> list[tuple[int, str]]:
    """List what takes away, likewise: a removal's number is the oldest program that does without what it removes."""
    return _numbered("removals")


def _numbered(folder: str) -> list[tuple[int, str]]:
    names = sorted(file.stem for file in (SQL_HOME / folder).glob("*.sql"))
    return [(int(name[:4]), name) for name in names]


def latest_version() -> int:
    """Give the schema version that this program works with: the program's own version."""
    return migrations()[-1][0]


def _oldest_left() -> int:
    """Give the oldest program that can live when all removals are done."""
    return max((number for number, _ in removals()), default=0)


def schema_sql(prefix: str) -> str:
    """Give the whole schema as one SQL script, for a DBA to read and run on an empty database."""
    tables = [load_sql("migrations", name, prefix) for _, name in migrations()]
    taken = [load_sql("removals", name, prefix) for _, name in removals()]
    versions = f"update {prefix}meta set schema_version = {latest_version()}, oldest_program = {_oldest_left()};\n"
    return "\n".join(["begin;\n", *tables, *_functions(prefix), *taken, versions, "commit;\n"])


def update_sql(prefix: str, version: int) -> str:
    """Give the first phase of an update from an older version as one SQL script, for a DBA to read and run.

    The script changes nothing where the tables are of any other version than that, or in use for longer than 2 s.
    Raises SchemaError for a version from which there is nothing to do.
    """
    if not 0 < version < latest_version():
        raise SchemaError(
            f"there is no update from version {version}: this program's is {latest_version()}; give the version that "
            f"`select schema_version from {prefix}meta` shows, if it is older"
        )
    guard = (
        f"do $body$ begin if (select schema_version from {prefix}meta) <> {version} then raise exception "
        f"'the tables {prefix}* are not of version {version}: nothing was changed'; end if; end $body$;\n"
    )
    tables = [load_sql("migrations", name, prefix) for number, name in migrations() if number > version]
    done = f"update {prefix}meta set schema_version = {latest_version()};\n"
    return "\n".join(
        ["begin;\n", "set local lock_timeout = '2s';\n", guard, *tables, *_functions(prefix), done, "commit;\n"]
    )


def _functions(prefix: str) -> list[str]:
    names = sorted(file.stem for file in (SQL_HOME / "functions").glob("*.sql"))
    return [load_sql("functions", name, prefix) for name in names]


def installed(conn: Connection[Any], prefix: str) -> Installed:
    """Tell how far the schema in the database is."""
    if not run(conn, statement("is_installed", prefix, f"{prefix}meta"))[0][0]:
        return Installed()
    return Installed(*run(conn, statement("schema_version", prefix))[0])


def installed_version(conn: Connection[Any], prefix: str) -> int:
    """Give the version of the schema in the database, 0 if there is none."""
    return installed(conn, prefix).version


# --- the two phases --------------------------------------------------------------------------------


def ensure_schema(conn: Connection[Any], prefix: str) -> bool:
    """Bring the schema up to this program's version, for programs that run to go on; True if anything was done.

    On an empty database nobody needs what is old, and the removals are done, too. A newer schema that still lets this
    program live is left as it is. Raises SchemaError when the server is too old, when the schema is too new, when its
    tables are in use for too long, or when the role may not change it (the message says what a DBA runs).
    """
    if conn.info.server_version < OLDEST_SERVER:
        raise SchemaError(
            f"jobsync needs PostgreSQL 14 or newer, and this server is version {conn.info.server_version // 10000}: "
            "multiranges, on which exclusive ownership rests, came with 14"
        )
    return _in_one_step(conn, prefix, _is_behind, _add)


def finish_schema(conn: Connection[Any], prefix: str) -> bool:
    """Take away what only older programs need; True if there was anything.

    Raises SchemaError, with nothing changed, while nodes of older programs may be alive (it names them), when the first
    phase has not been done, and as `ensure_schema` does.
    """
    return _in_one_step(conn, prefix, _has_leftovers, _take_away)


def _in_one_step(
    conn: Connection[Any],
    prefix: str,
    is_due: Callable[[Installed, str], bool],
    do: Callable[[Connection[Any], str, Installed], None],
) -> bool:
    """Do one phase in one transaction, from the start again where somebody is in its way; True if it was due."""
    state = Installed()
    for left in range(LOCK_TRIES - 1, -1, -1):
        try:
            state = installed(conn, prefix)
            if not is_due(state, prefix):
                return False
            with conn.transaction():
                # Whoever waited for the lock must see what its holder made, whatever the database's default is.
                conn.execute("set transaction isolation level read committed")
                run(conn, Statement("select pg_advisory_xact_lock(hashtext($1::text))", (f"{prefix}schema",)))
                run(conn, Statement("select set_config('lock_timeout', $1::text, true)", (str(LOCK_WAIT_MS),)))
                state = installed(conn, prefix)
                if is_due(state, prefix):
                    do(conn, prefix, state)
        except psycopg.errors.InsufficientPrivilege as error:
            raise (_no_right_to_change(conn, prefix, state) if state.version else _no_right(conn, prefix)) from error
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            if not left:
                raise _in_use(prefix) from error
            time.sleep(LOCK_PAUSE_SEC)
        else:
            return True
    raise AssertionError("the last try returns or raises")


def _is_behind(state: Installed, prefix: str) -> bool:
    _refuse_newer(state, prefix)
    return state.version < latest_version()


def _add(conn: Connection[Any], prefix: str, state: Installed) -> None:
    for number, name in migrations():
        if number > state.version:
            conn.execute(load_sql("migrations", name, prefix).encode())
    for script in _functions(prefix):
        conn.execute(script.encode())
    if state.version == 0:
        _remove(conn, prefix, state)
    run(conn, Statement(f"update {prefix}meta set schema_version = $1::integer", (latest_version(),)))


def _has_leftovers(state: Installed, prefix: str) -> bool:
    if state.version == 0:
        raise SchemaError(f"there are no tables {prefix}*: run `jobsync migrate --appname {prefix}` first")
    refuse_misfit(state, prefix)
    return awaits_removal(state)


def awaits_removal(state: Installed) -> bool:
    """Tell whether a schema still has what only programs older than this one need."""
    return state.version > 0 and state.oldest_program < _oldest_left()


def _take_away(conn: Connection[Any], prefix: str, state: Installed) -> None:
    # Who registers holds a share of this row's lock until its node can be seen, and reads oldest_program behind it.
    run(conn, Statement(f"select from {prefix}meta for update"))
    older = run(conn, statement("older_nodes", prefix, _oldest_left()))
    if older:
        raise _not_yet(older, prefix)
    _remove(conn, prefix, state)


def _remove(conn: Connection[Any], prefix: str, state: Installed) -> None:
    for number, name in removals():
        if number > state.oldest_program:
            conn.execute(load_sql("removals", name, prefix).encode())
    run(conn, Statement(f"update {prefix}meta set oldest_program = $1::integer", (_oldest_left(),)))


# --- what is refused -------------------------------------------------------------------------------


def refuse_missing(state: Installed, prefix: str, where: str) -> None:
    """Refuse to read or steer where there are no tables. Raises SchemaError."""
    if state.version == 0:
        raise SchemaError(
            f"there are no tables {prefix}* in {where}: start a node, or run "
            f"`jobsync migrate --appname {prefix}`; or check the appname and the database"
        )


def refuse_misfit(state: Installed, prefix: str) -> None:
    """Refuse to read or steer by tables that this program does not fit. Raises SchemaError."""
    _refuse_newer(state, prefix)
    if state.version < latest_version():
        raise SchemaError(
            f"the tables {prefix}* are of schema version {state.version}, older than this program's "
            f"{latest_version()}: run `jobsync migrate --appname {prefix}`, which is safe while workers run"
        )


def _refuse_newer(state: Installed, prefix: str) -> None:
    if state.oldest_program > latest_version():
        raise SchemaError(
            f"the tables {prefix}* are of schema version {state.version}, newer than this program's "
            f"{latest_version()}, and let no program live that is older than {state.oldest_program}: update "
            "jobsync here first"
        )


def _not_yet(older: list[Row], prefix: str) -> SchemaError:
    named = [f"{name!r} ({'version unknown' if version is None else f'version {version}'})" for name, version in older]
    shown = ", ".join(named[:MOST_NAMED]) + (f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else "")
    return SchemaError(
        f"what programs older than version {_oldest_left()} need stays in {prefix}*, and nothing was changed: nodes "
        f"of such programs are there: {shown}; stop them, and run `jobsync migrate --phase post --appname {prefix}` "
        "again. Those that died are struck off by any node that lives"
    )


def _in_use(prefix: str) -> SchemaError:
    seconds = LOCK_TRIES * (LOCK_WAIT_MS / 1000 + LOCK_PAUSE_SEC)
    return SchemaError(
        f"the tables {prefix}* are in use, and nothing was changed: a transaction has kept a lock on one of them for "
        f"over {seconds:.0f} s; end it (pg_stat_activity shows the oldest), and try again"
    )


def _no_right(conn: Connection[Any], prefix: str) -> SchemaError:
    return SchemaError(
        f"role {conn.info.user!r} may not create, or was not granted, jobsync's tables ({prefix}*) in database "
        f"{conn.info.dbname!r}: let a role that may run `jobsync migrate --appname {prefix}`, or give a DBA the "
        f"script that `jobsync migrate --appname {prefix} --print` writes, and grant this role what it made"
    )


def _no_right_to_change(conn: Connection[Any], prefix: str, state: Installed) -> SchemaError:
    # The script that is printed makes tables where there are none, and would fail here.
    return SchemaError(
        f"role {conn.info.user!r} may not change jobsync's tables ({prefix}*) in database {conn.info.dbname!r}, which "
        f"are of schema version {state.version}: let the role that owns them run `jobsync migrate --appname {prefix}` "
        "(for the second phase with --phase post), and grant this role what it makes"
    )


def unusable_schema(prefix: str, sqlstate: str | None, reason: str) -> SchemaError:
    """Say why a node's first statement was refused for good: it is too old, or a right, table, function is missing."""
    if sqlstate == PROGRAM_TOO_OLD:
        return SchemaError(f"the tables {prefix}* fit this program no more: {reason}; update jobsync here first")
    return SchemaError(
        f"the tables or functions {prefix}* cannot be used: {reason}; let a role that may run "
        f"`jobsync migrate --appname {prefix}`, and grant this role what the end of sql/schema.sql lists: rights on "
        "tables, sequences and functions"
    )
