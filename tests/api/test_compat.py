"""The older forms of the API: the arguments, the names that older code reaches for, its own connection."""

import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from types import ModuleType, SimpleNamespace
from typing import Any

import psycopg
import pytest

from jobsync import CoordinationConfig, CoordinationDisabled, InvalidArgument, Job, NotRunning
from tests.api.jobs import query, settings
from tests.seeds.support import config_module


@pytest.fixture
def config(server_dsn: str, prefix: str) -> ModuleType:
    return config_module(server_dsn, prefix, total_tokens=10)


# --- the forms of the arguments ------------------------------------------------------------------


def test_a_config_object_is_taken_second_third_or_by_name(config: ModuleType, prefix: str) -> None:
    for job in (Job("w1", config), Job("w1", "production", config), Job(node_name="w1", config=config)):
        assert job.tables["Node"] == f"{prefix}node"
    assert Job("w1", "production", config).environment == "production"
    assert Job("w1", config).environment is None


def test_a_config_object_may_be_a_module_a_mapping_or_a_class(config: ModuleType, prefix: str) -> None:
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


def test_the_private_names_read_the_public_ones(config: ModuleType) -> None:
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


def test_the_connection_is_one_autocommit_connection_that_is_not_jobsyncs(config: ModuleType, server_dsn: str) -> None:
    with Job("w1", config) as job:
        before = {pid for (pid,) in query(server_dsn, "select pid from pg_stat_activity")}
        own = job._cn
        assert isinstance(own, psycopg.Connection)
        assert own.autocommit
        assert own is job._cn
        assert own.info.backend_pid not in before
        assert own.execute("select 1").fetchone() == (1,)


def test_the_connection_serves_the_lock_provider_and_ends_with_the_job(
    config: ModuleType, server_dsn: str, prefix: str
) -> None:
    seen: list[psycopg.Connection[Any]] = []

    def provide(job: Job) -> None:
        seen.append(job._cn)
        assert job._cn.execute(f"select count(*) from {prefix}node").fetchone() == (0,)

    with Job("w1", config, lock_provider=provide) as job:
        assert job._cn is seen[0]
    assert seen[0].closed


def test_a_broken_connection_is_replaced_at_its_next_use(config: ModuleType, server_dsn: str) -> None:
    with Job("w1", config) as job:
        first = job._cn
        query(server_dsn, "select pg_terminate_backend(%s)", first.info.backend_pid)
        with pytest.raises(psycopg.OperationalError):
            first.execute("select 1")
        assert job._cn.execute("select 1").fetchone() == (1,)
        assert job._cn is not first


def test_no_connection_is_given_outside_the_block(config: ModuleType) -> None:
    job = Job("w1", config)
    with pytest.raises(NotRunning):
        _ = job._cn
    with job:
        assert job._cn is not None
    with pytest.raises(NotRunning):
        _ = job._cn


def test_the_connection_closes_when_entering_fails_after_its_use(config: ModuleType) -> None:
    seen: list[psycopg.Connection[Any]] = []

    def provide(job: Job) -> None:
        seen.append(job._cn)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), Job("w1", config, lock_provider=provide):
        pass
    assert seen[0].closed


@pytest.mark.parametrize("disabled", [None, CoordinationConfig(enabled=False)])
def test_a_job_alone_connects_to_the_server_of_its_config(
    config: ModuleType, disabled: CoordinationConfig | None
) -> None:
    with Job("w1", config=config, coordination_config=disabled) as job:
        assert job._cn.execute("select 1").fetchone() == (1,)


def test_a_job_alone_without_any_server_says_that_it_has_none() -> None:
    with Job("w1", coordination_config=None) as job, pytest.raises(CoordinationDisabled, match="no database"):
        _ = job._cn


def test_many_threads_get_the_same_connection(config: ModuleType) -> None:
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
def test_the_first_callback_finds_the_name_bound_by_as_a_thousand_times(config: ModuleType) -> None:
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
def test_the_first_callback_waits_for_a_body_that_never_uses_the_job(config: ModuleType) -> None:
    with Job("w1", config) as outer:
        names = {"make": lambda **given: Job("w1", config, **given), "times": 1_000, "is_used": False}
        exec(RACE, names)
        assert names["seen"] == [outer.node_name] * 1_000


def test_what_a_lock_provider_does_with_the_job_is_not_yet_the_body(config: ModuleType) -> None:
    with Job("w1", config, lock_provider=lambda job: job.list_locks()) as job:
        assert not job._listener.body_began.is_set()
        job.list_locks()
        assert job._listener.body_began.is_set()
