"""Leading as a block, on a real server: one at a time, told when it is over, and shown nowhere as a token."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
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
from tests.api.jobs import TOKENS, Recorder, eventually, in_thread, query, settings
from tests.api.leading import LIMIT_SEC, fence


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


def test_every_error_of_leading_is_a_jobsync_error() -> None:
    assert issubclass(LeaderTimeout, JobsyncError)
    assert issubclass(JobStopped, JobsyncError)
