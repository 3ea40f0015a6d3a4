"""Who looks or steers makes no table and changes none, over all commands: `migrate` does, and who works or plays."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.main import get_command

from jobsync.cli.app import app
from jobsync.postgres.schema import latest_version
from tests.cli.conftest import Command
from tests.conftest import drop_all

Sql = Callable[[str], list[tuple[Any, ...]]]

# Those that make tables; simulate has tables of its own, and the dashboard, which does not end, is tested in tests/web.
MAKING = {"migrate", "worker", "run", "demo", "demo-queue", "simulate", "dashboard"}

ARGUMENTS = {
    "cordon": "alpha",
    "doctor": "",
    "drain": "alpha",
    "explain": "task",
    "freeze": "",
    "history": "",
    "jobs cancel": "--all --yes",
    "jobs counts": "",
    "jobs list": "",
    "jobs pause": "",
    "jobs resume": "",
    "jobs retry": "--all --yes",
    "jobs show": "1",
    "locks add": "task alpha",
    "locks clear": "--all --yes",
    "locks list": "",
    "nodes": "",
    "plan": "--without alpha",
    "prune": "",
    "resume": "",
    "status": "",
    "tokens": "",
    "top": "--once",
}

STANDING = """
select (select array_agg((relname, relkind, relfilenode) order by oid) from pg_class where starts_with(relname, '{0}')),
       (select array_agg((proname, xmin) order by oid) from pg_proc where starts_with(proname, '{0}'))"""


def leaves(command: Any, path: str = "") -> Iterator[str]:
    """List the commands that do something, each by its words."""
    within = getattr(command, "commands", None)
    if within is None:
        yield path
        return
    for name, each in within.items():
        yield from leaves(each, f"{path} {name}".strip())


def test_every_command_is_said_to_make_tables_or_not() -> None:
    assert set(leaves(get_command(app))) == MAKING | set(ARGUMENTS)


@pytest.mark.parametrize("tables", ["none", "older"])
def test_looking_and_steering_changes_no_table(
    run: Command, sql: Sql, server_dsn: str, prefix: str, tables: str
) -> None:
    if tables == "none":
        drop_all(server_dsn, prefix)
        words = "there are no tables"
    else:
        sql(f"update t_meta set schema_version = {latest_version() - 1}")
        words = f"are of schema version {latest_version() - 1}, older than this program's"
    before = sql(STANDING.format(prefix))
    for command, arguments in ARGUMENTS.items():
        result = run(*command.split(), *arguments.split())
        # The doctor could ask: that is what it found.
        assert result.exit_code == (1 if command == "doctor" else 2), command
        assert words in (result.stdout if command == "doctor" else result.stderr), command
        assert sql(STANDING.format(prefix)) == before, command
    if tables == "older":
        assert sql("select schema_version from t_meta") == [(latest_version() - 1,)]
