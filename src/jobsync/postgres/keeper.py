"""The keeper: a small process that starts an embedded PostgreSQL, minds it, and stops it after its last user.

Theory of operation. An embedded server has a home directory:

    pgdata/        the data, private to the account that runs the server; normally its socket, too
    server.log     what the server and the keeper say
    start.lock     held (flock) by the process that is bringing the server up
    keeper.lock    held by the keeper as long as it lives: at most one keeper
    holders.lock   held *shared* by every process that uses the server

The kernel frees a lock at whatever death of its holder, so there are no counts that could go stale. The
keeper tries for the *exclusive* lock on `holders.lock` a few times a second. Once it gets it nobody uses the
server; it stops the server and exits, and only its exit frees the lock: whoever comes meanwhile waits for
that and starts anew. Between two tries it looks after the server, and starts it again if it died.

What is authoritative: the locks for who is there, `postmaster.pid` for the state of the server (PostgreSQL
keeps it, its last line says 'ready'), and the existence of `pgdata` for whether initialisation is complete:
it is made under another name and renamed when done, its database included.

This file is run by its path in an isolated interpreter that sees the standard library alone (`python -I -S`),
so it imports nothing of this package or of others: the keeper is up in 50 ms, stays small, and cannot be
broken by what its starter has on its path. The other direction is free: the package imports it.

Not promised: a restart after death is tried a few times only; then the keeper leaves a line in the log, and
the next process that asks for the server gets the error. If the keeper itself is killed the server runs on,
and the next process that asks starts a new keeper, which adopts it.

Source: flock(2) for the locks; PostgreSQL's `miscinit.c` (CreateLockFile) for the meaning of postmaster.pid.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATABASE = "jobsync"
USER = "postgres"
PORT = 5432

POLL_SEC = 0.02
WATCH_SEC = 0.2
START_LIMIT_SEC = 120.0
STOP_LIMITS_SEC = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))
CONFLICT_LIMIT_SEC = 15.0
PROGRAM_LIMIT_SEC = 300.0
QUICK_DEATHS_LIMIT = 5
QUICK_DEATH_SEC = 10.0
SOCKET_PATH_LIMIT_BYTES = 100

# Durable by PostgreSQL's own defaults (fsync and synchronous_commit are on and are not touched here). Errors
# of statements go to the client that made them, not to the log.
SETTINGS = """
# jobsync: the settings of an embedded server; edit them at will, they are written only once.
max_connections = 200
log_checkpoints = off
log_min_messages = log
unix_socket_permissions = 0700
"""

_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ", "TMPDIR")


class KeeperError(Exception):
    """The server could not be started or stopped; the message says why."""


@dataclass(frozen=True, slots=True)
class Home:
    """The directory of one embedded server, and the places in it."""

    path: Path

    @property
    def pgdata(self) -> Path:
        """Give PostgreSQL's own data directory."""
        return self.path / "pgdata"

    @property
    def log(self) -> Path:
        """Give the log of server and keeper."""
        return self.path / "server.log"

    def lock(self, name: str) -> Path:
        """Give the lock file of that name: start, keeper or holders."""
        return self.path / f"{name}.lock"


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What postmaster.pid says about a server."""

    pid: int
    port: int
    socket_dir: str
    status: str


# --- small tools, shared with the starter ----------------------------------------------------


def wait_for(condition: Callable[[], bool], limit_sec: float, *, poll_sec: float = POLL_SEC) -> bool:
    """Ask until `condition` is true, at most about `limit_sec` long, and say whether it became true.

    The bound is a number of naps rather than a reading of a clock: a machine that sleeps meanwhile must not
    turn a healthy start into a time-out.
    """
    for _ in range(max(1, round(limit_sec / poll_sec))):
        if condition():
            return True
        time.sleep(poll_sec)
    return condition()


def open_lock(path: Path) -> int:
    """Open a lock file, making it if need be; give its descriptor, which no executed program inherits."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def try_lock(descriptor: int, operation: int) -> bool:
    """Take the lock if it can be had at once, and say whether."""
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_file_at(descriptor: int, path: Path) -> bool:
    """Say whether the open file is still the one at `path`: somebody may have deleted the directory."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def log_tail(log: Path, *, lines: int = 15) -> str:
    """Give the last lines of a log, for an error message."""
    try:
        text = log.read_text(errors="replace")
    except OSError as error:
        return f"(no log: {error})"
    return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"


def plain_environment() -> dict[str, str]:
    """Give the environment for a server: what programs need to run, and none of the user's secrets.

    Neither must variables such as PGPORT reach it, and its messages shall be in one language.
    """
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return kept | {"LC_ALL": "C"}


def read_postmaster(pgdata: Path) -> Postmaster | None:
    """Read postmaster.pid: None where there is none, or where it is still being written."""
    try:
        lines = (pgdata / "postmaster.pid").read_text().splitlines()
        status = lines[7].strip() if len(lines) > 7 else ""
        return Postmaster(int(lines[0]), int(lines[3]), lines[4], status)
    except (FileNotFoundError, NotADirectoryError, IndexError, ValueError):
        return None


def is_postmaster(pid: int, pgdata: Path) -> bool:
    """Say whether the process is alive and a server of this directory.

    After a crash or a reboot the number may belong to somebody else, or to a zombie that nobody has reaped.
    """
    state, arguments = _describe_process(pid)
    return state not in {"", "Z", "X"} and str(pgdata) in arguments


def _describe_process(pid: int) -> tuple[str, list[str]]:
    """Give the state letter and the arguments of a process; ('', []) if there is none.

    These two files of /proc are open to every reader, even in containers, where /proc/PID/cwd is not.
    """
    proc = Path("/proc") / str(pid)
    try:
        if Path("/proc/self/stat").exists():
            state = (proc / "stat").read_text().rpartition(")")[2].split()[0]
            return state, os.fsdecode((proc / "cmdline").read_bytes()).split("\0")
        listing = subprocess.run(  # noqa: S603 (fixed words and a number)
            ["/bin/ps", "-ww", "-o", "stat=,args=", "-p", str(pid)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except (FileNotFoundError, ProcessLookupError):
        return "", []
    state, _, arguments = listing.stdout.strip().partition(" ")
    return state[:1], arguments.split()


def ready_postmaster(pgdata: Path) -> Postmaster | None:
    """Give the server of this directory if it lives and takes connections."""
    found = read_postmaster(pgdata)
    if found is None or found.status != "ready" or not is_postmaster(found.pid, pgdata):
        return None
    return found


# --- the server ------------------------------------------------------------------------------


class Server:
    """One PostgreSQL in a home directory: started here, or found running and adopted."""

    __slots__ = ("_adopted_pid", "_bin_dir", "_child", "_home", "_owner")

    def __init__(self, home: Home, bin_dir: Path, *, owner: tuple[int, int] | None) -> None:
        """Take the programs to use, and the (uid, gid) to run them as; None means ours."""
        self._home = home
        self._bin_dir = bin_dir
        self._owner = owner
        self._child: subprocess.Popen[bytes] | None = None
        self._adopted_pid: int | None = None

    def start(self) -> None:
        """Bring the server up, by whatever is there: nothing, data, or a server without a keeper.

        Raise `KeeperError`. Data files are never removed.
        """
        self._child = self._adopted_pid = None
        if not self._home.pgdata.exists():
            self._initialise()
        found = read_postmaster(self._home.pgdata)
        if found is not None and is_postmaster(found.pid, self._home.pgdata) and self._adopt(found.pid):
            return
        self._check_version()
        self._disown_stale_files()
        # After a crash of the postmaster alone its busy children may live a little longer, and PostgreSQL
        # rightly refuses to start beside them: wait for them, within bounds.
        if not wait_for(self._launch, CONFLICT_LIMIT_SEC, poll_sec=WATCH_SEC):
            raise KeeperError("the server does not start: processes of a former server still use its memory")

    def is_running(self) -> bool:
        """Say whether the server lives; reaps it if it died."""
        if self._child is not None:
            return self._child.poll() is None
        return self._adopted_pid is not None and is_postmaster(self._adopted_pid, self._home.pgdata)

    def stop(self) -> None:
        """Stop the server: kindly (sessions are cut off, all is written), and less kindly if it hangs."""
        for number, limit_sec in STOP_LIMITS_SEC:
            self._send(number)
            if wait_for(lambda: not self.is_running(), limit_sec):
                return
        raise KeeperError("the server does not stop, even when killed")

    def _send(self, number: int) -> None:
        if self._child is not None:
            self._child.send_signal(number)
        elif self._adopted_pid is not None and self.is_running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._adopted_pid, number)

    def _adopt(self, pid: int) -> bool:
        """Wait until a running server is ready, and mind it from now on; False if it was on its way out."""
        pgdata = self._home.pgdata
        wait_for(lambda: bool(ready_postmaster(pgdata)) or not is_postmaster(pid, pgdata), START_LIMIT_SEC)
        if ready_postmaster(pgdata) is not None:
            self._adopted_pid = pid
            return True
        if is_postmaster(pid, pgdata):
            raise KeeperError(f"a server (process {pid}) holds the data but does not become ready: stop it")
        return False

    def _launch(self) -> bool:
        """Start the server and wait until it is ready; False if leftovers of a former one are in its way."""
        pgdata = self._home.pgdata
        socket = ["-k", str(self._socket_dir()), "-p", str(PORT), "-c", "listen_addresses="]
        child: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603 (our own words)
            [self._bin_dir / "postgres", "-D", str(pgdata), *socket],
            stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=sys.stderr, **self._as_owner(),
        )  # fmt: skip

        def is_ready() -> bool:
            found = read_postmaster(pgdata)
            return found is not None and found.pid == child.pid and found.status == "ready"

        wait_for(lambda: child.poll() is not None or is_ready(), START_LIMIT_SEC)
        self._child = child
        if child.poll() is not None:
            if "is still in use" in log_tail(self._home.log, lines=5):
                return False
            raise KeeperError(f"the server ended with status {child.returncode} while starting")
        if not is_ready():
            self.stop()
            raise KeeperError(f"the server was not ready after {START_LIMIT_SEC:.0f} s")
        return True

    def _initialise(self) -> None:
        """Make the data directory with its database, under another name until it is complete."""
        fresh = self._home.path / "pgdata.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if self._owner is not None:
            os.chown(fresh, *self._owner, follow_symlinks=False)
        # 'trust' is acceptable for one reason: the only way in is a socket in a directory of mode 0700, which
        # its owner (the server's account) and root alone can enter. TCP is off, and would be rejected.
        options = ["--auth-local=trust", "--auth-host=reject", f"--username={USER}", "--encoding=UTF8"]
        options += ["--locale=C", "--no-sync", "--no-instructions"]
        self._run(["initdb", "-D", str(fresh), *options])
        # The database is made before the server first listens, without fsync; the sync comes once, after it.
        said = self._run(
            ["postgres", "--single", "-F", "-D", str(fresh), "postgres"], said=f"CREATE DATABASE {DATABASE}\n"
        )
        if "ERROR" in said:
            raise KeeperError(f"the database {DATABASE!r} could not be created: {said}")
        with (fresh / "postgresql.conf").open("a") as settings:
            settings.write(SETTINGS)
        self._run(["initdb", "-D", str(fresh), "--sync-only"])
        fresh.rename(self._home.pgdata)
        _sync_directory(self._home.path)

    def _check_version(self) -> None:
        data_major = (self._home.pgdata / "PG_VERSION").read_text().strip()
        said = self._run(["postgres", "--version"])
        if not re.search(rf"\(PostgreSQL\) {re.escape(data_major)}(?!\d)", said):
            raise KeeperError(
                f"the data are of PostgreSQL {data_major}, but the programs in {self._bin_dir} are "
                f"{said.strip()!r}: set JOBSYNC_PG_BIN to the bin directory of PostgreSQL {data_major}, or "
                "choose another data directory"
            )

    def _run(self, command: list[str], *, said: str = "") -> str:
        try:
            done: subprocess.CompletedProcess[bytes] = subprocess.run(  # noqa: S603 (our own words)
                [self._bin_dir / command[0], *command[1:]],
                input=said.encode(), capture_output=True, timeout=PROGRAM_LIMIT_SEC, check=False,
                **self._as_owner(),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise KeeperError(f"{command[0]} did not end within {PROGRAM_LIMIT_SEC:.0f} s") from None
        complaint = done.stderr.decode(errors="replace").strip()
        if done.returncode != 0:
            raise KeeperError(f"{command[0]} failed with status {done.returncode}: {complaint}")
        return done.stdout.decode(errors="replace") + complaint

    def _as_owner(self) -> dict[str, Any]:
        """Give what all programs of PostgreSQL are started with, their account above all."""
        common: dict[str, Any] = {"env": plain_environment()}
        if self._owner is None:
            return common
        uid, gid = self._owner
        return common | {"user": uid, "group": gid, "extra_groups": []}

    def _socket_dir(self) -> Path:
        """Give a private directory for the socket: the data directory, or another if its path is too long.

        A Unix socket's path must fit into 104 (BSD) to 108 (Linux) bytes; a comma would part two directories.
        """
        pgdata = self._home.pgdata
        if len(os.fsencode(pgdata / f".s.PGSQL.{PORT}")) < SOCKET_PATH_LIMIT_BYTES and "," not in str(pgdata):
            return pgdata
        uid, gid = self._owner or (os.geteuid(), os.getegid())
        mark = hashlib.sha256(os.fsencode(self._home.path)).hexdigest()[:12]
        short = Path("/tmp") / f"jobsync-{uid}-{mark}"  # noqa: S108 (its owner and mode are checked below)
        with contextlib.suppress(FileExistsError):
            short.mkdir(mode=0o700)
            os.chown(short, uid, gid, follow_symlinks=False)
        found = short.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o077:
            raise KeeperError(f"{short} exists but is not a private directory of user {uid}: remove it")
        return short

    def _disown_stale_files(self) -> None:
        """Make lock files of a dead server acceptable whose process number now belongs to somebody else.

        PostgreSQL takes a lock file for stale when it names a process that does not exist, or its own parent.
        So the keeper, that parent, writes its own number into it. Removing the file instead would also remove
        PostgreSQL's guard against children of the dead server that still write to the data.
        """
        for path in (self._home.pgdata / "postmaster.pid", self._socket_dir() / f".s.PGSQL.{PORT}.lock"):
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
                with os.fdopen(descriptor, "r+b") as file:
                    rest = file.read().partition(b"\n")[2]
                    file.seek(0)
                    file.truncate()
                    file.write(b"%d\n" % os.getpid() + rest)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- the process -----------------------------------------------------------------------------


def mind(server: Server, home: Home, holders: int, *, told_to_leave: Callable[[], bool]) -> None:
    """Keep the server alive until nobody holds it, we are told to leave, or its home is gone; then stop it.

    The lock on `holders` is left to the end of the process, which is after the stop.
    """
    deaths = 0
    lived_sec = 0.0
    while not (told_to_leave() or not is_file_at(holders, home.lock("holders"))):
        if try_lock(holders, fcntl.LOCK_EX):
            break
        if not server.is_running():
            deaths = deaths + 1 if lived_sec < QUICK_DEATH_SEC else 1
            if deaths > QUICK_DEATHS_LIMIT:
                raise KeeperError(f"the server died {deaths} times in a row: giving up")
            _say("the server died: starting it again")
            try:
                server.start()
            except KeeperError as error:
                _say(str(error))
            lived_sec = 0.0
        time.sleep(WATCH_SEC)
        lived_sec += WATCH_SEC
    server.stop()


def _say(text: str) -> None:
    print(f"jobsync keeper [{os.getpid()}]: {text}", file=sys.stderr, flush=True)  # noqa: T201 (it is the log)


def _report(text: str) -> None:
    """Tell the starter, who reads our standard output to its end, how the start went."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, text.encode())
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _become_daemon() -> None:
    """Leave the starter for good: it never has to reap us, and its terminal's signals do not reach us.

    Its directory is left, too: it may be deleted, and the account of the server may not be able to be in it.
    """
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.chdir("/")


def main(home_dir: str, bin_dir: str, *ids: str) -> None:
    """Keep the server in `home_dir` with the programs in `bin_dir`, run as the (uid, gid) in `ids`, if given.

    Exit when the server is stopped. Standard output gets 'ready' or the text of an error, standard error is
    the log. Must be the only thread.
    """
    _become_daemon()
    left: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: left.append(number))
    home = Home(Path(home_dir))
    server = Server(home, Path(bin_dir), owner=(int(ids[0]), int(ids[1])) if ids else None)
    try:
        _take_office(home)
        holders = open_lock(home.lock("holders"))
        server.start()
        _report("ready")
        mind(server, home, holders, told_to_leave=lambda: bool(left))
    except (KeeperError, OSError) as error:
        _say(str(error))
        _report(str(error))
        sys.exit(1)


def _take_office(home: Home) -> None:
    """Become the one keeper, until this process ends.

    The wait is for those who only ask whether there is a keeper: they take the lock, shared, for a moment.
    """
    descriptor = open_lock(home.lock("keeper"))
    if not wait_for(lambda: try_lock(descriptor, fcntl.LOCK_EX), 2.0):
        raise KeeperError("another keeper is at work")


if __name__ == "__main__":
    main(*sys.argv[1:])
