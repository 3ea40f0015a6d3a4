"""How a new session of a node begins: who is there, how far away, and what stands in between.

Written as a script that gives one operation at a time and is handed its outcome, so that the engine's loop drives
it without waiting, with the same deadline as anything else.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from jobsync.core.messages import Hello
from jobsync.postgres.session import Done, Session, SessionBroken, is_direct
from jobsync.postgres.statement import Statement, call, statement

PING = Statement("")
PINGS = 3


@dataclass(frozen=True, slots=True)
class Greeting:
    """The row of statements/hello.sql."""

    backend_pid: int
    client_address: str | None
    client_port: int | None
    server_version: int
    durable: bool
    standby: bool
    system_id: str | None
    timeline: str | None
    installed: bool
    today: Any


def open_script(
    session: Session, prefix: str, name: str, boot_sec: Callable[[], float]
) -> Generator[Statement, Done, Hello]:
    """Ask who is there, measure the round trip, listen to hints; give what the member needs to know."""
    greeting = Greeting(*(yield from _rows(statement("hello", prefix)))[0])
    if greeting.standby:
        raise SessionBroken("the server is a standby in recovery: waiting for a primary")
    round_trip_sec = float("inf")
    for _ in range(PINGS):
        before_sec = boot_sec()
        yield PING
        round_trip_sec = min(round_trip_sec, boot_sec() - before_sec)
    direct = is_direct(session, greeting.backend_pid, greeting.client_port)
    if direct:
        yield from _rows(call("listen", prefix, name, types=("text",)))
    return Hello(
        direct=direct,
        system_id=str(greeting.system_id),
        timeline=str(greeting.timeline),
        durable=greeting.durable,
        round_trip_sec=round_trip_sec,
    )


def _rows(work: Statement) -> Generator[Statement, Done, list[tuple[Any, ...]]]:
    done = yield work
    if done.error is not None:
        raise SessionBroken(str(done.error).strip())
    return done.rows
