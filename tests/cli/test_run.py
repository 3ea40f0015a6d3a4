"""`jobsync run`: real workers on a function of the test's own."""

import signal
from pathlib import Path

import psycopg
import pytest

from jobsync import CoordinationConfig
from jobsync.api.cluster import open_cluster
from tests.cli.command import call, start, wait_for

TARGETS = """
import sys, pathlib

def serve(job):
    job.wait()
    pathlib.Path(f"{job.node_name}.stopped").touch()

def once(job):
    for task in job.tasks(range(20)):
        pathlib.Path(f"done-{task.id}-{job.node_name}").touch()

def crash_one(job):
    if job.node_name.endswith("-2"):
        sys.exit(7)
    job.wait()

not_callable = 3
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Give a directory that holds the module `targets`."""
    (tmp_path / "targets.py").write_text(TARGETS)
    (tmp_path / "broken.py").write_text("raise RuntimeError('at import')")
    return tmp_path


@pytest.fixture
def fleet(server_dsn: str, prefix: str) -> tuple[str, ...]:
    """Give the options that name this test's fleet."""
    return ("--dsn", server_dsn, "--appname", prefix, "--name-prefix", "w")


def names_live(dsn: str, prefix: str) -> set[str]:
    with open_cluster(CoordinationConfig(dsn=dsn, appname=prefix)) as cluster:
        cluster.migrate()
        return {node.name for node in cluster.status().nodes if node.is_live and node.tokens}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_and_all_leave_well(
    here: Path, fleet: tuple[str, ...], server_dsn: str, prefix: str, number: signal.Signals
) -> None:
    with start("run", "targets:serve", "--workers", "2", *fleet, cwd=here) as command:
        wait_for(lambda: names_live(server_dsn, prefix) == {"w-1", "w-2"})
        command.send_signal(number)
        _, err = command.communicate(timeout=30)
    assert (command.returncode, err) == (0, "")
    assert {path.name for path in here.glob("*.stopped")} == {"w-1.stopped", "w-2.stopped"}
    assert names_live(server_dsn, prefix) == set()


def test_a_worker_that_ends_badly_is_reported_and_not_restarted(
    here: Path, fleet: tuple[str, ...], server_dsn: str, prefix: str
) -> None:
    with start("run", "targets:crash_one", "--workers", "2", *fleet, cwd=here) as command:
        assert command.stderr is not None
        line = command.stderr.readline()
        assert line == "jobsync: worker 'w-2' ended with exit status 7; it is not restarted, 1 of 2 workers run on\n"
        wait_for(lambda: names_live(server_dsn, prefix) == {"w-1"})
        command.send_signal(signal.SIGTERM)
        command.communicate(timeout=30)
    assert command.returncode == 1


def test_workers_stop_when_the_command_is_killed(
    here: Path, fleet: tuple[str, ...], server_dsn: str, prefix: str
) -> None:
    with start("run", "targets:serve", "--workers", "2", *fleet, cwd=here) as command:
        wait_for(lambda: names_live(server_dsn, prefix) == {"w-1", "w-2"})
        command.kill()
        command.communicate(timeout=30)
    wait_for(lambda: len(list(here.glob("*.stopped"))) == 2)


def test_within_a_run_each_task_is_done_once(here: Path, fleet: tuple[str, ...], server_dsn: str, prefix: str) -> None:
    status, _, err = call("run", "targets:once", "--workers", "2", "--run", "nightly", *fleet, cwd=here)
    assert (status, err) == (0, "")
    done = sorted(int(path.name.split("-")[1]) for path in here.glob("done-*"))
    assert done == list(range(20))
    with psycopg.connect(server_dsn) as conn:
        assert conn.execute(f"select count(*) from {prefix}audit where run = 'nightly'").fetchone() == (20,)


@pytest.mark.parametrize(
    ("target", "word"),
    [
        ("targets", "module:function"),
        ("no_such_module:main", "no module 'no_such_module'"),
        ("targets:nothing", "has no 'nothing'"),
        ("targets:not_callable", "not callable"),
        ("broken:main", "RuntimeError: at import"),
    ],
)
def test_a_bad_target_is_refused_in_one_line_before_anything_starts(here: Path, target: str, word: str) -> None:
    # There is no server at that port: an attempt to join would say so instead.
    status, out, err = call("run", target, "--dsn", "postgresql://u:hush-hush@127.0.0.1:1/d", cwd=here)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert word in err


def test_workers_that_cannot_reach_the_database_say_so_without_the_password(here: Path) -> None:
    dsn = "postgresql://u:hush-hush@127.0.0.1:1/d"
    status, _, err = call("run", "targets:serve", "--dsn", dsn, "--name-prefix", "w", cwd=here)
    assert status == 1
    assert "127.0.0.1:1" in err
    assert "worker 'w-1' ended with exit status 2" in err
    assert "hush-hush" not in err
    assert "Traceback" not in err
