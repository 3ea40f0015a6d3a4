"""SIGTERM and SIGINT as a request to stop, for the time that a job is entered."""

import signal
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Turns the two signals into one call; whatever handled them before is put back afterwards.

    The handler interrupts the main thread anywhere, inside a lock of the standard library too. So it only puts a
    word into a queue, which is safe there, and a thread that waits for it makes the call.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._before: dict[signal.Signals, Any] = {}
        self._heard: SimpleQueue[str] = SimpleQueue()

    def install(self) -> None:
        """Take the signals over; outside the main thread, where Python allows no handlers, this does nothing."""
        if threading.current_thread() is threading.main_thread():
            threading.Thread(target=self._wait, name="jobsync-signals", daemon=True).start()
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}

    def restore(self) -> None:
        """Give the signals back."""
        if self._before and threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
            self._heard.put("restored")
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the shape of a handler
        # The first signal asks; a second one, from somebody who waits in vain, gets what it would have got before.
        self._heard.put("stop")
        self.restore()

    def _wait(self) -> None:
        if self._heard.get() == "stop":
            self._stop()
