"""Reading the fleet for all viewers at once: at most one round a second, and none while nobody looks."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from jobsync.api.clock import boot_sec
from jobsync.api.config import CoordinationConfig
from jobsync.api.fleet_view import FleetReader, FleetView, open_reader
from jobsync.core.errors import JobsyncError, SchemaError
from jobsync.core.log_events import Event, marks

log = logging.getLogger("jobsync.web")

EVERY_SEC: Final = 1.0
SHARE: Final = 10  # A round that took long is followed by ten times as long a rest: a busy database is left alone.
LINGER_SEC: Final = 5.0  # Somebody who goes from page to page keeps the connection.
MOST_WAIT_SEC: Final = 5.0
FRESH_SEC: Final = 4.0  # A page is drawn from so young a snapshot at once; the events bring the next one.
HISTORY: Final = 180


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was read last, from `at_sec` on.

    `error` says why the latest round failed; `view` is then of before, or None. `misfit`: the database answered, and
    has no tables that this program could read.
    """

    number: int
    view: FleetView | None
    error: str | None
    at_sec: float
    misfit: bool = False

    @property
    def state(self) -> str:
        """Say in a word or two how the page is kept fresh."""
        if self.error is None:
            return "live"
        return "tables do not fit" if self.misfit else "database away"


@dataclass(frozen=True, slots=True)
class Point:
    """The queue at one round, for the lines that are drawn."""

    waiting: int
    done_a_minute: int


class Viewer:
    """One who waits for news, on an event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()

    def tell(self) -> None:
        """Say that there is something new; from any thread."""
        with suppress(RuntimeError):  # The loop is closed: its viewer is gone.
            self._loop.call_soon_threadsafe(self._news.set)

    async def wait(self, limit_sec: float) -> bool:
        """Wait for news; False if there were none within the limit."""
        try:
            await asyncio.wait_for(self._news.wait(), limit_sec)
        except TimeoutError:
            return False
        self._news.clear()
        return True


class Poller:
    """One thread that reads while anybody looks; see the module."""

    def __init__(self, config: CoordinationConfig, *, every_sec: float = EVERY_SEC) -> None:
        self._config = config
        self._every_sec = every_sec
        self._lock = threading.Lock()
        self._viewers: set[Viewer] = set()
        self._wanted_sec = 0.0
        self._changed_sec = float("-inf")
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self.snapshot = Snapshot(0, None, None, float("-inf"))
        self.history: deque[Point] = deque(maxlen=HISTORY)
        self.rounds = 0

    @contextmanager
    def watched(self) -> Iterator[Viewer]:
        """Have somebody told of every new snapshot, as long as the block runs."""
        viewer = Viewer()
        with self._lock:
            self._viewers.add(viewer)
            self._want()
        try:
            yield viewer
        finally:
            with self._lock:
                self._viewers.discard(viewer)
                self._wanted_sec = boot_sec()

    async def fresh(self) -> Snapshot:
        """Give a snapshot that is young, reading one where there is none; within a few seconds, whatever happens."""
        with self.watched() as viewer:
            until_sec = boot_sec() + MOST_WAIT_SEC
            while not self._is_fresh() and boot_sec() < until_sec:
                await viewer.wait(until_sec - boot_sec())
        return self.snapshot

    def hurry(self) -> None:
        """Read again at once: something was changed, and what was read before is of no use."""
        self._changed_sec = boot_sec()
        self._wake.set()

    def _is_fresh(self) -> bool:
        at_sec = self.snapshot.at_sec
        return at_sec > max(boot_sec() - FRESH_SEC, self._changed_sec)

    # --- the thread ----------------------------------------------------------------------------

    def _want(self) -> None:
        self._wanted_sec = boot_sec()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="jobsync-web-poller", daemon=True)
            self._thread.start()

    def _is_over(self) -> bool:
        with self._lock:
            if self._viewers or boot_sec() - self._wanted_sec < LINGER_SEC:
                return False
            self._thread = None
            return True

    def _run(self) -> None:
        while not self._is_over():
            began_sec = boot_sec()
            try:
                with open_reader(self._config) as reader:
                    if self._read_on(reader):
                        return
            except JobsyncError as error:
                self._publish(began_sec, None, str(error), misfit=isinstance(error, SchemaError))
            except Exception:
                log.exception("the live page cannot read the fleet", extra=marks(Event.FLEET_UNREADABLE))
                self._publish(began_sec, None, "reading the fleet failed: see the log of the dashboard")
            self._rest(self._every_sec)

    def _read_on(self, reader: FleetReader) -> bool:
        """Read as long as anybody looks; True when nobody does any more."""
        while True:
            began_sec = boot_sec()
            view = reader.read()
            self.history.append(Point(view.queue.waiting, view.queue.done_a_minute))
            self._publish(began_sec, view, None)
            self._rest(max(self._every_sec, SHARE * (boot_sec() - began_sec)))
            if self._is_over():
                return True

    def _rest(self, sec: float) -> None:
        self._wake.wait(sec)
        self._wake.clear()

    def _publish(self, began_sec: float, view: FleetView | None, error: str | None, *, misfit: bool = False) -> None:
        last = self.snapshot
        self.rounds += 1
        self.snapshot = Snapshot(last.number + 1, view if error is None else last.view, error, began_sec, misfit)
        with self._lock:
            viewers = tuple(self._viewers)
        for viewer in viewers:
            viewer.tell()
