"""`jobsync top`: a fleet, live.

Theory of operation. One thread looks at the fleet, again and again, over a connection that it opens anew whenever it
broke; it keeps the latest look. The main thread draws what is there and listens to the keyboard, so that neither a slow
database nor a dead one keeps `q` waiting. The picture is a function of the look (`top_view`). The terminal is put back
whatever happens: by a key, Ctrl-C, SIGTERM or an error.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from jobsync.api.cluster import Cluster, ClusterStatus, open_cluster
from jobsync.api.fleet_values import HeldRange, QueuePulse
from jobsync.api.moving import Move, moves_of
from jobsync.cli.processes import sigterm_unwinds
from jobsync.cli.shared import console, say_json
from jobsync.core.errors import InvalidArgument, JobsyncError
from jobsync.core.settings import Settings

DRAW_EVERY_SEC = 0.25
SHOWN_REBALANCES = 4


@dataclass(frozen=True, slots=True)
class Look:
    """What one look saw."""

    status: ClusterStatus
    ranges: tuple[HeldRange, ...]
    queue: QueuePulse
    rate_in: float | None = None  # Jobs enqueued a second, since the look before.
    moves: tuple[Move, ...] = ()  # What is not where the plan wants it, the largest first.

    def age_sec(self, move: Move) -> float | None:
        """Tell for how long a move is under way; None where it is not known."""
        return None if move.since is None else max(0.0, (self.status.read_at - move.since).total_seconds())

    def after(self, before: "Look | None") -> "Look":
        """Add what only a second look can tell: how many jobs a second come."""
        if before is None:
            return self
        passed_sec = (self.status.read_at - before.status.read_at).total_seconds()
        if passed_sec <= 0:
            return self
        return replace(self, rate_in=max(0, self.queue.drawn - before.queue.drawn) / passed_sec)


def look_at(cluster: Cluster) -> Look:
    """Look once."""
    status, ranges = cluster.status(rebalances=SHOWN_REBALANCES), cluster.ranges()
    live = frozenset(node.name for node in status.nodes if node.is_live)
    moves = moves_of(((each.first, each.end, each.node, each.intended) for each in ranges), live)
    return Look(status, ranges, cluster.queue_pulse(), moves=cluster.dated(moves))


class Watcher:
    """Looks in a thread of its own; `latest` is what it saw last, `error` what keeps it from seeing more."""

    def __init__(self, config: Settings, every_sec: float) -> None:
        self.latest: Look | None = None
        self.error: str | None = None
        self._config = config
        self._every_sec = every_sec
        self._over = threading.Event()

    def start(self) -> None:
        """Begin; the thread ends with the process, or at its next look after `stop`."""
        threading.Thread(target=self._run, name="jobsync-top", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                with open_cluster(self._config) as cluster:
                    self._look_on(cluster)
            except JobsyncError as error:
                self.error = str(error)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is shown, and not lost with this thread
                self.error = f"{type(error).__name__}: {error}"
            self._over.wait(self._every_sec)

    def _look_on(self, cluster: Cluster) -> None:
        while not self._over.is_set():
            self.latest = look_at(cluster).after(self.latest)
            self.error = None
            self._over.wait(self._every_sec)


def print_once(config: Settings, *, as_json: bool) -> int:
    """Print one look; give the exit status."""
    from jobsync.cli.top_view import picture  # noqa: PLC0415 - JSON needs no Rich

    with open_cluster(config) as cluster:
        look = look_at(cluster).after(None)
    if as_json:
        moves = [_row(move, look) for move in look.moves]
        say_json({"status": look.status, "healthy": look.status.is_healthy, "moves": moves, "queue": look.queue})
    else:
        out = console()
        out.print(picture(look, None, out.width if sys.stdout.isatty() else 100, None))
    return 0 if look.status.is_healthy else 1


def _row(move: Move, look: Look) -> dict[str, Any]:
    """Give a move for programs: `age_sec` null where it is not known, `is_older` where some is older than that."""
    row: dict[str, Any] = {"source": move.source, "target": move.target, "tokens": move.tokens, "phase": move.phase}
    return row | {"since": move.since, "age_sec": look.age_sec(move), "is_older": move.is_older}


def watch(config: Settings, every_sec: float) -> None:
    """Show the fleet until a key, a signal or Ctrl-C ends it. Raises InvalidArgument where there is no terminal."""
    from jobsync.cli.top_view import picture  # noqa: PLC0415 - see above

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InvalidArgument("top needs a terminal to draw on: use jobsync top --once, or jobsync status")
    out = console()
    watcher = Watcher(config, every_sec)
    watcher.start()
    try:
        with (
            sigterm_unwinds(),
            suppress(KeyboardInterrupt),
            _keys() as pressed,
            out.screen() as screen,
        ):
            shown: object = None
            while pressed(DRAW_EVERY_SEC) not in {b"q", b"Q"}:
                now = watcher.latest, watcher.error, out.width, out.height
                if shown is None or now != shown:
                    screen.update(picture(*now))
                    shown = now
    finally:
        watcher.stop()


@contextmanager
def _keys() -> Iterator[Any]:
    """Let single keys be read as they are pressed, unseen; give a function that waits for one."""
    import select  # noqa: PLC0415 - with the next two: not on every system
    import termios  # noqa: PLC0415
    import tty  # noqa: PLC0415

    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)

    def pressed(limit_sec: float) -> bytes:
        ready, _, _ = select.select([number], [], [], limit_sec)
        return os.read(number, 1) if ready else b""

    tty.setcbreak(number)
    try:
        yield pressed
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)
