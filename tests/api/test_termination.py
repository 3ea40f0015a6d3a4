"""SIGTERM in the older forms: it unwinds `with`, whenever it comes, and never cuts a graceful end short."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from types import ModuleType
from typing import Any

import pytest

from jobsync import Job, NotRunning
from jobsync.api.signals import TERMINATION
from jobsync.postgres.statement import Statement
from tests.api.jobs import eventually, in_thread, query, settings
from tests.seeds.support import config_module

GRACEFUL = 128 + signal.SIGTERM


@pytest.fixture
def config(server_dsn: str, prefix: str) -> ModuleType:
    return config_module(server_dsn, prefix, total_tokens=10)


def test_sigterm_unwinds_the_block_by_default_in_the_older_form(
    config: ModuleType, server_dsn: str, prefix: str
) -> None:
    with pytest.raises(SystemExit) as ended, Job("w1", config):  # noqa: PT012 - the signal needs a loop to land in
        signal.raise_signal(signal.SIGTERM)
        while True:
            time.sleep(0.01)
    assert ended.value.code == GRACEFUL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert query(server_dsn, f"select * from {prefix}node") == []


def test_the_signal_is_not_touched_in_the_native_form(server_dsn: str, prefix: str) -> None:
    with Job("w1", coordination_config=settings(server_dsn, prefix)):
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_the_signal_is_not_touched_where_the_job_is_told_so(config: ModuleType) -> None:
    with Job("w1", config, handle_signals=False):
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_of_the_application_stays(config: ModuleType) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with Job("w1", config):
            signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_job_entered_in_another_thread_leaves_the_signal_alone(config: ModuleType) -> None:
    found: list[object] = []

    def enter() -> None:
        with Job("w1", config):
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join(20)
    assert found == [signal.SIG_DFL]


def test_nested_jobs_give_the_signal_back_with_the_last(config: ModuleType) -> None:
    with Job("w1", config):
        with Job("w1", config):
            pass
        assert signal.getsignal(signal.SIGTERM) == TERMINATION._handle
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_signal_during_the_leave_waits_until_the_job_has_left(
    config: ModuleType, server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    after: list[str] = []
    leave = Job._leave

    def interrupted(self: Job, node: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        leave(self, node)
        after.append("left")

    monkeypatch.setattr(Job, "_leave", interrupted)
    with pytest.raises(SystemExit) as ended, Job("w1", config):
        pass
    assert ended.value.code == GRACEFUL
    assert after == ["left"]
    assert query(server_dsn, f"select * from {prefix}node") == []


def test_a_signal_while_entering_leaves_nothing_behind(config: ModuleType, server_dsn: str, prefix: str) -> None:
    def provide(job: Job) -> None:
        signal.raise_signal(signal.SIGTERM)
        job.list_locks()

    with pytest.raises(SystemExit), Job("w1", config, lock_provider=provide):
        pytest.fail("the block is never reached")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert query(server_dsn, f"select * from {prefix}node") == []


def test_entering_twice_is_refused_and_does_not_end_the_job(config: ModuleType) -> None:
    with Job("w1", config) as job:
        with pytest.raises(NotRunning):
            job.__enter__()
        assert len(job.my_tokens) == 10


def test_a_signal_in_the_middle_of_a_statement_is_not_taken_for_a_lost_database(
    config: ModuleType, server_dsn: str, prefix: str
) -> None:
    def interrupt() -> None:
        sleeping = "select 1 from pg_stat_activity where query = %s and state = 'active'"
        eventually(lambda: query(server_dsn, sleeping, f"select pg_sleep(30), '{prefix}'"))
        os.kill(os.getpid(), signal.SIGTERM)

    with in_thread(interrupt), pytest.raises(SystemExit) as ended, Job("w1", config) as job:
        job._pool().run(Statement(f"select pg_sleep(30), '{prefix}'"))
    assert ended.value.code == GRACEFUL
    assert query(server_dsn, f"select * from {prefix}node") == []


def test_an_exception_between_sending_and_receiving_passes_as_it_is(config: ModuleType) -> None:
    with Job("w1", config) as job:
        with pytest.raises(SystemExit), job._pool().connection() as conn:  # noqa: PT012 - what a signal may hit
            conn.pgconn.send_query(b"select 1")
            raise SystemExit
        assert conn.closed
        assert job.list_locks() == []


OPENING = """
    import signal, sys
    import jobsync.postgres.pool as room
    from jobsync import CoordinationConfig, Job
    def handler(number, frame):
        job.__exit__(None, None, None)
        sys.exit(7)
    def interrupted(*given, **named):
        pool = opened(*given, **named)
        signal.raise_signal(signal.SIGTERM)
        return pool
    signal.signal(signal.SIGTERM, handler)
    with Job("w1", CoordinationConfig(dsn=sys.argv[1], appname=sys.argv[2], total_tokens=10)) as job:
        opened, room.ConnectionPool = room.ConnectionPool, interrupted
        job.list_locks()
"""


def test_a_handler_may_leave_the_job_while_its_thread_opens_the_pool(server_dsn: str, prefix: str) -> None:
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(OPENING), server_dsn, prefix],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 7, process.stderr
    assert query(server_dsn, f"select * from {prefix}node") == []


FORK = """
    import os, signal, sys, time
    from jobsync import CoordinationConfig, Job
    hear, say = os.pipe()
    with Job("w1", CoordinationConfig(dsn=sys.argv[1], appname=sys.argv[2], total_tokens=10)) as job:
        child = os.fork()
        if child == 0:
            os.write(say, b"!")
            while True:
                time.sleep(0.01)
        # Python forgets what came to a child before it was fully there.
        os.read(hear, 1)
        os.kill(child, signal.SIGTERM)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(job.my_tokens), flush=True)
"""


def test_a_forked_child_dies_of_sigterm_as_ever_and_its_parent_goes_on(server_dsn: str, prefix: str) -> None:
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORK), server_dsn, prefix],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.stdout == f"{-signal.SIGTERM} 10\n", process.stderr


STORM = """
    import signal, sys, threading, os
    from jobsync import CoordinationConfig, Job
    config = CoordinationConfig(dsn=sys.argv[1], appname=sys.argv[2], total_tokens=10)
    with Job("outer", coordination_config=config, observer=True):
        pass
    number = 0
    print("on", flush=True)
    while True:
        number += 1
        with Job("w1", config) as job:
            job.my_tokens
"""


@pytest.mark.parametrize("times", [5, pytest.param(24, marks=pytest.mark.slow)])
def test_whenever_the_signal_comes_nothing_is_left_behind(server_dsn: str, prefix: str, times: int) -> None:
    ended = []
    for number in range(times):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(STORM), server_dsn, prefix],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        # Between two jobs the signal has its usual meaning; the row is gone then too.
        time.sleep(number / times * 0.16)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
        ended.append(process.returncode)
        assert process.returncode in {GRACEFUL, -signal.SIGTERM}, said
        assert query(server_dsn, f"select name from {prefix}node") == [], ended
    assert GRACEFUL in ended
