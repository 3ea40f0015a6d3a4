"""Everything through PgBouncer in transaction mode: no session of one's own, no notifications, no session lease.

Skipped where there is no `pgbouncer` (Debian: apt-get install pgbouncer; `make test-pooler` does it). What must hold:
it is noticed by itself; ownership, tasks, transactions and the queue work; a death is noticed by the row lease. With
`session_dsn`, the node's own session goes past the pooler, and all is as without one.
"""

import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from jobsync import CoordinationConfig, Job, JobQueue, ProcessingWorker, RunningJob
from jobsync.postgres.binaries import account_for
from tests.api.jobs import eventually, query, task_for_each_token
from tests.chaos.fleet import Fleet
from tests.replicas import Standby, lose_machine, nothing_is_sent_on, wait_for_standby
from tests.servers import PrivateServer, as_account, free_port, new_dir

PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(PGBOUNCER is None, reason="no pgbouncer here: apt-get install pgbouncer, or make test-pooler"),
]

QUICK = {"heartbeat_interval_sec": 0.4, "heartbeat_timeout_sec": 2.0}
BUSY_SEC = 3.0
ANOTHER = "the server behind this session is another"


class Pooler:
    """One PgBouncer in front of a server, with fewer connections to it than it has clients."""

    def __init__(self, directory: Path, server: PrivateServer, *, mode: str) -> None:
        self._place = conninfo_to_dict(server.dsn)
        self.port = free_port()
        self._log = directory / "pgbouncer.log"
        self._config = directory / "pgbouncer.ini"
        self._mode = mode
        self._write(server)
        # It refuses to run as root, as the server does.
        account = account_for(directory / "pgdata")
        self._config.chmod(0o644)
        self._log.touch()
        assert PGBOUNCER is not None
        self._process = as_account(account, [PGBOUNCER, str(self._config)], log=self._log)
        eventually(self._answers, "pgbouncer answers")

    def _write(self, server: PrivateServer) -> None:
        self._config.write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port} user=postgres\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\nauth_type = any\n"
            f"pool_mode = {self._mode}\ndefault_pool_size = 6\nmax_client_conn = 200\n"
            "server_reset_query_always = 0\nserver_login_retry = 0.2\n"
        )

    def lead_to(self, server: PrivateServer) -> None:
        """Lead to another server from now on. Clients keep their connections and hear nothing of it."""
        self._write(server)
        self._process.send_signal(signal.SIGHUP)

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def dsn(self) -> str:
        return make_conninfo("", **{**self._place, "port": self.port, "dbname": "postgres", "user": "postgres"})

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(20)


@pytest.fixture(scope="module")
def server(run_dir: Path) -> Iterator[PrivateServer]:
    with PrivateServer(new_dir(run_dir, "private")) as server:
        yield server


@pytest.fixture(scope="module")
def pooler(server: PrivateServer) -> Iterator[Pooler]:
    pooler = Pooler(server.directory, server, mode="transaction")
    yield pooler
    pooler.close()


def config_for(pooler: Pooler, prefix: str, **given: Any) -> CoordinationConfig:
    return CoordinationConfig(**{"dsn": pooler.dsn, "appname": prefix, "total_tokens": 20, **QUICK, **given})


def test_it_is_noticed_and_what_needs_a_session_is_off(pooler: Pooler, caplog: pytest.LogCaptureFixture) -> None:
    with Job("w0", coordination_config=config_for(pooler, "seen_")):
        row = query(pooler.dsn, "select session_lease_ms from seen_node where name = 'w0'")
    assert row == [(None,)]
    assert "a pooler stands between this node and the server" in caplog.text
    assert "session_dsn" in caplog.text


def test_tasks_and_transactions_work(pooler: Pooler) -> None:
    query(pooler.dsn, "create table if not exists results (item text)")
    config = config_for(pooler, "tasks_")
    ids = [f"t{number}" for number in range(60)]
    with Job("a", coordination_config=config, run="r") as a, Job("b", coordination_config=config, run="r") as b:
        eventually(lambda: len(a.my_tokens) == len(b.my_tokens) == 10, "the tokens are shared")
        a.register_lock("pinned", "b")
        eventually(lambda: b.can_claim_task("pinned"), "the pin is followed")
        done = [task.id for task in a.tasks(a.get_my_task_ids(ids))]
        for task in b.tasks(b.get_my_task_ids(ids)):
            with b.transaction(task) as conn:
                conn.execute("insert into results values (%s)", (task.id,))
            done.append(task.id)
        assert sorted(map(str, done)) == sorted(ids)
        eventually(lambda: len(b.get_audit()) == len(ids), "all are recorded")
        with a.leader() as lead:
            assert lead is not None


def test_the_queue_works(pooler: Pooler) -> None:
    config = config_for(pooler, "queue_")
    worker = ProcessingWorker(config, worker_id="q", max_concurrent_jobs=4, poll_interval_ms=50)
    ran: list[int] = []

    @worker.handles("note")
    def note(job: RunningJob) -> object:
        with worker.transaction(job) as conn:
            conn.execute("select 1")
        ran.append(job.id)
        return job.id

    with JobQueue(config) as jobs:
        numbers = jobs.enqueue_many([("note", {"n": n}) for n in range(100)])
        worker.start()
        try:
            eventually(lambda: jobs.counts()["done"] == 100, "all are done")
            late = jobs.enqueue("note", {"n": 100})
            eventually(lambda: jobs.counts()["done"] == 101, "a later one is found by polling")
        finally:
            worker.stop()
    assert sorted(ran) == sorted([*numbers, late])


@pytest.mark.slow
def test_a_killed_node_is_noticed_by_the_row_lease(pooler: Pooler, tmp_path: Path) -> None:
    with Fleet(pooler.dsn, "kill_", tmp_path, **QUICK) as fleet:
        gone, *others = fleet.start("w0", "w1", "w2")
        killed_sec = gone.kill()
        fleet.wait_until_owned(others)
        took_sec = fleet.seconds_to_cover(killed_sec, others)
        fleet.assert_exclusive()
    lease_sec = QUICK["heartbeat_timeout_sec"]
    assert lease_sec - QUICK["heartbeat_interval_sec"] - 0.5 < took_sec < lease_sec + 1.0 + BUSY_SEC


def test_with_a_direct_way_for_the_session_the_session_lease_is_on(
    server: PrivateServer, pooler: Pooler, caplog: pytest.LogCaptureFixture
) -> None:
    with Job("w9", coordination_config=config_for(pooler, "direct_", session_dsn=server.dsn)) as job:
        assert query(server.dsn, "select session_lease_ms from direct_node where name = 'w9'") == [(600,)]
        task = next(iter(task_for_each_token(20)))
        with job.transaction(task) as conn:
            # The work goes through the pooler all the same.
            assert conn.info.port == pooler.port
    assert "pooler" not in caplog.text


@pytest.mark.slow
def test_with_a_direct_way_for_the_session_a_death_is_noticed_within_a_second(
    server: PrivateServer, pooler: Pooler, tmp_path: Path
) -> None:
    with Fleet(pooler.dsn, "sped_", tmp_path, session_dsn=server.dsn) as fleet:
        gone, *others = fleet.start("w0", "w1", "w2")
        killed_sec = gone.kill()
        fleet.wait_until_owned(others)
        assert fleet.seconds_to_cover(killed_sec, others) < 1.0 + BUSY_SEC
        fleet.assert_exclusive()


def test_a_pooler_in_session_mode_cannot_be_told_from_one_in_transaction_mode(
    server: PrivateServer, run_dir: Path
) -> None:
    """Its process number is not the backend's, so the session lease stays off: safe, and slower."""
    pooler = Pooler(new_dir(run_dir, "private"), server, mode="session")
    try:
        with Job("w0", coordination_config=config_for(pooler, "whole_")) as job:
            assert len(job.my_tokens) == 20
            row = query(server.dsn, "select session_lease_ms from whole_node where name = 'w0'")
        assert row == [(None,)]
    finally:
        pooler.close()


@pytest.mark.slow
def test_a_fail_over_that_the_pooler_hides_is_noticed_by_the_nodes(run_dir: Path, tmp_path: Path) -> None:
    """The clients keep their connections; what was granted last is lost on the new server. Nobody may believe on."""
    with (
        PrivateServer(new_dir(run_dir, "private")) as primary,
        Standby(new_dir(run_dir, "private"), primary) as standby,
        closing(Pooler(primary.directory, primary, mode="transaction")) as pooler,
    ):
        wait_for_standby(primary, synchronous=False)
        with Fleet(pooler.dsn, "sync_", tmp_path, **QUICK) as fleet:
            first, second = fleet.start("w0", "w1")
            with nothing_is_sent_on(primary):
                third = fleet.enter("w2")
                fleet.wait_until_owned([first, second, third])
                eventually(lambda: third.ask("status")["held"], "the newcomer has tokens, in commits that will be lost")
                lose_machine(primary)
            standby.promote()
            pooler.lead_to(standby)
            lifted = "select generation <> 1 and not quarantined from sync_meta"
            eventually(lambda: query(standby.dsn, lifted) == [(True,)], "a quarantine came and went", limit_sec=60.0)
            fleet.wait_until_owned([first, second, third], limit_sec=60.0)
            fleet.assert_exclusive()
            told = [worker for worker in fleet.workers if ANOTHER in worker.log.read_text()]
            assert told, "every client was dropped: the test shows nothing"
