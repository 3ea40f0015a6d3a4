"""Two versions of the program on one schema: what is added before the roll, and taken away after it."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.resources import files
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from jobsync.core import messages as m
from jobsync.core.errors import SchemaError
from jobsync.postgres import schema
from jobsync.postgres.schema import (
    Installed,
    awaits_removal,
    ensure_schema,
    finish_schema,
    installed,
    latest_version,
    migrations,
    removals,
    schema_sql,
    unusable_schema,
    update_sql,
)
from jobsync.postgres.statement import Statement, load_sql, run
from tests.postgres.support import Fleet
from tests.postgres.test_schema import description

OLD = 3  # The last version whose nodes did not tell their program's version.
OLD_REGISTER = (
    "text, integer, text, integer, integer, integer, text, text, text, integer, text, boolean",
    "returns text language sql as 'select 1::text'",
)


@pytest.fixture
def conn(server_dsn: str, prefix: str) -> Iterator[Connection[Any]]:
    """Give a session to a database in which the prefix has no tables."""
    with psycopg.connect(server_dsn, autocommit=True, prepare_threshold=None) as opened:
        yield opened
        opened.execute(f"drop table if exists {prefix}lock, {prefix}rebalance cascade".encode())


@pytest.fixture
def old(conn: Connection[Any], prefix: str) -> Connection[Any]:
    """Make the tables as programs of version 3 left them, with one node that lives."""
    conn.execute("set check_function_bodies = off")
    for number, name in migrations():
        if number <= OLD:
            conn.execute(load_sql("migrations", name, prefix).encode())
    for name in (f.name.removesuffix(".sql") for f in files("jobsync.postgres").joinpath("functions").iterdir()):
        if name != "register":
            conn.execute(load_sql("functions", name, prefix).encode())
    conn.execute(f"create function {prefix}register({OLD_REGISTER[0]}) {OLD_REGISTER[1]}".encode())
    conn.execute(f"update {prefix}meta set schema_version = {OLD}".encode())
    add_node(conn, prefix, "veteran")
    return conn


def add_node(conn: Connection[Any], prefix: str, name: str, **more: object) -> None:
    """Write the row of a node that lives, as its own program would."""
    row = {"name": name, "incarnation": 1, "bind": 1, "heartbeat_timeout_ms": 15_000, "row_lease_ms": 14_500}
    row |= {"backend_pid": 1} | more
    marks = ", ".join(f"${n}" for n in range(1, len(row) + 1))
    text = f"insert into {prefix}node ({', '.join(row)}, postmaster_start) values ({marks}, now())"
    run(conn, Statement(text, tuple(row.values())))


# --- adding, with the old ones at work -------------------------------------------------------------


def test_what_an_old_program_calls_is_there_until_it_is_gone(old: Connection[Any], prefix: str) -> None:
    calls = f"select count(*) from pg_proc where proname = '{prefix}register'"
    assert ensure_schema(old, prefix)
    assert run(old, Statement(calls)) == [(2,)]
    assert installed(old, prefix) == Installed(latest_version(), 0)
    assert awaits_removal(installed(old, prefix))
    old.execute(f"update {prefix}node set state = 'fenced'".encode())
    assert finish_schema(old, prefix)
    assert run(old, Statement(calls)) == [(1,)]
    assert not awaits_removal(installed(old, prefix))
    assert not finish_schema(old, prefix)


def test_both_phases_come_to_what_an_empty_database_is_given(old: Connection[Any], prefix: str) -> None:
    old.execute(f"delete from {prefix}node".encode())
    ensure_schema(old, prefix)
    finish_schema(old, prefix)
    old.execute(schema_sql(f"{prefix}zz_").encode())
    fresh = {line.replace("zz_", "") for line in description(old, f"{prefix}zz_")}
    upgraded = {line for line in description(old, prefix) if "zz_" not in line}
    old.execute(f"drop table {prefix}zz_lock, {prefix}zz_rebalance cascade".encode())
    assert upgraded == fresh


def test_the_tables_are_left_alone_while_somebody_holds_one_for_long(
    old: Connection[Any], prefix: str, server_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "LOCK_TRIES", 2)
    before = description(old, prefix)
    with psycopg.connect(server_dsn) as holder:
        holder.execute(f"select from {prefix}node".encode())
        with pytest.raises(SchemaError, match="in use, and nothing was changed"):
            ensure_schema(old, prefix)
    assert description(old, prefix) == before
    assert installed(old, prefix).version == OLD


def test_a_newer_schema_that_lets_this_program_live_is_left_as_it_is(conn: Connection[Any], prefix: str) -> None:
    ensure_schema(conn, prefix)
    conn.execute(f"update {prefix}meta set schema_version = {latest_version() + 1}".encode())
    assert not ensure_schema(conn, prefix)
    assert not finish_schema(conn, prefix)
    assert installed(conn, prefix) == Installed(latest_version() + 1, removals()[-1][0])


def test_the_printed_update_is_the_first_phase(old: Connection[Any], prefix: str) -> None:
    old.execute(update_sql(prefix, OLD).encode())
    by_hand = description(old, prefix)
    assert installed(old, prefix) == Installed(latest_version(), 0)
    assert not ensure_schema(old, prefix), "nothing is left to do"
    assert description(old, prefix) == by_hand
    assert awaits_removal(installed(old, prefix))


def test_a_printed_update_changes_nothing_where_the_tables_are_of_another_version(
    old: Connection[Any], prefix: str
) -> None:
    before = description(old, prefix)
    with pytest.raises(psycopg.Error, match=f"not of version {OLD + 1}: nothing was changed"):
        old.execute(update_sql(prefix, OLD + 1).encode())
    old.rollback()
    assert description(old, prefix) == before


@pytest.mark.parametrize("version", [-1, 0, latest_version(), latest_version() + 1])
def test_there_is_no_update_from_nowhere(version: int) -> None:
    with pytest.raises(SchemaError, match="there is no update"):
        update_sql("sync_", version)


# --- taking away -----------------------------------------------------------------------------------


def test_nothing_is_taken_away_under_a_node_of_an_older_program(old: Connection[Any], prefix: str) -> None:
    ensure_schema(old, prefix)
    add_node(old, prefix, "elder", schema_version=OLD)
    add_node(old, prefix, "novice", schema_version=latest_version())
    before = description(old, prefix)
    with pytest.raises(SchemaError, match=r"nothing was changed.*: 'veteran' \(.* unknown\), 'elder' \(version 3\);"):
        finish_schema(old, prefix)
    assert description(old, prefix) == before
    assert installed(old, prefix).oldest_program == 0


def test_of_many_older_nodes_some_are_named(old: Connection[Any], prefix: str) -> None:
    ensure_schema(old, prefix)
    for number in range(10):
        add_node(old, prefix, f"n{number}")
    with pytest.raises(SchemaError, match=r"'n6' \(version unknown\) and 3 more;"):
        finish_schema(old, prefix)


def test_the_second_phase_without_the_first_is_refused(old: Connection[Any], prefix: str) -> None:
    with pytest.raises(SchemaError, match=rf"older than this program's {latest_version()}: run `jobsync migrate"):
        finish_schema(old, prefix)
    with pytest.raises(SchemaError, match="there are no tables"):
        finish_schema(old, f"{prefix}none_")


def test_a_node_tells_its_programs_version(fleet: Fleet) -> None:
    fleet.join("a")
    assert fleet.value("select schema_version from sync_node") == latest_version()


def test_a_name_that_an_older_program_takes_over_does_not_inherit_the_version_of_the_dead(fleet: Fleet) -> None:
    """Programs of version 3 register without a word about it, and leave the column as it is."""
    fleet.fence(fleet.join("a"), "A")
    fleet.sql("update sync_meta set oldest_program = 0")
    fleet.sql("update sync_node set state = 'live', incarnation = 99")
    with pytest.raises(SchemaError, match=r"'a' \(version unknown\);"):
        finish_schema(fleet.conn, fleet.prefix)


def test_a_program_for_which_too_much_was_taken_away_is_told_to_be_updated(fleet: Fleet) -> None:
    fleet.sql("update sync_meta set oldest_program = 99")
    with pytest.raises(psycopg.Error) as caught:
        fleet.register("late")
    assert caught.value.sqlstate == schema.PROGRAM_TOO_OLD
    told = str(unusable_schema(fleet.prefix, caught.value.sqlstate, str(caught.value)))
    assert f"version {latest_version()}, and the oldest that they let live is 99" in told
    assert "update jobsync here" in told
    assert fleet.sql("select from sync_node") == []


def test_who_registers_meanwhile_is_seen_by_a_removal(old: Connection[Any], prefix: str, server_dsn: str) -> None:
    ensure_schema(old, prefix)
    old.execute(f"delete from {prefix}node".encode())
    with ExitStack() as stack, psycopg.connect(server_dsn) as late:
        fleet = Fleet(server_dsn, prefix, stack)
        fleet.join("first")
        place = (fleet.server.system_id, fleet.server.timeline)
        question = m.Register("late", 100, "double_sha256", 15_000, 14_500, 600, *place)
        asked = fleet.protocol.statement_for(question)
        run(late, Statement(asked.sql, (*asked.args[:-1], None)))  # Of a program that does not tell.
        with pytest.raises(SchemaError, match="in use"):
            _tried_twice(old, prefix)
        late.commit()
        with pytest.raises(SchemaError, match="'late'"):
            finish_schema(old, prefix)


def _tried_twice(conn: Connection[Any], prefix: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "LOCK_TRIES", 2)
        finish_schema(conn, prefix)


# --- the rules of the files ------------------------------------------------------------------------

_TAKES_AWAY = re.compile(r"\b(drop|rename|truncate|delete|column\s+\w+\s+(type|set\s+not\s+null))\b", re.IGNORECASE)
_NEEDS_A_VALUE = re.compile(r"add\s+column\s+[^;]*not\s+null(?![^;]*default)", re.IGNORECASE)


def code_of(folder: str, name: str) -> str:
    """Give an SQL file without its comments."""
    return re.sub(r"--[^\n]*", "", load_sql(folder, name, "sync_"))


@pytest.mark.parametrize("name", [name for number, name in migrations() if number >= OLD])
def test_a_migration_only_adds(name: str) -> None:
    code = code_of("migrations", name)
    assert not _TAKES_AWAY.search(code), "what older programs need stays: take it away in removals/"
    assert not _NEEDS_A_VALUE.search(code), "older programs insert rows without this column: give it a default"


def test_a_removal_belongs_to_a_migration_and_does_no_harm_where_there_is_nothing() -> None:
    numbers = [number for number, _ in migrations()]
    assert len(set(numbers)) == len(numbers)
    for number, name in removals():
        assert number in numbers, name
        for line in re.findall(r"\bdrop\b[^;]*", code_of("removals", name), re.IGNORECASE):
            assert "if exists" in line, f"{name}: an empty database has never had it"


def test_who_may_use_the_tables_of_before_may_use_those_that_are_added(old: Connection[Any], prefix: str) -> None:
    """Since nodes of the version before go on, and what they call writes to these from now on."""
    role = f"{prefix}worker"
    lacking = (
        "select c.relname from pg_class c where c.relkind in ('r', 'v') and not c.relispartition "
        "and starts_with(c.relname, $1) and not has_table_privilege($2, c.oid, 'insert')"
    )
    rights = Statement(lacking, (prefix, role))
    grant = f"grant select, insert, update, delete on {prefix}rebalance, {prefix}job_lease, {prefix}job to {role}"
    old.execute(f"create role {role}; {grant}".encode())
    try:
        before = {name for (name,) in run(old, rights)}
        ensure_schema(old, prefix)
        assert {name for (name,) in run(old, rights)} == before
        assert f"{prefix}rebalance" not in before
    finally:
        old.execute(f"drop owned by {role}; drop role {role}".encode())


def test_a_role_that_may_not_change_old_tables_is_not_sent_to_the_script_for_new_ones(
    old: Connection[Any], prefix: str
) -> None:
    role = f"{prefix}guest"
    old.execute(f"create role {role}; grant select on {prefix}meta to {role}; set role {role}".encode())
    try:
        with pytest.raises(SchemaError, match=r"of schema version 3: let the role that owns them") as caught:
            ensure_schema(old, prefix)
    finally:
        old.execute(f"reset role; drop owned by {role}; drop role {role}".encode())
    assert "--print" not in str(caught.value)
