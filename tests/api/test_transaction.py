# ruff: noqa: PT012, SIM117 - what raises is the end of a transaction, and its body is the test.
"""`job.transaction`: the user's writes and the task's audit commit together, or not at all."""

import select
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import psycopg
import pytest

from jobsync import AlreadyDone, ConnectionsLent, Job, JobsyncError, OwnershipLost, TransactionLost
from jobsync.runtime.ledger import Ledger
from jobsync.runtime.place import TRANSACTIONS
from tests.api.jobs import eventually, in_thread, owned_by, query, settings


@pytest.fixture
def results(server_dsn: str, prefix: str) -> str:
    table = f"{prefix}results"
    query(server_dsn, f"create table {table} (item text)")
    return table


@pytest.fixture
def job(server_dsn: str, prefix: str) -> Iterator[Job]:
    with Job("a", coordination_config=settings(server_dsn, prefix), run="r") as job:
        yield job


def write(conn: psycopg.Connection[object], table: str, item: str) -> None:
    conn.execute(f"insert into {table} values (%s)".encode(), (item,))


def test_the_writes_and_the_audit_commit_together(job: Job, server_dsn: str, results: str) -> None:
    with job.transaction("x") as conn:
        write(conn, results, "x")
        assert query(server_dsn, f"select * from {results}") == []
        assert job.get_audit() == []
    assert query(server_dsn, f"select * from {results}") == [("x",)]
    assert [row["item"] for row in job.get_audit()] == ["x"]


def test_an_exception_rolls_both_back(job: Job, server_dsn: str, results: str) -> None:
    with pytest.raises(KeyError), job.transaction("x") as conn:
        write(conn, results, "x")
        raise KeyError
    assert query(server_dsn, f"select * from {results}") == []
    assert job.get_audit() == []


def test_after_an_exception_the_task_can_be_done_again(job: Job, server_dsn: str, results: str) -> None:
    with pytest.raises(KeyError), job.transaction("x"):
        raise KeyError
    with job.transaction("x") as conn:
        write(conn, results, "x")
    assert query(server_dsn, f"select * from {results}") == [("x",)]


def test_a_task_that_was_done_in_the_run_writes_nothing(job: Job, server_dsn: str, results: str) -> None:
    with job.transaction("x") as conn:
        write(conn, results, "x")
    with pytest.raises(AlreadyDone, match="run 'r'"), job.transaction("x") as conn:
        write(conn, results, "again")
    assert query(server_dsn, f"select * from {results}") == [("x",)]


def test_a_task_that_another_node_did_in_the_run_writes_nothing(
    job: Job, server_dsn: str, prefix: str, results: str
) -> None:
    query(server_dsn, f"insert into {prefix}audit (node, item, date, run) values ('b', 'x', %s, 'r')", job.date)
    with pytest.raises(AlreadyDone), job.transaction("x") as conn:
        write(conn, results, "again")
    assert query(server_dsn, f"select * from {results}") == []


def test_repeat_lets_a_task_be_done_again(job: Job, server_dsn: str, results: str) -> None:
    for _ in range(2):
        with job.transaction("x", repeat=True) as conn:
            write(conn, results, "x")
    assert query(server_dsn, f"select * from {results}") == [("x",), ("x",)]
    assert len(job.get_audit()) == 1


def test_without_a_run_a_task_is_done_once_a_date(server_dsn: str, prefix: str, results: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("a", coordination_config=given, date="2026-11-22") as job, job.transaction("x"):
        pass
    with Job("a", coordination_config=given, date="2026-11-22") as job:
        with pytest.raises(AlreadyDone, match="2026-11-22"), job.transaction("x"):
            pass
    with Job("a", coordination_config=given, date="2026-11-23") as job, job.transaction("x") as conn:
        write(conn, results, "next day")
    assert query(server_dsn, f"select * from {results}") == [("next day",)]


def test_a_task_of_another_node_is_refused_before_the_body(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("a", coordination_config=given) as a, Job("b", coordination_config=given) as b:
        eventually(lambda: len(b.my_tokens) == 50)
        with pytest.raises(OwnershipLost, match="is not node 'a'"), a.transaction(owned_by(b)):
            pytest.fail("the body ran")


def test_a_handover_waits_for_the_transaction(server_dsn: str, prefix: str, results: str) -> None:
    given = settings(server_dsn, prefix)
    begun, joined, done = threading.Event(), threading.Event(), threading.Event()

    def second() -> None:
        assert begun.wait(20)
        with Job("b", coordination_config=given) as b:
            joined.set()
            eventually(lambda: len(b.my_tokens) == 50)
            done.wait(20)

    with Job("a", coordination_config=given) as a:
        task = task_that_moves(a)
        with in_thread(second):
            with a.transaction(task) as conn:
                begun.set()
                eventually(lambda: a.my_tokens and not a.can_claim_task(task))
                assert not joined.is_set()
                write(conn, results, task)
            assert joined.wait(10)
            done.set()
    assert query(server_dsn, f"select * from {results}") == [(task,)]


def test_a_token_that_is_given_up_before_the_body_refuses_the_transaction(
    server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(server_dsn, prefix)
    see_to_day = Ledger.see_to_day

    with Job("a", coordination_config=given) as a, ExitStack() as others:
        task = task_that_moves(a)

        def see_to_day_slowly(ledger: Ledger) -> None:
            """Making the tables of a day takes its time: the token moves meanwhile."""
            monkeypatch.undo()
            see_to_day(ledger)
            b = others.enter_context(Job("b", coordination_config=given))
            eventually(lambda: b.can_claim_task(task))

        monkeypatch.setattr(Ledger, "see_to_day", see_to_day_slowly)
        with pytest.raises(OwnershipLost, match="is not node 'a'"), a.transaction(task):
            pytest.fail("the body ran, and no hand-over waited for it")


def test_tokens_that_moved_under_the_body_leave_nothing_written(server_dsn: str, prefix: str, results: str) -> None:
    given = settings(server_dsn, prefix, handover_timeout_sec=0.2)
    owned, done = threading.Event(), threading.Event()

    def second() -> None:
        with Job("b", coordination_config=given) as b:
            eventually(lambda: b.can_claim_task(task))
            owned.set()
            done.wait(20)

    with Job("a", coordination_config=given, run="r") as a:
        task = task_that_moves(a)
        with in_thread(second):
            with pytest.raises(OwnershipLost, match="nothing is written"), a.transaction(task) as conn:
                write(conn, results, task)
                assert owned.wait(10)
            done.set()
        assert a.get_audit() == []
    assert query(server_dsn, f"select * from {results}") == []


def task_that_moves(job: Job) -> str:
    """Find a task of the first half: which half moves to a second node is the deal's business, so both are tried."""
    given = job._settings
    with Job("scout", coordination_config=given) as scout:
        eventually(lambda: len(scout.my_tokens) == 50)
        task = owned_by(scout)
    eventually(lambda: len(job.my_tokens) == 100)
    return task


def test_a_connection_closed_by_the_user_is_told_and_writes_nothing(job: Job, server_dsn: str, results: str) -> None:
    with pytest.raises(JobsyncError, match="connection was closed"), job.transaction("x") as conn:
        write(conn, results, "x")
        conn.close()
    assert query(server_dsn, f"select * from {results}") == []
    assert job.get_audit() == []


def test_a_commit_inside_the_block_is_told_and_does_not_count_as_done(job: Job) -> None:
    with pytest.raises((JobsyncError, psycopg.ProgrammingError), match="commit"):
        with job.transaction("x") as conn:
            conn.commit()
    assert job.get_audit() == []


def test_a_statement_that_failed_passes_its_error_on(job: Job) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero), job.transaction("x") as conn:
        conn.execute("select 1/0")
    assert job.get_audit() == []


def test_a_failed_statement_that_was_swallowed_does_not_count_as_done(job: Job) -> None:
    with pytest.raises(JobsyncError, match="over"), job.transaction("x") as conn:
        with suppress(psycopg.Error):
            conn.execute("select 1/0")
    assert job.get_audit() == []


def test_the_connection_serves_the_next_transaction(job: Job, server_dsn: str, results: str) -> None:
    with pytest.raises(JobsyncError), job.transaction("x") as conn:
        conn.close()
    with job.transaction("x") as conn:
        write(conn, results, "x")
    assert query(server_dsn, f"select * from {results}") == [("x",)]


def test_in_a_loop_a_task_done_by_transaction_is_audited_once(job: Job, server_dsn: str, results: str) -> None:
    for task in job.tasks(["x", "y", "z"]):
        with job.transaction(task) as conn:
            write(conn, results, str(task.id))
    assert query(server_dsn, f"select item from {results} order by 1") == [("x",), ("y",), ("z",)]
    assert len(job.get_audit()) == 3


def test_an_idle_transaction_is_bounded_by_the_server(job: Job) -> None:
    with job.transaction("x") as conn:
        assert conn.execute("show idle_in_transaction_session_timeout").fetchone() == ("5s",)


def test_a_body_that_idled_too_long_is_told_so_and_writes_nothing(job: Job, server_dsn: str, results: str) -> None:
    with pytest.raises(TransactionLost, match=r"'x' could not be ended, and nothing is written: .*idle"):
        with job.transaction("x") as conn:
            write(conn, results, "x")
            conn.execute("set local idle_in_transaction_session_timeout = '20ms'")
            eventually(lambda: spoken_to(conn))
    assert query(server_dsn, f"select * from {results}") == []
    assert job.get_audit() == []


def test_a_statement_that_finds_the_session_ended_is_told_alike(job: Job, server_dsn: str, results: str) -> None:
    with pytest.raises(TransactionLost, match="within the transaction: nothing is written; do the task again"):
        with job.transaction("x") as conn:
            write(conn, results, "x")
            conn.execute("set local idle_in_transaction_session_timeout = '20ms'")
            eventually(lambda: spoken_to(conn))
            write(conn, results, "x")
    assert query(server_dsn, f"select * from {results}") == []
    with job.transaction("x") as conn:
        write(conn, results, "x")
    assert query(server_dsn, f"select * from {results}") == [("x",)]


def spoken_to(conn: psycopg.Connection[object]) -> bool:
    """Whether the server has said something unasked: here, that it ended the session."""
    return bool(select.select([conn.fileno()], [], [], 0)[0])


def test_a_body_that_lost_its_search_path_is_told_so_and_writes_nothing(
    job: Job, server_dsn: str, results: str
) -> None:
    with pytest.raises(JobsyncError, match="must set it back"), job.transaction("x") as conn:
        write(conn, results, "x")
        conn.execute("set local search_path = pg_catalog")
    assert query(server_dsn, f"select * from {results}") == []


def test_bodies_that_hold_every_connection_are_told_and_do_not_stop_claims_and_audits(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job._node.transactions, "_wait_sec", 0.1)  # type: ignore[union-attr]
    with ExitStack() as bodies:
        for number in range(TRANSACTIONS):
            bodies.enter_context(job.transaction(f"x{number}"))
        with pytest.raises(ConnectionsLent, match=f"all {TRANSACTIONS} connections of this node are lent"):
            bodies.enter_context(job.transaction("one more"))
        assert job.add_task("y")
        job.write_audit()
        assert [row["item"] for row in job.get_audit()] == ["y"]


def test_connections_that_died_in_the_pool_are_found_out(job: Job, server_dsn: str) -> None:
    with ExitStack() as bodies:
        conns = [bodies.enter_context(job.transaction(f"x{number}")) for number in range(TRANSACTIONS)]
        pids = [conn.info.backend_pid for conn in conns]
    query(server_dsn, "select pg_terminate_backend(pid) from unnest(%s::int[]) pid", pids)
    eventually(lambda: query(server_dsn, "select pid from pg_stat_activity where pid = any(%s)", pids) == [])
    with job.transaction("y"):
        pass
    assert "y" in {row["item"] for row in job.get_audit()}
