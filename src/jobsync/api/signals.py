"""SIGTERM and SIGINT as a request to stop, for the time that a job is entered."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """Turns the two signals into one call; whatever handled them before is put back afterwards."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._before: dict[signal.Signals, Any] = {}

    def install(self) -> None:
        """Take the signals over; outside the main thread, where Python allows no handlers, this does nothing."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}

    def restore(self) -> None:
        """Give the signals back."""
        if self._before and threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the shape of a handler
        # The first signal asks; a second one, from somebody who waits in vain, gets what it would have got before.
        self.restore()
        self._stop()
