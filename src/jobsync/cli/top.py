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
from dataclasses import dataclass, field, replace
from typing import Any

from jobsync.api.cluster import Cluster, ClusterStatus, open_cluster
from jobsync.api.fleet_values import HeldRange, QueuePulse
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
    moving_since: dict[tuple[str | None, str | None], float] = field(default_factory=dict)  # By the database's clock.

    @property
    def moves(self) -> dict[tuple[str | None, str | None], int]:
        """Count the tokens that are not where the plan wants them, by holder and wanted owner."""
        found: dict[tuple[str | None, str | None], int] = {}
        for each in self.ranges:
            if each.node != each.intended:
                pair = each.node, each.intended
                found[pair] = found.get(pair, 0) + each.size
        return found

    def after(self, before: "Look | None") -> "Look":
        """Add what only a second look can tell: rates, and for how long tokens have been on their way."""
        now = self.status.read_at.timestamp()
        known = {} if before is None else before.moving_since
        since = {pair: known.get(pair, now) for pair in self.moves}
        rate = None
        if before is not None and (passed_sec := now - before.status.read_at.timestamp()) > 0:
            rate = max(0, self.queue.drawn - before.queue.drawn) / passed_sec
        return replace(self, rate_in=rate, moving_since=since)


def look_at(cluster: Cluster) -> Look:
    """Look once."""
    return Look(cluster.status(rebalances=SHOWN_REBALANCES), cluster.ranges(), cluster.queue_pulse())


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
        moves = [{"source": source, "target": target, "tokens": n} for (source, target), n in look.moves.items()]
        say_json({"status": look.status, "healthy": look.status.is_healthy, "moves": moves, "queue": look.queue})
    else:
        out = console()
        out.print(picture(look, None, out.width if sys.stdout.isatty() else 100, None))
    return 0 if look.status.is_healthy else 1


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
