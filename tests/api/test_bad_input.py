# ruff: noqa: PT012 - what raises is the end of a transaction or a loop, and its body is the test.
"""Bad input, case by case: it is refused at the call or passed on, it is told, and nothing is half written."""

import logging
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import psycopg
import pytest

from jobsync import InvalidArgument, Job, JobsyncError, Task
from jobsync.runtime import ledger
from jobsync.runtime.clock import boot_sec
from tests.api.jobs import eventually, query, settings
from tests.servers import PrivateServer

NUL_ID = "a\0b"


@pytest.fixture(params=[None, "r"], ids=["without a run", "in a run"])
def job(server_dsn: str, prefix: str, request: pytest.FixtureRequest) -> Iterator[Job]:
    with Job("a", coordination_config=settings(server_dsn, prefix), run=request.param) as job:
        yield job


@pytest.fixture
def rows(server_dsn: str, prefix: str) -> Callable[[str], list[Any]]:
    """List the items of a table: claim, audit; or the tasks of lock."""
    column = {"lock": "task_id"}
    return lambda table: [
        item for (item,) in query(server_dsn, f"select {column.get(table, 'item')} from {prefix}{table} order by 1")
    ]


# --- locks: patterns -----------------------------------------------------------------------------


@pytest.mark.parametrize("patterns", [[], (), "", [""], [1], [None], ["a", 3], ["a", ""], None, 7, {"a"}, ["a\0"]])
def test_patterns_that_are_no_list_of_texts_store_nothing(
    job: Job, rows: Callable[[str], list[str]], patterns: Any
) -> None:
    with pytest.raises(InvalidArgument, match="'x'"):
        job.register_lock("x", patterns)
    with pytest.raises(InvalidArgument, match="'x'"):
        job.register_locks_bulk([("good", "a", None), ("x", patterns, None)])
    assert rows("lock") == []


# --- ids -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda job: job.can_claim_task(NUL_ID),
        lambda job: job.task_to_token(NUL_ID),
        lambda job: job.get_my_task_ids(["x", NUL_ID]),
        lambda job: job.add_task(NUL_ID),
        lambda job: job.set_claim(["x", NUL_ID]),
        lambda job: job.claim(NUL_ID),
        lambda job: job.transaction(NUL_ID).__enter__(),
        lambda job: job.register_lock(NUL_ID, "a"),
        lambda job: job.register_locks_bulk([("x", "a", None), (NUL_ID, "a", None)]),
        lambda job: Task(NUL_ID),
    ],
)
def test_a_task_id_with_nul_is_refused_and_nothing_is_written(
    job: Job, rows: Callable[[str], list[str]], call: Callable[[Job], object]
) -> None:
    with pytest.raises(InvalidArgument, match="NUL"):
        call(job)
    job.get_audit()
    assert rows("claim") == rows("audit") == rows("lock") == []


def test_an_id_with_nul_among_others_ends_the_loop_and_keeps_what_was_done(
    job: Job, rows: Callable[[str], list[str]]
) -> None:
    seen = []
    with pytest.raises(InvalidArgument, match="NUL"):
        for task in job.tasks(["x", NUL_ID, "y"]):
            seen.append(task.id)
    assert seen == ["x"]
    assert [row["item"] for row in job.get_audit()] == ["x"]
    job.tasks([]).close()
    assert rows("claim") == ["x"]


# --- dates and runs ------------------------------------------------------------------------------


@pytest.mark.parametrize("day", ["yesterday", "2026-02-30", "2026-13-01", "", "22.11.2026", 20261122, 1.5, ("2026",)])
def test_a_date_that_is_no_date_is_refused_when_the_job_is_made(server_dsn: str, prefix: str, day: Any) -> None:
    with pytest.raises((InvalidArgument, TypeError), match="date"):
        Job("a", coordination_config=settings(server_dsn, prefix), date=day)


@pytest.mark.parametrize("run", ["", "a\0b", 7, b"r", "x" * 501])
def test_a_run_that_is_no_name_is_refused_when_the_job_is_made(server_dsn: str, prefix: str, run: Any) -> None:
    with pytest.raises(InvalidArgument, match="run="):
        Job("a", coordination_config=settings(server_dsn, prefix), run=run)


# --- sources and bodies that raise ---------------------------------------------------------------


def test_a_generator_that_raises_passes_its_error_and_leaves_no_claim_open(
    job: Job, rows: Callable[[str], list[str]]
) -> None:
    def source() -> Iterator[int]:
        yield from range(5)
        raise OSError("the list is torn")

    seen = []
    with pytest.raises(OSError, match="torn"), job.tasks(source()) as tasks:
        for task in tasks:
            seen.append(task.id)
    assert seen == list(range(5))
    assert sorted(row["item"] for row in job.get_audit()) == rows("claim") == [str(number) for number in range(5)]
    assert [task.id for task in job.tasks(["after"])] == ["after"]


def test_a_callable_that_raises_at_once_passes_its_error(job: Job, rows: Callable[[str], list[str]]) -> None:
    def source() -> Iterator[int]:
        raise OSError("no list")

    with pytest.raises(OSError, match="no list"):
        list(job.tasks(source))
    assert rows("claim") == []


def test_a_body_that_raises_leaves_its_task_undone_and_releases_the_rest_at_once(
    job: Job, rows: Callable[[str], list[str]]
) -> None:
    with pytest.raises(KeyError), job.tasks(range(200)) as tasks:
        for task in tasks:
            if task.id == 50:
                raise KeyError
    done = sorted(str(number) for number in range(50))
    assert sorted(row["item"] for row in job.get_audit()) == done
    assert rows("claim") == done
    assert [task.id for task in job.tasks(range(50, 60))] == list(range(50, 60))


def test_a_body_that_raises_outside_a_block_releases_the_rest_with_the_next_loop(
    job: Job, rows: Callable[[str], list[str]]
) -> None:
    with pytest.raises(KeyError):
        for task in job.tasks(range(200)):
            if task.id == 50:
                raise KeyError
    assert [task.id for task in job.tasks([50])] == [50]
    assert len(job.get_audit()) == 51
    assert rows("claim") == sorted(str(number) for number in range(51))


# --- transactions --------------------------------------------------------------------------------


@pytest.fixture
def results(server_dsn: str, prefix: str) -> str:
    table = f"{prefix}results"
    query(server_dsn, f"create table {table} (item text, other text, unique (other) deferrable initially deferred)")
    return table


def break_session(conn: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.OperationalError):
        conn.execute("select pg_terminate_backend(pg_backend_pid())")


def swallow_error(conn: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        conn.execute("select 1/0")


SPOILERS = {
    "closed": lambda conn: conn.close(),
    "rolled back by SQL": lambda conn: conn.execute("rollback"),
    "ended by the server": break_session,
    "failed, and the error swallowed": swallow_error,
}


@pytest.mark.parametrize("spoil", SPOILERS.values(), ids=SPOILERS)
def test_a_transaction_whose_connection_was_spoilt_is_told_and_writes_nothing(
    job: Job, server_dsn: str, results: str, spoil: Callable[[psycopg.Connection[Any]], object]
) -> None:
    with pytest.raises(JobsyncError, match="the transaction of task 'x' is over"), job.transaction("x") as conn:
        conn.execute(f"insert into {results} values ('x')".encode())
        spoil(conn)
    assert query(server_dsn, f"select item from {results}") == []
    assert job.get_audit() == []


def test_a_commit_by_sql_is_told_and_the_task_does_not_count_as_done(job: Job) -> None:
    with pytest.raises(JobsyncError, match="leave commit and rollback to"), job.transaction("x") as conn:
        conn.execute("commit")
    assert job.get_audit() == []


def test_a_spoilt_transaction_in_a_loop_that_goes_on_leaves_the_task_undone(job: Job, rows: Any) -> None:
    failed = False
    for task in job.tasks(["x", "y"]):
        try:
            with job.transaction(task) as conn:
                if task.id == "x" and not failed:
                    failed = True
                    conn.close()
        except JobsyncError:
            assert failed
    in_run = job._run is not None
    # A run comes back to it; a single walk leaves it undone and unclaimed.
    assert sorted(row["item"] for row in job.get_audit()) == (["x", "y"] if in_run else ["y"])
    assert rows("claim") == (["x", "y"] if in_run else ["y"])


def test_a_task_that_failed_and_was_tried_again_in_its_body_counts_as_done_once(job: Job, rows: Any) -> None:
    for task in job.tasks(["x"]):
        with pytest.raises(KeyError), job.transaction(task):
            raise KeyError
        with job.transaction(task):
            pass
    assert [row["item"] for row in job.get_audit()] == rows("claim") == ["x"]


def test_a_constraint_deferred_to_the_end_passes_its_own_error_and_writes_nothing(
    job: Job, server_dsn: str, results: str
) -> None:
    with pytest.raises(psycopg.errors.UniqueViolation), job.transaction("x") as conn:
        conn.execute(f"insert into {results} values ('x', 'same'), ('x', 'same')".encode())
    assert query(server_dsn, f"select item from {results}") == []
    assert job.get_audit() == []


# --- audits while the database is away -----------------------------------------------------------


def test_audits_written_while_the_database_is_away_are_told_and_written_when_it_is_back(
    private_server: PrivateServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with Job("a", coordination_config=settings(private_server.dsn, "sync_"), date="2026-11-22") as job:
        for number in range(20):
            assert job.add_task(number)
        private_server.stop("immediate")
        began_sec = boot_sec()
        job.write_audit()
        assert boot_sec() - began_sec < 15.0
        eventually(lambda: "claims and audits wait for the database" in caplog.text, "it is told")
        private_server.start()
        done = "select count(*) from sync_audit where node = 'a' and date = '2026-11-22'"
        eventually(lambda: query(private_server.dsn, done) == [(20,)], "the audits are written")
        assert job.date == date(2026, 11, 22)


def test_what_can_be_kept_for_a_database_that_is_away_is_bounded_and_nothing_is_forgotten(
    private_server: PrivateServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MOST_PENDING", 20)
    with Job("a", coordination_config=settings(private_server.dsn, "sync_")) as job:
        for number in range(30):
            assert job.add_task(number)
        with pytest.raises(JobsyncError, match="no more can be kept"):
            job.write_audit()
        assert query(private_server.dsn, "select item from sync_audit") == []
        monkeypatch.setattr(ledger, "MOST_PENDING", 30)
        job.write_audit()
        assert query(private_server.dsn, "select count(*) from sync_audit") == [(30,)]
