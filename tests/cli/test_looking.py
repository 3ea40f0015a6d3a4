"""`jobsync nodes`, `tokens`, `history`, `explain`, `plan`, `locks`: their words, their JSON, their exit statuses."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from jobsync.core.hashing import double_sha256
from tests.cli.conftest import Command

Sql = Callable[[str], list[tuple[Any, ...]]]

EVIL = "[red]x[/]\x1b[31m\n" + "y" * 50


def one_of(low: int, high: int) -> str:
    """Find a task whose token is in a range."""
    return next(f"task-{n}" for n in range(10_000) if low <= double_sha256(f"task-{n}", 100) < high)


def found(result: Any) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.usefixtures("two_nodes")
def test_nodes_are_listed_with_what_is_asked_of_them(run: Command) -> None:
    run("drain", "beta", "--reason", "[b]new disk[/]")
    lines = run("nodes").stdout.splitlines()
    assert lines[1].split()[:4] == ["alpha", "leads", "50", "50.0%"]
    assert lines[2].split()[:3] == ["beta", "draining", "50"]
    assert lines[3].startswith("drain beta, by ")
    assert lines[3].endswith("[b]new disk[/]")
    told = found(run("nodes", "--json"))
    assert [(node["name"], node["steered"], node["is_leader"]) for node in told] == [
        ("alpha", None, True),
        ("beta", "drain", False),
    ]


@pytest.mark.usefixtures("two_nodes")
def test_tokens_are_listed_in_ranges_with_what_the_plan_wants(run: Command, sql: Sql) -> None:
    assert [line.split()[:4] for line in run("tokens").stdout.splitlines()[1:]] == [
        ["0", "49", "50", "alpha"],
        ["50", "99", "50", "beta"],
    ]
    assert run("tokens", "--unsettled").exit_code == 1
    sql("update t_grant set tokens = '{[50,90)}' where epoch = 12")
    (lost,) = found(run("tokens", "--unsettled", "--json"))
    assert (lost["first"], lost["end"], lost["size"], lost["node"], lost["intended"]) == (90, 100, 10, None, "beta")
    assert [each["end"] for each in found(run("tokens", "--node", "beta", "--json"))] == [90, 100]
    assert "and 2 more ranges" in run("tokens", "--limit", "1").stdout
    assert run("tokens", "--node", "nobody-of-that-name").exit_code == 1


@pytest.mark.usefixtures("two_nodes")
def test_the_history_tells_causes_and_times(run: Command) -> None:
    lines = run("history").stdout.splitlines()
    assert " join " in lines[1]
    assert lines[0].split()[-2:] == ["settled", "uncovered"]
    assert lines[1].split()[-6:] == ["4", "ms", "5", "ms", "3", "ms"]
    assert " start " in lines[2]
    assert lines[2].split()[-4:] == ["3", "ms", "9", "ms"], "nobody had them before"
    join, start = found(run("history", "--json"))
    assert (join["reason"], join["settled_ms"], join["uncovered_ms"]) == ("join", 5, 3)
    assert (start["settled_ms"], start["uncovered_ms"]) == (9, None)
    assert join["moves"] == [{"source": "alpha", "target": "beta", "tokens": 50, "ranges": [[50, 100]]}]
    one = run("history", str(join["id"])).stdout
    assert "50-99" in one
    assert run("history", "999999").exit_code == 1
    assert run("history", "--limit", "0").exit_code == 2


@pytest.mark.usefixtures("two_nodes")
def test_an_explanation_says_who_and_why(run: Command) -> None:
    task = one_of(50, 100)
    text = run("explain", task).stdout
    assert "beta, epoch 12, since " in text
    assert "no lock on its token" in text
    assert "beta, epoch 12, join, after 3 ms without an owner" in text
    assert [line.rstrip() for line in text.splitlines()][-1].endswith("alpha, epoch 11, start")
    told = found(run("explain", task, "--json"))
    assert (told["owner"], told["epoch"], told["owner_is_live"], len(told["past"])) == ("beta", 12, True, 2)
    assert [(past["node"], past["until"] is None) for past in told["past"]] == [("beta", True), ("alpha", False)]


@pytest.mark.usefixtures("two_nodes")
def test_a_task_that_nobody_has_is_exit_status_1(run: Command, sql: Sql) -> None:
    sql("delete from t_grant where epoch = 12")
    result = run("explain", one_of(50, 100))
    assert result.exit_code == 1
    assert "nobody" in result.stdout
    assert "planned for" in result.stdout
    assert "dealt evenly, and nobody's at this moment" in result.stdout
    assert "staying where it is" not in result.stdout


@pytest.mark.usefixtures("two_nodes")
def test_markup_and_what_a_terminal_would_obey_is_written_out(run: Command, sql: Sql) -> None:
    assert run("locks", "add", EVIL, "[bold]a[/]%", "alpha", "--reason", "[link=x]why[/]").exit_code == 0
    for shown in (run("explain", EVIL).stdout, run("locks", "list").stdout):
        assert "\x1b" not in shown
        assert r"[red]x[/]\x1b[31m\n" in shown
        assert "[link=x]why[/]" in shown
    assert "pattern 2 of 2, 'alpha'" in run("explain", EVIL).stdout
    renamed = 'jsonb_populate_record(n, \'{"name": "[b]n[/]"}\')'
    sql(f"insert into t_node select ({renamed}).* from t_node n where name = 'beta'")
    for command in ("nodes", "status"):
        assert "[b]n[/]" in run(command).stdout


@pytest.mark.usefixtures("two_nodes")
def test_a_key_of_a_hundred_thousand_letters_is_answered_shortly(run: Command) -> None:
    result = run("explain", "k" * 2000)
    assert result.exit_code == 0
    assert len(result.stdout) < 2000
    refused = run("explain", "k" * 100_000)
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (2, 1)
    assert len(refused.stderr) < 1000
    assert run("locks", "list", "--like", "k" * 100_000).exit_code == 1


@pytest.mark.usefixtures("two_nodes")
def test_a_dry_run_tells_what_would_move(run: Command, sql: Sql) -> None:
    text = run("plan", "--without", "beta").stdout
    assert text.startswith("if beta left: 50 of 100 tokens (50.0%) would move")
    told = found(run("plan", "--without", "beta", "--with", "gamma", "--with", "delta", "--json"))
    assert told["tokens_moved"] == 66
    assert {name: after for name, (_, after) in told["counts"].items()} == {
        "alpha": 34,
        "beta": 0,
        "gamma": 33,
        "delta": 33,
    }
    assert run("plan").exit_code == 2
    refused = run("plan", "--without", "nobody")
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (2, 1)
    assert "live are 'alpha', 'beta'" in refused.stderr
    assert sql("select plan_version from t_meta") == [(2,)]


def test_locks_are_added_listed_and_cleared(run: Command) -> None:
    assert run("locks", "list").exit_code == 1
    assert run("locks", "add", "t1", "gpu-%", "%", "--reason", "needs a gpu", "--expires-in", "2h").exit_code == 0
    assert run("locks", "add", "t2", "cpu-1").exit_code == 0
    first, second = found(run("locks", "list", "--json"))
    assert (first["task_id"], first["node_patterns"], first["reason"]) == ("t1", ["gpu-%", "%"], "needs a gpu")
    assert (first["expires_at"] is None, second["expires_at"]) == (False, None)
    assert "none matches" in run("locks", "list").stdout
    assert run("locks", "clear", "t1").stdout == "1 lock cleared\n"
    assert run("locks", "clear", "t1").exit_code == 1
    assert run("locks", "clear").exit_code == 2
    assert "--yes" in run("locks", "clear", "--all").stderr
    assert found(run("locks", "clear", "--all", "--yes", "--json")) == {"cleared": 1}


@pytest.mark.parametrize(
    "arguments",
    [
        ("locks", "add", "t", ""),
        ("locks", "add", "t", "a\\"),
        ("locks", "add", "t", "a", "--expires-in", "soon"),
        ("explain", "x"),
        ("plan", "--with", "x"),
        ("plan", "--with", ""),
    ],
)
def test_what_makes_no_sense_is_one_line_and_exit_status_2(run: Command, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert result.stderr.startswith("jobsync: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("nodes",),
        ("tokens",),
        ("history",),
        ("explain", "x"),
        ("plan", "--with", "x"),
        ("locks", "list"),
        ("drain", "x"),
    ],
)
def test_a_dead_database_is_one_line_without_the_password(run: Command, arguments: tuple[str, ...]) -> None:
    result = run(*arguments, "--dsn", "postgresql://me:hush-hush@127.0.0.1:1/nowhere")
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert "127.0.0.1:1" in result.stderr
    assert "hush-hush" not in result.stderr


@pytest.mark.parametrize(
    ("change", "word"),
    [("schema_version = schema_version - 1", "older"), ("oldest_program = schema_version + 1", "newer")],
)
def test_tables_of_another_version_are_one_line_and_nothing_is_done(
    run: Command, sql: Sql, change: str, word: str
) -> None:
    sql(f"update t_meta set {change}")
    for arguments in (("status",), ("nodes",), ("freeze",), ("locks", "add", "t", "a"), ("resume", "--all")):
        result = run(*arguments)
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
        assert word in result.stderr
    assert sql("select 1 from t_steering") == sql("select 1 from t_lock") == []
