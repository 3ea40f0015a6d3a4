"""Ways out of a job, and ways in that are refused: nothing is left behind, and nobody is left deaf."""

import signal
import threading
from typing import Any

import pytest

from jobsync import InvalidArgument, Job, NotRunning
from jobsync.runtime.clock import boot_sec
from tests.api.jobs import eventually, in_thread, query, run_script, settings


def nodes(dsn: str, prefix: str) -> list[str]:
    return [name for (name,) in query(dsn, f"select name from {prefix}node order by name")]


def test_an_exit_that_is_interrupted_while_a_singleton_ends_leaves_no_node(
    server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    job = Job("a", coordination_config=settings(server_dsn, prefix))
    job.singleton(lambda: None)
    job.__enter__()
    monkeypatch.setattr("jobsync.runtime.leadership.Singleton.finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        job.__exit__(None, None, None)
    assert nodes(server_dsn, prefix) == []


def test_a_second_exit_in_another_thread_waits_for_the_first(
    server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaving, go_on = threading.Event(), threading.Event()
    job = Job("a", coordination_config=settings(server_dsn, prefix))
    job.__enter__()
    leave = Job._leave

    def slowly(self: Job, node: Any) -> None:
        leaving.set()
        assert go_on.wait(30)
        leave(self, node)

    monkeypatch.setattr(Job, "_leave", slowly)
    second = threading.Thread(target=lambda: job.__exit__(None, None, None))
    with in_thread(lambda: job.__exit__(None, None, None)):
        assert leaving.wait(10)
        second.start()
        assert nodes(server_dsn, prefix) == ["a"]
        assert second.is_alive()
        go_on.set()
        second.join(20)
        assert nodes(server_dsn, prefix) == []


def test_a_singleton_that_exits_its_own_job_is_not_waited_for(server_dsn: str, prefix: str) -> None:
    job = Job("a", coordination_config=settings(server_dsn, prefix))
    took_sec: list[float] = []

    @job.singleton
    def leave() -> None:
        began_sec = boot_sec()
        job.__exit__(None, None, None)
        took_sec.append(boot_sec() - began_sec)

    with job:
        eventually(lambda: took_sec)
    assert took_sec[0] < 5


def test_a_job_may_leave_while_another_of_its_name_waits_out_its_grace(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    waiting = Job("a", coordination_config=given, wait_on_enter=60)
    with Job("a", coordination_config=given) as job:
        with in_thread(waiting.__enter__):
            eventually(lambda: waiting._ledger is not None)
            began_sec = boot_sec()
            with Job("a", coordination_config=given):
                pass
            job.__exit__(None, None, None)
            assert boot_sec() - began_sec < 20
            waiting.stop()
        waiting.__exit__(None, None, None)
    assert nodes(server_dsn, prefix) == []


# --- signals -------------------------------------------------------------------------------------

DEAF = """
    import os, signal, sys, threading, time
    from jobsync import CoordinationConfig, Job
    given = CoordinationConfig(dsn=sys.argv[1], appname=sys.argv[2], total_tokens=10)
    how, number = sys.argv[3], int(sys.argv[4])
    jobs = [Job(name, coordination_config=given, handle_signals=True) for name in "ab"]
    for job in jobs:
        job.__enter__()
    if how == "first in, first out":
        for job in jobs:
            job.__exit__(None, None, None)
    elif how == "another thread":
        leaver = threading.Thread(target=lambda: [job.__exit__(None, None, None) for job in jobs])
        leaver.start(); leaver.join()
    elif how == "child":
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            [job.__exit__(None, None, None) for job in jobs]
            print("reaped"); sys.exit(0)
    elif how == "both":
        os.kill(os.getpid(), number)
        print(all(job.wait(10) for job in jobs), flush=True)
        [job.__exit__(None, None, None) for job in jobs]
    os.kill(os.getpid(), number)
    time.sleep(10)
    print("deaf", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("how", "output"),
    [("first in, first out", ""), ("another thread", ""), ("child", "reaped\n"), ("both", "True\n")],
)
def test_no_way_out_of_jobs_leaves_a_process_deaf(
    server_dsn: str, prefix: str, number: int, how: str, output: str
) -> None:
    process = run_script(DEAF, server_dsn, prefix, how, str(int(number)))
    assert process.communicate(timeout=60)[0] == output
    assert (process.returncode == 0) == (how == "child")


# --- refused at the call -------------------------------------------------------------------------


async def awaited(_: object) -> None: ...


@pytest.mark.parametrize("what", ["on_tokens_added", "on_tokens_removed", "on_rebalance", "lock_provider"])
@pytest.mark.parametrize("given", [5, [], awaited, lambda one, two: None])
def test_what_cannot_be_called_back_is_refused_at_the_call(what: str, given: Any) -> None:
    with pytest.raises(InvalidArgument, match=what):
        Job("a", coordination_config=None, **{what: given})


@pytest.mark.parametrize("what", ["observer", "clear_existing_locks", "handle_signals"])
def test_what_is_neither_true_nor_false_is_refused_at_the_call(what: str) -> None:
    with pytest.raises(InvalidArgument, match=what):
        Job("a", coordination_config=None, **{what: "no"})  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", ["x", [], float("nan"), -1])
def test_a_wait_of_no_time_is_refused(seconds: Any) -> None:
    with Job("a", coordination_config=None) as job, pytest.raises(InvalidArgument, match="timeout"):
        job.wait(seconds)


def test_a_wait_before_entering_says_so() -> None:
    with pytest.raises(NotRunning):
        Job("a", coordination_config=None).wait()


@pytest.mark.parametrize("token", [[], None, "x", -1, 100])
def test_what_is_no_token_is_refused(token: Any) -> None:
    with Job("a", coordination_config=None) as job, pytest.raises(InvalidArgument, match="token="):
        job.get_task_ids_for_token(token if token != 100 else 10_000, ["x"])


def test_standing_alone_by_default_is_warned_of(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("SYNC_DSN", "SYNC_SQL_HOST"):
        monkeypatch.delenv(variable, raising=False)
    with Job("a", coordination_config=None):
        assert "stands alone and owns every task" not in caplog.text
    with Job("a"):
        assert "stands alone and owns every task" in caplog.text
