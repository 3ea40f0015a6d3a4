"""Helpers for the command in this process, against the shared server: a process of its own costs most of a second."""

import gc
import os
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from jobsync.api.cluster import migrate
from jobsync.cli.app import app
from tests.api.jobs import settings
from tests.cli.command import clean_environment

Command = Callable[..., Any]

# Two nodes that hold what the plan wants, and the history of how it came to that. Their heartbeat timeout is an hour:
# they stay live on a machine that is busy.
TWO_NODES = """
update t_meta set total_tokens = 100, hash_function = 'double_sha256', plan_version = 2;
insert into t_node (name, incarnation, bind, heartbeat_timeout_ms, row_lease_ms, backend_pid, postmaster_start, host,
                    pid, created_on, applied_version)
select n.name, n.number, n.number, 3600000, 3599500, 1, now(), 'here', 7, now() - (9 - n.number) * interval '1 h', 2
from (values ('alpha', 1), ('beta', 2)) n (name, number);
insert into t_grant values (11, 'alpha', 1, '{[-1,50)}', now() - interval '1 h'),
                           (12, 'beta', 2, '{[50,100)}', now() + interval '5 ms');
insert into t_target values ('alpha', '{[-1,50)}', 2), ('beta', '{[50,100)}', 2);
insert into t_rebalance (triggered_at, trigger_reason, leader_node, nodes_before, nodes_after, tokens_moved,
                         duration_ms, plan_version, moves)
values (now() - interval '2 h', 'start', 'alpha', 0, 1, 100, 3, 1,
        '[{"from": null, "to": "alpha", "tokens": "{[0,100)}"}]'),
       (now(), 'join', 'alpha', 1, 2, 50, 4, 2,
        '[{"from": "alpha", "to": "beta", "tokens": "{[50,100)}"}]');
insert into t_handover (tokens, from_node, uncovered_at, to_node, epoch, plan_version, granted_at)
values ('{[0,100)}', null, null, 'alpha', 11, 1, now() - interval '2 h' + interval '9 ms'),
       ('{[50,100)}', 'alpha', now() + interval '2 ms', 'beta', 12, 2, now() + interval '5 ms');
"""


@pytest.fixture(autouse=True)
def searched_as_before() -> Iterator[None]:
    """Let this process be searched for garbage as before: a command's own process ends, and is spared that."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, server_dsn: str, prefix: str) -> Command:
    """Give a caller of the command on this test's fleet, whose tables stand."""
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    monkeypatch.setenv("SYNC_DSN", server_dsn)
    monkeypatch.setenv("SYNC_SQL_APPNAME", prefix)
    migrate(settings(server_dsn, prefix))
    return lambda *arguments, **given: CliRunner().invoke(app, arguments, **given)


@pytest.fixture
def sql(server_dsn: str, prefix: str) -> Callable[[str], list[tuple[Any, ...]]]:
    """Give a runner of SQL in which `t_` stands for the test's prefix."""

    def run_sql(text: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(server_dsn, autocommit=True) as conn:
            cursor = conn.execute(text.replace(" t_", f" {prefix}").encode())
            return cursor.fetchall() if cursor.description else []

    return run_sql


@pytest.fixture
def two_nodes(run: Command, sql: Callable[[str], Any]) -> None:
    """Write the rows of a small fleet that is well."""
    sql(TWO_NODES)
