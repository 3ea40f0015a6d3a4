"""Creating and changing the schema: many nodes may race to it on an empty database.

One transaction under one advisory lock: who comes second finds it done. Tables come from `migrations/NNNN_*.sql`, each
applied once, in order; functions from `functions/*.sql`, replaced as a whole whenever the version rises.
"""

from importlib.resources import files
from typing import Any

import psycopg
from psycopg import Connection

from jobsync.core.errors import SchemaError
from jobsync.postgres.statement import Statement, load_sql, run, statement

OLDEST_SERVER = 140000


def migrations() -> list[tuple[int, str]]:
    """List the migrations as (version, file name without its ending), in order."""
    names = sorted(f.name.removesuffix(".sql") for f in files("jobsync.postgres").joinpath("migrations").iterdir())
    return [(int(name[:4]), name) for name in names]


def latest_version() -> int:
    """Give the schema version that this program works with."""
    return migrations()[-1][0]


def schema_sql(prefix: str) -> str:
    """Give the whole schema as one SQL script, for a DBA to read and run."""
    tables = [load_sql("migrations", name, prefix) for _, name in migrations()]
    version = f"update {prefix}meta set schema_version = {latest_version()};\n"
    return "\n".join(["begin;\n", *tables, *_functions(prefix), version, "commit;\n"])


def _functions(prefix: str) -> list[str]:
    names = sorted(f.name.removesuffix(".sql") for f in files("jobsync.postgres").joinpath("functions").iterdir())
    return [load_sql("functions", name, prefix) for name in names]


def installed_version(conn: Connection[Any], prefix: str) -> int:
    """Give the version of the schema in the database, 0 if there is none."""
    if not run(conn, statement("is_installed", prefix, f"{prefix}meta"))[0][0]:
        return 0
    return int(run(conn, statement("schema_version", prefix))[0][0])


def ensure_schema(conn: Connection[Any], prefix: str) -> bool:
    """Bring the schema up to this program's version; True if anything was done.

    Raises SchemaError when the server is too old, when the schema is newer than the program, or when the role may not
    create it (the message says what a DBA runs).
    """
    if conn.info.server_version < OLDEST_SERVER:
        raise SchemaError(
            f"jobsync needs PostgreSQL 14 or newer, and this server is version {conn.info.server_version // 10000}: "
            "multiranges, on which exclusive ownership rests, came with 14"
        )
    try:
        version = installed_version(conn, prefix)
        _refuse_newer(version, prefix)
        if version == latest_version():
            return False
        with conn.transaction():
            # Whoever waited for the lock must see what its holder made, whatever the database's default is.
            conn.execute("set transaction isolation level read committed")
            run(conn, Statement("select pg_advisory_xact_lock(hashtext($1::text))", (f"{prefix}schema",)))
            _apply(conn, prefix)
    except psycopg.errors.InsufficientPrivilege as error:
        raise SchemaError(
            f"role {conn.info.user!r} may not create, or was not granted, jobsync's tables ({prefix}*) in database "
            f"{conn.info.dbname!r}: let a role that may run `jobsync migrate --appname {prefix}`, or give a DBA the "
            f"script that `jobsync migrate --appname {prefix} --print` writes, and grant this role what it made"
        ) from error
    return True


def _apply(conn: Connection[Any], prefix: str) -> None:
    version = installed_version(conn, prefix)
    _refuse_newer(version, prefix)
    if version == latest_version():
        return
    for number, name in migrations():
        if number > version:
            conn.execute(load_sql("migrations", name, prefix).encode())
    for script in _functions(prefix):
        conn.execute(script.encode())
    run(conn, Statement(f"update {prefix}meta set schema_version = $1::integer", (latest_version(),)))


def unusable_schema(prefix: str, reason: str) -> SchemaError:
    """Say that a node's first statement was refused for good: a right is missing, or a table or function."""
    return SchemaError(
        f"the tables or functions {prefix}* cannot be used: {reason}; let a role that may run "
        f"`jobsync migrate --appname {prefix}`, and grant this role what the end of sql/schema.sql lists: rights on "
        "tables, sequences and functions"
    )


def refuse_other_version(version: int, prefix: str) -> None:
    """Refuse to read or steer by tables of another version than this program's. Raises SchemaError."""
    _refuse_newer(version, prefix)
    if version < latest_version():
        raise SchemaError(
            f"the tables {prefix}* are of schema version {version}, older than this program's {latest_version()}: run "
            f"`jobsync migrate --appname {prefix}`, which is safe while workers run"
        )


def _refuse_newer(version: int, prefix: str) -> None:
    if version > latest_version():
        raise SchemaError(
            f"the tables {prefix}* are of schema version {version}, newer than this program's {latest_version()}: "
            "update jobsync here first"
        )
