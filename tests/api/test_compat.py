"""The older forms of the API: the names that older code reaches for, and SIGTERM that unwinds `with`."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from types import ModuleType, SimpleNamespace
from typing import Any

import psycopg
import pytest

from jobsync import CoordinationConfig, CoordinationDisabled, InvalidArgument, Job, NotRunning
from jobsync.api.signals import TERMINATION
from jobsync.postgres.statement import Statement
from tests.api.jobs import eventually, in_thread, query, settings

GRACEFUL = 128 + signal.SIGTERM


def parts_of(dsn: str) -> dict[str, Any]:
    given = psycopg.conninfo.conninfo_to_dict(dsn)
    names = {"host": "host", "port": "port", "dbname": "dbname", "user": "user", "password": "password"}
    return {ours: given[theirs] for ours, theirs in names.items() if theirs in given}


@pytest.fixture
def config(server_dsn: str, prefix: str) -> SimpleNamespace:
    sql = SimpleNamespace(**parts_of(server_dsn), appname=prefix)
    return SimpleNamespace(sync=SimpleNamespace(sql=sql, coordination=SimpleNamespace(total_tokens=10)))


# --- the forms of the arguments ------------------------------------------------------------------


def test_a_config_object_is_taken_second_third_or_by_name(config: SimpleNamespace, prefix: str) -> None:
    for job in (Job("w1", config), Job("w1", "production", config), Job(node_name="w1", config=config)):
        assert job.tables["Node"] == f"{prefix}node"
    assert Job("w1", "production", config).environment == "production"
    assert Job("w1", config).environment is None


def test_a_config_object_may_be_a_module_a_mapping_or_a_class(config: SimpleNamespace, prefix: str) -> None:
    module = ModuleType("config")
    module.sync = config.sync  # type: ignore[attr-defined]
    mapping = {"sync": {"sql": vars(config.sync.sql)}}

    class Settled:
        sync = config.sync

    for each in (module, mapping, Settled, Settled()):
        assert Job("w1", "production", each).tables["Node"] == f"{prefix}node"


def test_a_coordination_config_is_taken_in_the_place_of_a_config_object(server_dsn: str, prefix: str) -> None:
    with Job("w1", settings(server_dsn, prefix)) as job:
        assert job._coordination_enabled


def test_the_importable_config_is_the_environments(
    server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobsync import config as imported  # noqa: PLC0415 - as older code does

    monkeypatch.setenv("SYNC_DSN", server_dsn)
    monkeypatch.setenv("SYNC_SQL_APPNAME", prefix)
    monkeypatch.setenv("SYNC_TOTAL_TOKENS", "20")
    with Job("w1", "production", imported) as job:
        assert len(job.my_tokens) == 20
        assert query(server_dsn, f"select name from {prefix}node") == [("w1",)]


def test_two_config_objects_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="name of an environment"):
        Job("w1", SimpleNamespace(), SimpleNamespace())


# --- private names -------------------------------------------------------------------------------


def test_the_private_names_read_the_public_ones(config: SimpleNamespace) -> None:
    with Job("w1", config) as job:
        assert job._tables == job.tables
        assert job._my_tokens == job.my_tokens == set(range(10))
        assert job._token_version == job.token_version > 0
        assert job._coordination_enabled
        heard = job._last_heartbeat_sent
        assert heard is not None
        assert abs((datetime.now(UTC) - heard).total_seconds()) < 30
    assert job._my_tokens == set()


def test_a_job_alone_says_so_by_the_private_names() -> None:
    with Job("w1", coordination_config=None) as job:
        assert not job._coordination_enabled
        assert job._last_heartbeat_sent is None
        assert len(job._my_tokens) == 10_000


# --- a connection of one's own -------------------------------------------------------------------


def test_the_connection_is_one_autocommit_connection_that_is_not_jobsyncs(
    config: SimpleNamespace, server_dsn: str
) -> None:
    with Job("w1", config) as job:
        before = {pid for (pid,) in query(server_dsn, "select pid from pg_stat_activity")}
        own = job._cn
        assert isinstance(own, psycopg.Connection)
        assert own.autocommit
        assert own is job._cn
        assert own.info.backend_pid not in before
        assert own.execute("select 1").fetchone() == (1,)


def test_the_connection_serves_the_lock_provider_and_ends_with_the_job(
    config: SimpleNamespace, server_dsn: str, prefix: str
) -> None:
    seen: list[psycopg.Connection[Any]] = []

    def provide(job: Job) -> None:
        seen.append(job._cn)
        assert job._cn.execute(f"select count(*) from {prefix}node").fetchone() == (0,)

    with Job("w1", config, lock_provider=provide) as job:
        assert job._cn is seen[0]
    assert seen[0].closed


def test_a_broken_connection_is_replaced_at_its_next_use(config: SimpleNamespace, server_dsn: str) -> None:
    with Job("w1", config) as job:
        first = job._cn
        query(server_dsn, "select pg_terminate_backend(%s)", first.info.backend_pid)
        with pytest.raises(psycopg.OperationalError):
            first.execute("select 1")
        assert job._cn.execute("select 1").fetchone() == (1,)
        assert job._cn is not first


def test_no_connection_is_given_outside_the_block(config: SimpleNamespace) -> None:
    job = Job("w1", config)
    with pytest.raises(NotRunning):
        _ = job._cn
    with job:
        assert job._cn is not None
    with pytest.raises(NotRunning):
        _ = job._cn


def test_the_connection_closes_when_entering_fails_after_its_use(config: SimpleNamespace) -> None:
    seen: list[psycopg.Connection[Any]] = []

    def provide(job: Job) -> None:
        seen.append(job._cn)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), Job("w1", config, lock_provider=provide):
        pass
    assert seen[0].closed


@pytest.mark.parametrize("disabled", [None, CoordinationConfig(enabled=False)])
def test_a_job_alone_connects_to_the_server_of_its_config(
    config: SimpleNamespace, disabled: CoordinationConfig | None
) -> None:
    with Job("w1", config=config, coordination_config=disabled) as job:
        assert job._cn.execute("select 1").fetchone() == (1,)


def test_a_job_alone_without_any_server_says_that_it_has_none() -> None:
    with Job("w1", coordination_config=None) as job, pytest.raises(CoordinationDisabled, match="no database"):
        _ = job._cn


def test_many_threads_get_the_same_connection(config: SimpleNamespace) -> None:
    with Job("w1", config) as job:
        got: list[object] = []
        threads = [threading.Thread(target=lambda: got.append(job._cn)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert len(got) == 8
        assert len(set(map(id, got))) == 1


# --- the name bound by `as` ----------------------------------------------------------------------


@pytest.fixture
def tiny_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


RACE = """
import threading
def added(tokens):
    try:
        seen.append(job.node_name)
    except NameError as error:
        seen.append(error)
    called.set()
def locks(own):
    own.list_locks()
seen = []
for number in range(times):
    called = threading.Event()
    with make(on_tokens_added=added, lock_provider=locks) as job:
        held = len(job.my_tokens) if is_used else None
        called.wait(20)
    del job
"""


@pytest.mark.usefixtures("tiny_switches")
def test_the_first_callback_finds_the_name_bound_by_as_a_thousand_times(config: SimpleNamespace) -> None:
    # Every job shares the node that is there, so that a thousand are entered in seconds.
    with Job("w1", config) as outer:
        names = {"make": lambda **given: Job("w1", config, **given), "times": 1_000, "is_used": True}
        exec(RACE, names)
        assert names["seen"] == [outer.node_name] * 1_000


@pytest.mark.usefixtures("tiny_switches")
def test_the_first_callback_of_a_job_alone_finds_the_name_too() -> None:
    names = {"make": lambda **given: Job("w1", coordination_config=None, **given), "times": 1_000, "is_used": True}
    exec(RACE, names)
    assert names["seen"] == ["w1"] * 1_000


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_switches")
def test_the_first_callback_waits_for_a_body_that_never_uses_the_job(config: SimpleNamespace) -> None:
    with Job("w1", config) as outer:
        names = {"make": lambda **given: Job("w1", config, **given), "times": 1_000, "is_used": False}
        exec(RACE, names)
        assert names["seen"] == [outer.node_name] * 1_000


def test_what_a_lock_provider_does_with_the_job_is_not_yet_the_body(config: SimpleNamespace) -> None:
    with Job("w1", config, lock_provider=lambda job: job.list_locks()) as job:
        assert not job._listener.body_began.is_set()
        job.list_locks()
        assert job._listener.body_began.is_set()


# --- SIGTERM -------------------------------------------------------------------------------------


def test_sigterm_unwinds_the_block_by_default_in_the_older_form(config: SimpleNamespace, prefix: str) -> None:
    with pytest.raises(SystemExit) as ended, Job("w1", config):  # noqa: PT012 - the signal needs a loop to land in
        signal.raise_signal(signal.SIGTERM)
        while True:
            time.sleep(0.01)
    assert ended.value.code == GRACEFUL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert query(psycopg_dsn(config), f"select * from {prefix}node") == []


def psycopg_dsn(config: SimpleNamespace) -> str:
    given = {name: value for name, value in vars(config.sync.sql).items() if name != "appname"}
    return psycopg.conninfo.make_conninfo("", **given)


def test_the_signal_is_not_touched_in_the_native_form(server_dsn: str, prefix: str) -> None:
    with Job("w1", coordination_config=settings(server_dsn, prefix)):
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_the_signal_is_not_touched_where_the_job_is_told_so(config: SimpleNamespace) -> None:
    with Job("w1", config, handle_signals=False):
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_of_the_application_stays(config: SimpleNamespace) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with Job("w1", config):
            signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_job_entered_in_another_thread_leaves_the_signal_alone(config: SimpleNamespace) -> None:
    found: list[object] = []

    def enter() -> None:
        with Job("w1", config):
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join(20)
    assert found == [signal.SIG_DFL]


def test_nested_jobs_give_the_signal_back_with_the_last(config: SimpleNamespace) -> None:
    with Job("w1", config):
        with Job("w1", config):
            pass
        assert signal.getsignal(signal.SIGTERM) == TERMINATION._handle
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_signal_during_the_leave_waits_until_the_job_has_left(
    config: SimpleNamespace, prefix: str, monkeypatch: pytest.MonkeyPatch
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
    assert query(psycopg_dsn(config), f"select * from {prefix}node") == []


def test_a_signal_while_entering_leaves_nothing_behind(config: SimpleNamespace, prefix: str) -> None:
    def provide(job: Job) -> None:
        signal.raise_signal(signal.SIGTERM)
        job.list_locks()

    with pytest.raises(SystemExit), Job("w1", config, lock_provider=provide):
        pytest.fail("the block is never reached")
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert query(psycopg_dsn(config), f"select * from {prefix}node") == []


def test_entering_twice_is_refused_and_does_not_end_the_job(config: SimpleNamespace) -> None:
    with Job("w1", config) as job:
        with pytest.raises(NotRunning):
            job.__enter__()
        assert len(job.my_tokens) == 10


def test_a_signal_in_the_middle_of_a_statement_is_not_taken_for_a_lost_database(
    config: SimpleNamespace, prefix: str
) -> None:
    dsn = psycopg_dsn(config)

    def interrupt() -> None:
        sleeping = "select 1 from pg_stat_activity where query = %s and state = 'active'"
        eventually(lambda: query(dsn, sleeping, f"select pg_sleep(30), '{prefix}'"))
        os.kill(os.getpid(), signal.SIGTERM)

    with in_thread(interrupt), pytest.raises(SystemExit) as ended, Job("w1", config) as job:
        job._pool().run(Statement(f"select pg_sleep(30), '{prefix}'"))
    assert ended.value.code == GRACEFUL
    assert query(dsn, f"select * from {prefix}node") == []


def test_an_exception_between_sending_and_receiving_passes_as_it_is(config: SimpleNamespace) -> None:
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


def test_whenever_the_signal_comes_nothing_is_left_behind(server_dsn: str, prefix: str) -> None:
    ended = []
    for number in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(STORM), server_dsn, prefix],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        # Between two jobs the signal has its usual meaning; the row is gone then too.
        time.sleep(number * 0.013)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
        ended.append(process.returncode)
        assert process.returncode in {GRACEFUL, -signal.SIGTERM}, said
        assert query(server_dsn, f"select name from {prefix}node") == [], ended
    assert GRACEFUL in ended
