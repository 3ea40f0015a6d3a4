"""Servers for tests: where they may live, and one that a test has for itself and may break.

A run of the tests has one directory for all its servers, shared by the processes of the run (xdist). Every
process holds a shared lock on a file in it, so that a later run can tell the remains of a run that was killed
from a run that is still going on, and clears them away, servers included.
"""

import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from psycopg.conninfo import make_conninfo

from jobsync.postgres.binaries import Account, account_for, find_binaries, reachable_by
from jobsync.postgres.keeper import (
    is_postmaster,
    log_tail,
    open_lock,
    plain_environment,
    read_postmaster,
    try_lock,
    wait_for,
)

RUN_DIR_VARIABLE = "JOBSYNC_TEST_RUN_DIR"
ROOM_NEEDED_BYTES = 2_000_000_000
START_LIMIT_SEC = 60.0
STOP_LIMIT_SEC = 30.0
SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}

# Below the range from which systems take ports for outgoing connections: there a client that knocks at the
# port of a stopped server can be given that very port, and the server does not come back.
PORTS = range(15_000, 32_000)


def servers_base() -> Path:
    """Give the directory for all runs of this user: in memory if there is room, and open to other accounts.

    pytest's own temporary directory will not do: it is closed to all but its owner, and as root another
    account runs the server.
    """
    memory = Path("/dev/shm")
    usable = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM_NEEDED_BYTES
    base = (memory if usable else Path(tempfile.gettempdir())) / f"jobsync-tests-{os.geteuid()}"
    base.mkdir(exist_ok=True)
    base.chmod(0o711)
    return base


def new_dir(parent: Path, kind: str) -> Path:
    """Make a directory with a short name of its own, which the server's account can pass through."""
    made = parent / f"{kind}-{secrets.token_hex(4)}"
    made.mkdir()
    made.chmod(0o711)
    return made


def lock_run(run_dir: Path) -> int:
    """Mark the run as going on, as long as this process lives or until the descriptor is closed."""
    descriptor = open_lock(run_dir / "run.lock")
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def clear_run(run_dir: Path, *, limit_sec: float) -> bool:
    """Remove what a run left, once no process of it is alive; False if one still is after the limit."""
    descriptor = open_lock(run_dir / "run.lock")
    try:
        if not wait_for(lambda: try_lock(descriptor, fcntl.LOCK_EX), limit_sec):
            return False
        for home in run_dir.iterdir():
            if home.is_dir():
                _clear_home(home)
        shutil.rmtree(run_dir, ignore_errors=True)
    finally:
        os.close(descriptor)
    return True


def _clear_home(home: Path) -> None:
    # Embedded servers stop by themselves; those that belonged to one test of a killed run do not.
    keeper = open_lock(home / "keeper.lock")
    wait_for(lambda: try_lock(keeper, fcntl.LOCK_EX), STOP_LIMIT_SEC)
    os.close(keeper)
    pgdata = home / "pgdata"
    found = read_postmaster(pgdata)
    if found is not None and is_postmaster(found.pid, pgdata):
        os.kill(found.pid, signal.SIGQUIT)
        wait_for(lambda: not is_postmaster(found.pid, pgdata), STOP_LIMIT_SEC)


def clear_old_runs() -> None:
    """Remove the remains of runs that were killed."""
    for run_dir in servers_base().glob("run-*"):
        clear_run(run_dir, limit_sec=0.01)


class PrivateServer:
    """A PostgreSQL that one test has for itself, on TCP (127.0.0.1) and on a Unix socket; it may be broken.

    `settings` go on top of the defaults. With a `password`, both ways in ask for it (scram-sha-256). `inside` is a
    command that runs another in a network of its own (see `tests.network`); the Unix socket leads there all the same.
    `environment` goes on top of the server's plain one.
    It is a context manager: entering starts it, leaving stops it and removes its data.
    """

    def __init__(
        self,
        directory: Path,
        *,
        settings: Mapping[str, str] | None = None,
        user: str = "postgres",
        password: str | None = None,
        inside: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self._inside = inside
        self._environment = dict(environment or {})
        self.user = user
        self.password = password
        self.port = free_port()
        self._settings = dict(settings or {})
        self._pgdata = directory / "pgdata"
        self._log = directory / "server.log"
        self._account = account_for(self._pgdata)
        self._binaries = reachable_by(find_binaries(), self._account, directory)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        """Give the conninfo over TCP."""
        return self._dsn("127.0.0.1")

    @property
    def socket_dsn(self) -> str:
        """Give the conninfo over the Unix socket."""
        return self._dsn(str(self._pgdata))

    def _dsn(self, host: str) -> str:
        return make_conninfo(host=host, port=self.port, dbname="postgres", user=self.user, password=self.password)

    @property
    def pid(self) -> int:
        """Give the process number of the postmaster."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Say whether the postmaster is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        if not self._pgdata.exists():
            self._initialise()
        # Children of a killed postmaster may live a moment longer than it, and block the next one.
        if not wait_for(self._launch, START_LIMIT_SEC):
            raise RuntimeError(f"the private server does not start:\n{log_tail(self._log)}")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: 'fast' ends sessions and writes all, 'immediate' is a crash with notice."""
        process = self._running()
        process.send_signal(SIGNALS[mode])
        process.wait(STOP_LIMIT_SEC)

    def restart(self, mode: str = "fast") -> None:
        """Stop and start again, on the same port."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """Kill the postmaster with SIGKILL and wait until it is gone."""
        process = self._running()
        process.kill()
        process.wait(STOP_LIMIT_SEC)

    def close(self) -> None:
        """Stop the server if it runs, and remove it."""
        if self.is_running:
            self.stop("immediate")
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"the private server does not run:\n{log_tail(self._log)}")
        return self._process

    def _initialise(self) -> None:
        self._pgdata.mkdir(mode=0o700)
        secret = self.directory / "password"
        secret.touch(mode=0o600)
        secret.write_text(self.password or "")
        if self._account is not None:
            os.chown(self._pgdata, self._account.uid, self._account.gid)
            os.chown(secret, self._account.uid, self._account.gid)
        auth = ["--auth=trust"] if self.password is None else ["--auth=scram-sha-256", f"--pwfile={secret}"]
        command = [self._binaries.program("initdb"), "-D", str(self._pgdata), f"--username={self.user}"]
        options = ["--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        if as_account(self._account, [*command, *auth, *options], log=self._log).wait(START_LIMIT_SEC):
            raise RuntimeError(f"the private server cannot be made:\n{log_tail(self._log)}")

    def _launch(self) -> bool:
        options = {"listen_addresses": "127.0.0.1", "max_connections": "200"} | self._settings
        command = [self._binaries.program("postgres"), "-D", str(self._pgdata), "-k", str(self._pgdata)]
        command += ["-p", str(self.port), *(f"--{name}={value}" for name, value in options.items())]
        process = as_account(self._account, command, log=self._log, inside=self._inside, environment=self._environment)
        self._process = process

        def is_ready() -> bool:
            found = read_postmaster(self._pgdata)
            return found is not None and found.pid == process.pid and found.status == "ready"

        wait_for(lambda: process.poll() is not None or is_ready(), START_LIMIT_SEC)
        if process.poll() is None and is_ready():
            return True
        process.kill()
        process.wait()
        if "is still in use" in log_tail(self._log, lines=5):
            return False
        raise RuntimeError(f"the private server does not start:\n{log_tail(self._log)}")


def as_account(
    account: Account | None,
    command: list[str],
    *,
    log: Path,
    inside: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> "subprocess.Popen[bytes]":
    """Start a program as the account that may run PostgreSQL, in a directory that it can be in."""
    if environment:
        # For the program alone, not for what leads to it: that runs under another account.
        command = ["env", *(f"{name}={value}" for name, value in environment.items()), *command]
    if inside and account is not None:
        # Only root may go there, and steps down on the way.
        command = [*inside, f"--setuid={account.uid}", f"--setgid={account.gid}", "--", *command]
        account = None
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=plain_environment(),
            start_new_session=True,
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
        )


def free_port() -> int:
    """Find a port that is free now; processes begin their search at different places."""
    begin = os.getpid() * 97 + secrets.randbelow(50)
    for step in range(len(PORTS)):
        port = PORTS[(begin + step) % len(PORTS)]
        with socket.socket() as probe:
            # As the server does it: connections of a former server that linger are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port on 127.0.0.1")
