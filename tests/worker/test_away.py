"""A database that is away for a while: handlers go on, and what they finished is told when it is back."""

import threading

import pytest

from jobsync import RunningJob
from jobsync.postgres.statement import Row, Statement
from jobsync.postgres.worker_line import LineBroken, WorkerLine
from jobsync.runtime.worker.hub import Hub
from tests.api.jobs import eventually, query
from tests.servers import PrivateServer
from tests.worker.support import await_status, leases, queue, stored, worker


def test_handlers_go_on_and_their_results_are_kept_until_the_database_is_back(private_server: PrivateServer) -> None:
    dsn, prefix = private_server.dsn, "away_"
    go = threading.Event()
    made = worker(dsn, prefix, max_concurrent_jobs=3)

    @made.handles("x")
    def x(job: RunningJob) -> str:
        if job.attempts == 1:
            go.wait(60)
        return "first" if job.attempts == 1 else "again"

    with queue(dsn, prefix) as jobs:
        numbers = jobs.enqueue_many([("x", None)] * 3)
        made.start()
        eventually(lambda: made.get_status().active_jobs == 3, "they run")
        private_server.stop()
        go.set()
        eventually(lambda: made.get_status().active_jobs == 0, "they end")
        private_server.start()
        eventually(lambda: jobs.counts()["done"] == 3, "they are told", limit_sec=60)
        assert {stored(jobs, number).result for number in numbers} <= {"first", "again"}
        assert made.get_status().is_running
        more = jobs.enqueue("x")
        eventually(lambda: stored(jobs, more).status == "done", "it goes on", limit_sec=60)
        eventually(lambda: leases(dsn, prefix) == 0, "no lease is left", limit_sec=60)
        assert made.stop()


def test_a_worker_whose_own_connection_breaks_goes_on_and_keeps_nothing_it_does_not_know_of(
    server_dsn: str, prefix: str
) -> None:
    made = worker(server_dsn, prefix, poll_interval_ms=60_000, worker_id="one")
    made.handles("x")(lambda job: None)
    with queue(server_dsn, prefix) as jobs, made:
        line = made._hub.line  # type: ignore[union-attr]
        jobs.enqueue_many([("x", None)] * 3000)
        for _ in range(5):
            eventually(lambda: line._conn is not None, "it is connected")
            conn = line._conn
            if conn is not None:
                query(server_dsn, "select pg_terminate_backend(%s)", conn.info.backend_pid)
            eventually(lambda broken=conn: line._conn is not broken, "it is found out")  # type: ignore[misc]
            jobs.enqueue("x")
        eventually(lambda: jobs.counts()["done"] == 3005, "all are done", limit_sec=60)
        eventually(lambda: leases(server_dsn, prefix) == 0, "no lease is left", limit_sec=60)


@pytest.mark.parametrize("what", ["take", "take_gated", "done", "end_attempt", "release"])
def test_an_answer_that_never_comes_costs_no_job(
    server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The transaction is committed, and then the connection breaks."""
    lost = list[str]()
    run = WorkerLine.run
    slow = threading.Event()

    def run_and_break(line: WorkerLine, *works: Statement) -> list[list[Row]]:
        answers = run(line, *works)
        if not lost and any(f"{prefix}job_{what}(" in work.sql for work in works) and (what == "done" or any(answers)):
            lost.append(what)
            line.close()
            raise LineBroken("cut by the test")
        return answers

    made = worker(server_dsn, prefix, poll_interval_ms=60_000)
    made.handles("x")(lambda job: slow.wait(1) if what == "release" else None)
    with queue(server_dsn, prefix) as jobs, made:
        monkeypatch.setattr(WorkerLine, "run", run_and_break)
        jobs.enqueue_many([("x", None)] * 5)
        for _ in range(3):
            jobs.enqueue("x", max_attempts=1)
        eventually(lambda: lost, "the connection broke")
        slow.set()
        eventually(lambda: jobs.counts()["done"] == 8, "all are done", limit_sec=30)
        eventually(lambda: leases(server_dsn, prefix) == 0, "no lease is left", limit_sec=30)
        assert {job.attempts for job in jobs.list_jobs()} == {1}


def test_what_was_perhaps_given_back_never_runs_under_the_old_attempt(
    server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The release is committed, its answer is lost, and the slot is free at that instant."""
    run, cut = WorkerLine.run, threading.Event()
    ran = list[int]()

    def run_and_cut(line: WorkerLine, *works: Statement) -> list[list[Row]]:
        answers = run(line, *works)
        if not cut.is_set() and any(f"{prefix}job_release(" in work.sql for work in works):
            cut.set()
            line.close()
            raise LineBroken("cut by the test")
        return answers

    made = worker(server_dsn, prefix)

    @made.handles("x")
    def x(job: RunningJob) -> None:
        ran.append(job.id)
        assert cut.wait(60)

    with queue(server_dsn, prefix) as jobs:
        monkeypatch.setattr(WorkerLine, "run", run_and_cut)
        numbers = jobs.enqueue_many([("x", None)] * 5)
        with made:
            eventually(lambda: jobs.counts()["done"] == 5, "all are done")
            eventually(lambda: leases(server_dsn, prefix) == 0, "no lease is left")
        assert sorted(ran) == numbers
        assert {(job.attempts, job.crashes) for job in jobs.list_jobs()} == {(1, 0)}


@pytest.mark.parametrize("what", ["take", "take_gated"])
def test_what_was_asked_for_in_vain_is_asked_for_again(
    server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The connection breaks before the question arrives, and neither a poll nor a notice says that jobs wait."""
    run, lost = WorkerLine.run, list[str]()

    def break_and_run(line: WorkerLine, *works: Statement) -> list[list[Row]]:
        if not lost and any(f"{prefix}job_{what}(" in work.sql for work in works):
            lost.append(what)
            line.close()
            raise LineBroken("cut by the test")
        return run(line, *works)

    monkeypatch.setattr(WorkerLine, "run", break_and_run)
    monkeypatch.setattr(Hub, "heard", lambda _: None)
    made = worker(server_dsn, prefix, poll_interval_ms=86_400_000)
    made.handles("x")(lambda job: None)
    with queue(server_dsn, prefix) as jobs:
        number = jobs.enqueue("x", max_attempts=1 if what == "take_gated" else 3)
        with made:
            await_status(jobs, number, "done")
    assert lost
