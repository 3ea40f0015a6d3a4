"""A worker's line has deadlines of its own: no lost packet and no lock in the database holds it for long."""

import socket
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from jobsync.core.errors import JobsyncError
from jobsync.postgres import worker_line
from jobsync.postgres.statement import Statement
from jobsync.postgres.worker_line import LineBroken, LineRefused, WorkerLine
from jobsync.runtime.clock import boot_sec
from tests.api.jobs import eventually, query
from tests.proxies import Proxy
from tests.servers import PrivateServer
from tests.worker.support import await_status, hub_of, queue, worker

ONE = Statement("select 1")


@pytest.fixture
def proxy(private_server: PrivateServer) -> Iterator[Proxy]:
    with Proxy(private_server.port) as proxy:
        yield proxy


@pytest.fixture
def proxied_dsn(private_server: PrivateServer, proxy: Proxy) -> str:
    return make_conninfo(private_server.dsn, port=proxy.port, sslmode="disable", gssencmode="disable")


def port_of(line: WorkerLine) -> int:
    """Give the port from which a line speaks."""
    assert line._conn is not None
    with socket.fromfd(line._conn.fileno(), socket.AF_INET, socket.SOCK_STREAM) as own:
        return int(own.getsockname()[1])


@pytest.mark.parametrize("works", [[ONE], [ONE, ONE]])
def test_a_line_whose_packets_get_lost_breaks_at_its_deadline_and_opens_anew(
    proxy: Proxy, proxied_dsn: str, monkeypatch: pytest.MonkeyPatch, works: list[Statement]
) -> None:
    monkeypatch.setattr(worker_line, "DEADLINE_SEC", 1.0)
    with closing(WorkerLine(proxied_dsn, JobsyncError, boot_sec)) as line:
        line.run(ONE)
        proxy.freeze(port_of(line))
        began_sec = boot_sec()
        with pytest.raises(LineBroken, match="in time"):
            line.run(*works)
        assert boot_sec() - began_sec < 30  # The system itself would say so after 60 s.
        assert line.run(ONE, ONE) == [[(1,)], [(1,)]]


def test_a_statement_that_waits_too_long_is_given_up_in_the_database_as_well(
    server_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_line, "DEADLINE_SEC", 0.3)
    name = "jobsync-test-line"
    waiting = f"select count(*) from pg_stat_activity where application_name = '{name}' and state = 'active'"
    with (
        closing(WorkerLine(make_conninfo(server_dsn, application_name=name), JobsyncError, boot_sec)) as line,
        psycopg.connect(server_dsn) as other,
    ):
        other.execute("select pg_advisory_xact_lock(4711, 1)")
        with pytest.raises(LineBroken):
            line.run(Statement("select pg_advisory_xact_lock(4711, 1)"))
        eventually(lambda: query(server_dsn, waiting) == [(0,)], "nobody waits for the lock any more")


def test_what_only_takes_long_is_done_in_the_end(server_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_line, "DEADLINE_SEC", 0.3)
    with closing(WorkerLine(server_dsn, JobsyncError, boot_sec)) as line:
        for _ in range(3):
            with pytest.raises(LineBroken):
                line.run(Statement("select pg_sleep(20)"))
        line.run(Statement("select pg_sleep(1)"))
        with pytest.raises(LineRefused):
            line.run(Statement("select 1 / 0"))
        with pytest.raises(LineBroken):  # What was done in time sets the deadline back.
            line.run(Statement("select pg_sleep(20)"))
        assert line._missed == 1


def test_a_worker_whose_line_is_black_goes_on(
    private_server: PrivateServer, proxy: Proxy, proxied_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_line, "DEADLINE_SEC", 1.0)
    made = worker(proxied_dsn, prefix)
    made.handles("x")(lambda job: job.payload)
    with queue(private_server.dsn, prefix) as jobs:
        jobs.counts()
        with made:
            await_status(jobs, jobs.enqueue("x", 1), "done")
            proxy.freeze(port_of(hub_of(made).line))
            assert await_status(jobs, jobs.enqueue("x", 2), "done", limit_sec=40).result == 2
