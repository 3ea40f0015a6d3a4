"""Waiting in the application's own threads, where a signal's handler may raise at any instant.

What `threading` offers cannot stand that. A `Condition` releases its lock and takes it back in Python code: an
exception in between leaves a lock that is not held to be released, and the program ends by that instead of by what its
handler raised. An `Event` is built on one, with a lock that is not reentrant besides: a handler that sets it may wait
for the very thread that it interrupted.

Here a waiter sleeps inside one call of a raw lock, and nobody holds a lock meanwhile: an exception can only wake it.
"""

import threading
from _thread import LockType, allocate_lock
from collections.abc import Callable
from contextlib import suppress
from operator import call
from typing import Any

from jobsync.runtime.clock import boot_sec

NEVER = float("inf")
# A signal that comes in the instant before the system call that sleeps is handled when that ends: Python looks before
# it, and only the main thread runs handlers.
MAIN_SLEEP_SEC = 0.5


class Bell:
    """Wakes those who wait for a change. Safe from any thread, and from a handler in the middle of any of its calls."""

    __slots__ = ("_sleepers",)

    def __init__(self) -> None:
        self._sleepers: list[LockType] = []

    def ring(self) -> None:
        """Say that something has changed: to be called after the change."""
        for sleeper in tuple(self._sleepers):
            with suppress(RuntimeError):  # Awake already.
                sleeper.release()

    def wait_for(
        self, condition: Callable[[], bool], timeout_sec: float | None = None, *, without: Any | None = None
    ) -> bool:
        """Wait until a condition holds, which is asked anew at every ring; False when it does not hold in time.

        `without` is a reentrant lock that others need to bring the change about. It is let go of during the wait if
        this thread holds it, as where a handler waits that interrupted the one who took it.
        """
        if condition():
            return True
        until_sec = NEVER if timeout_sec is None else boot_sec() + timeout_sec
        in_main = threading.get_ident() == threading.main_thread().ident
        most_sec = MAIN_SLEEP_SEC if in_main else threading.TIMEOUT_MAX
        sleeper = allocate_lock()
        sleeper.acquire()
        try:
            self._sleepers.append(sleeper)
            while not condition():  # Asked after the sleeper can be woken, so that no ring is missed.
                left_sec = until_sec - boot_sec()
                if left_sec <= 0:
                    return False
                _sleep(sleeper, min(left_sec, most_sec), without)
            return True
        finally:
            with suppress(ValueError):
                self._sleepers.remove(sleeper)


def _sleep(sleeper: LockType, limit_sec: float, without: Any | None) -> None:
    freed: list[Any] = []
    try:
        if without is not None and without._is_owned():  # noqa: SLF001 - what threading.Condition asks of a lock as well
            # One call of C code, and no instruction between letting go and knowing what to take back.
            freed.extend(map(call, (without._release_save,)))  # noqa: SLF001
        sleeper.acquire(timeout=limit_sec)
    finally:
        if freed:
            without._acquire_restore(freed[0])  # type: ignore[union-attr]  # noqa: SLF001


def begin(thread: threading.Thread) -> None:
    """Start a thread. It waits for an Event of `threading` until it runs, and so may end by that Event's confusion.

    Raises what a handler raised then, as any other call does; the thread runs nevertheless.
    """
    try:
        thread.start()
    except RuntimeError as error:
        raised = error.__context__
        if raised is None or "lock" not in str(error):
            raise
        raise raised from None


class Flag:
    """What `threading.Event` is, for the application's threads: `set` may be called by a handler within `wait`."""

    def __init__(self) -> None:
        self._is_set = False
        self._bell = Bell()

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Set it for good, and wake everybody."""
        self._is_set = True
        self._bell.ring()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most `timeout` seconds; True if it is."""
        return self._is_set or self._bell.wait_for(self.is_set, timeout)
