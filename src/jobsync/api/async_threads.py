"""Threads of an `AsyncJob` for what may wait: none of them is the event loop's default executor, which is the user's.

What was handed in is done, whatever becomes of the caller: a cancelled caller hears no more of it, but a record under
way is not lost. The threads are daemons, started when they are first needed.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from contextvars import copy_context
from queue import SimpleQueue
from typing import Any, TypeVar

from jobsync.core.log_events import Event, marks

log = logging.getLogger("jobsync")

R = TypeVar("R")


class Threads:
    """At most `most` threads that do what is handed in, in the order in which it came."""

    def __init__(self, name: str, most: int) -> None:
        self._name = name
        self._most = most
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._under_way: set[Future[Any]] = set()
        self._threads = 0
        self._closed = False

    def submit(self, function: Callable[[], R]) -> "Future[R] | None":
        """Hand a function in; None when the threads have been closed."""
        future: Future[R] = Future()
        context = copy_context()

        def work() -> None:
            try:
                result = context.run(function)
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits, an exit included.
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._lock:
            if self._closed:
                return None
            self._under_way.add(future)
            if self._threads < min(self._most, len(self._under_way)):
                self._threads += 1
                threading.Thread(target=self._run, name=f"{self._name}-{self._threads}", daemon=True).start()
        future.add_done_callback(self._under_way.discard)
        self._work.put(work)
        return future

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    def close(self) -> None:
        """Take nothing more in, and end the threads after what was handed in; does not wait."""
        with self._lock:
            if not self._closed:
                self._closed = True
                for _ in range(self._threads):
                    self._work.put(None)

    def wait(self, limit_sec: float) -> bool:
        """Wait until nothing is under way, at most so long; True if it came to that. Not for the event loop."""
        return not wait(tuple(self._under_way), limit_sec).not_done


async def outcome_of(future: "Future[R]", *, late_error_level: int = logging.WARNING) -> R:
    """Await on the event loop what a thread does. A cancelled caller leaves it going on, and its error to the log."""
    loop = asyncio.get_running_loop()
    heard: asyncio.Future[None] = loop.create_future()

    def hear() -> None:
        if not heard.done():
            heard.set_result(None)
        elif (error := future.exception()) is not None:
            log.log(
                late_error_level,
                "a call that was cancelled has failed since: %s",
                error,
                extra=marks(Event.LATE_CALL_FAILED),
            )

    def tell(_: "Future[R]") -> None:
        with suppress(RuntimeError):  # The loop is closed: nobody waits any more.
            loop.call_soon_threadsafe(hear)

    future.add_done_callback(tell)
    await heard
    return future.result()
