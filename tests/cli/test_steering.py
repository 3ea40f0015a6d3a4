"""`jobsync cordon`, `drain`, `freeze`, `resume`: what they say, record and refuse."""

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from jobsync.api.cluster import Cluster
from jobsync.api.fleet_values import NodeLoad
from jobsync.cli.shared import seconds_of
from jobsync.core.errors import InvalidArgument
from tests.cli.conftest import Command

Sql = Callable[[str], list[tuple[Any, ...]]]


@pytest.mark.usefixtures("two_nodes")
def test_a_cordon_and_a_drain_are_recorded_with_who_and_when_and_end_with_resume(run: Command, sql: Sql) -> None:
    assert "node 'alpha' is cordoned" in run("cordon", "alpha", "--reason", "why").stdout
    again = run("cordon", "alpha")
    assert (again.exit_code, again.stdout) == (1, "")
    assert "jobsync resume alpha" in run("drain", "alpha").stdout
    (ended, stands) = sql("select verb, reason, asked_by, ended_at is not null from t_steering order by id")
    assert (ended[0], ended[1], ended[3]) == ("cordon", "why", True)
    assert (stands[0], stands[3]) == ("drain", False)
    assert "@" in stands[2]
    assert "node 'alpha' takes part again: drain of " in run("resume", "alpha").stdout
    assert run("resume", "alpha").exit_code == 1


@pytest.mark.usefixtures("two_nodes")
def test_a_drain_may_end_by_itself(run: Command, sql: Sql) -> None:
    assert "gets nothing for 10m, or until `jobsync resume alpha`" in run("drain", "alpha", "--for", "10m").stdout
    left = "select extract(epoch from ends_at - asked_at)::integer from t_steering"
    assert sql(left) == [(600,)]
    assert run("drain", "alpha", "--for", "now").exit_code == 2


@pytest.mark.usefixtures("two_nodes")
def test_a_freeze_says_until_when_and_status_shows_it(run: Command) -> None:
    assert "until `jobsync resume`" in run("freeze").stdout
    assert run("freeze").exit_code == 1
    text = run("freeze", "--for", "10m").stdout
    assert text.startswith("the fleet is frozen until 20")
    assert "; frozen by " in run("status").stdout
    status = json.loads(run("status", "--json").stdout)
    assert (status["frozen"], [each["verb"] for each in status["steering"]]) == (True, ["freeze"])
    assert run("resume").exit_code == 0
    assert json.loads(run("status", "--json").stdout)["frozen"] is False


@pytest.mark.usefixtures("two_nodes")
def test_everything_is_resumed_at_once(run: Command) -> None:
    run("freeze")
    run("cordon", "beta")
    assert json.loads(run("drain", "alpha", "--json").stdout) == {"verb": "drain", "node": "alpha", "changed": True}
    ended = json.loads(run("resume", "--all", "--json").stdout)["ended"]
    assert sorted(each["verb"] for each in ended) == ["cordon", "drain", "freeze"]
    assert run("resume", "--all").exit_code == 1


@pytest.mark.usefixtures("two_nodes")
def test_waiting_for_a_drain_ends_when_nothing_is_held_or_the_time_is_over(run: Command, sql: Sql) -> None:
    late = run("drain", "beta", "--wait", "0.2s")
    assert late.exit_code == 1
    assert "still holds 50 tokens and 0 jobs" in late.stderr
    sql("delete from t_grant where node = 'beta'")
    assert (
        run("drain", "beta", "--wait", "5s").stdout == "node 'beta' is drained and holds nothing: it may be stopped\n"
    )


@pytest.mark.usefixtures("two_nodes")
def test_a_look_that_takes_long_is_a_part_of_the_time_to_wait(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what a pod may take for its end is over before SIGTERM comes."""
    looks = list[str]()

    def slow(_: Cluster, node: str) -> NodeLoad:
        looks.append(node)
        threading.Event().wait(0.3)
        return NodeLoad(tokens=0, jobs=1)

    monkeypatch.setattr(Cluster, "load_of", slow)
    assert run("drain", "beta", "--wait", "0.5s").exit_code == 1
    assert len(looks) <= 3


@pytest.mark.usefixtures("two_nodes")
@pytest.mark.parametrize("arguments", [("drain", "ghost"), ("cordon", ""), ("freeze", "--for", "ever"), ("resume", "")])
def test_what_cannot_be_meant_is_refused_and_nothing_is_written(
    run: Command, sql: Sql, arguments: tuple[str, ...]
) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert sql("select 1 from t_steering") == []


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86_400), ("1.5 min", 90), ("45", 45)]
)
def test_times_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-5m", "5 weeks", "inf", "1e9h", "٣m", "9" * 400])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="no time"):
        seconds_of(text)


def test_the_command_completes_itself_in_the_shell(run: Command) -> None:
    typed = {"_JOBSYNC_COMPLETE": "complete_bash", "COMP_WORDS": "jobsync dr", "COMP_CWORD": "1"}
    assert run(env=typed, prog_name="jobsync").stdout.split() == ["drain"]
