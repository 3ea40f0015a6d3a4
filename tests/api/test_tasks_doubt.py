"""Loops and claims where something is in doubt for an instant: nothing is lost, and nothing is done twice."""

import itertools
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psycopg
import pytest
from psycopg.errors import DeadlockDetected

from jobsync import DatabaseUnavailable, Job, JobsyncError
from jobsync.api.loop_desk import LoopDesk
from jobsync.postgres import pool, statement
from jobsync.runtime.ledger import Ledger
from jobsync.runtime.place import RECORDERS
from tests.api.jobs import eventually, in_thread, query, settings


@pytest.fixture(params=[None, "r"], ids=["without a run", "in a run"])
def job(server_dsn: str, prefix: str, request: pytest.FixtureRequest) -> Iterator[Job]:
    with Job("a", coordination_config=settings(server_dsn, prefix), run=request.param) as job:
        yield job


def ledger_of(job: Job) -> Ledger:
    assert isinstance(job._ledger, Ledger)
    return job._ledger


@pytest.mark.parametrize("one_shot", [False, True], ids=["list", "generator"])
def test_a_lease_that_is_uncertain_for_an_instant_loses_no_task(
    job: Job, monkeypatch: pytest.MonkeyPatch, one_shot: bool
) -> None:
    certain, questions = LoopDesk.holding_now, itertools.count(1)
    monkeypatch.setattr(LoopDesk, "holding_now", lambda desk: certain(desk) if next(questions) % 37 else None)
    ids = (number for number in range(200)) if one_shot else range(200)
    assert sorted(task.id for task in job.tasks(ids)) == list(range(200))


def test_a_claim_of_an_earlier_registration_is_made_again(
    server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stands, questions = LoopDesk.claim_stands, itertools.count(1)
    monkeypatch.setattr(
        LoopDesk, "claim_stands", lambda desk, text, number: bool(next(questions) % 37) and stands(desk, text, number)
    )
    with Job("a", coordination_config=settings(server_dsn, prefix), run="r") as job:
        assert sorted(task.id for task in job.tasks(number for number in range(200))) == list(range(200))


def test_an_exit_waits_for_audits_as_long_as_the_database_takes_some(
    server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Ledger._write_audits

    def slowly(ledger: Ledger, batch: dict[str, int]) -> None:
        threading.Event().wait(0.7)  # The load itself: a disk that is slow.
        write(ledger, batch)

    monkeypatch.setattr("jobsync.runtime.ledger.BATCH", 10)
    with Job("a", coordination_config=settings(server_dsn, prefix)) as job:
        for number in range(50):
            job.add_task(number)
        eventually(lambda: ledger_of(job).is_settled)
        monkeypatch.setattr(Ledger, "_write_audits", slowly)
        monkeypatch.setattr(Ledger, "flush", lambda ledger, *_: False)
        job.write_audit()
        monkeypatch.undo()
        monkeypatch.setattr("jobsync.runtime.ledger.BATCH", 10)
        monkeypatch.setattr(Ledger, "_write_audits", slowly)
    assert query(server_dsn, f"select count(*) from {prefix}audit") == [(50,)]


def test_two_jobs_of_one_name_in_one_run_do_each_task_once(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    done: list[object] = []

    def work(job: Job) -> None:
        done.extend(task.id for task in job.tasks(list(range(300))))

    with Job("a", coordination_config=given, run="r") as one, Job("a", coordination_config=given, run="r") as other:
        with in_thread(lambda: work(one)), in_thread(lambda: work(other)):
            pass
        assert one.add_task("x")
        assert not other.add_task("x")
    assert sorted(done) == list(range(300))  # type: ignore[type-var]


def test_threads_of_one_job_in_a_run_add_each_task_once(server_dsn: str, prefix: str) -> None:
    def add_and_audit(number: int) -> bool:
        added = a.add_task(number)
        a.write_audit()
        return added

    with Job("a", coordination_config=settings(server_dsn, prefix), run="r") as a:
        with ThreadPoolExecutor(8) as threads:
            for number in range(10):
                assert sum(threads.map(a.add_task, [number] * 16)) == 1
            assert sum(threads.map(add_and_audit, sorted([*range(20)] * 8))) == 10
        assert not a.add_task(0)
        assert len(a.get_audit()) == 20


def test_a_task_whose_claim_failed_can_be_added_again(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> set[str]:
        raise DatabaseUnavailable("away")

    with monkeypatch.context() as away:
        away.setattr(Ledger, "claim_now", fail)
        away.setattr(Ledger, "claim_soon", fail)
        with pytest.raises(DatabaseUnavailable):
            job.add_task("x")
    assert job.add_task("x")


def test_a_lock_on_the_tables_ends_no_loop(
    job: Job, server_dsn: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    first, go_on, lifted = threading.Event(), threading.Event(), threading.Event()
    done: list[object] = []

    def work() -> None:
        for task in job.tasks(number for number in range(40)):
            done.append(task.id)
            if len(done) == 20:
                first.set()
                assert go_on.wait(30)

    def hold() -> None:
        while not lifted.is_set():
            # The audits behind may have got the connection first, and then its turn does not come under the lock.
            with suppress(DatabaseUnavailable):
                job.set_claim("y")
                return

    waiting = "select pid from pg_locks where not granted and relation::regclass::text like %s"
    with in_thread(work):
        assert first.wait(20)
        with psycopg.connect(server_dsn) as conn:
            conn.execute(f"lock table {prefix}claim_in_run, {prefix}claim_by_date in access exclusive mode".encode())
            held = [threading.Thread(target=hold) for _ in range(RECORDERS)]
            for thread in held:
                thread.start()
            eventually(lambda: len(query(server_dsn, waiting, f"{prefix}%")) == RECORDERS)
            go_on.set()
            eventually(lambda: "the loop waits for the database" in caplog.text)
        lifted.set()
        for thread in held:
            thread.join(20)
    assert done == list(range(40))


def test_a_deadlock_is_tried_again(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = iter([DeadlockDetected("deadlock detected")] * 2)
    run = statement.run

    def run_or_fail(*args: object) -> object:
        for failure in failures:
            raise failure
        return run(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(pool, "run", run_or_fail)
    assert job.set_claim("x") == ["x"]


def test_what_is_claimed_after_it_was_let_go_of_stays_claimed(
    server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Job("a", coordination_config=settings(server_dsn, prefix)) as job:
        assert job.set_claim("x") == ["x"]
        with monkeypatch.context() as away:
            away.setattr(Ledger, "flush", lambda ledger, *_: False)
            ledger_of(job).release(["x"])
            assert job.add_task("x")
        assert ledger_of(job).flush()
        assert query(server_dsn, f"select item from {prefix}claim") == [("x",)]


def test_transactions_leave_nothing_in_memory(server_dsn: str, prefix: str) -> None:
    with Job("a", coordination_config=settings(server_dsn, prefix), run="r") as job:
        loop = job.tasks(number for number in range(20))
        for task in loop:
            with job.transaction(task):
                pass
        assert not ledger_of(job)._claimed_by
        assert not loop._done_in_run


def test_a_loop_that_another_one_has_ended_says_so(job: Job) -> None:
    loop = job.tasks(["x", "y"])
    assert next(loop).id in {"x", "y"}
    assert [task.id for task in job.tasks(["z"])] == ["z"]
    with pytest.raises(JobsyncError, match=r"ended when job.tasks\(\) was called again"):
        next(loop)
    assert [row["item"] for row in job.get_audit()] == ["z"]
