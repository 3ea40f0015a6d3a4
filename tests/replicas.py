"""A primary and its standby, both private to one test, from the same binaries; and the end of a machine."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from psycopg.conninfo import make_conninfo

from jobsync.postgres.keeper import log_tail
from tests.api.jobs import eventually, query
from tests.servers import START_LIMIT_SEC, PrivateServer, as_account

NAME = "standby"


class Standby(PrivateServer):
    """A hot standby that streams from a primary: a base backup of it, made when it is entered."""

    def __init__(self, directory: Path, primary: PrivateServer, **options: Any) -> None:
        super().__init__(directory, **options)
        self._primary = primary

    def _initialise(self) -> None:
        self._pgdata.mkdir(mode=0o700)
        if self._account is not None:
            os.chown(self._pgdata, self._account.uid, self._account.gid)
        source = make_conninfo(self._primary.dsn, dbname="replication", application_name=NAME)
        command = [self._binaries.program("pg_basebackup"), "-D", str(self._pgdata), "-d", source]
        options = ["--write-recovery-conf", "--checkpoint=fast", "--wal-method=stream", "--no-sync"]
        if as_account(self._account, [*command, *options], log=self._log).wait(START_LIMIT_SEC):
            raise RuntimeError(f"the standby cannot be made:\n{log_tail(self._log)}")

    def promote(self) -> None:
        """Make it a primary, and wait until it is one."""
        assert query(self.dsn, "select pg_promote(true, 30)") == [(True,)]


def wait_for_standby(primary: PrivateServer, *, synchronous: bool) -> None:
    """Wait until the standby streams; with `synchronous`, from then on no commit is acknowledged before it has it."""
    seen = "select state from pg_stat_replication where application_name = %s"
    eventually(lambda: query(primary.dsn, seen, NAME) == [("streaming",)], "the standby streams")
    if synchronous:
        query(primary.dsn, f"alter system set synchronous_standby_names = '{NAME}'")
        query(primary.dsn, "select pg_reload_conf()")
        kind = "select sync_state from pg_stat_replication"
        eventually(lambda: query(primary.dsn, kind) == [("sync",)], "the standby is synchronous")


def dsn_of_both(first: PrivateServer, second: PrivateServer, **options: Any) -> str:
    """Give one conninfo for both, of which libpq takes the one that can be written to."""
    ports = f"{first.port},{second.port}"
    given = {"dbname": "postgres", "user": first.user, "target_session_attrs": "read-write"}
    return make_conninfo(host="127.0.0.1,127.0.0.1", port=ports, **{**given, **options})


def lose_machine(server: PrivateServer) -> None:
    """Kill the postmaster and all its processes at one blow, as a power cut does: nobody says goodbye."""
    postmaster = psutil.Process(server.pid)
    postmaster.suspend()  # Else it starts others for those that die.
    for process in postmaster.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    server.kill()


@contextmanager
def nothing_is_sent_on(primary: PrivateServer) -> Iterator[None]:
    """Hold the primary's replication still: what it commits from here on, the standby does not have."""
    senders = query(primary.dsn, "select pid from pg_stat_replication")
    for (pid,) in senders:
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda pid=pid: psutil.Process(pid).status() == psutil.STATUS_STOPPED, "it stands still")  # type: ignore[misc]
    try:
        yield
    finally:
        for (pid,) in senders:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
