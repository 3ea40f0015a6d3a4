"""Workers of the queue that are killed, paused, told to end, or end themselves: real processes, real signals."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobsync import JobQueue
from jobsync.runtime.clock import boot_sec
from tests.api.jobs import eventually, query
from tests.worker.support import await_status, leases, queue, stored

pytestmark = pytest.mark.chaos
ROOT = Path(__file__).parents[2]


class Crew:
    """Worker processes by name."""

    def __init__(self, dsn: str, prefix: str) -> None:
        self.dsn, self.prefix = dsn, prefix
        self.processes: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str, slots: int = 1) -> subprocess.Popen[str]:
        process = self.processes[name] = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.queue_main", self.dsn, self.prefix, name],
            cwd=ROOT,
            env={**os.environ, "SLOTS": str(slots)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == f"{name} starts\n"
        assert process.stdout.readline() == f"{name} runs\n"
        return process

    def ran(self) -> list[tuple[int, str]]:
        return [(row[0], row[1]) for row in query(self.dsn, f"select id, worker from {self.prefix}ran order by at")]

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.send_signal(signal.SIGCONT)
            process.wait(20)
            assert process.stdout is not None
            process.stdout.close()


@pytest.fixture
def crew(server_dsn: str, prefix: str) -> Iterator[Crew]:
    table = f"{prefix}ran"
    query(
        server_dsn,
        f"create table {table} (id bigint, worker text, attempt bigint, at timestamptz default clock_timestamp())",
    )
    made = Crew(server_dsn, prefix)
    yield made
    made.close()


@pytest.fixture
def jobs(server_dsn: str, prefix: str) -> Iterator[JobQueue]:
    with queue(server_dsn, prefix) as opened:
        yield opened


def test_a_killed_workers_job_is_run_by_another_at_once(crew: Crew, jobs: JobQueue) -> None:
    crew.start("one")
    number = jobs.enqueue("slow")
    eventually(lambda: crew.ran() == [(number, "one")], "it runs")
    crew.start("two")
    crew.processes["one"].kill()
    killed_sec = boot_sec()
    job = await_status(jobs, number, "done")
    took_sec = boot_sec() - killed_sec
    assert (job.result, job.attempts, job.crashes) == ("two", 2, 1)
    assert "died" in job.last_error
    # One second is the product's; five times slower machines have theirs.
    assert took_sec < 5.0


def test_of_a_thousand_jobs_none_is_lost_and_few_run_again_when_the_worker_is_killed_half_way(
    crew: Crew, jobs: JobQueue
) -> None:
    numbers = jobs.enqueue_many([("quick", None)] * 1000)
    crew.start("one")
    eventually(lambda: jobs.counts()["done"] > 300, "it is half-way", limit_sec=60)
    crew.start("two")
    crew.processes["one"].kill()
    eventually(lambda: jobs.counts()["done"] == 1000, "all are done", limit_sec=60)
    times = Counter(number for number, _ in crew.ran())
    assert set(times) == set(numbers)
    assert sum(times.values()) - 1000 <= 11  # Ten that had finished, and the one that was running.
    eventually(lambda: leases(crew.dsn, crew.prefix) == 0, "no lease is left")


def test_a_job_that_kills_its_worker_is_set_aside_with_the_evidence_and_harms_no_other(
    crew: Crew, jobs: JobQueue
) -> None:
    innocent = [jobs.enqueue("quick", max_attempts=2) for _ in range(20)]
    deadly = jobs.enqueue("deadly", max_attempts=10, priority=-1)
    innocent += [jobs.enqueue("quick", max_attempts=2, priority=-2) for _ in range(20)]
    for attempt in range(4):
        name = f"worker {attempt}"
        crew.start(name)
        if attempt < 3:
            crew.processes[name].wait(30)
    job = await_status(jobs, deadly, "failed")
    assert job.crashes == 3
    assert "crash 3 of at most 3" in job.last_error
    assert [error.worker_id for error in jobs.errors(deadly)] == ["worker 0", "worker 1", "worker 2"]
    assert all(error.crashed for error in jobs.errors(deadly))
    for number in innocent:
        assert await_status(jobs, number, "done").crashes <= 1


def test_a_paused_worker_is_fenced_and_told_when_it_wakes(crew: Crew, jobs: JobQueue) -> None:
    one = crew.start("one")
    number = jobs.enqueue("waits until lost")
    eventually(lambda: crew.ran() == [(number, "one")], "it runs")
    crew.start("two")
    one.send_signal(signal.SIGSTOP)
    job = await_status(jobs, number, "done")
    assert job.result == "two"
    one.send_signal(signal.SIGCONT)
    assert one.stdout is not None
    assert one.stdout.readline() == "one was told\n"
    # It goes on as a new node, and its late result has changed nothing.
    crew.processes["two"].kill()
    following = jobs.enqueue("quick")
    await_status(jobs, following, "done")
    assert stored(jobs, number).result == "two"
    assert crew.ran()[-1] == (following, "one")


def test_sigterm_lets_handlers_end_and_gives_back_the_rest_uncharged(crew: Crew, jobs: JobQueue) -> None:
    one = crew.start("one", slots=2)
    ends, never = jobs.enqueue("wait for the stop"), jobs.enqueue("slow")
    eventually(lambda: len(crew.ran()) == 2, "both run")
    one.send_signal(signal.SIGTERM)
    assert await_status(jobs, ends, "done").result == "in time"
    job = await_status(jobs, never, "pending")
    assert (job.attempts, job.crashes) == (0, 0)
    assert one.wait(20) == 0
    assert leases(crew.dsn, crew.prefix) == 0
    assert query(crew.dsn, f"select count(*) from {crew.prefix}job_worker") == [(0,)]


def test_a_child_that_a_handler_forks_does_not_go_on_as_a_worker(crew: Crew, jobs: JobQueue) -> None:
    crew.start("one")
    numbers = jobs.enqueue_many([("forks", None)] * 5)
    for number in numbers:
        assert await_status(jobs, number, "done").result == "the child ended with 70"
    await_status(jobs, jobs.enqueue("quick"), "done")
    assert {job.attempts for job in jobs.list_jobs()} == {1}
