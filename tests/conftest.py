"""Fixtures for every test: a server shared by the whole run, a prefix of one's own, a private server."""

import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import hypothesis
import psycopg
import pytest

from jobsync.postgres.embedded import acquire
from tests.schemas import Schemas
from tests.servers import (
    RUN_DIR_VARIABLE,
    PrivateServer,
    clear_old_runs,
    clear_run,
    lock_run,
    new_dir,
    servers_base,
)

DSN_VARIABLE = "JOBSYNC_TEST_DSN"

# A deadline for one example would judge the machine, which others use as well.
hypothesis.settings.register_profile("jobsync", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("jobsync")


def pytest_configure(config: pytest.Config) -> None:
    """Choose one directory for all servers of the run; xdist's workers inherit the choice, and step back."""
    if _is_worker(config):
        _yield_to_servers()
        return
    clear_old_runs()
    os.environ[RUN_DIR_VARIABLE] = str(servers_base() / f"run-{secrets.token_hex(3)}")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the directory, after the last worker has ended."""
    run_dir = Path(os.environ.get(RUN_DIR_VARIABLE, ""))
    if not _is_worker(config) and run_dir.name.startswith("run-") and run_dir.exists():
        clear_run(run_dir, limit_sec=20.0)


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _yield_to_servers() -> None:
    """Let PostgreSQL's processes have a CPU before this worker and the processes that it starts.

    Linux shares the CPUs among sessions (autogroups; sched(7)), and every PostgreSQL backend is a session. On two
    busy cores a backend was seen waiting for its turn for 0.3 to 3.5 s (/proc/PID/schedstat: one slice, all of it
    waiting), and nodes then rightly stop believing in their tokens. With this, or with autogroups switched off,
    the same load delayed no answer by as much as 0.1 s. A worker of xdist has no terminal to lose.
    """
    os.setsid()
    with suppress(OSError):  # Not on Linux, or autogroups are off: there is nothing to yield then.
        Path("/proc/self/autogroup").write_text("10")


@pytest.fixture(scope="session")
def run_dir() -> Iterator[Path]:
    """Give the directory for all servers of this run of the tests."""
    run_dir = Path(os.environ[RUN_DIR_VARIABLE])
    run_dir.mkdir(exist_ok=True)
    run_dir.chmod(0o711)
    lock = lock_run(run_dir)
    yield run_dir
    os.close(lock)


@pytest.fixture(scope="session")
def server_dsn(run_dir: Path) -> Iterator[str]:
    """Give the conninfo of the server shared by the run: `$JOBSYNC_TEST_DSN`, or an embedded one."""
    named = os.environ.get(DSN_VARIABLE)
    if named:
        yield named
    else:
        with acquire(run_dir / "shared") as server:
            _spare_body_checks(server.dsn)
            yield server.dsn


def _spare_body_checks(dsn: str) -> None:
    """Check the bodies of functions when they run, not for each of a thousand schemas when they are created.

    It is a quarter of the cost of a schema. The tests of the schema's own SQL file keep the check on.
    """
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("select pg_advisory_lock(1)")  # Two of xdist's workers that alter one role disturb each other.
        conn.execute("alter role current_user set check_function_bodies = off")


@pytest.fixture
def bare_prefix(server_dsn: str) -> Iterator[str]:
    """Give a prefix for table names that nothing bears; what bears it is dropped after the test."""
    prefix = f"t_{secrets.token_hex(4)}_"
    yield prefix
    drop_all(server_dsn, prefix)


@pytest.fixture
def prefix(bare_prefix: str) -> str:
    """Give a prefix for table names that no other test has; rooms may give one whose tables stand (`tables`)."""
    return bare_prefix


@pytest.fixture(scope="session")
def schemas(server_dsn: str) -> Iterator[Schemas]:
    """Give the schemas of this process that serve one test after the other."""
    schemas = Schemas(server_dsn)
    yield schemas
    for prefix in schemas.free():
        drop_all(server_dsn, prefix)


@pytest.fixture
def tables(server_dsn: str, schemas: Schemas) -> Iterator[str]:
    """Give the prefix of tables that stand as new: for tests that leave no thread and no process behind."""
    prefix = schemas.lend(f"t_{secrets.token_hex(4)}_")
    yield prefix
    if not schemas.take_back(prefix):
        drop_all(server_dsn, prefix)


@pytest.fixture
def make_private_server(run_dir: Path) -> Iterator[Callable[..., PrivateServer]]:
    """Give a maker of started `PrivateServer`s, which takes its keyword arguments; all are removed after."""
    with ExitStack() as servers:

        def make(**options: Any) -> PrivateServer:
            return servers.enter_context(PrivateServer(new_dir(run_dir, "private"), **options))

        yield make


@pytest.fixture
def private_server(make_private_server: Callable[..., PrivateServer]) -> PrivateServer:
    """Give a running server that this test has for itself, and may stop, kill and restart."""
    return make_private_server()


# What a prefix may mark, by the catalogue that lists it, and the statement that drops it. Relations go first:
# triggers, indexes, row types and owned sequences go with them.
_MARKED = """
select format('drop %s if exists %s cascade', kind, thing) from (
    select 1 as turn, oid, oid::regclass::text as thing, case relkind when 'v' then 'view'
           when 'm' then 'materialized view' when 'S' then 'sequence' else 'table' end as kind
      from pg_class where relname like %(mark)s and relkind in ('r', 'p', 'v', 'm')
    union all
    select 2, oid, oid::regclass::text, 'sequence' from pg_class where relname like %(mark)s and relkind = 'S'
    union all
    select 3, oid, oid::regprocedure::text, 'routine' from pg_proc where proname like %(mark)s
    union all
    select 4, oid, oid::regtype::text, 'type' from pg_type
     where typname like %(mark)s and typtype in ('e', 'd', 'c') and typrelid = 0
    union all
    select 5, oid, quote_ident(nspname), 'schema' from pg_namespace where nspname like %(mark)s
) marked order by turn, oid
"""


def drop_all(dsn: str, prefix: str) -> None:
    """Drop all tables, views, sequences, functions, types and schemas whose names begin with the prefix."""
    mark = re.sub(r"([\\_%])", r"\\\1", prefix) + "%"
    with psycopg.connect(dsn, autocommit=True) as conn:
        # A session that a test left behind in a transaction is an error to be seen, not to be waited for.
        conn.execute("set lock_timeout = '10s'; set client_min_messages = error")
        found = conn.execute(_MARKED.replace("%s", "%%s"), {"mark": mark}).fetchall()
        # All of it in one transaction: a commit for each of a hundred objects costs twice as much as dropping them.
        conn.execute("; ".join(statement for (statement,) in found).encode() or b"select")
