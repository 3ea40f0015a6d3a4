"""The node's own database session: one operation at a time, never waiting inside libpq.

The engine's thread waits on the socket itself, with its own deadline, so that neither a lock, a slow server nor a
dropped path can hold it. Everything here is non-blocking: `start` sends, `advance` takes in what has arrived.
What libpq cannot do without blocking is only the look-up of a host name while connecting; the leases run out by
the readers' own clock all the while.

The ping is a pipeline Sync alone: it runs no statement, opens no transaction and writes no WAL.
"""

import os
import select
import socket
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import pq
from psycopg.adapt import PyFormat, Transformer
from psycopg.conninfo import conninfo_to_dict

from jobsync.postgres.statement import Row, Statement

_READ = select.POLLIN
_WRITE = select.POLLOUT


@dataclass(frozen=True, slots=True)
class Done:
    """The operation under way ended: its rows, or the error that the server gave on a sound session."""

    rows: list[Row]
    error: psycopg.Error | None


class SessionBroken(Exception):  # noqa: N818 - named for what happened
    """The connection cannot be used any more; the outcome of the operation under way is unknown."""


class Session:
    """One raw connection, driven by whoever polls its socket."""

    def __init__(self, conninfo: str) -> None:
        self._pg = pq.PGconn.connect_start(conninfo.encode())
        self._connecting = True
        self._polling: int = pq.PollingStatus.WRITING
        self._pinging = False
        self._results: list[Any] = []
        self.busy = False
        if self._pg.status == pq.ConnStatus.BAD:
            raise SessionBroken(self._message())

    # --- for the loop that waits ---------------------------------------------------------------

    @property
    def fileno(self) -> int:
        """The socket to wait on."""
        return self._pg.socket

    @property
    def wanted_events(self) -> int:
        """What to wait for on the socket, as poll(2) flags."""
        if self._connecting:
            return _READ if self._polling == pq.PollingStatus.READING else _WRITE
        return _READ | _WRITE if self._unsent else _READ

    def close(self) -> None:
        """End the session; the server sees it at once."""
        self._pg.finish()

    # --- connecting ----------------------------------------------------------------------------

    def connected(self) -> bool:
        """Go on connecting as far as it goes without waiting; True once the session stands."""
        self._polling = self._pg.connect_poll()
        if self._polling == pq.PollingStatus.FAILED:
            raise SessionBroken(self._message())
        if self._polling != pq.PollingStatus.OK:
            return False
        self._connecting = False
        self._pg.nonblocking = 1
        return True

    @property
    def server_version(self) -> int:
        """The server's version number, such as 180006."""
        return self._pg.server_version

    @property
    def backend_pid(self) -> int:
        """The backend that the connection was promised; a pooler makes up its own."""
        return self._pg.backend_pid

    # --- one operation at a time ---------------------------------------------------------------

    def start(self, work: Statement) -> None:
        """Send a statement."""
        transformer = Transformer.from_context(None)
        values = transformer.dump_sequence(work.args, [PyFormat.TEXT] * len(work.args))
        self._begin()
        try:
            self._pg.send_query_params(work.sql.encode(), values)
        except psycopg.OperationalError as error:
            raise SessionBroken(str(error)) from error
        self._flush()

    def start_ping(self) -> None:
        """Send a bare Sync."""
        self._begin()
        self._pinging = True
        try:
            self._pg.enter_pipeline_mode()
            self._pg.pipeline_sync()
        except psycopg.OperationalError as error:
            raise SessionBroken(str(error)) from error
        self._flush()

    def _begin(self) -> None:
        assert not self.busy
        self.busy = True
        self._unsent = True
        self._results = []

    _unsent = False

    def _flush(self) -> None:
        try:
            self._unsent = self._pg.flush() == 1
        except psycopg.OperationalError as error:
            raise SessionBroken(str(error)) from error

    def advance(self) -> Done | None:
        """Take in what arrived; give the end of the operation under way, if it has come."""
        if self._unsent:
            self._flush()
        try:
            self._pg.consume_input()
        except psycopg.OperationalError as error:
            raise SessionBroken(str(error)) from error
        while self.busy and not self._pg.is_busy():
            result = self._pg.get_result()
            if self._pinging:
                if result is not None and result.status == pq.ExecStatus.PIPELINE_SYNC:
                    return self._end_ping()
                if result is not None and result.status == pq.ExecStatus.FATAL_ERROR:
                    raise SessionBroken(result.error_message.decode(errors="replace").strip())
            elif result is None:
                return self._end()
            else:
                self._results.append(result)
        return None

    def _end_ping(self) -> Done:
        self._pg.exit_pipeline_mode()
        self.busy = self._pinging = False
        return Done([], None)

    def _end(self) -> Done:
        self.busy = False
        result = self._results[-1]
        if result.status == pq.ExecStatus.TUPLES_OK:
            return Done(_rows(result), None)
        if result.status == pq.ExecStatus.COMMAND_OK:
            return Done([], None)
        if self._pg.status == pq.ConnStatus.BAD:
            raise SessionBroken(result.error_message.decode(errors="replace").strip())
        return Done([], psycopg.errors.error_from_result(result, encoding="utf-8"))

    def notifications(self) -> list[tuple[str, str]]:
        """Give what was notified since the last look, as (channel, payload)."""
        heard = []
        while (notify := self._pg.notifies()) is not None:
            heard.append((notify.relname.decode(), notify.extra.decode()))
        return heard

    def _message(self) -> str:
        return self._pg.get_error_message().strip()


def is_direct(session: Session, backend_pid: int, client_port: int | None) -> bool:
    """Tell whether the backend that answers is the one that was connected to, through no pooler or proxy.

    Both tests are needed: a pooler makes up a process id of its own; a TCP proxy passes the id on, but the server
    then sees the proxy's port. Over a Unix socket the server sees no port, and the first test stands alone.
    """
    return leads_straight_to(backend_pid, client_port, own_pid=session.backend_pid, fileno=session.fileno)


def leads_straight_to(backend_pid: int, client_port: int | None, *, own_pid: int, fileno: int) -> bool:
    """Tell the same of any connection, by what it was told at its start and by its socket."""
    if backend_pid != own_pid:
        return False
    return client_port in {None, -1} or client_port == _local_port(fileno)


def _local_port(fileno: int) -> int | None:
    with socket.socket(fileno=os.dup(fileno)) as own:
        name = own.getsockname()
    return name[1] if isinstance(name, tuple) else None


def _rows(result: Any) -> list[Row]:
    transformer = Transformer.from_context(None)
    transformer.set_pgresult(result)
    return transformer.load_rows(0, result.ntuples, tuple)


def session_conninfo(dsn: str) -> str:
    """Complete a conninfo for the node's own session: names itself, survives idle firewalls, UTF-8."""
    given = conninfo_to_dict(dsn)
    defaults: dict[str, Any] = {
        "application_name": "jobsync",
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 60000,
    }
    return psycopg.conninfo.make_conninfo("", **{**defaults, **given, "client_encoding": "utf8"})


def is_lock_conflict(error: psycopg.Error) -> bool:
    """Tell whether a statement failed only since a lock was held: it may be asked again."""
    return error.sqlstate in {"55P03", "40P01", "40001", "57014"}


def is_session_over(error: psycopg.Error) -> bool:
    """Tell whether a server's error means that this session is of no more use.

    57P: the server ends it; 08: the connection failed; 25006: a primary that became read-only is none any more.
    """
    state = error.sqlstate or ""
    return state.startswith(("57P", "08")) or state == "25006"
