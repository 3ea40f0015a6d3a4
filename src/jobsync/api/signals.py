"""What signals mean while a job is entered: a request to stop, or the end of the program by an exception."""

import os
import signal
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import CodeType, FrameType
from typing import Any, TypeVar

SIGNALS = (signal.SIGTERM, signal.SIGINT)
F = TypeVar("F", bound=Callable[..., Any])


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


class Termination:
    """SIGTERM as `SystemExit` in the main thread, while jobs that ask for it are entered; one for the process.

    The exception unwinds the `with` blocks of the main thread, so that jobs leave gracefully and the application's own
    clean-up runs. One that comes while a job leaves waits until it has left: a graceful end is not cut short, and it is
    bounded. It steps in only where nobody else handles the signal, and steps back with the last job. The exit status
    is the one that shells give for this signal, so that no supervisor takes an interrupted batch for a finished one.
    """

    STATUS = 128 + signal.SIGTERM

    def __init__(self) -> None:
        self._jobs: set[int] = set()
        self._pid = 0
        self._heard = False
        self._uninterrupted: set[CodeType] = set()

    def waits_for(self, function: F) -> F:
        """Mark a function that the exception must not interrupt, from its very first instruction on."""
        self._uninterrupted.add(function.__code__)
        return function

    def begin(self, job: object) -> None:
        """Turn SIGTERM into the exception from now on; outside the main thread, or beside another handler, nothing."""
        if threading.current_thread() is not threading.main_thread():
            return
        before = signal.getsignal(signal.SIGTERM)
        if before in (signal.SIG_DFL, self._handle):
            self._jobs.add(id(job))
            self._pid = os.getpid()
            signal.signal(signal.SIGTERM, self._handle)

    def end(self, job: object) -> None:
        """Give the signal back with the last job, and raise what had to wait."""
        self._jobs.discard(id(job))
        if threading.current_thread() is not threading.main_thread():
            return
        if not self._jobs and signal.getsignal(signal.SIGTERM) == self._handle:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if self._heard:
            self._heard = False
            raise SystemExit(self.STATUS)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._jobs or self._pid != os.getpid():
            # The last job was left in another thread, or this is a forked child, whose jobs are its parent's.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        while frame is not None:
            if frame.f_code in self._uninterrupted:
                self._heard = True
                return
            frame = frame.f_back
        raise SystemExit(self.STATUS)


TERMINATION = Termination()
