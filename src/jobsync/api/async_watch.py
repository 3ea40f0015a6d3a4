"""Finding out that the application blocks its own event loop.

The lease does not depend on the loop, so nothing is lost at once; but callbacks and loops over tasks stand still, and a
hand-over goes on without them when its time is up. So a thread asks the loop twice a second to show that it is alive.

The time is counted by this thread's own ticks, each for at most two intervals: a process that was paused or a machine
that slept did not block its loop.
"""

import asyncio
import logging
import threading

from jobsync.core.log_events import Event, marks
from jobsync.runtime.clock import boot_sec

BEAT_SEC = 0.5
BLOCKED_SEC = 2.0

log = logging.getLogger("jobsync")


class LoopWatch:
    """Watches one event loop from a thread of its own."""

    def __init__(self, node_name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._node_name = node_name
        self._loop = loop
        self._stop = threading.Event()
        self._unanswered = False
        self.blocked_now_sec = 0.0
        self._longest_sec = 0.0
        self._thread = threading.Thread(target=self._run, name=f"jobsync-watch-{node_name}", daemon=True)

    @property
    def longest_sec(self) -> float:
        """For how long the loop was blocked at the longest, the present included; less than 2 s counts as 0."""
        longest_sec = max(self._longest_sec, self.blocked_now_sec)
        return longest_sec if longest_sec >= BLOCKED_SEC else 0.0

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End it; does not wait."""
        self._stop.set()

    def _run(self) -> None:
        ticked_sec = boot_sec()
        while not self._stop.wait(BEAT_SEC):
            last_sec, ticked_sec = ticked_sec, boot_sec()
            if self._unanswered:
                self._count(min(ticked_sec - last_sec, 2 * BEAT_SEC))
                continue
            self._settle()
            self._unanswered = True
            try:
                self._loop.call_soon_threadsafe(self._answer)
            except RuntimeError:  # The loop is closed.
                return
        self._settle()

    def _answer(self) -> None:
        self._unanswered = False

    def _count(self, passed_sec: float) -> None:
        before_sec, self.blocked_now_sec = self.blocked_now_sec, self.blocked_now_sec + passed_sec
        if before_sec < BLOCKED_SEC <= self.blocked_now_sec:
            log.warning(
                "node %r: the event loop does not run for %.1f s now: something on it blocks, such as time.sleep or a "
                "long computation; callbacks and loops over tasks wait for it, the lease does not",
                self._node_name,
                self.blocked_now_sec,
                extra=marks(Event.LOOP_BLOCKED, node=self._node_name, seconds=self.blocked_now_sec),
            )

    def _settle(self) -> None:
        blocked_sec, self.blocked_now_sec = self.blocked_now_sec, 0.0
        self._longest_sec = max(self._longest_sec, blocked_sec)
        if blocked_sec >= BLOCKED_SEC:
            log.warning(
                "node %r: the event loop was blocked for %.1f s; move such work to a thread (asyncio.to_thread) or "
                "another process",
                self._node_name,
                blocked_sec,
                extra=marks(Event.LOOP_WAS_BLOCKED, node=self._node_name, seconds=blocked_sec),
            )
