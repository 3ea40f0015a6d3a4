"""`@job.singleton`: a function that runs in one process of the fleet, on a real server."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from jobsync import InvalidArgument, Job, Lead
from jobsync.runtime.clock import boot_sec
from jobsync.runtime.leadership import Singleton
from tests.api.jobs import eventually, query, settings
from tests.api.leading import LIMIT_SEC, fence


@pytest.fixture
def make(server_dsn: str, prefix: str) -> Callable[..., Job]:
    """Make a job of this test's fleet; keyword arguments of the settings go by `given`."""

    def make(name: str, *, given: dict[str, Any] | None = None, **arguments: Any) -> Job:
        return Job(name, coordination_config=settings(server_dsn, prefix, **(given or {})), **arguments)

    return make


class Runs:
    """Takes note of where and how often a singleton runs; each run lasts until it is told that it is over."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.running: set[str] = set()
        self.together: list[frozenset[str]] = []

    def on(self, job: Job) -> None:
        @job.singleton
        def work(lead: Lead) -> None:
            self.begun.append(job.node_name)
            self.running.add(job.node_name)
            self.together.append(frozenset(self.running))
            lead.wait()
            self.running.discard(job.node_name)

    def is_on(self, name: str) -> bool:
        return self.running == {name}


def test_a_singleton_runs_in_one_process_and_then_in_the_next(make: Callable[..., Job]) -> None:
    runs = Runs()
    jobs = [make(name) for name in "abc"]
    for job in jobs:
        runs.on(job)
    with ExitStack() as stack:
        exits = [ExitStack() for _ in jobs]
        for job, each in zip(jobs, exits, strict=True):
            stack.push(each)
            each.enter_context(job)
        for expected, each in zip("abc", exits, strict=True):
            eventually(partial(runs.is_on, expected))
            each.close()
    assert runs.begun == ["a", "b", "c"]
    assert all(len(names) == 1 for names in runs.together)
    assert not runs.running


def test_a_singleton_that_returned_runs_no_more_while_its_node_leads(make: Callable[..., Job]) -> None:
    runs: list[str] = []
    with make("a") as a:
        a.singleton(partial(runs.append, "once"))
        a.singleton(every=0.01)(partial(runs.append, "often"))
        eventually(lambda: runs.count("often") > 5)
        assert runs.count("once") == 1


def test_a_singleton_is_started_again_when_leadership_comes_back(
    make: Callable[..., Job], server_dsn: str, prefix: str
) -> None:
    epochs: list[int] = []
    with make("a") as a:

        @a.singleton
        def work(lead: Lead) -> None:
            epochs.append(lead.epoch)
            lead.wait()

        eventually(lambda: len(epochs) == 1)
        fence(server_dsn, prefix, "a")
        eventually(lambda: len(epochs) == 2)
        assert epochs[1] > epochs[0]


def test_runs_keep_their_interval_from_start_to_start(make: Callable[..., Job]) -> None:
    began: list[float] = []
    with make("a") as a:
        a.singleton(every=0.1)(lambda: began.append(boot_sec()))
        eventually(lambda: len(began) >= 5)
    gaps = [after - before for before, after in pairwise(began)]
    assert min(gaps) >= 0.099


def test_what_a_singleton_raises_is_logged_and_tried_again_later(
    make: Callable[..., Job], caplog: pytest.LogCaptureFixture
) -> None:
    began: list[float] = []
    with make("a") as a:

        @a.singleton
        def work() -> None:
            began.append(boot_sec())
            if len(began) == 1:
                raise ZeroDivisionError
            if len(began) == 2:
                raise SystemExit

        eventually(lambda: len(began) == 3)
    assert began[1] - began[0] >= 0.24
    assert began[2] - began[1] >= 0.49
    told = [record for record in caplog.records if "raised under epoch" in record.getMessage()]
    assert [record.exc_info[0] for record in told if record.exc_info] == [ZeroDivisionError, SystemExit]
    assert "test_what_a_singleton_raises" in told[0].getMessage()


def test_the_function_is_returned_unchanged(make: Callable[..., Job]) -> None:
    def work(lead: Lead) -> str:
        return f"led under {lead.epoch}"

    job = make("a")
    assert job.singleton(work) is work
    assert job.singleton(every=60)(work) is work


def test_before_the_job_is_entered_nothing_runs(make: Callable[..., Job]) -> None:
    runs: list[str] = []
    job = make("a")
    job.singleton(lambda: runs.append(threading.current_thread().name))
    assert not runs
    with job:
        eventually(lambda: len(runs) == 1)
    assert runs[0].startswith("jobsync-singleton-")


def test_leaving_waits_for_a_singleton_that_ends_when_told(make: Callable[..., Job]) -> None:
    done: list[bool] = []
    with make("a") as a:
        began = threading.Event()

        @a.singleton
        def work(lead: Lead) -> None:
            began.set()
            lead.wait()
            done.append(lead.held)  # It still leads: nobody else does before it is over.

        assert began.wait(LIMIT_SEC)
    assert done == [True]


def test_leaving_waits_for_a_stubborn_singleton_only_as_long_as_for_a_hand_over(
    make: Callable[..., Job], caplog: pytest.LogCaptureFixture
) -> None:
    began, end = threading.Event(), threading.Event()
    with make("a", given={"handover_timeout_sec": 1}) as a:

        @a.singleton
        def work() -> None:
            began.set()
            end.wait(LIMIT_SEC)

        assert began.wait(LIMIT_SEC)
        leaving_sec = boot_sec()
    assert 1 <= boot_sec() - leaving_sec < 2.5
    assert "goes on although its job ends" in caplog.text
    end.set()


def test_a_job_whose_singletons_cannot_start_leaves_again(
    make: Callable[..., Job], server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Singleton, *_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Singleton, "start", refuse)
    job = make("a")
    job.singleton(lambda: None)
    with pytest.raises(RuntimeError, match="thread"), job:
        pytest.fail("entered")
    assert query(server_dsn, f"select name from {prefix}node") == []


def test_the_first_callback_still_waits_for_the_body(make: Callable[..., Job]) -> None:
    seen: list[str] = []
    job = make("a", on_tokens_added=lambda tokens: seen.append("added"))
    job.singleton(lambda: None)
    with job:
        assert not job._body_began
        job.my_tokens  # noqa: B018
        eventually(lambda: seen == ["added"])


def test_a_singleton_runs_where_the_job_stands_alone() -> None:
    runs: list[bool] = []
    job = Job("a", coordination_config=None)
    job.singleton(every=0.01)(lambda lead: runs.append(lead.held))
    with job:
        eventually(lambda: len(runs) > 3)
    assert all(runs)


async def _asynchronous() -> None:
    """Not for a thread."""


@pytest.mark.parametrize("given", [5, "work", _asynchronous])
def test_what_is_no_plain_function_is_refused(make: Callable[..., Job], given: Any) -> None:
    with pytest.raises(InvalidArgument, match="singleton"):
        make("a").singleton(given)


@pytest.mark.parametrize("every", [0, -1, "1", True, float("inf")])
def test_a_bad_interval_is_refused_at_the_call(make: Callable[..., Job], every: Any) -> None:
    with pytest.raises(InvalidArgument, match="every"):
        make("a").singleton(every=every)
