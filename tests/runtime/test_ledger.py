"""The write-behind of claims and audits on a real server: in time, and through an absence of the database."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import psycopg
import pytest

from jobsync import Job
from jobsync.core.hashing import HASH_FUNCTIONS
from jobsync.postgres.records import Records
from jobsync.runtime.clock import boot_sec
from jobsync.runtime.ledger import Ledger
from jobsync.runtime.node import Node
from tests.api.jobs import TOKENS, eventually, query, settings
from tests.servers import PrivateServer

DAY = date(2026, 11, 22)


@contextmanager
def ledger_of(job: Job, prefix: str, run_name: str | None = None) -> Iterator[Ledger]:
    node = job._node
    assert isinstance(node, Node)
    token_of = HASH_FUNCTIONS["double_sha256"]
    ledger = Ledger(
        node.pool,
        Records(prefix, job.node_name),
        day=DAY,
        run_name=run_name,
        incarnation=lambda: node.incarnation,
        token_of=lambda text: token_of(text, TOKENS),
    )
    yield ledger
    ledger.close(patience_sec=0.0)


@pytest.fixture
def job(server_dsn: str, prefix: str) -> Iterator[Job]:
    with Job("n", coordination_config=settings(server_dsn, prefix)) as job:
        yield job


def counted(dsn: str, prefix: str, table: str) -> int:
    count = query(dsn, f"select count(*) from {prefix}{table}")[0][0]
    assert isinstance(count, int)
    return count


def test_a_claim_is_written_by_itself_soon(job: Job, server_dsn: str, prefix: str) -> None:
    with ledger_of(job, prefix) as ledger:
        ledger.claim_soon("a")
        eventually(lambda: counted(server_dsn, prefix, "claim") == 1, limit_sec=2.0)


def test_an_audit_is_written_by_itself_within_its_time(job: Job, server_dsn: str, prefix: str) -> None:
    with ledger_of(job, prefix) as ledger, psycopg.connect(server_dsn, autocommit=True) as conn:
        ledger.done(["warm"])
        ledger.flush()
        began_sec = boot_sec()
        ledger.done(["a"])
        found = f"select count(*) from {prefix}audit".encode()
        eventually(lambda: conn.execute(found).fetchone() == (2,))
        # What is promised is 100 ms; the machine that runs the tests is busy.
        assert boot_sec() - began_sec < 0.4


def test_a_flush_leaves_nothing_pending(
    job: Job, server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobsync.runtime.ledger.CLAIM_DELAY_SEC", 60.0)
    with ledger_of(job, prefix) as ledger:
        ledger.claim_soon("a")
        ledger.done(["b", "c"])
        assert ledger.pending == 3
        assert ledger.flush()
        assert ledger.pending == 0
        assert counted(server_dsn, prefix, "audit") == 2


def test_an_audit_is_pending_until_the_database_has_it(job: Job, prefix: str) -> None:
    with ledger_of(job, prefix) as ledger:
        ledger.done(["a"])
        assert ledger.pending == 1
        ledger.flush()
        assert ledger.pending == 0


def test_what_a_database_that_is_away_cannot_take_is_kept_and_written_later(
    private_server: PrivateServer,
) -> None:
    given = settings(private_server.dsn, "sync_", health_check_interval_sec=0.3)
    with Job("n", coordination_config=given) as job, ledger_of(job, "sync_") as ledger:
        private_server.stop("immediate")
        ledger.done(["a", "b"])
        assert not ledger.flush()
        assert ledger.pending == 2
        private_server.start()
        eventually(lambda: ledger.pending == 0)
        assert counted(private_server.dsn, "sync_", "audit") == 2


def test_a_claim_in_a_run_goes_to_one_of_two(job: Job, server_dsn: str, prefix: str) -> None:
    with ledger_of(job, prefix, "r") as ledger:
        assert ledger.claim_now(["a"]) == {"a"}
        query(server_dsn, f"update {prefix}claim set incarnation = incarnation + 1000000")
        query(
            server_dsn,
            f'insert into {prefix}node select (json_populate_record(n, \'{{"name": "other"}}\')).* from {prefix}node n',
        )
        query(
            server_dsn,
            f"update {prefix}node set incarnation = incarnation + 1000000 where name = 'other'",
        )
        assert ledger.claim_now(["a"]) == set()


def test_a_claim_of_a_token_that_is_not_held_is_refused(job: Job, server_dsn: str, prefix: str) -> None:
    query(server_dsn, f"delete from {prefix}grant")
    with ledger_of(job, prefix, "r") as ledger:
        assert ledger.claim_now(["a"]) == set()


def test_audits_of_a_run_whose_claims_were_taken_over_are_not_recorded(
    job: Job, server_dsn: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    with ledger_of(job, prefix, "r") as ledger:
        ledger.claim_now(["a", "b"])
        # Another incarnation has 'a' now, and its node is no longer asked for: it recorded the task itself.
        query(server_dsn, f"update {prefix}claim set incarnation = 0 where item = 'a'")
        query(server_dsn, f"insert into {prefix}audit (node, item, date, run) values ('x', 'a', %s, 'r')", DAY)
        ledger.done(["a", "b"])
        assert ledger.flush()
    rows = query(server_dsn, f"select node, item from {prefix}audit order by item")
    assert rows == [("x", "a"), ("n", "b")]
    assert "1 finished tasks of run 'r' are not recorded" in caplog.text


def test_release_takes_back_what_was_not_done_and_nothing_else(job: Job, server_dsn: str, prefix: str) -> None:
    with ledger_of(job, prefix, "r") as ledger:
        ledger.claim_now(["a", "b"])
        ledger.done(["a"])
        ledger.flush()
        ledger.release(["a", "b"])
    assert query(server_dsn, f"select item from {prefix}claim") == [("a",)]


def test_more_finished_tasks_than_can_be_kept_are_refused(
    job: Job, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobsync.runtime.ledger.MOST_PENDING", 2)
    with ledger_of(job, prefix) as ledger, pytest.raises(Exception, match="no more can be kept"):
        ledger.done(["a", "b", "c"])


def test_in_a_run_what_is_done_and_not_yet_written_cannot_be_claimed_again(job: Job, prefix: str) -> None:
    with ledger_of(job, prefix, "r") as ledger:
        assert ledger.claim_now(["a", "b"]) == {"a", "b"}
        ledger.done(["a"])
        assert ledger.claim_now(["a", "b"]) == {"b"}


# --- large batches of what is new --------------------------------------------------------------------


MANY = [f"task-{number:03d}" for number in range(200)]  # The samples are every twelfth.


def live_twin(dsn: str, prefix: str) -> None:
    """Put a second live node beside the first, whose incarnation is a million higher."""
    query(
        dsn,
        f'insert into {prefix}node select (json_populate_record(n, \'{{"name": "other"}}\')).* from {prefix}node n',
    )
    query(dsn, f"update {prefix}node set incarnation = incarnation + 1000000 where name = 'other'")


@pytest.mark.parametrize("taken", ["task-000", "task-007"], ids=["sampled", "not sampled"])
def test_of_a_large_batch_what_another_has_is_left_out(job: Job, server_dsn: str, prefix: str, taken: str) -> None:
    with ledger_of(job, prefix, "r") as ledger:
        ledger.claim_now([taken])
        live_twin(server_dsn, prefix)
        query(server_dsn, f"update {prefix}claim set incarnation = incarnation + 1000000")
        assert ledger.claim_now(MANY) == set(MANY) - {taken}
    assert counted(server_dsn, prefix, "claim") == len(MANY)


@pytest.mark.parametrize("taken", ["task-000", "task-007"], ids=["sampled", "not sampled"])
def test_of_a_large_batch_by_date_the_newest_claim_stands(job: Job, server_dsn: str, prefix: str, taken: str) -> None:
    with ledger_of(job, prefix) as ledger:
        ledger.claim_now([taken])
        query(server_dsn, f"update {prefix}claim set node = 'other'")
        assert ledger.claim_now(MANY) == set(MANY)
    assert query(server_dsn, f"select node, count(*) from {prefix}claim group by node") == [("n", len(MANY))]


@pytest.mark.parametrize("run_name", [None, "r"])
@pytest.mark.parametrize("done", ["task-000", "task-007"], ids=["sampled", "not sampled"])
def test_of_a_large_batch_what_is_recorded_already_stays_as_it_is(
    job: Job, server_dsn: str, prefix: str, done: str, run_name: str | None
) -> None:
    with ledger_of(job, prefix, run_name) as ledger:
        ledger.done([done])
        assert ledger.flush()
        query(server_dsn, f"update {prefix}audit set node = 'first'")
        ledger.done(MANY)
        assert ledger.flush()
        assert ledger.taken_back() == set()
    rows = query(server_dsn, f"select node, count(*) from {prefix}audit group by node order by node")
    assert rows == [("first", 1), ("n", len(MANY) - 1)]


@pytest.mark.parametrize("done", ["task-000", "task-007"], ids=["sampled", "not sampled"])
def test_of_a_large_batch_claimed_in_a_run_what_is_recorded_already_stays_as_it_is(
    job: Job, server_dsn: str, prefix: str, done: str
) -> None:
    with ledger_of(job, prefix, "r") as ledger:
        assert ledger.claim_now(MANY) == set(MANY)
        ledger.done([done])
        assert ledger.flush()
        query(server_dsn, f"update {prefix}audit set node = 'first'")
        ledger.done(MANY)
        assert ledger.flush()
        assert ledger.taken_back() == set()
    rows = query(server_dsn, f"select node, count(*) from {prefix}audit group by node order by node")
    assert rows == [("first", 1), ("n", len(MANY) - 1)]


def test_of_a_large_batch_done_in_a_run_what_was_let_go_of_and_taken_is_left_out(
    job: Job, server_dsn: str, prefix: str
) -> None:
    taken = "task-007"
    with ledger_of(job, prefix, "r") as ledger, ledger_of(job, prefix, "r") as other:
        ledger.claim_now(MANY)
        ledger.release([taken])
        assert other.claim_now([taken]) == {taken}
        live_twin(server_dsn, prefix)
        query(server_dsn, f"update {prefix}claim set incarnation = incarnation + 1000000 where item = '{taken}'")
        ledger.done(MANY)
        assert ledger.flush()
        assert ledger.taken_back() == {taken}
    assert counted(server_dsn, prefix, "audit") == len(MANY) - 1


# --- patience ----------------------------------------------------------------------------------------


def test_nobody_waits_longer_than_his_patience_for_a_database_that_does_not_answer(
    job: Job, server_dsn: str, prefix: str
) -> None:
    with ledger_of(job, prefix) as ledger:
        ledger.done(["warm"])
        ledger.flush()
        with psycopg.connect(server_dsn) as conn:
            conn.execute(f"lock table {prefix}audit in access exclusive mode".encode())
            ledger.done(["a"])
            assert not ledger.flush(0.2)
            began_sec = boot_sec()
            # One writing is under way, and does not end: a second one is not waited for either.
            ledger.done(["b"])
            assert not ledger.flush()
            assert boot_sec() - began_sec < 4.0
            assert ledger.pending == 2
        eventually(lambda: ledger.pending == 0)
    assert counted(server_dsn, prefix, "audit") == 3


def test_write_audit_comes_back_soon_while_the_database_is_away_and_what_it_said_is_written_later(
    private_server: PrivateServer, caplog: pytest.LogCaptureFixture
) -> None:
    given = settings(private_server.dsn, "sync_")
    with Job("n", coordination_config=given) as job:
        assert job.add_task("a")
        eventually(lambda: counted(private_server.dsn, "sync_", "claim") == 1)
        private_server.stop("immediate")
        began_sec = boot_sec()
        job.write_audit()
        assert boot_sec() - began_sec < 4.0
        eventually(lambda: "wait for the database" in caplog.text)
        private_server.start()
        eventually(lambda: counted(private_server.dsn, "sync_", "audit") == 1)


def test_the_tables_of_a_date_are_made_before_its_first_row(job: Job, server_dsn: str, prefix: str) -> None:
    today = query(server_dsn, "select current_date")[0][0]
    with ledger_of(job, prefix) as ledger:
        ledger.day = today
        ledger.done(["a"])
        assert ledger.flush()
    assert query(server_dsn, f"select tableoid::regclass::text from {prefix}audit") == [
        (f"{prefix}audit_{today:%Y%m%d}",)
    ]
