"""Entering: what is accepted, what is refused before anything is written, how long it waits, what it leaves behind."""

import threading
from contextlib import ExitStack
from datetime import date, datetime

import pytest

from jobsync import (
    ConfigMismatch,
    CoordinationConfig,
    DatabaseUnavailable,
    EnterTimeout,
    InvalidArgument,
    InvalidSettings,
    Job,
    JobsyncError,
    NotRunning,
)
from jobsync.runtime.clock import boot_sec
from tests.api.jobs import TOKENS, eventually, in_thread, query, settings


def tables_with(dsn: str, prefix: str) -> int:
    count = query(dsn, "select count(*) from pg_class where starts_with(relname, %s)", prefix)[0][0]
    assert isinstance(count, int)
    return count


def names_in(dsn: str, prefix: str) -> list[str]:
    return [row[0] for row in query(dsn, f"select name from {prefix}node order by name")]


# --- forms ---------------------------------------------------------------------------------------


def test_a_name_alone_makes_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("SYNC_DSN", "SYNC_SQL_HOST"):
        monkeypatch.delenv(variable, raising=False)
    assert Job("w1").node_name == "w1"


def test_the_second_position_is_the_environment(server_dsn: str, prefix: str) -> None:
    assert Job("w1", "production", settings(server_dsn, prefix)).environment == "production"


def test_the_third_position_is_a_config_and_gives_the_settings(server_dsn: str, prefix: str) -> None:
    with Job("w1", "production", settings(server_dsn, prefix)) as job:
        assert job.tables["Node"] == f"{prefix}node"


def test_an_environment_that_is_no_text_is_refused_at_the_call() -> None:
    with pytest.raises(InvalidArgument, match="environment"):
        Job("w1", 5)  # type: ignore[arg-type]


def test_coordination_config_by_name_gives_the_settings(server_dsn: str, prefix: str) -> None:
    with Job("w1", coordination_config=settings(server_dsn, prefix)) as job:
        assert len(job.my_tokens) == TOKENS


def test_the_environment_label_is_kept_in_the_node_table(server_dsn: str, prefix: str) -> None:
    with Job("w1", "staging", coordination_config=settings(server_dsn, prefix)):
        assert query(server_dsn, f"select environment from {prefix}node") == [("staging",)]


# --- refused at the call -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", 7, None])
def test_a_name_that_cannot_be_stored_is_refused_at_the_call(name: object) -> None:
    with pytest.raises(InvalidArgument, match="node_name"):
        Job(name, coordination_config=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("wait_sec", [-1, float("nan"), float("inf"), "5", True])
def test_a_wait_that_is_no_number_of_seconds_is_refused_at_the_call(wait_sec: object) -> None:
    with pytest.raises(InvalidArgument, match="wait_on_enter"):
        Job("w1", coordination_config=None, wait_on_enter=wait_sec)  # type: ignore[arg-type]


@pytest.mark.parametrize("day", ["yesterday", 20261122, "2026-13-01"])
def test_a_date_that_is_none_is_refused_at_the_call(day: object) -> None:
    with pytest.raises(InvalidArgument, match="date"):
        Job("w1", coordination_config=None, date=day)  # type: ignore[arg-type]


@pytest.mark.parametrize("run", ["", "a\0b"])
def test_a_run_without_a_name_is_refused_at_the_call(run: str) -> None:
    with pytest.raises(InvalidArgument, match="run"):
        Job("w1", coordination_config=CoordinationConfig(), run=run)


def test_a_coordination_config_of_another_type_is_refused_at_the_call() -> None:
    with pytest.raises(InvalidSettings, match="CoordinationConfig"):
        Job("w1", coordination_config={"dsn": "x"})  # type: ignore[arg-type]


def test_an_unknown_hash_function_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="crc32"):
        CoordinationConfig(hash_function="crc32")


def test_a_timeout_not_above_twice_its_interval_is_refused_with_both_figures() -> None:
    with pytest.raises(ValueError, match=r"heartbeat_timeout_sec=10 .*heartbeat_interval_sec=5"):
        CoordinationConfig(heartbeat_interval_sec=5, heartbeat_timeout_sec=10)


def test_a_refused_argument_leaves_nothing_in_the_database(server_dsn: str, prefix: str) -> None:
    with pytest.raises(InvalidArgument):
        Job("", coordination_config=settings(server_dsn, prefix))
    assert tables_with(server_dsn, prefix) == 0


def test_making_a_job_touches_no_database(server_dsn: str, prefix: str) -> None:
    Job("w1", coordination_config=settings(server_dsn, prefix))
    assert tables_with(server_dsn, prefix) == 0


# --- entering and leaving ------------------------------------------------------------------------


def test_entering_returns_with_the_first_tokens_in_hand(server_dsn: str, prefix: str) -> None:
    with Job("w1", coordination_config=settings(server_dsn, prefix)) as job:
        assert set(job.my_tokens) == set(range(TOKENS))


def test_two_nodes_share_the_tokens_evenly_and_exclusively(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("a", coordination_config=given) as a, Job("b", coordination_config=given) as b:
        eventually(lambda: (len(a.my_tokens), len(b.my_tokens)) == (TOKENS // 2, TOKENS // 2))
        assert not a.my_tokens & b.my_tokens


def test_leaving_deletes_the_row(server_dsn: str, prefix: str) -> None:
    with Job("w1", coordination_config=settings(server_dsn, prefix)):
        assert names_in(server_dsn, prefix) == ["w1"]
    assert names_in(server_dsn, prefix) == []


def test_leaving_hands_the_tokens_over_at_once(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("a", coordination_config=given) as a:
        with Job("b", coordination_config=given):
            pass
        eventually(lambda: len(a.my_tokens) == TOKENS, limit_sec=2.0)


def test_leaving_while_the_body_raises_is_graceful_too(server_dsn: str, prefix: str) -> None:
    with pytest.raises(KeyError), Job("w1", coordination_config=settings(server_dsn, prefix)):
        raise KeyError
    assert names_in(server_dsn, prefix) == []


def test_a_job_that_is_entered_cannot_be_entered_again(server_dsn: str, prefix: str) -> None:
    with Job("w1", coordination_config=settings(server_dsn, prefix)) as job:
        with pytest.raises(NotRunning, match="entered already"):
            job.__enter__()
        assert len(job.my_tokens) == TOKENS


def test_leaving_twice_does_no_harm(server_dsn: str, prefix: str) -> None:
    with Job("w1", coordination_config=settings(server_dsn, prefix)) as job:
        job.__exit__(None, None, None)
        job.__exit__(None, None, None)
    assert names_in(server_dsn, prefix) == []


def test_after_leaving_it_owns_nothing(server_dsn: str, prefix: str) -> None:
    with Job("w1", coordination_config=settings(server_dsn, prefix)) as job:
        assert job.can_claim_task("x")
    assert not job.can_claim_task("x")
    assert len(job.my_tokens) == 0


def test_after_leaving_its_methods_say_what_to_do(server_dsn: str, prefix: str) -> None:
    with Job("w1", coordination_config=settings(server_dsn, prefix)) as job:
        pass
    with pytest.raises(NotRunning, match="inside its `with` block"):
        job.get_audit()


def test_no_thread_outlives_the_job(server_dsn: str, prefix: str) -> None:
    before = set(threading.enumerate())
    with Job("w1", coordination_config=settings(server_dsn, prefix), on_tokens_added=lambda tokens: None) as job:
        job.add_task("x")
        job.write_audit()
    eventually(lambda: set(threading.enumerate()) <= before, "threads of the job end")


def test_no_session_outlives_the_job(server_dsn: str, prefix: str) -> None:
    with Job("w1", coordination_config=settings(server_dsn, prefix)) as job:
        job.get_audit()
        sessions = "select count(*) from pg_stat_activity where query like %s and pid <> pg_backend_pid()"
        assert query(server_dsn, sessions, f"%{prefix}%") != [(0,)]
    eventually(lambda: query(server_dsn, sessions, f"%{prefix}%") == [(0,)])


# --- how long it waits ---------------------------------------------------------------------------


def test_without_a_wait_entering_is_fast(server_dsn: str, prefix: str) -> None:
    with Job("warm", coordination_config=settings(server_dsn, prefix)):
        began_sec = boot_sec()
        with Job("w1", coordination_config=settings(server_dsn, prefix)):
            assert boot_sec() - began_sec < 2.0


def test_a_wait_in_seconds_is_waited_in_full(server_dsn: str, prefix: str) -> None:
    began_sec = boot_sec()
    with Job("w1", coordination_config=settings(server_dsn, prefix), wait_on_enter=0.7):
        assert boot_sec() - began_sec >= 0.7


@pytest.mark.parametrize("given", [{"wait_on_enter": 60.0}, {}])
def test_a_stop_ends_the_wait_of_entering(server_dsn: str, prefix: str, given: dict[str, float]) -> None:
    job = Job("w1", coordination_config=settings(server_dsn, prefix, minimum_nodes=2), **given)  # type: ignore[arg-type]
    began_sec = boot_sec()

    def stop_it() -> None:
        eventually(lambda: tables_with(server_dsn, f"{prefix}node") and names_in(server_dsn, prefix) == ["w1"])
        job.stop()

    with in_thread(stop_it), job:
        assert job.wait(0)
        assert list(job.tasks(["x"])) == []
    assert boot_sec() - began_sec < 20
    assert names_in(server_dsn, prefix) == []


def test_too_few_nodes_end_the_wait_with_both_counts(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix, minimum_nodes=3, token_distribution_timeout_sec=0.6)
    with pytest.raises(EnterTimeout, match=r"for 3 live nodes and saw 1"):
        Job("w1", coordination_config=given).__enter__()


def test_a_wait_in_seconds_ends_with_both_counts_too(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix, minimum_nodes=2)
    with pytest.raises(TimeoutError, match=r"for 2 live nodes and saw 1"):
        Job("w1", coordination_config=given, wait_on_enter=0.3).__enter__()


def test_a_node_that_waited_in_vain_has_left_the_cluster(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix, minimum_nodes=3, token_distribution_timeout_sec=0.5)
    with pytest.raises(EnterTimeout):
        Job("w1", coordination_config=given).__enter__()
    assert names_in(server_dsn, prefix) == []
    assert query(server_dsn, f"select * from {prefix}grant") == []


def test_entering_waits_for_the_others_and_returns_when_they_are_there(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix, minimum_nodes=2, token_distribution_timeout_sec=20)
    both = threading.Barrier(2)

    def second() -> None:
        eventually(lambda: names_in(server_dsn, prefix) == ["a"])
        with Job("b", coordination_config=given):
            both.wait(20)

    with Job("schema", coordination_config=settings(server_dsn, prefix)):
        pass
    with in_thread(second), Job("a", coordination_config=given) as a:
        assert a.status().live_nodes == 2
        both.wait(20)


def test_many_nodes_may_start_at_once_on_an_empty_database(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix, minimum_nodes=6, token_distribution_timeout_sec=10)
    together, shares = threading.Barrier(6), list[int]()

    def node(name: str) -> None:
        together.wait(10)
        with Job(name, coordination_config=given) as job:
            eventually(lambda: 16 <= len(job.my_tokens) <= 17)
            shares.append(len(job.my_tokens))
            together.wait(20)

    with ExitStack() as fleet:
        for number in range(6):
            fleet.enter_context(in_thread(lambda name=f"w{number}": node(name)))  # type: ignore[misc]
    assert sum(shares) == TOKENS


def test_more_nodes_than_tokens_enter_and_the_last_ones_hold_none(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix, total_tokens=2)
    with ExitStack() as fleet:
        jobs = [fleet.enter_context(Job(f"w{n}", coordination_config=given)) for n in range(4)]
        eventually(lambda: sorted(len(job.my_tokens) for job in jobs) == [0, 0, 1, 1])
        assert all(job.am_i_healthy() for job in jobs)


def test_a_node_that_holds_none_takes_over_when_another_leaves(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix, total_tokens=1)
    with ExitStack() as fleet:
        first = fleet.enter_context(Job("a", coordination_config=given))
        second = fleet.enter_context(Job("b", coordination_config=given))
        assert len(second.my_tokens) == 0
        first.__exit__(None, None, None)
        eventually(lambda: len(second.my_tokens) == 1)


# --- the lock provider ---------------------------------------------------------------------------


def test_the_lock_provider_is_called_with_the_job_before_it_joins(server_dsn: str, prefix: str) -> None:
    seen: list[tuple[Job, list[str]]] = []
    job = Job(
        "w1",
        coordination_config=settings(server_dsn, prefix),
        lock_provider=lambda job: seen.append((job, names_in(server_dsn, prefix))),
    )
    with job:
        assert seen == [(job, [])]


def test_a_lock_provider_that_raises_leaves_no_row_and_its_error_passes(server_dsn: str, prefix: str) -> None:
    def broken(job: Job) -> None:
        raise LookupError("no such list")

    job = Job("w1", coordination_config=settings(server_dsn, prefix), lock_provider=broken)
    with pytest.raises(LookupError, match="no such list"):
        job.__enter__()
    assert names_in(server_dsn, prefix) == []


# --- names and agreements ------------------------------------------------------------------------


def test_a_node_with_another_number_of_tokens_is_told_both(server_dsn: str, prefix: str) -> None:
    with Job("a", coordination_config=settings(server_dsn, prefix, heartbeat_interval_sec=0.5)):
        other = Job("b", coordination_config=settings(server_dsn, prefix, total_tokens=60))
        with pytest.raises(ConfigMismatch, match=r"total_tokens=60 .*total_tokens=100"):
            other.__enter__()


def test_a_node_with_another_hash_function_is_told_both(server_dsn: str, prefix: str) -> None:
    with Job("a", coordination_config=settings(server_dsn, prefix, heartbeat_interval_sec=0.5)):
        other = Job("b", coordination_config=settings(server_dsn, prefix, hash_function="md5"))
        with pytest.raises(ConfigMismatch, match=r"'md5'.*'double_sha256'"):
            other.__enter__()


def test_a_refused_node_leaves_the_fleet_as_it_was(server_dsn: str, prefix: str) -> None:
    with Job("a", coordination_config=settings(server_dsn, prefix, heartbeat_interval_sec=0.5)) as a:
        with pytest.raises(ConfigMismatch):
            Job("b", coordination_config=settings(server_dsn, prefix, total_tokens=60)).__enter__()
        assert names_in(server_dsn, prefix) == ["a"]
        assert len(a.my_tokens) == TOKENS


def test_with_nobody_alive_the_new_number_of_tokens_is_taken(server_dsn: str, prefix: str) -> None:
    with Job("a", coordination_config=settings(server_dsn, prefix)):
        pass
    with Job("b", coordination_config=settings(server_dsn, prefix, total_tokens=60)) as b:
        assert set(b.my_tokens) == set(range(60))


# --- dates ---------------------------------------------------------------------------------------


def test_the_date_is_the_databases_by_default(server_dsn: str, prefix: str) -> None:
    with Job("w1", coordination_config=settings(server_dsn, prefix)) as job:
        assert job.date == query(server_dsn, "select current_date")[0][0]


@pytest.mark.parametrize("given", [date(2026, 11, 22), datetime(2026, 11, 22, 23, 5), "2026-11-22"])  # noqa: DTZ001
def test_a_date_may_be_given_in_three_forms(server_dsn: str, prefix: str, given: date | datetime | str) -> None:
    with Job("w1", coordination_config=settings(server_dsn, prefix), date=given) as job:
        assert job.date == date(2026, 11, 22)


# --- a database that is not there ----------------------------------------------------------------


def test_a_date_other_than_the_runs_has_no_effect_and_a_warning_says_so(
    server_dsn: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    for day in ("2024-02-29", "2024-03-01"):
        with Job("w1", coordination_config=settings(server_dsn, prefix), run="leap", date=day) as job:
            assert str(job.date) == "2024-02-29"
    assert "the given date 2024-03-01 has no effect" in caplog.text


def test_no_server_is_told_by_host_port_and_database(prefix: str) -> None:
    given = CoordinationConfig(host="127.0.0.1", port=1, dbname="crm", password="hush-hush", appname=prefix)
    with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1:1, database 'crm'") as caught:
        Job("w1", coordination_config=given).__enter__()
    assert "hush-hush" not in str(caught.value)


def test_every_error_of_entering_is_a_jobsync_error_and_the_built_in() -> None:
    given = CoordinationConfig(host="127.0.0.1", port=1)
    with pytest.raises(ConnectionError) as caught:
        Job("w1", coordination_config=given).__enter__()
    assert isinstance(caught.value, JobsyncError)


# --- what a server's choice of plan must not change ----------------------------------------------


def test_a_node_whose_tokens_have_holes_leaves_at_once_whatever_plan_the_server_chooses(
    server_dsn: str, prefix: str
) -> None:
    # Through a GiST index a multirange with holes is not found by `<@`, not even by itself (PostgreSQL 18.6).
    by_index = f"{server_dsn} options='-c enable_seqscan=off'"
    given = settings(by_index, prefix)
    with Job("a", coordination_config=given) as a, Job("b", coordination_config=given) as b:
        eventually(lambda: len(b.my_tokens) == TOKENS // 2)
        hole = sorted(a.my_tokens)[TOKENS // 4]
        query(
            server_dsn,
            f"insert into {prefix}lock (task_id, token_id, node_patterns) values ('x', %s, '[\"b\"]')",
            hole,
        )
        eventually(lambda: hole in b.my_tokens)
        eventually(lambda: a.my_tokens.pieces > 1)
        began_sec = boot_sec()
        a.__exit__(None, None, None)
        assert boot_sec() - began_sec < 3.0
        eventually(lambda: len(b.my_tokens) == TOKENS, limit_sec=3.0)
