"""`jobsync status` and `jobsync migrate`, at their exit statuses and their words."""

import json
import os
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from jobsync import CoordinationConfig, Job
from jobsync.cli.app import app
from jobsync.runtime.node import Node
from tests.cli.command import clean_environment, wait_for

Command = Callable[..., Any]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Give a caller of the command, in this process, with no settings in the environment."""
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    return lambda *arguments: CliRunner().invoke(app, arguments)


@pytest.fixture
def fleet(server_dsn: str, prefix: str) -> tuple[str, ...]:
    """Give the options that name this test's fleet."""
    return ("--dsn", server_dsn, "--appname", prefix)


def test_status_of_a_database_without_tables_is_one_line_that_says_what_to_do(
    command: Command, fleet: tuple[str, ...], prefix: str
) -> None:
    result = command("status", *fleet)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert f"jobsync migrate --appname {prefix}" in result.stderr


def test_status_of_a_fleet_that_nobody_has_joined_is_not_healthy(command: Command, fleet: tuple[str, ...]) -> None:
    assert command("migrate", *fleet).exit_code == 0
    result = command("status", *fleet)
    assert (result.exit_code, result.stdout.splitlines()[0]) == (1, "not healthy: no node has ever joined")


def test_status_with_a_live_node_is_healthy_and_names_it(
    command: Command, fleet: tuple[str, ...], server_dsn: str, prefix: str
) -> None:
    with Job("solo", coordination_config=CoordinationConfig(dsn=server_dsn, appname=prefix)):
        result = command("status", *fleet)
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert lines[0] == "healthy: 10,000 of 10,000 tokens held by 1 live node, plan 1"
    row = next(line for line in lines if line.startswith("solo"))
    assert row.split()[1:4] == ["leads", "10,000", "100.0%"]


def test_status_as_json_tells_the_same_to_programs(
    command: Command, fleet: tuple[str, ...], server_dsn: str, prefix: str
) -> None:
    config = CoordinationConfig(dsn=server_dsn, appname=prefix)
    with Job("one", coordination_config=config), Job("two", coordination_config=config):
        found = json.loads(command("status", "--json", *fleet).stdout)
    assert (found["healthy"], found["leader"], found["live_nodes"], found["tokens_live"]) == (True, "one", 2, 10_000)
    assert [(node["name"], node["tokens"], node["share"]) for node in found["nodes"]] == [
        ("one", 5000, 0.5),
        ("two", 5000, 0.5),
    ]
    assert found["rebalances"][-1]["reason"] == "start"


def test_status_after_the_last_node_fell_silent_is_not_healthy(
    command: Command, fleet: tuple[str, ...], server_dsn: str, prefix: str
) -> None:
    with Job("mute", coordination_config=CoordinationConfig(dsn=server_dsn, appname=prefix)):
        pass
    # What a killed node leaves behind: its row, its grant, and a heartbeat that grows old.
    with psycopg.connect(server_dsn, autocommit=True) as conn:
        conn.execute(
            f"insert into {prefix}node (name, incarnation, bind, last_heartbeat, heartbeat_timeout_ms, row_lease_ms, "
            "backend_pid, postmaster_start) values ('mute', 99, 99, now() - interval '1 h', 15000, 14500, 1, now())"
        )
        conn.execute(f"insert into {prefix}grant values (99, 'mute', 99, '{{[0,10000)}}')")
    result = command("status", *fleet)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0].startswith("not healthy: 0 of 10,000 tokens held by 0 live nodes")
    assert "silent" in result.stdout


def test_a_database_that_is_not_there_is_one_line_without_the_password(command: Command) -> None:
    result = command("status", "--dsn", "postgresql://somebody:hush-hush@127.0.0.1:1/nowhere")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "127.0.0.1:1" in result.stderr
    assert "nowhere" in result.stderr
    assert "hush-hush" not in result.output


def test_a_connection_string_that_is_none_is_one_line_without_the_password(command: Command) -> None:
    result = command("status", "--dsn", "host=x password=hush-hush nonsense=1")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "hush-hush" not in result.output


def test_a_prefix_that_is_none_is_refused(command: Command, server_dsn: str) -> None:
    result = command("status", "--dsn", server_dsn, "--appname", "bad-name;")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)


def test_migrate_says_whether_it_did_anything(command: Command, fleet: tuple[str, ...], prefix: str) -> None:
    assert command("migrate", *fleet).stdout == f"the tables {prefix}* are ready\n"
    assert command("migrate", *fleet).stdout == f"the tables {prefix}* were up to date: nothing to do\n"
    told = f"the tables {prefix}* have nothing that only older programs need\n"
    assert command("migrate", "--phase", "post", *fleet).stdout == told


def test_a_second_phase_without_the_first_is_refused_and_so_is_printing_it(
    command: Command, fleet: tuple[str, ...]
) -> None:
    for arguments, words in ((fleet, "there are no tables"), (("--print",), "leave --phase out")):
        result = command("migrate", "--phase", "post", *arguments)
        assert (result.exit_code, words in result.stderr) == (2, True), result.stderr


def test_the_printed_script_makes_an_empty_database_ready(
    command: Command, fleet: tuple[str, ...], server_dsn: str, prefix: str
) -> None:
    script = command("migrate", "--print", "--appname", prefix).stdout
    with psycopg.connect(server_dsn, autocommit=True) as conn:
        conn.execute(script.encode())
    assert "nothing to do" in command("migrate", *fleet).stdout
    with Job("first", coordination_config=CoordinationConfig(dsn=server_dsn, appname=prefix)) as job:
        wait_for(lambda: len(job.my_tokens) == 10_000)


def test_status_shows_who_takes_no_tokens(
    command: Command, fleet: tuple[str, ...], server_dsn: str, prefix: str
) -> None:
    config = CoordinationConfig(dsn=server_dsn, appname=prefix)
    worker = Node("w", config, environment=None, takes_tokens=False)
    worker.receive()
    worker.join()
    try:
        never: Any = threading.Event()
        worker.wait_until_in(wait_sec=None, stop=never)
        with Job("solo", coordination_config=config):
            lines = command("status", *fleet).stdout.splitlines()
            found = json.loads(command("status", "--json", *fleet).stdout)
    finally:
        worker.leave()
    assert lines[0].startswith("healthy: 10,000 of 10,000 tokens held by 1 live node, 1 more takes none, plan ")
    assert next(line for line in lines if line.startswith("w ")).split()[1:3] == ["live", "none"]
    assert (found["live_nodes"], found["live_tokenless"]) == (1, 1)
    assert [node["takes_tokens"] for node in found["nodes"]] == [False, True]
