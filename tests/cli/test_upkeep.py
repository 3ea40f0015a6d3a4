"""`jobsync doctor` and `prune`: each thing that is wrong is found, with its remedy."""

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from jobsync import JobQueue
from jobsync.api import doctor
from jobsync.postgres.statement import run as run_statement
from jobsync.postgres.statement import statement
from tests.api.jobs import settings
from tests.cli.conftest import Command

Sql = Callable[[str], list[tuple[Any, ...]]]


def problems(run: Command) -> dict[str, tuple[str, str]]:
    """Examine the fleet; give the problems by their look: text and remedy."""
    result = run("doctor", "--json")
    assert not result.stderr, result.stderr
    found = json.loads(result.stdout)
    assert result.exit_code == (0 if found["is_well"] else 1)
    return {each["check"]: (each["text"], each["remedy"]) for each in found["findings"] if each["level"] == "problem"}


@pytest.mark.usefixtures("two_nodes")
def test_a_fleet_that_is_well_has_no_problem(run: Command) -> None:
    # How quick this machine is at this moment is not what is tested.
    assert problems(run).keys() <= {"latency", "vacuum", "connections"}
    checks = {each["check"] for each in json.loads(run("doctor", "--json").stdout)["findings"]}
    assert checks == {
        "server", "connections", "pooler", "notify", "clock", "latency", "schema", "rights", "bloat", "vacuum", "nodes",
        "tokens", "locks", "queue",
    }  # fmt: skip


@pytest.mark.usefixtures("two_nodes")
def test_a_second_phase_that_is_still_to_be_done_is_noted(run: Command, sql: Sql) -> None:
    sql("update t_meta set oldest_program = 1, schema_version = schema_version + 1")
    found = json.loads(run("doctor", "--json").stdout)["findings"]
    levels = {(each["level"], each["remedy"] or each["text"]) for each in found if each["check"] == "schema"}
    assert {level for level, _ in levels} == {"ok", "note"}
    assert any("newer than this program's" in text for _, text in levels)
    assert any("jobsync migrate --phase post" in text for _, text in levels)


@pytest.mark.usefixtures("two_nodes")
def test_what_is_wrong_is_told_to_people_with_its_remedy_below(run: Command, sql: Sql) -> None:
    sql("delete from t_grant where epoch = 12")
    result = run("doctor")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("problem tokens"))
    assert "50 of 100 tokens are nobody's" in lines[place]
    assert lines[place + 1].strip().startswith("-> look again")
    assert "problem" in lines[-1]


@pytest.mark.usefixtures("two_nodes")
@pytest.mark.parametrize(
    ("damage", "check", "words", "remedy"),
    [
        ("update t_grant set tokens = '{[50,90)}' where epoch = 12", "tokens", "10 of 100", "look again"),
        (
            "update t_target set tokens = '{[60,100)}' where node = 'beta'",
            "tokens",
            "10 tokens are held by",
            "log says",
        ),
        ("update t_node set last_heartbeat = now() - interval '2 h'", "nodes", "no node is live", "start one"),
        (
            "update t_node set last_heartbeat = now() - interval '40 min' where incarnation = 2",
            "nodes",
            "lag: 'beta'",
            "CPU",
        ),
        (
            "update t_node set last_heartbeat = now() - interval '2 h' where incarnation = 2",
            "nodes",
            "not heard",
            "fence",
        ),
        ("update t_meta set quarantined = true", "quarantine", "fail-over", "wait"),
        ("update t_meta set schema_version = 1", "schema", "older", "jobsync migrate"),
        ("update t_meta set schema_version = 99, oldest_program = 99", "schema", "newer", "update jobsync here"),
        ("insert into t_lock (task_id, token_id, node_patterns) values ('t', 1, '[\"x\"]')", "locks", "'t'", "widen"),
    ],
)
def test_each_thing_that_is_wrong_is_found(
    run: Command, sql: Sql, damage: str, check: str, words: str, remedy: str
) -> None:
    sql(damage)
    text, told = problems(run)[check]
    assert words in text
    assert remedy in told
    assert "migrate" not in told or words == "older", "it would be refused"


@pytest.mark.usefixtures("two_nodes")
def test_tokens_that_are_nobodys_by_what_people_asked_are_told_so(run: Command, sql: Sql) -> None:
    sql("delete from t_grant where epoch = 12")
    for node in ("alpha", "beta"):
        run("cordon", node)
    assert "every live node is cordoned" in problems(run)["tokens"][1]
    run("freeze")
    assert "jobsync resume" in problems(run)["tokens"][1]


def test_jobs_that_nobody_knows_and_a_missing_fleet_are_found(run: Command, server_dsn: str, prefix: str) -> None:
    with JobQueue(settings(server_dsn, prefix)) as jobs:
        jobs.enqueue("resize it", None, queue="slow")
    found = problems(run)
    assert "1 jobs of kind 'resize it'" in found["queue"][0]
    assert found["queue"][1].endswith("or jobsync jobs cancel --all --kind 'resize it' --queue slow")
    assert found["nodes"] == ("no node is live", "start one")


@pytest.mark.usefixtures("two_nodes")
def test_dead_rows_and_whoever_holds_vacuum_back_are_found(
    run: Command, server_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "DEAD_ROWS", -1)
    monkeypatch.setattr(doctor, "DEAD_PER_LIVE", -1)
    monkeypatch.setattr(doctor, "HELD_BACK_SEC", 0)
    with psycopg.connect(server_dsn, application_name="sleeper") as conn:
        conn.execute("select 1")
        found = problems(run)
    assert "vacuum (analyze)" in found["bloat"][1]
    assert "holds vacuum back" in found["vacuum"][0]


@pytest.mark.usefixtures("two_nodes")
def test_a_notification_that_does_not_arrive_is_found(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobsync.postgres.inquiry.Inquiry.hear_itself", lambda *_: False)
    monkeypatch.setattr("jobsync.postgres.inquiry.Inquiry.is_direct", lambda *_: False)
    found = problems(run)
    assert "SYNC_SESSION_DSN" in found["notify"][1]
    assert "SYNC_SESSION_DSN" in found["pooler"][1]


def test_rights_that_are_missing_are_found(run: Command, sql: Sql, server_dsn: str, prefix: str) -> None:
    sql(f'create role "{prefix}weak"')
    try:
        sql(f'grant select on t_meta, t_node, t_grant, t_target, t_steering, t_lock, t_rebalance to "{prefix}weak"')
        with psycopg.connect(server_dsn, autocommit=True) as conn:
            conn.execute(f'set role "{prefix}weak"'.encode())
            query = statement("doctor_rights", prefix, prefix)
            missing = [row[0] for row in run_statement(conn, query)]
    finally:
        sql(f'drop owned by "{prefix}weak"; drop role "{prefix}weak"')
    assert f"insert on table {prefix}node" in missing
    assert f"select on table {prefix}node" not in missing
    asked = {each.removeprefix("usage on sequence ") for each in missing if each.startswith("usage on sequence")}
    # Those of identity columns need no right of their own.
    assert asked == {f"{prefix}epoch", f"{prefix}job_number"}


def test_a_database_that_cannot_be_asked_is_exit_status_2(run: Command) -> None:
    result = run("doctor", "--dsn", "postgresql://me:hush-hush@127.0.0.1:1/nowhere")
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)


def test_pruning_deletes_what_is_old_and_says_how_much(run: Command, sql: Sql) -> None:
    columns = "triggered_at, trigger_reason, leader_node, nodes_before, nodes_after, tokens_moved, duration_ms, moves"
    old = "now() - interval '40 days', 'join', 'a', 1, 2, 3, 4, '[]'"
    sql(f"insert into t_rebalance ({columns}, plan_version) values ({old}, 1)")
    assert run("prune").stdout == "pruned: old rows in 1 bite, 0 days of claims and audits, 0 ended jobs\n"
    assert sql("select 1 from t_rebalance") == []
    assert json.loads(run("prune", "--keep-jobs", "--json").stdout) == {"bites": 1, "days": 0, "jobs": 0}
    assert run("prune", "--jobs-older-than", "-1").exit_code == 2


def test_verbs_that_steer_the_queue_and_migrate_print_json_as_well(run: Command, server_dsn: str, prefix: str) -> None:
    with JobQueue(settings(server_dsn, prefix)) as jobs:
        number = str(jobs.enqueue("resize", None))
    said = [
        ("migrate", {"changed": False, "awaits_post": False}, 0),
        ("jobs pause", {"done": True}, 0),
        ("jobs resume", {"done": True}, 0),
        ("jobs resume", {"done": False}, 1),
        (f"jobs cancel {number}", {"done": True}, 0),
        (f"jobs cancel {number}", {"done": False}, 1),
        ("jobs retry --all --status cancelled --yes", {"done": 1}, 0),
        ("jobs retry --all --yes", {"done": 0}, 1),
    ]
    for words, expected, status in said:
        result = run(*words.split(), "--json")
        assert (json.loads(result.stdout), result.exit_code) == (expected, status), words


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        ("--print --from 4", 0, "schema_version"),
        ("--from 4", 2, "--from is for --print"),
        ("--print --from 99", 2, "there is no update from version 99"),
        ("--print --phase post", 2, "leave --phase out"),
    ],
)
def test_an_update_is_printed_from_a_version_on(run: Command, words: str, status: int, told: str) -> None:
    result = run("migrate", *words.split())
    assert result.exit_code == status
    assert told in result.output
