"""Run one embedded PostgreSQL for all processes of a user: what `dsn='embedded'` stands for.

Theory of operation. `acquire()` makes this process a holder of the server in a directory, by a shared lock on
a file there, and then makes sure that the server is up: it joins the one that runs, or starts a keeper (see
`keeper`), which starts it. Starting is serialised by a second lock, so that of many processes that begin at
the same moment one starts the server and the others join it. The keeper stops it when the last holder is
gone, by whatever death: the kernel frees the locks.

Authoritative: the kernel's locks for who is there, PostgreSQL's own postmaster.pid for the state of the
server. Within a process holders are counted here. A forked child shares the hold of its parent until both
have released it or ended.

Durability is PostgreSQL's: fsync and synchronous_commit are on. There is no TCP; the socket lies in a
directory that only the server's account and root can enter, and that is all the authentication there is.

Not promised: service over the network, to other users, or on network file systems without flock. Nothing
here is ever used unless it is asked for by name: fleets whose members each fell back to a private database
would do every task many times.
"""

import contextlib
import fcntl
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from psycopg.conninfo import make_conninfo

from jobsync.core.errors import DatabaseUnavailable, InvalidArgument
from jobsync.core.log_events import Event, marks
from jobsync.postgres import keeper
from jobsync.postgres.binaries import Account, account_for, find_binaries, reachable_by
from jobsync.postgres.keeper import Home, Postmaster

__all__ = ["EmbeddedServer", "acquire", "default_data_dir"]

DIRECTORY_VARIABLE = "JOBSYNC_EMBEDDED_DIR"
HOLD_LIMIT_SEC = 60.0
READY_LIMIT_SEC = 180.0
LOG_LIMIT_BYTES = 10_000_000

_logger = logging.getLogger(__name__)


class EmbeddedServer:
    """A hold on the embedded server: as long as one is there, in any process, the server runs.

    A context manager; leaving it releases the hold. A hold that is never released ends with its process.
    """

    __slots__ = ("_data_dir", "_dsn", "_released", "_version")

    def __init__(self, *, dsn: str, data_dir: Path, version: str) -> None:
        self._dsn = dsn
        self._data_dir = data_dir
        self._version = version
        self._released = False

    @property
    def dsn(self) -> str:
        """Give the libpq conninfo (Unix socket, user and database included); it stays valid over restarts."""
        return self._dsn

    @property
    def data_dir(self) -> Path:
        """Give the directory in which the server keeps its data, its log and its locks."""
        return self._data_dir

    @property
    def version(self) -> str:
        """Give PostgreSQL's major version, such as '18'."""
        return self._version

    def release(self) -> None:
        """Give the hold back, once: a second call does nothing. The last one lets the server stop.

        Returns at once; the server stops within about a second, unless somebody acquires it first.
        """
        with _holds_guard:
            if not self._released:
                self._released = True
                _let_go(Home(self._data_dir))

    def __repr__(self) -> str:
        return f"EmbeddedServer(data_dir={str(self._data_dir)!r}, version={self._version!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def acquire(data_dir: Path | None = None) -> EmbeddedServer:
    """Hold the embedded server of `data_dir` (by default `default_data_dir()`), starting it if need be.

    Safe to call from many processes and threads at once: they share one server. A first start takes about a
    second, joining a few milliseconds; waits are bounded by `READY_LIMIT_SEC`. The database is empty at the
    first start and keeps its content from then on.

    Raise `ExtraMissing` where no PostgreSQL is found, `InvalidArgument` for a directory that holds something
    else, `DatabaseUnavailable` where the directory cannot be used or the server does not start; then the
    message carries the end of the server's log.
    """
    home = Home(_absolute(data_dir if data_dir is not None else default_data_dir()))
    with _holds_guard:
        try:
            _prepare(home)
            _hold(home)
            try:
                postmaster = _ready_server(home)
                version = (home.pgdata / "PG_VERSION").read_text().strip()
            except BaseException:
                _let_go(home)
                raise
        except DatabaseUnavailable:  # It is an OSError, too, and says all already.
            raise
        except OSError as error:
            raise DatabaseUnavailable(
                f"The embedded PostgreSQL in {str(home.path)!r} cannot be used: {error}. Choose a directory "
                f"that belongs to you, with {DIRECTORY_VARIABLE} or as an argument."
            ) from error
    dsn = make_conninfo(host=postmaster.socket_dir, port=postmaster.port, user=keeper.USER, dbname=keeper.DATABASE)
    return EmbeddedServer(dsn=dsn, data_dir=home.path, version=version)


def default_data_dir() -> Path:
    """Give the directory used when none is named.

    `$JOBSYNC_EMBEDDED_DIR`; else, for ordinary users, `jobsync/postgres-<major>` in `$XDG_DATA_HOME` or
    `~/.local/share`; for root in `/var/lib`, since the account that runs the server cannot enter root's home.
    """
    named = os.environ.get(DIRECTORY_VARIABLE)
    if named:
        return Path(named)
    if os.geteuid() == 0:
        base = Path("/var/lib")
    else:
        # The XDG base directory specification: a relative path is invalid and to be ignored.
        base = Path(os.environ.get("XDG_DATA_HOME", ""))
        base = base if base.is_absolute() else Path("~/.local/share")
    return base / "jobsync" / f"postgres-{find_binaries().major}"


def _absolute(path: Path) -> Path:
    try:
        return path.expanduser().resolve()
    except (OSError, RuntimeError) as error:
        # No current directory any more, no home directory, or a loop of links.
        raise InvalidArgument(
            f"The data directory {str(path)!r} of the embedded PostgreSQL leads nowhere: {error}. "
            f"Name an absolute path, with {DIRECTORY_VARIABLE} or as an argument."
        ) from error


# --- holding ---------------------------------------------------------------------------------

# How often each directory is held in this process, and the descriptor that carries the lock. Both are
# guarded by a lock that a forked child must not inherit in a locked state.
_holds: dict[Path, tuple[int, int]] = {}
_holds_guard = threading.Lock()


def _renew_guard() -> None:
    global _holds_guard  # noqa: PLW0603 (a lock held by a thread that a fork left behind can only be replaced)
    _holds_guard = threading.Lock()


os.register_at_fork(after_in_child=_renew_guard)


def _prepare(home: Home) -> None:
    """Make the directory if need be; refuse one that holds something else."""
    made = [path for path in (home.path, *home.path.parents) if not path.exists()]
    for path in reversed(made):
        # As root another account runs the server, and it has to pass through; modes must not depend on umask.
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            path.chmod(0o711 if os.geteuid() == 0 else 0o700)
    names = [path.name for path in home.path.iterdir()]
    if names and home.lock("holders").name not in names:
        raise InvalidArgument(
            f"{str(home.path)!r} is not the directory of an embedded PostgreSQL, and it is not empty: name "
            f"another one, with {DIRECTORY_VARIABLE} or as an argument."
        )


def _hold(home: Home) -> None:
    descriptor, count = _holds.get(home.path, (-1, 0))
    if count and not keeper.is_file_at(descriptor, home.lock("holders")):
        # The directory was deleted and made anew: the old lock holds nothing any more.
        os.close(descriptor)
        descriptor = -1
    if descriptor < 0:
        descriptor = _locked_holders(home)
    _holds[home.path] = (descriptor, count + 1)


def _locked_holders(home: Home) -> int:
    descriptor = keeper.open_lock(home.lock("holders"))
    # A keeper that is stopping the server has the exclusive lock until all is written and it has exited.
    if keeper.wait_for(lambda: keeper.try_lock(descriptor, fcntl.LOCK_SH), HOLD_LIMIT_SEC):
        return descriptor
    os.close(descriptor)
    raise DatabaseUnavailable(
        f"The embedded PostgreSQL in {str(home.path)!r} has been stopping for over {HOLD_LIMIT_SEC:.0f} s: "
        f"look at its log, end its processes, and try again. {_log_end(home)}"
    )


def _let_go(home: Home) -> None:
    descriptor, count = _holds[home.path]
    if count > 1:
        _holds[home.path] = (descriptor, count - 1)
        return
    del _holds[home.path]
    # Closed, not unlocked: unlocking would take the hold from a forked child, too.
    os.close(descriptor)


# --- joining and starting --------------------------------------------------------------------


def _ready_server(home: Home) -> Postmaster:
    """Join the server that runs with a keeper, or bring it up."""
    found = _kept_server(home)
    if found is not None:
        return found
    start = keeper.open_lock(home.lock("start"))
    try:
        if not keeper.wait_for(lambda: keeper.try_lock(start, fcntl.LOCK_EX), READY_LIMIT_SEC):
            raise _not_ready(home)
        # From here on nobody else starts keepers. One that lives is waited for: it is starting the server.
        keeper.wait_for(lambda: _kept_server(home) is not None or not _has_keeper(home), READY_LIMIT_SEC)
        if not _has_keeper(home):
            _start_keeper(home)
        found = _kept_server(home)
    finally:
        os.close(start)
    if found is None:
        raise _not_ready(home)
    return found


def _kept_server(home: Home) -> Postmaster | None:
    """Give the server if it is ready and has a keeper that will stop it."""
    found = keeper.ready_postmaster(home.pgdata)
    return found if found is not None and _has_keeper(home) else None


def _has_keeper(home: Home) -> bool:
    descriptor = keeper.open_lock(home.lock("keeper"))
    try:
        return not keeper.try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _start_keeper(home: Home) -> None:
    """Start a keeper and wait for its report; the reasons of a failure are in the log, too."""
    account = account_for(home.pgdata)
    binaries = reachable_by(find_binaries(), account, home.path)
    ids = [] if account is None else [str(account.uid), str(account.gid)]
    command = [sys.executable, "-I", "-S", keeper.__file__, str(home.path), str(binaries.bin_dir), *ids]
    log = _open_log(home)
    try:
        with subprocess.Popen(  # noqa: S603 (our own words)
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
            env=keeper.plain_environment(), start_new_session=True,
        ) as process:  # fmt: skip
            report = process.communicate(timeout=READY_LIMIT_SEC)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        raise _not_ready(home) from None
    finally:
        os.close(log)
    if report != "ready":
        raise DatabaseUnavailable(
            f"The embedded PostgreSQL {binaries.version} in {str(home.path)!r} did not start. "
            f"{_closed_parent(home, account)}{_log_end(home)}"
        )
    _logger.info(
        "An embedded PostgreSQL %s keeps its data in %s",
        binaries.version,
        home.path,
        extra=marks(Event.EMBEDDED_STARTED, directory=str(home.path)),
    )


def _open_log(home: Home) -> int:
    with contextlib.suppress(FileNotFoundError):
        if home.log.stat().st_size > LOG_LIMIT_BYTES:
            home.log.replace(home.log.with_suffix(".log.old"))
    return os.open(home.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)


def _not_ready(home: Home) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"The embedded PostgreSQL in {str(home.path)!r} was not ready after {READY_LIMIT_SEC:.0f} s: look at "
        f"its log, end its processes, and try again. {_log_end(home)}"
    )


def _log_end(home: Home) -> str:
    return f"The end of {str(home.log)!r}:\n{keeper.log_tail(home.log)}"


def _closed_parent(home: Home, account: Account | None) -> str:
    """Say which directory keeps the server's account from its data, if one does."""
    for path in home.path.parents if account is not None else ():
        found = path.stat()
        if account is not None and found.st_uid != account.uid:
            bit = 0o010 if found.st_gid == account.gid else 0o001
            if not found.st_mode & bit:
                return (
                    f"PostgreSQL refuses to run as root, and the account {account.name!r}, which runs it, "
                    f"may not enter {str(path)!r}: name another directory, with {DIRECTORY_VARIABLE} or as "
                    "an argument. "
                )
    return ""
