"""Handlers that do what no handler should: each costs its own attempt, and the worker goes on."""

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest
from psycopg.conninfo import make_conninfo

from jobsync import RunningJob
from jobsync.postgres.statement import Statement
from jobsync.postgres.worker_line import LineRefused
from jobsync.runtime.waiting import begin
from jobsync.runtime.worker.errand import Errand
from tests.api.jobs import eventually, query
from tests.servers import PrivateServer
from tests.worker.support import await_status, hub_of, queue, worker


class Unreadable(dict[str, int]):
    """A mapping whose content cannot be had."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(a=1)
        self.error = error

    def items(self) -> NoReturn:
        raise self.error

    def values(self) -> NoReturn:
        raise self.error

    def __iter__(self) -> Iterator[str]:
        raise self.error


class UnprintableError(Exception):
    """An error that ends the process when it is printed."""

    def __str__(self) -> str:
        raise SystemExit(4)


@pytest.mark.parametrize(
    "value", [Unreadable(KeyError("odd")), Unreadable(SystemExit(3)), UnprintableError()], ids=["key", "exit", "print"]
)
@pytest.mark.parametrize("is_async", [False, True])
def test_what_raises_where_it_is_looked_at_fails_its_own_job_alone(
    server_dsn: str, prefix: str, value: Any, is_async: bool
) -> None:
    made = worker(server_dsn, prefix)

    def give(job: RunningJob) -> Any:
        if isinstance(value, Exception):
            raise value
        return value

    async def awaited(job: RunningJob) -> Any:
        return give(job)

    made.handles("odd")(awaited if is_async else give)
    made.handles("good")(lambda job: None)
    with queue(server_dsn, prefix) as jobs, made:
        odd = jobs.enqueue("odd", max_attempts=1)
        good = jobs.enqueue("good")
        await_status(jobs, good, "done")
        assert await_status(jobs, odd, "failed").last_error
        assert made.get_status().active_jobs == 0


async def exit_in_a_task_of_its_own(job: RunningJob) -> None:
    async def leave() -> None:
        sys.exit(3)

    await asyncio.gather(leave())


async def stop_the_loop(job: RunningJob) -> None:
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("handler", "becomes"), [(exit_in_a_task_of_its_own, "failed"), (stop_the_loop, "done")], ids=["exit", "stop"]
)
def test_the_loop_of_all_async_handlers_outlives_any_of_them(
    server_dsn: str, prefix: str, handler: Callable[[RunningJob], Any], becomes: str
) -> None:
    made = worker(server_dsn, prefix)
    made.handles("bad")(handler)

    @made.handles("good")
    async def good(job: RunningJob) -> None:
        await asyncio.sleep(0)

    with queue(server_dsn, prefix) as jobs, made:
        bad = jobs.enqueue("bad", max_attempts=1)
        await_status(jobs, jobs.enqueue("good"), "done")
        await_status(jobs, bad, becomes)
        assert made.get_status().is_running


@pytest.mark.parametrize("is_async", [False, True])
def test_a_job_for_which_there_is_no_thread_waits_uncharged(
    server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch, is_async: bool
) -> None:
    refused = list[str]()

    def begin_later(thread: threading.Thread) -> None:
        if len(refused) < 2:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        begin(thread)

    made = worker(server_dsn, prefix)

    async def awaited(job: RunningJob) -> None:
        await asyncio.sleep(0)

    made.handles("x")(awaited if is_async else lambda job: None)
    monkeypatch.setattr("jobsync.runtime.worker.slots.begin", begin_later)
    with queue(server_dsn, prefix) as jobs, made:
        numbers = [jobs.enqueue("x"), jobs.enqueue("x", max_attempts=1)]
        for number in numbers:
            job = await_status(jobs, number, "done")
            assert (job.attempts, job.crashes) == (1, 0)
        assert len(refused) == 2


def test_a_hub_that_fails_leaves_its_jobs_to_others_at_once_and_says_so(
    server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, began = threading.Event(), threading.Event()
    one = worker(server_dsn, prefix, worker_id="one", lease_duration_seconds=3600)

    @one.handles("x")
    def slow(job: RunningJob) -> None:
        began.set()
        go.wait(60)

    two = worker(server_dsn, prefix, worker_id="two")
    two.handles("x")(lambda job: None)
    with queue(server_dsn, prefix) as jobs:
        jobs.enqueue_many([("x", None)] * 5)
        one.start()
        assert began.wait(20)
        hub = hub_of(one)

        def break_down() -> None:
            raise ZeroDivisionError("the hub's own mistake")

        monkeypatch.setattr(hub.reports, "errands", break_down)
        hub.wake()
        eventually(lambda: not one.get_status().is_running, "it says so")
        left = f"select count(*) from {prefix}node"
        eventually(
            lambda: query(server_dsn, left) == [(0,)], "its node leaves, though nobody asks the worker for anything"
        )
        with pytest.raises(ZeroDivisionError):
            one.wait(20)
        with two:
            eventually(lambda: jobs.counts()["done"] == 5, "others have them")
        assert {(job.attempts, job.crashes) for job in jobs.list_jobs()} == {(1, 0)}
        assert query(server_dsn, f"select count(*) from {prefix}node where name = 'one' and state <> 'gone'")[0][0] == 0
        go.set()
        one.stop()


def test_an_error_whose_text_the_database_cannot_hold_is_written_in_ascii(private_server: PrivateServer) -> None:
    query(private_server.dsn, "create database narrow encoding 'LATIN1' lc_collate 'C' lc_ctype 'C' template template0")
    dsn = make_conninfo(private_server.dsn, dbname="narrow")
    made = worker(dsn, "narrow_", max_concurrent_jobs=2)

    @made.handles("bad")
    def bad(job: RunningJob) -> None:
        raise ValueError("from here \u2192 to there")

    made.handles("good")(lambda job: None)
    with queue(dsn, "narrow_") as jobs, made:
        numbers = [jobs.enqueue("bad", max_attempts=1), jobs.enqueue("good")]
        assert "from here \\u2192 to there" in await_status(jobs, numbers[0], "failed").last_error
        await_status(jobs, numbers[1], "done")


def test_an_errand_that_is_refused_holds_up_none_behind_it(server_dsn: str, prefix: str) -> None:
    """Whatever the reason of the refusal: it comes again in each round."""
    made = worker(server_dsn, prefix)
    made.handles("x")(lambda job: None)
    answers = list[object]()

    def was_refused(refusal: LineRefused) -> None:
        raise refusal

    with made:
        pass
    hub = hub_of(made)  # It has ended: its line is this thread's.
    bad, good = (Errand(Statement(text), answers.append, was_refused) for text in ("select 1/0", "select 2"))
    try:
        with pytest.raises(LineRefused):
            hub.run([bad, good])
    finally:
        hub.line.close()
    assert answers == [[(2,)]]


def test_a_payload_that_no_python_can_read_fails_its_own_job_and_says_so(server_dsn: str, prefix: str) -> None:
    made = worker(server_dsn, prefix)
    made.handles("x")(lambda job: job.payload)
    with queue(server_dsn, prefix) as jobs:
        ill, well = jobs.enqueue("x", 0, max_attempts=1), jobs.enqueue("x", 1e22)
        text = "1" + "0" * 5000
        query(server_dsn, f"update {prefix}job_body set payload = %s::jsonb where id = %s", text, ill)
        with made:
            assert "cannot be read by Python" in await_status(jobs, ill, "failed").last_error
            done = await_status(jobs, well, "done")
            assert (done.payload, type(done.result), done.result) == (1e22, float, 1e22)
