"""The pytest plugin in a run of pytest's own: a user's test file, and runs that do not use it."""

import importlib.metadata
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import jobsync_pytest
from jobsync.core.errors import InvalidArgument
from jobsync.core.settings import Settings
from jobsync.testing import drop_tables
from tests.api.jobs import query

USERS_TESTS = """
    import datetime
    import pytest
    from jobsync import JobQueue, ProcessingWorker
    from jobsync.testing import TestClock, assert_enqueued, enqueued, run_pending

    worker = ProcessingWorker()
    sent = []

    @worker.handles("welcome")
    def welcome(job):
        sent.append(job.payload["to"])

    def sign_up(queue, address):
        queue.enqueue("welcome", {"to": address}, run_at=datetime.timedelta(days=1))

    def test_signing_up_sends_a_mail_on_the_next_day(job_queue):
        clock = TestClock(job_queue)
        sign_up(job_queue, "anna")
        assert_enqueued(job_queue, "welcome", payload={"to": "anna"})
        assert run_pending(worker, job_queue, clock=clock) == []
        clock.advance(datetime.timedelta(days=1))
        run_pending(worker, job_queue, clock=clock)
        assert sent == ["anna"]

    def test_each_test_has_a_queue_of_its_own(job_queue, jobsync_config, jobsync_server):
        assert enqueued(job_queue) == []
        assert jobsync_config.dsn == jobsync_server
        with JobQueue(jobsync_config) as other:
            other.enqueue("x")
        assert len(enqueued(job_queue)) == 1

    def test_a_failure_says_what_is_there(job_queue):
        sign_up(job_queue, "bert")
        assert_enqueued(job_queue, "welcome", payload={"to": "anna"})
"""


# A checkout that was installed before the plugin was there has no entry point for it yet.
INSTALLED = any(each.value == "jobsync_pytest" for each in importlib.metadata.entry_points(group="pytest11"))
NAMED = [] if INSTALLED else ["-p", "jobsync_pytest"]


def run_pytest(folder: Path, text: str, *options: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    (folder / "test_users.py").write_text(textwrap.dedent(text))
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", "-p", "no:cacheprovider", "-W", "error", *NAMED]
    return subprocess.run(
        [*command, "--rootdir", str(folder), *options, str(folder)],
        env={"PATH": "/usr/bin:/bin", **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def traces(server_dsn: str) -> set[str]:
    return {name for (name,) in query(server_dsn, "select relname::text from pg_class where relname like 'test\\_%'")}


def test_a_users_tests_run_and_leave_no_tables(tmp_path: Path, server_dsn: str, traces: set[str]) -> None:
    run = run_pytest(tmp_path, USERS_TESTS, JOBSYNC_TEST_DSN=server_dsn)
    assert "2 passed" in run.stdout, run.stdout + run.stderr
    assert "1 failed" in run.stdout
    assert "error" not in run.stdout.splitlines()[-1]
    assert "expected a job with kind='welcome', payload={'to': 'anna'}; 0 fit" in run.stdout
    assert "payload={'to': 'bert'}" in run.stdout
    names = query(server_dsn, "select relname::text from pg_class where relname like 'test\\_%'")
    assert {name for (name,) in names} <= traces


def test_without_a_dsn_an_embedded_server_serves(tmp_path: Path, run_dir: Path) -> None:
    text = """
        def test_it(job_queue):
            assert job_queue.enqueue("k") == 1
    """
    home = str(run_dir / "plugin")
    run = run_pytest(tmp_path, text, JOBSYNC_EMBEDDED_DIR=home)
    assert "1 passed" in run.stdout, run.stdout + run.stderr


def test_a_run_that_does_not_use_it_imports_nothing_of_jobsync(tmp_path: Path) -> None:
    text = """
        import sys

        def test_it():
            assert "jobsync_pytest" in sys.modules
            assert not [name for name in sys.modules if name.partition(".")[0] in ("jobsync", "psycopg")]
    """
    run = run_pytest(tmp_path, text)
    assert "1 passed" in run.stdout, run.stdout + run.stderr


def test_its_fixtures_are_all_that_it_has(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, "", "--fixtures", "-v")
    for name in ("jobsync_server", "jobsync_config", "job_queue"):
        assert name in run.stdout
    assert [name for name in vars(jobsync_pytest) if name.startswith("pytest_")] == []


def test_the_tables_of_the_default_prefix_are_not_dropped(server_dsn: str) -> None:
    with pytest.raises(InvalidArgument, match="appname of their own"):
        drop_tables(Settings(dsn=server_dsn))
