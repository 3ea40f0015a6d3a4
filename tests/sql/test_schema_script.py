"""The script for DBAs: it is what the program itself would do, and its grants are all that a worker needs."""

import json
import re
import runpy
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from typer.testing import CliRunner

from jobsync import CoordinationConfig, Job, JobQueue, ProcessingWorker, RetryPolicy, RunningJob, SchemaError
from jobsync.cli.app import app
from tests.api.jobs import eventually
from tests.sql.cluster import schema_dsn
from tests.sql.statements import SQL_DIR

SCRIPT = (SQL_DIR / "schema.sql").read_text(encoding="utf-8")
GRANTS = re.findall(r"^-- (grant .*;)$", SCRIPT, re.MULTILINE)


def test_the_script_is_up_to_date() -> None:
    generator = runpy.run_path(str(SQL_DIR / "make_schema.py"))
    assert generator["script_text"]() == SCRIPT, "run: python sql/make_schema.py"


def test_the_script_is_what_the_command_prints() -> None:
    printed = CliRunner().invoke(app, ["migrate", "--print"]).output
    assert printed.strip() in SCRIPT


@pytest.fixture
def worker_dsn(server_dsn: str, prefix: str) -> Iterator[str]:
    """Run the script and its grants, and give a DSN for a role that may create nothing."""
    dsn = schema_dsn(server_dsn, prefix)
    role, schema = f"{prefix}worker", f"{prefix}app"
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("set check_function_bodies = on")  # Most tests of the run do without.
        conn.execute(SCRIPT.encode())
        conn.execute(sql.SQL("create role {} login password 'p'").format(sql.Identifier(role)))
        for grant in GRANTS:
            conn.execute(grant.replace("app_worker", role).replace("schema public", f"schema {schema}").encode())
    yield make_conninfo(dsn, user=role, password="p")
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(role)))


def test_a_role_without_create_can_do_everything_with_the_grants_listed(worker_dsn: str) -> None:
    config = CoordinationConfig(dsn=worker_dsn, total_tokens=50, rebalance_check_interval_sec=0.2)
    with Job("a", coordination_config=config, run="r") as a, Job("b", coordination_config=config, run="r") as b:
        eventually(lambda: len(a.my_tokens) == len(b.my_tokens) == 25)
        a.register_lock("pinned", "b", expires_in_days=1)
        eventually(lambda: b.can_claim_task("pinned"))
        with b.transaction("pinned") as conn:
            conn.execute("select count(*) from sync_token")
        mine = a.get_my_task_ids(range(50))
        assert all(a.add_task(task) for task in mine)
        a.write_audit()
        with a.tasks(mine[:1]) as again:
            assert list(again) == []
        assert len(b.get_audit()) == len(mine) + 1
        assert b.get_incomplete_tasks(older_than=timedelta(0)) == []
        assert a.clear_locks_by_creator("a") == 1
        b.stop()


def test_a_role_without_create_can_work_without_a_run(worker_dsn: str) -> None:
    config = CoordinationConfig(dsn=worker_dsn, total_tokens=50)
    for day in ("2026-11-21", "2026-11-22", "1999-01-01"):
        with Job("a", coordination_config=config, date=day) as job:
            assert job.add_task("one")
            assert job.set_claim(["two", "three"]) == ["two", "three"]
            job.write_audit()
            assert [task.id for task in job.tasks(["four"])] == ["four"]
            with job.transaction("five") as conn:
                conn.execute("select 1")
            assert {each["task_id"] for each in job.get_audit()} == {"one", "four", "five"}


def test_a_role_without_create_survives_a_fail_over(worker_dsn: str) -> None:
    """The first to see another server moves the sequences on, beyond what lost commits may have given out."""
    config = CoordinationConfig(dsn=worker_dsn, total_tokens=50, heartbeat_timeout_sec=2, heartbeat_interval_sec=0.5)
    with Job("a", coordination_config=config):
        pass
    with psycopg.connect(worker_dsn, autocommit=True) as conn:
        conn.execute("update sync_meta set timeline = 'before'")
    with Job("b", coordination_config=config) as job:
        assert len(job.my_tokens) == 50


def test_without_the_grants_it_cannot(worker_dsn: str) -> None:
    with psycopg.connect(worker_dsn, autocommit=True) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("create table more ()")
    with pytest.raises(SchemaError, match="migrate"):
        Job("a", coordination_config=CoordinationConfig(dsn=worker_dsn, appname="other_")).__enter__()


def test_a_role_without_create_can_do_everything_with_the_queue(worker_dsn: str) -> None:
    config = CoordinationConfig(dsn=worker_dsn, total_tokens=50)
    worker = ProcessingWorker(config, worker_id="q", retry=RetryPolicy(first_sec=0.0), poll_interval_ms=50)

    @worker.handles("k")
    def handle(job: RunningJob) -> object:
        job.update_progress(50, "half")
        with worker.transaction(job) as conn:
            conn.execute("select 1")
        return "done"

    @worker.handles("fails")
    def fail(job: RunningJob) -> None:
        raise RuntimeError("on purpose")

    with JobQueue(config) as queue:
        queue.set_limit("k", at_once=2, per_key=1)
        queue.schedule("often", "* * * * *", "k")
        numbers = [queue.enqueue("k", n, affinity="a", limit_key="b", job_id=f"j{n}") for n in range(3)]
        numbers += queue.enqueue_many([("k", None), ("k", {})])
        failed = queue.enqueue("fails", max_attempts=2)
        later = queue.enqueue("k", run_at=timedelta(hours=1))
        queue.pause("elsewhere", by="a test")
        worker.start()
        try:
            eventually(lambda: all(job is not None and job.status == "done" for job in map(queue.get, numbers)))
            eventually(lambda: (job := queue.get(failed)) is not None and job.status == "failed")
        finally:
            worker.stop()
        assert len(queue.errors(failed)) == 2
        assert queue.retry(failed)
        assert queue.cancel(later)
        assert queue.resume("elsewhere")
        assert queue.unschedule("often")
        assert queue.reset_expired_leases() == 0
        assert queue.cancel_all() >= 1
        assert queue.prune(0) >= len(numbers)
        assert queue.unknown_kinds() == []


def test_the_doctor_finds_nothing_amiss_with_the_grants_listed(worker_dsn: str) -> None:
    found = CliRunner().invoke(app, ["doctor", "--dsn", worker_dsn, "--json"])
    findings = {(each["check"], each["level"]) for each in json.loads(found.stdout)["findings"]}
    assert ("rights", "ok") in findings, found.stdout
