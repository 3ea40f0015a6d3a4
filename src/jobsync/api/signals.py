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
    """The two signals as one call to every job that asks for it; one for the process.

    They are taken over with the first such job and given back with the last, whatever the order in which jobs come
    and go. The handler interrupts the main thread anywhere, inside a lock of the standard library too. So it only puts
    a word into a queue, which is safe there, and a thread that waits for it makes the calls. The first signal asks; a
    second one, from somebody who waits in vain, gets what it would have got before.
    """

    def __init__(self) -> None:
        self._stops: dict[int, Callable[[], None]] = {}
        self._before: dict[int, Any] = {}
        self._heard: SimpleQueue[str] = SimpleQueue()
        self._pid = 0

    def begin(self, job: object, stop: Callable[[], None]) -> None:
        """Have a job stopped by a signal from now on; outside the main thread, where Python allows no handlers, not."""
        if threading.current_thread() is not threading.main_thread():
            return
        if self._pid != os.getpid():
            # The jobs of a process that this one was forked from are none of this one's, and nor is its thread.
            self._pid, self._stops, self._heard = os.getpid(), {}, SimpleQueue()
        self._stops[id(job)] = stop
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if handler != self._handle:
                self._before[number] = handler
                signal.signal(number, self._handle)
        if len(self._stops) == 1:
            threading.Thread(target=self._wait, args=(self._heard,), name="jobsync-signals", daemon=True).start()

    def end(self, job: object) -> None:
        """Stop a job no more; with the last one the signals are given back."""
        if self._stops.pop(id(job), None) is not None and not self._stops:
            self._heard.put("over")
            self._give_back()

    def _give_back(self) -> None:
        """Restore what was there before; in another thread than the main one the handler does so when it is called."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) == self._handle:
                    handler = self._before.get(number)
                    signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the shape of a handler
        mine = bool(self._stops) and self._pid == os.getpid()
        self._give_back()
        if mine:
            self._heard.put("stop")
        else:
            # The last job was left in another thread, or this is a forked child, whose jobs are its parent's.
            signal.raise_signal(number)

    def _wait(self, heard: "SimpleQueue[str]") -> None:
        while heard.get() == "stop":
            for stop in list(self._stops.values()):
                stop()


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
STOP_SIGNALS = StopSignals()
