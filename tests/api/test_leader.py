"""Work that runs in one process of the fleet: `job.leader()` and `@job.singleton`, on a real server."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from jobsync import (
    CoordinationDisabled,
    InvalidArgument,
    Job,
    JobStopped,
    JobsyncError,
    Lead,
    LeaderTimeout,
    NotRunning,
)
from jobsync.core.pool import LEADERSHIP
from jobsync.runtime.clock import boot_sec
from jobsync.runtime.leadership import Singleton
from tests.api.jobs import TOKENS, Recorder, eventually, in_thread, query, settings

LIMIT_SEC = 20.0


@pytest.fixture
def make(server_dsn: str, prefix: str) -> Callable[..., Job]:
    """Make a job of this test's fleet; keyword arguments of the settings go by `given`."""

    def make(name: str, *, given: dict[str, Any] | None = None, **arguments: Any) -> Job:
        return Job(name, coordination_config=settings(server_dsn, prefix, **(given or {})), **arguments)

    return make


class Body:
    """A body of `job.leader()` in a thread of its own, which ends when it is told to."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.entered = threading.Event()
        self.end = threading.Event()
        self.lead: Lead | None = None
        self.left_at_sec = 0.0

    def __call__(self) -> None:
        with self.job.leader(timeout=LIMIT_SEC) as lead:
            self.lead = lead
            self.entered.set()
            self.end.wait(LIMIT_SEC)
            self.left_at_sec = boot_sec()


def fence(dsn: str, prefix: str, name: str) -> None:
    """Take everything from a node, as an observer who waited long enough does."""
    done = query(
        dsn, f"select {prefix}fence(name, incarnation, bind, beats, 'A') from {prefix}node where name = %s", name
    )
    assert done == [(True,)]


# --- with job.leader() ---------------------------------------------------------------------------


def test_the_oldest_node_leads(make: Callable[..., Job]) -> None:
    with make("a") as a, make("b") as b:
        with a.leader(timeout=LIMIT_SEC) as lead:
            assert lead.held
            assert lead.epoch > 0
            assert not lead.lost.is_set()
            assert not lead.lost.wait(0)
            assert not lead.wait(0.01)
        with pytest.raises(LeaderTimeout, match="'a' leads") as caught, b.leader(timeout=0.05):
            pytest.fail("two lead")
        assert isinstance(caught.value, TimeoutError)


def test_leaving_the_body_does_not_give_leadership_up(make: Callable[..., Job]) -> None:
    with make("a") as a:
        with a.leader() as first:
            pass
        with a.leader(timeout=0) as second:
            assert second.epoch == first.epoch
        assert first.held


def test_the_next_one_leads_under_a_higher_epoch(make: Callable[..., Job]) -> None:
    with ExitStack() as stack:
        b_exit = ExitStack()
        a = b_exit.enter_context(make("a"))
        b = stack.enter_context(make("b"))
        with a.leader() as first:
            assert first.held
        b_exit.close()
        with b.leader(timeout=LIMIT_SEC) as second:
            assert second.epoch > first.epoch
            assert not first.held


def test_who_waits_to_lead_ends_with_the_job(make: Callable[..., Job]) -> None:
    with make("a"), make("b") as b, ThreadPoolExecutor() as threads:
        body = Body(b)
        waiting: Future[None] = threads.submit(body)
        b.stop()
        with pytest.raises(JobStopped, match="'b'"):
            waiting.result(LIMIT_SEC)
        assert not body.entered.is_set()


def test_a_lead_ends_its_wait_when_the_job_is_stopped_and_is_still_held(make: Callable[..., Job]) -> None:
    with make("a") as a, a.leader() as lead:
        a.stop()
        assert lead.wait(LIMIT_SEC)
        assert lead.held
        assert not lead.lost.is_set()


def test_a_graceful_hand_over_waits_for_the_body(make: Callable[..., Job]) -> None:
    first, second = make("a"), make("b")
    with first, second:
        old, new = Body(first), Body(second)
        with in_thread(old), in_thread(new):
            assert old.entered.wait(LIMIT_SEC)
            with in_thread(lambda: first.__exit__(None, None, None)):
                assert old.lead is not None
                assert old.lead.lost.wait(LIMIT_SEC)
                # Its tokens go on at once; what leads is waited for.
                eventually(lambda: len(second.my_tokens) == TOKENS)
                assert not new.entered.wait(0.5)
                old.end.set()
                assert new.entered.wait(LIMIT_SEC)
            assert new.lead is not None
            assert new.lead.epoch > old.lead.epoch
            new.end.set()


def test_the_wait_for_the_body_is_bounded(make: Callable[..., Job], caplog: pytest.LogCaptureFixture) -> None:
    given = {"handover_timeout_sec": 1.2}
    first, second = make("a", given=given), make("b", given=given)
    with first, second:
        old, new = Body(first), Body(second)
        with in_thread(old), in_thread(new):
            assert old.entered.wait(LIMIT_SEC)
            began_sec = boot_sec()
            first.__exit__(None, None, None)
            assert new.entered.wait(LIMIT_SEC)
            assert 1.2 <= boot_sec() - began_sec < 5
            said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
            assert any("is lost" in text for text in said)
            assert any("goes on" in text for text in said)
            assert any("right to lead was not let go" in text for text in said)
            old.end.set()
            new.end.set()


def test_who_is_fenced_is_told_and_leads_again_under_another_epoch(
    make: Callable[..., Job], server_dsn: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    with make("a") as a, a.leader() as lead:
        fence(server_dsn, prefix, "a")
        assert lead.lost.wait(LIMIT_SEC)
        assert not lead.held
        eventually(lambda: "is lost" in caplog.text)
        with a.leader(timeout=LIMIT_SEC) as again:
            assert again.epoch > lead.epoch
            assert not lead.held
            assert lead.lost.is_set()


def test_what_a_body_raises_comes_out(make: Callable[..., Job]) -> None:
    with make("a") as a:
        with pytest.raises(ZeroDivisionError), a.leader() as lead:
            raise ZeroDivisionError
        assert lead.held


def test_jobs_of_one_name_lead_together(make: Callable[..., Job]) -> None:
    with make("a") as outer, outer.leader() as lead:
        with make("a") as inner, inner.leader(timeout=LIMIT_SEC) as other:
            assert other.epoch == lead.epoch
        assert lead.held
        assert not lead.wait(0)


@pytest.mark.parametrize("timeout", [-1, "1", True, float("inf"), float("nan")])
def test_a_bad_timeout_is_refused_at_the_call(make: Callable[..., Job], timeout: Any) -> None:
    with pytest.raises(InvalidArgument, match="timeout"):
        make("a").leader(timeout=timeout)


def test_outside_the_job_nobody_leads(make: Callable[..., Job]) -> None:
    with pytest.raises(NotRunning):
        make("a").leader()


def test_an_observer_never_leads(make: Callable[..., Job]) -> None:
    with make("watcher", observer=True) as job:
        with pytest.raises(CoordinationDisabled, match="observes"):
            job.leader()
        with pytest.raises(CoordinationDisabled, match="observes"):
            job.singleton(print)


def test_who_stands_alone_leads() -> None:
    with Job("a", coordination_config=None) as job:
        with job.leader(timeout=0) as lead:
            assert lead.held
            assert not lead.wait(0.01)
            assert not lead.lost.wait(0.01)
            assert LEADERSHIP not in job.my_tokens
            job.stop()
            assert lead.wait(LIMIT_SEC)
        with pytest.raises(JobStopped):
            job.leader(timeout=0).__enter__()


# --- what must not show --------------------------------------------------------------------------


def test_no_callback_view_or_count_shows_the_right_to_lead(
    make: Callable[..., Job], server_dsn: str, prefix: str
) -> None:
    recorders = [Recorder(), Recorder()]
    with make("b", **recorders[1].all_callbacks) as b:
        with make("a", **recorders[0].all_callbacks) as a, b.leader() as lead:
            assert len(a.my_tokens) + len(b.my_tokens) == TOKENS
            assert LEADERSHIP not in a.my_tokens | b.my_tokens
            assert sum(job.status().tokens_owned for job in (a, b)) == TOKENS
            rows = query(server_dsn, f"select count(*)::int, min(token_id), max(token_id) from {prefix}token")
            assert rows == [(TOKENS, 0, TOKENS - 1)]
            fence(server_dsn, prefix, "b")
            assert lead.lost.wait(LIMIT_SEC)
            with a.leader(timeout=LIMIT_SEC):
                eventually(lambda: len(a.my_tokens) + len(b.my_tokens) == TOKENS and len(b.my_tokens) > 0)
        eventually(lambda: len(b.my_tokens) == TOKENS)
        eventually(lambda: sum(len(t) for k, t in recorders[1].calls if k == "added") >= TOKENS)
    for recorder in recorders:
        assert all(LEADERSHIP not in tokens for _, tokens in recorder.calls)
        assert all(tokens for kind, tokens in recorder.calls if kind != "rebalance")
    moves = query(server_dsn, f"select tokens_moved, moves::text from {prefix}rebalance")
    assert all(moved <= TOKENS and "[-1" not in text for moved, text in moves)


def test_a_leader_may_own_no_token_at_all(make: Callable[..., Job], server_dsn: str, prefix: str) -> None:
    recorder = Recorder()
    given = {"total_tokens": 1}
    with make("a", given=given, **recorder.all_callbacks) as a:
        a.register_lock("the only one", "b")
        with make("b", given=given) as b:
            eventually(lambda: len(b.my_tokens) == 1 and not a.my_tokens)
            with a.leader(timeout=LIMIT_SEC) as lead:
                assert lead.held
                assert a.status().tokens_owned == 0
        assert query(server_dsn, f"select node from {prefix}token where node = 'b'") == []
    assert all(tokens <= {0} for _, tokens in recorder.calls)


# --- @job.singleton ------------------------------------------------------------------------------


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


def test_every_error_of_leading_is_a_jobsync_error() -> None:
    assert issubclass(LeaderTimeout, JobsyncError)
    assert issubclass(JobStopped, JobsyncError)
