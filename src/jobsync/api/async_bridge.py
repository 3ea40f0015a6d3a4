"""From jobsync's threads to the application's event loop: its functions are called there, and waited for.

Nothing that keeps the lease alive waits here. The callback thread does, so that a hand-over waits for a callback as it
does without an event loop; how long it waits is bounded by the member, so that a blocked loop delays it only that long.
"""

import asyncio
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from contextvars import Context, copy_context
from functools import wraps
from typing import Any

from jobsync.runtime.waiting import Flag


class LoopBridge:
    """Calls plain and async functions on one event loop, from other threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context: Context | None = None
        self._calls: set[Future[Any]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._body_began = threading.Event()

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Say which loop; called on it. Functions will see the context variables of this caller."""
        self._loop = loop
        self._context = copy_context()

    def let_callbacks_begin(self) -> None:
        """From now on callbacks are called: to be said in the step of the loop in which the body gets its name."""
        self._body_began.set()

    def close(self, *, cancel: bool) -> None:
        """Call nothing more; with `cancel`, end what is under way on the loop. Called on the loop."""
        with self._lock:
            self._closed = True
            waiting = list(self._calls)
        for call in waiting:
            call.cancel()
        if cancel:
            for task in list(self._tasks):
                task.cancel()
        self._body_began.set()

    def call(self, function: Callable[..., object], *args: object) -> object:
        """Call a function on the loop, await what it gives if that can be awaited, and give the result."""
        call: Future[Any] = Future()
        with self._lock:
            if self._closed or self._loop is None:
                raise CancelledError
            self._calls.add(call)
        try:
            self._loop.call_soon_threadsafe(self._begin, call, function, args)
        except RuntimeError:  # The loop was closed under the job.
            raise CancelledError from None
        return call.result()

    def callback(self, function: Callable[..., object]) -> Callable[..., object]:
        """Make of a user's callback one that jobsync's callback thread can call."""

        @wraps(function)
        def on_loop(*args: object) -> object:
            self._body_began.wait()
            try:
                return self.call(function, *args)
            except CancelledError:
                if not self._closed:
                    raise
                return None  # The job ended before its turn came: callbacks are not called at exit.

        return on_loop

    def _begin(self, call: "Future[Any]", function: Callable[..., object], args: tuple[object, ...]) -> None:
        self._calls.discard(call)
        if not call.set_running_or_notify_cancel():
            return
        assert self._loop is not None
        task = self._loop.create_task(_carried(call, function, args), context=self._context)
        self._tasks.add(task)
        task.add_done_callback(lambda ended: self._ended(ended, call))

    def _ended(self, task: "asyncio.Task[None]", call: "Future[Any]") -> None:
        self._tasks.discard(task)
        if not call.done():  # It was cancelled, perhaps before its first step.
            call.set_exception(CancelledError())


async def _carried(call: "Future[Any]", function: Callable[..., object], args: tuple[object, ...]) -> None:
    try:
        result = function(*args)
        if inspect.isawaitable(result):
            result = await result
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 - sys.exit() too must not end the application's loop from here.
        call.set_exception(error)
    else:
        call.set_result(result)


class StopEvent(Flag):
    """A flag that also wakes who cannot wait for one."""

    def __init__(self) -> None:
        super().__init__()
        self._wakes: list[Callable[[], object]] = []

    def set(self) -> None:
        """Set it, and wake everybody."""
        super().set()
        for wake in list(self._wakes):
            wake()

    def on_set(self, wake: Callable[[], object]) -> None:
        """Have `wake` called by whoever sets the event; at once if it is set. It may be called more than once."""
        self._wakes.append(wake)
        if self.is_set():
            wake()

    def forget(self, wake: Callable[[], object]) -> None:
        """Call it no more."""
        with suppress(ValueError):
            self._wakes.remove(wake)
