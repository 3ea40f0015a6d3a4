"""`jobsync worker`: workers of the test's own, as users start them."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobsync import CoordinationConfig, InvalidArgument, JobQueue, NewJob
from jobsync.cli.worker_process import find_worker
from tests.cli.command import call, start, wait_for

TARGETS = """
import os, sys, time
from jobsync import ProcessingWorker

worker = ProcessingWorker()

@worker.handles("who")
def who(job):
    return [job.worker_id, os.getpid()]

@worker.handles("slow")
def slow(job):
    job.update_progress(10)
    while not os.path.exists("go"):
        time.sleep(0.01)
    return worker.get_status().max_concurrent_jobs

class Subclass(ProcessingWorker):
    def process_job(self, job):
        return "by the subclass"

class Own(Subclass):
    def __init__(self):
        super().__init__()

def make():
    return Subclass(max_concurrent_jobs=3)

def wrong():
    return 3

def needs(argument):
    return worker

class Dies(ProcessingWorker):
    def process_job(self, job):
        os._exit(7)

number = 3
nothing = ProcessingWorker()
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Give a directory that holds the module `targets`."""
    (tmp_path / "targets.py").write_text(TARGETS)
    (tmp_path / "broken.py").write_text("raise RuntimeError('at import')")
    return tmp_path


@pytest.fixture
def where(server_dsn: str, prefix: str) -> tuple[str, ...]:
    return ("--dsn", server_dsn, "--appname", prefix)


@pytest.fixture
def queue(server_dsn: str, prefix: str) -> Iterator[JobQueue]:
    with JobQueue(CoordinationConfig(dsn=server_dsn, appname=prefix)) as queue:
        queue.counts()
        yield queue


def result(queue: JobQueue, job: int) -> object:
    stored = queue.get(job)
    return stored.result if stored is not None and stored.status == "done" else None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_runs_jobs_and_a_signal_lets_it_finish(
    here: Path, where: tuple[str, ...], queue: JobQueue, number: signal.Signals
) -> None:
    job = queue.enqueue("slow")
    later = queue.enqueue("who", priority=-1)
    with start("worker", "targets:worker", *where, "--worker-id", "anna", cwd=here) as command:
        wait_for(lambda: (stored := queue.get(job)) is not None and stored.progress == 10)
        command.send_signal(number)
        assert command.stderr is not None
        wait_for(lambda: "told to stop" in command.stderr.readline())  # type: ignore[union-attr]
        (here / "go").touch()
        _, err = command.communicate(timeout=30)
    assert command.returncode == 0
    assert "Traceback" not in err
    assert result(queue, job) == 1
    left = queue.get(later)
    assert left is not None
    assert (left.status, left.attempts) == ("pending", 0)


@pytest.mark.parametrize("target", ["Subclass", "make", "Own"])
def test_a_subclass_and_a_maker_will_do(here: Path, where: tuple[str, ...], queue: JobQueue, target: str) -> None:
    job = queue.enqueue("anything")
    with start("worker", f"targets:{target}", *where, cwd=here) as command:
        wait_for(lambda: result(queue, job) == "by the subclass")
        command.send_signal(signal.SIGTERM)
        command.communicate(timeout=30)
    assert command.returncode == 0


@pytest.mark.parametrize("target", ["worker", "make", "Subclass"])
def test_options_win_over_what_the_worker_was_made_with(
    here: Path, where: tuple[str, ...], queue: JobQueue, target: str
) -> None:
    options = ("--worker-id", "anna", "--queues", "a, b", "--concurrency", "5")
    ids = queue.enqueue_many([NewJob("who", queue=name) for name in ("a", "b", "default")])
    with start("worker", f"targets:{target}", *where, *options, cwd=here) as command:
        assert command.stderr is not None
        lines = iter(command.stderr.readline, "")
        wait_for(lambda: "worker anna runs up to 5 jobs at once" in next(lines))
        wait_for(lambda: result(queue, ids[0]) and result(queue, ids[1]))
        command.send_signal(signal.SIGTERM)
        command.communicate(timeout=30)
    assert result(queue, ids[2]) is None


def test_several_processes_have_names_of_their_own(here: Path, where: tuple[str, ...], queue: JobQueue) -> None:
    slow = queue.enqueue_many([NewJob("slow"), NewJob("slow")])

    def holders() -> set[str]:
        return {lease.worker_id for lease in queue.get_active_leases() if lease.progress == 10}

    with start("worker", "targets:worker", *where, "--processes", "2", "--worker-id", "w", cwd=here) as command:
        wait_for(lambda: holders() == {"w-1", "w-2"})
        (here / "go").touch()
        wait_for(lambda: all(result(queue, job) == 1 for job in slow))
        command.send_signal(signal.SIGTERM)
        command.communicate(timeout=30)
    assert command.returncode == 0


def test_a_process_that_ends_badly_is_reported(here: Path, where: tuple[str, ...], queue: JobQueue) -> None:
    queue.enqueue("anything", max_attempts=1)
    with start("worker", "targets:Dies", *where, "--processes", "2", "--worker-id", "w", cwd=here) as command:
        assert command.stderr is not None
        lines = iter(command.stderr.readline, "")
        wait_for(lambda: "ended with exit status 7; it is not restarted, 1 of 2 workers run on" in next(lines))
        command.send_signal(signal.SIGTERM)
        command.communicate(timeout=30)
    assert command.returncode == 1


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_bad_target_is_refused_in_one_line(here: Path, processes: str) -> None:
    # There is no server at that port: an attempt to connect would say so instead.
    dsn = "postgresql://u:hush-hush@127.0.0.1:1/d"
    status, out, err = call("worker", "targets:gone", "--dsn", dsn, "--processes", processes, cwd=here)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert "has no 'gone'" in err


@pytest.fixture
def importable(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process import the targets, as the worker's own process does, and forget them after."""
    monkeypatch.syspath_prepend(here)
    yield
    for name in ("targets", "broken"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("target", "word"),
    [
        ("targets", "module:attribute"),
        ("no_such_module:worker", "no module 'no_such_module'"),
        ("targets:gone", "has no 'gone'"),
        ("targets:number", "is an int"),
        ("targets:os.PathLike", "no subclass of ProcessingWorker"),
        ("broken:worker", "RuntimeError: at import"),
    ],
)
@pytest.mark.usefixtures("importable")
def test_an_error_says_what_is_wrong_with_the_target(target: str, word: str) -> None:
    with pytest.raises(InvalidArgument, match=word):
        find_worker(target)


@pytest.mark.parametrize(
    ("target", "options", "word"),
    [
        ("wrong", {}, "gave an int"),
        ("needs", {}, "callable without arguments"),
        ("Own", {"max_concurrent_jobs": 2}, "cannot be made with max_concurrent_jobs"),
        ("worker", {"queues": ()}, "queues"),
    ],
)
@pytest.mark.usefixtures("importable")
def test_an_error_says_why_a_worker_cannot_be_made(target: str, options: dict[str, object], word: str) -> None:
    make = find_worker(f"targets:{target}")
    with pytest.raises(InvalidArgument, match=word):
        make(options)


def test_a_worker_without_handlers_says_so_in_one_line(here: Path, where: tuple[str, ...]) -> None:
    status, out, err = call("worker", "targets:nothing", *where, cwd=here)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert "knows no kind of job" in err


def test_a_database_that_is_not_there_is_one_line_without_the_password(here: Path) -> None:
    status, _, err = call("worker", "targets:worker", "--dsn", "postgresql://u:hush-hush@127.0.0.1:1/d", cwd=here)
    last = err.splitlines()[-1]
    assert status == 2
    assert last.startswith("jobsync: ")
    assert "127.0.0.1:1" in last
    assert "hush-hush" not in err
    assert "Traceback" not in err
