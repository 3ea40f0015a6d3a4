"""Making the schema: by whoever comes first, in a race, by a DBA's hand, by a role that may not."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.resources import files
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import Connection, sql

from jobsync.core import messages as m
from jobsync.core.errors import SchemaError
from jobsync.core.hashing import HASH_FUNCTIONS
from jobsync.core.settings import Settings
from jobsync.postgres.opening import Greeting
from jobsync.postgres.schema import ensure_schema, installed_version, latest_version, schema_sql
from jobsync.postgres.statement import Statement, run, statement
from tests.postgres.support import Fleet, wait_until

Connect = Callable[..., Connection[Any]]

# Everything that makes up a schema, one line each, with the fleet's prefix taken out.
_DESCRIPTION = """
select replace(line, $1, '') from (
    select format('column %s.%s %s %s', attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull)
      from pg_attribute where attrelid in (select oid from pg_class where starts_with(relname, $1)) and attnum > 0
    union all
    select pg_get_constraintdef(oid) || conname from pg_constraint where starts_with(conrelid::regclass::text, $1)
    union all select indexdef from pg_indexes where starts_with(tablename, $1)
    union all
    select pg_get_triggerdef(oid) from pg_trigger
     where starts_with(tgrelid::regclass::text, $1) and not tgisinternal
    union all select pg_get_viewdef(oid) from pg_class where starts_with(relname, $1) and relkind = 'v'
    union all select pg_get_functiondef(oid) from pg_proc where starts_with(proname, $1)
) described (line) order by 1
"""


@pytest.fixture
def connect(server_dsn: str, prefix: str) -> Iterator[Connect]:
    """Give a maker of sessions to a database in which the prefix has no tables."""
    with ExitStack() as sessions:
        yield lambda **options: sessions.enter_context(
            psycopg.connect(server_dsn, autocommit=True, prepare_threshold=None, **options)
        )
    with psycopg.connect(server_dsn, autocommit=True) as conn:
        conn.execute("set client_min_messages = error")
        conn.execute(f"drop table if exists {prefix}lock, {prefix}rebalance cascade".encode())


def description(conn: Connection[Any], prefix: str) -> list[str]:
    return [row[0] for row in run(conn, Statement(_DESCRIPTION, (prefix,)))]


# --- creating --------------------------------------------------------------------------------------


def test_on_an_empty_database_the_schema_is_made(connect: Connect, prefix: str) -> None:
    conn = connect()
    assert installed_version(conn, prefix) == 0
    assert ensure_schema(conn, prefix)
    assert installed_version(conn, prefix) == latest_version()


def test_a_schema_that_stands_is_left_alone(connect: Connect, prefix: str) -> None:
    conn = connect()
    ensure_schema(conn, prefix)
    conn.execute(f"alter table {prefix}node add column of_ours integer".encode())
    before = description(conn, prefix)
    assert not ensure_schema(conn, prefix)
    assert description(conn, prefix) == before


def race(connect: Connect, prefix: str, **options: str) -> list[bool]:
    """Let eight make the schema who have all seen that it is not there, and stand at the same lock."""
    gate, racers = connect(), [connect(**options) for _ in range(8)]
    key = f"hashtext('{prefix}schema')"
    waiting = (
        f"select count(*) from pg_locks where locktype = 'advisory' and objid::bigint = ({key}::bigint & 4294967295)"
    )
    run(gate, Statement(f"select pg_advisory_lock({key})"))
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(ensure_schema, racer, prefix) for racer in racers]
        wait_until(lambda: run(gate, Statement(waiting)) == [(9,)])
        run(gate, Statement(f"select pg_advisory_unlock({key})"))
        return [answer.result() for answer in answers]


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_eight_who_race_to_make_the_schema_all_find_it_made(connect: Connect, prefix: str, isolation: str) -> None:
    escaped = isolation.replace(" ", "\\ ")
    race(connect, prefix, options=f"-c default_transaction_isolation={escaped}")
    assert installed_version(connect(), prefix) == latest_version()


def test_a_race_makes_one_row_of_settings(connect: Connect, prefix: str) -> None:
    race(connect, prefix)
    assert run(connect(), Statement(f"select count(*) from {prefix}meta")) == [(1,)]


def test_a_schema_newer_than_the_program_is_refused(connect: Connect, prefix: str) -> None:
    conn = connect()
    ensure_schema(conn, prefix)
    conn.execute(f"update {prefix}meta set (schema_version, oldest_program) = (99, 99)".encode())
    before = description(conn, prefix)
    with pytest.raises(SchemaError, match="update jobsync"):
        ensure_schema(conn, prefix)
    assert description(conn, prefix) == before


def test_two_prefixes_make_two_schemas(connect: Connect, prefix: str) -> None:
    conn = connect()
    ensure_schema(conn, f"{prefix}one_")
    assert installed_version(conn, f"{prefix}two_") == 0
    assert ensure_schema(conn, f"{prefix}two_")
    for fleet in ("one_", "two_"):
        conn.execute(f"drop table {prefix}{fleet}lock, {prefix}{fleet}rebalance".encode())


def test_a_prefix_in_capitals_is_the_same_fleet(connect: Connect, prefix: str) -> None:
    conn = connect()
    ensure_schema(conn, Settings(appname=prefix.upper()).prefix)
    assert installed_version(conn, prefix) == latest_version()


# --- by a DBA's hand -------------------------------------------------------------------------------


def test_the_script_for_dbas_makes_the_same_schema(connect: Connect, prefix: str) -> None:
    conn = connect()
    conn.execute(schema_sql(f"{prefix}a_").encode())
    ensure_schema(conn, f"{prefix}b_")
    made = {fleet: description(conn, f"{prefix}{fleet}") for fleet in ("a_", "b_")}
    for fleet in made:
        conn.execute(f"drop table {prefix}{fleet}lock, {prefix}{fleet}rebalance".encode())
    assert made["a_"] == made["b_"] != []


def test_after_the_script_nothing_is_left_to_do(connect: Connect, prefix: str) -> None:
    conn = connect()
    conn.execute(schema_sql(prefix).encode())
    assert not ensure_schema(conn, prefix)


def test_every_sql_file_is_valid_as_it_stands(connect: Connect, prefix: str) -> None:
    conn = connect()
    conn.execute(f"create schema {prefix}plain; set search_path = {prefix}plain".encode())
    root = files("jobsync.postgres")
    for folder in ("migrations", "functions", "removals"):
        for file in sorted(root.joinpath(folder).iterdir(), key=lambda file: file.name):
            conn.execute(file.read_text(encoding="utf-8").encode())
    for file in root.joinpath("statements").iterdir():
        text = file.read_text(encoding="utf-8")
        if file.name.startswith("copy_"):
            with conn.cursor().copy(text.encode()):
                continue
        conn.execute((text if file.name == "listen.sql" else f"prepare p as {text}").encode())
        conn.execute("unlisten *; deallocate all")


# --- roles -----------------------------------------------------------------------------------------


@pytest.fixture
def role(connect: Connect, prefix: str) -> Iterator[str]:
    """Give a role that may use a schema of its own name, and create nothing in it."""
    name = f"{prefix}role"
    admin = connect()
    admin.execute(
        sql.SQL("create role {0}; create schema {0}; grant usage on schema {0} to {0}").format(sql.Identifier(name))
    )
    yield name
    admin.execute(sql.SQL("drop owned by {0}; drop schema {0} cascade; drop role {0}").format(sql.Identifier(name)))


def session_of(connect: Connect, role: str) -> Connection[Any]:
    conn = connect(options=f"-c search_path={role}")
    conn.execute(sql.SQL("set session authorization {}").format(sql.Identifier(role)))
    return conn


def make_schema(connect: Connect, prefix: str, role: str) -> Connection[Any]:
    conn = connect(options=f"-c search_path={role}")
    ensure_schema(conn, prefix)
    return conn


def test_a_role_that_may_not_create_is_told_the_command(connect: Connect, prefix: str, role: str) -> None:
    with pytest.raises(SchemaError, match="jobsync migrate"):
        ensure_schema(session_of(connect, role), prefix)


def test_a_role_that_may_not_create_leaves_nothing_behind(connect: Connect, prefix: str, role: str) -> None:
    conn = session_of(connect, role)
    with pytest.raises(SchemaError):
        ensure_schema(conn, prefix)
    assert installed_version(conn, prefix) == 0


def test_a_role_to_which_the_tables_are_not_granted_is_told_so(connect: Connect, prefix: str, role: str) -> None:
    make_schema(connect, prefix, role)
    with pytest.raises(SchemaError):
        ensure_schema(session_of(connect, role), prefix)


def test_a_role_to_which_the_tables_are_granted_needs_no_more(
    connect: Connect, prefix: str, role: str, server_dsn: str
) -> None:
    admin = make_schema(connect, prefix, role)
    for kind in ("tables", "sequences"):
        grant = sql.SQL("grant all on all {} in schema {} to {}")
        admin.execute(grant.format(sql.SQL(kind), sql.Identifier(role), sql.Identifier(role)))
    conn = session_of(connect, role)
    assert not ensure_schema(conn, prefix)
    with ExitStack() as stack:
        fleet = Fleet(server_dsn, prefix, stack)
        node = fleet.join("a", conn)
        assert isinstance(fleet.ask(m.Beat(node.who, 0, 0, check=True), conn), m.BeatReply)
        assert fleet.ask(m.Leave(node.who), conn) == m.Left()


def test_a_role_without_rights_can_say_hello(connect: Connect, prefix: str, role: str) -> None:
    greeting = Greeting(*run(session_of(connect, role), statement("hello", prefix))[0])
    assert greeting.system_id
    assert greeting.timeline
    assert not greeting.installed


# --- the token of a task, in SQL and in Python -----------------------------------------------------


@pytest.mark.parametrize("function", sorted(HASH_FUNCTIONS))
@settings(max_examples=25)
@given(
    ids=st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=20, max_size=60),
    total=st.one_of(st.integers(1, 1_000_000), st.sampled_from([1, 2, 10_000, 1_000_000])),
)
def test_sql_and_python_give_a_task_the_same_token(
    hashing: tuple[Connection[Any], str], function: str, ids: list[str], total: int
) -> None:
    conn, prefix = hashing
    query = (
        f"select {prefix}token_of(i, $2::text, $3::integer) from unnest($1::text[]) with ordinality u (i, n) order by n"
    )
    answers = [row[0] for row in run(conn, Statement(query, (ids, function, total)))]
    assert answers == [HASH_FUNCTIONS[function](text, total) for text in ids]


@pytest.fixture(scope="module")
def hashing(server_dsn: str) -> Iterator[tuple[Connection[Any], str]]:
    """Give a session that has the hash function in its own temporary schema."""
    with psycopg.connect(server_dsn, autocommit=True) as conn:
        path = files("jobsync.postgres").joinpath("functions", "token_of.sql")
        conn.execute(path.read_text(encoding="utf-8").replace("sync_token_of", "pg_temp.sync_token_of").encode())
        yield conn, "pg_temp.sync_"


def test_an_unknown_hash_function_is_refused(fleet: Fleet) -> None:
    with pytest.raises(psycopg.errors.RaiseException, match="crc32"):
        fleet.sql("select sync_token_of('x', 'crc32', 10)")
