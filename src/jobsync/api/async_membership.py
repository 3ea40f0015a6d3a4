"""Being in the fleet, from an event loop: how an `AsyncJob` is entered and left, and what its methods stand on."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from inspect import isawaitable
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

from jobsync.api.async_bridge import LoopBridge
from jobsync.api.async_inner import InnerJob
from jobsync.api.async_mirror import parameters_of
from jobsync.api.async_tasks_loop import AsyncTaskLoop
from jobsync.api.async_threads import Threads, outcome_of
from jobsync.api.async_watch import LoopWatch
from jobsync.api.checks import checked_flag, is_async
from jobsync.api.job import Job
from jobsync.api.signals import STOP_SIGNALS
from jobsync.core.errors import NotRunning
from jobsync.postgres.async_pool import AsyncPool
from jobsync.postgres.uncancelled import uncancelled

R = TypeVar("R")

MOST_THREADS = 4  # More would wait for each other: the pool of records has two connections.
DRAIN_SEC = 5.0
CALLBACKS = ("on_rebalance", "on_tokens_added", "on_tokens_removed")


class AsyncMembership:
    """The state of an asynchronous job, its beginning and its end."""

    @parameters_of(Job.__init__)
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._bridge = LoopBridge()
        for name in CALLBACKS:
            if kwargs.get(name) is not None:
                kwargs[name] = self._bridge.callback(kwargs[name])
        if kwargs.get("lock_provider") is not None:
            kwargs["lock_provider"] = self._provider(kwargs["lock_provider"])
        handles_signals = checked_flag("handle_signals", kwargs.pop("handle_signals", False))
        # The job below is entered in another thread than the main one, where it could not handle a signal.
        self._job = InnerJob(*args, **kwargs, handle_signals=False)
        self._handles_signals = handles_signals
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threads = Threads(f"jobsync-async-{self._job.node_name}", MOST_THREADS)
        self._stopped = asyncio.Event()
        self._watch: LoopWatch | None = None
        self._pool: AsyncPool | None = None
        self._tasks: AsyncTaskLoop | None = None
        self._left: asyncio.Task[None] | None = None

    def _provider(self, provider: Callable[[Any], object]) -> Callable[[Any], object]:
        """Call an async provider on the loop with this job, a plain one in the entering thread with the job below.

        A plain function cannot await, and on the loop its locks would block everybody; so it gets the `Job`, whose
        methods it can call.
        """
        if is_async(provider):
            return lambda _: self._bridge.call(provider, self)

        def provide(job: Any) -> object:
            result = provider(job)
            return self._bridge.call(lambda: result) if isawaitable(result) else result

        return provide

    # --- entering and leaving ------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._loop is not None:
            raise NotRunning(
                f"job {self._job.node_name!r} is entered already: make another AsyncJob for another `async with`"
            )
        loop = self._loop = asyncio.get_running_loop()
        self._bridge.open(loop)
        self._job.stop_event.on_set(self._wake)
        entering = Threads(f"jobsync-enter-{self._job.node_name}", 1)
        entered = entering.submit(self._job.__enter__)
        entering.close()
        assert entered is not None
        try:
            await outcome_of(entered, late_error_level=logging.DEBUG)
        except asyncio.CancelledError:
            # Entering is given up at once, but what has been done of it is undone before the cancellation goes on.
            self._job.stop()
            self._bridge.close(cancel=True)
            await uncancelled(self._leave(wait_for=entered))
            raise
        except BaseException:
            await uncancelled(self._leave(wait_for=None))
            raise
        if self._handles_signals:
            STOP_SIGNALS.begin(self, self._job.stop)
        self._watch = LoopWatch(self._job.node_name, loop)
        self._watch.start()
        self._bridge.let_callbacks_begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._require_loop()
        if self._left is None:
            self._left = asyncio.ensure_future(self._leave(wait_for=None))
        await uncancelled(_ended(self._left))

    async def _leave(self, *, wait_for: Future[InnerJob] | None) -> None:
        """Leave gracefully, whatever was cancelled: nothing in here is cut short, and all of it is bounded."""
        if wait_for is not None:
            with suppress(BaseException):
                await outcome_of(wait_for)
        self._job.stop()
        STOP_SIGNALS.end(self)
        self._bridge.close(cancel=False)
        try:
            if self._tasks is not None:
                await self._tasks.close()
        finally:
            self._threads.close()
            leaving = Threads(f"jobsync-leave-{self._job.node_name}", 1)
            left = leaving.submit(self._leave_in_thread)
            leaving.close()
            assert left is not None
            try:
                await outcome_of(left)
            finally:
                if self._watch is not None:
                    self._watch.stop()
                if self._pool is not None:
                    await self._pool.close()

    def _leave_in_thread(self) -> None:
        # Records of cancelled calls are under way here: they are written before the job is gone.
        self._threads.wait(DRAIN_SEC)
        self._job.__exit__(None, None, None)

    def __enter__(self) -> NoReturn:
        raise NotRunning(f"job {self._job.node_name!r} is an AsyncJob: enter it by `async with`")

    def __exit__(self, *_: object) -> None:
        """Stand here so that `with` finds what tells it how to do better."""

    # --- helpers -------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Wake who waits for `stop()`; called by whoever stops the job."""
        if self._loop is not None:
            with suppress(RuntimeError):  # The loop is closed: nobody waits.
                self._loop.call_soon_threadsafe(self._stopped.set)

    def _require_loop(self) -> asyncio.AbstractEventLoop:
        """Give the loop, on which the caller is."""
        name = self._job.node_name
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            raise NotRunning(
                f"job {name!r} is an AsyncJob, and no event loop runs here: call it from a coroutine, or from another "
                "thread by asyncio.run_coroutine_threadsafe"
            ) from None
        if self._loop is None:
            raise NotRunning(f"job {name!r} is not entered: use it inside its `async with` block")
        if running is not self._loop:
            raise NotRunning(
                f"job {name!r} was entered on another event loop: use it there, or enter another job on this one"
            )
        return running

    def _local(self, name: str) -> Any:
        return getattr(self._job, name)

    async def _waited(self, function: Callable[[], R]) -> R:
        self._require_loop()
        done = self._threads.submit(function)
        if done is None:
            raise NotRunning(f"job {self._job.node_name!r} has been left: use it inside its `async with` block")
        return await outcome_of(done)


async def _ended(task: "asyncio.Task[None]") -> None:
    await asyncio.wait((task,))
    task.result()
