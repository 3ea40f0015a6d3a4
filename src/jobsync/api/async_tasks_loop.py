"""The loop of asyncio programs: `async for task in job.tasks(ids)`.

A `TaskLoop` does the work, in a thread of its own, since claims wait for the database. The application's part of it,
its ids, stays on the event loop: an iterator or an async iterator, or the function that gives either, is run by the
consumer's own task. The thread asks, and the consumer, who waits for the next task anyhow, answers.

A step that its consumer left, cancelled, goes on; the next call takes it up where it is. So `asyncio.timeout` around a
step loses no task, and no task that nobody got is taken for done.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from inspect import isawaitable
from types import TracebackType
from typing import Any, NoReturn, Protocol, Self, TypeAlias

from jobsync.api.async_bridge import StopEvent
from jobsync.api.async_threads import Threads, outcome_of
from jobsync.api.tasks_loop import Source, TaskLoop
from jobsync.core.errors import JobsyncError
from jobsync.core.tasks import Task, TaskId
from jobsync.postgres.uncancelled import uncancelled

MOST_PULLED = 500

Ids: TypeAlias = Iterable[TaskId | Task] | AsyncIterable[TaskId | Task]
AsyncSource: TypeAlias = Ids | Callable[[], Ids | Awaitable[Ids]]
_Pull: TypeAlias = Callable[[], Awaitable[Any]]


class LoopOwner(Protocol):
    """What the loop needs of its job."""

    def open_loop(self, source: Source) -> TaskLoop:
        """Begin a loop over tasks; may wait."""

    def may_be_mine(self, task: Task | TaskId) -> bool:
        """Tell whether the task is this node's now, or that cannot be told."""

    def require_running(self) -> None:
        """Raise what ended the node, if it ended."""

    @property
    def stop_event(self) -> StopEvent:
        """What `stop()` sets."""


class _WalkOver(Exception):  # noqa: N818 - no error: the ids are at their end
    """No more ids come: the loop is closed, or the job was stopped."""


class _End:
    """Stands where the ids are at their end."""


class _Question:
    """Something that the thread wants done on the event loop."""

    def __init__(self, work: _Pull) -> None:
        self.work = work
        self._answer: Future[Any] = Future()
        self._lock = threading.Lock()

    def wait(self) -> Any:
        return self._answer.result()

    def answer(self, result: object) -> None:
        with self._lock:
            if not self._answer.done():
                self._answer.set_result(result)

    def fail(self, error: BaseException) -> None:
        with self._lock:
            if not self._answer.done():
                self._answer.set_exception(error)


class AsyncTaskLoop:
    """An async iterator over the tasks of this node, for one consumer, and an async context manager.

    Leaving `async with` releases what was not begun, as `close` does.
    """

    def __init__(self, owner: LoopOwner, source: AsyncSource, *, name: str, before: "AsyncTaskLoop | None") -> None:
        self._owner = owner
        self._source = source
        self._before = before
        self._loop = asyncio.get_running_loop()
        self._threads = Threads(f"jobsync-tasks-{name}", 1)
        self._inbox: asyncio.Queue[_Question | Future[Task | None]] = asyncio.Queue()
        self._tasks: TaskLoop | None = None
        self._stepping = False
        self._is_waited_for = False
        self._open_question: _Question | None = None
        self._asked: _Question | None = None
        self._patience: asyncio.Timeout | None = None
        self._closed = False

    # --- the loop ------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Task:
        if asyncio.get_running_loop() is not self._loop:
            raise JobsyncError("this loop over tasks belongs to another event loop: begin one on each")
        if self._is_waited_for:
            raise JobsyncError(
                "two tasks wait for this loop at once: coming back for the next task says that the last one is done, "
                "so a loop has one consumer; hand tasks on from there"
            )
        self._is_waited_for = True
        try:
            if self._tasks is not None and self._tasks.spans is not None:
                self._tasks.spans.leave()
            task = await self._next()
        finally:
            self._is_waited_for = False
        if task is None:
            await self.close()
            raise StopAsyncIteration
        if self._tasks is not None and self._tasks.spans is not None:
            self._tasks.spans.enter()
        return task

    async def _next(self) -> Task | None:
        if self._closed:
            return None
        if self._before is not None:
            await self._before.close()
            self._before = None
        if not self._stepping:
            if self._threads.submit(self._step) is None:
                return None
            self._stepping = True
        while True:
            if self._open_question is not None:
                await self._answer(self._open_question)  # A cancelled consumer leaves it open.
                self._open_question = None
            heard = await self._inbox.get()
            if isinstance(heard, _Question):
                self._open_question = heard
                continue
            self._stepping = False
            return None if self._closed else heard.result()

    async def _answer(self, question: _Question) -> None:
        """Do what the thread asks for, in the consumer's own task; `stop()` and `close()` end the waiting."""
        stop = self._owner.stop_event
        try:
            async with asyncio.timeout(None) as patience:
                self._patience = patience
                stop.on_set(self._end_waiting_soon)
                question.answer(await question.work())
        except TimeoutError as error:
            # A time-out of the application's own source is its error, like any other.
            question.fail(_WalkOver() if patience.expired() else error)
        except Exception as error:  # noqa: BLE001 - it is raised by the step, as a loop over the ids would.
            question.fail(error)
        finally:
            self._patience = None
            stop.forget(self._end_waiting_soon)

    def _end_waiting_soon(self) -> None:
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._end_waiting)

    def _end_waiting(self) -> None:
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(self._loop.time())

    async def done(self) -> None:
        """Mark the task in hand done now, as before a `break`."""
        tasks = self._tasks
        if tasks is not None and not self._stepping and (future := self._threads.submit(tasks.done)) is not None:
            await uncancelled(outcome_of(future))

    async def close(self) -> None:
        """Leave the task in hand not done, and release it and everything that was claimed and not begun."""
        if self._tasks is not None and self._tasks.spans is not None:
            self._tasks.spans.leave()
        future = self._threads.submit(self._close_tasks)
        self._closed = True
        self._end_waiting()
        if (asked := self._asked) is not None:
            asked.fail(_WalkOver())
        self._threads.close()
        if future is not None:
            await uncancelled(outcome_of(future))

    aclose = close

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __iter__(self) -> NoReturn:
        raise JobsyncError("the tasks of an AsyncJob come by `async for task in job.tasks(ids)`")

    # --- in the thread -------------------------------------------------------------------------

    def _step(self) -> None:
        outcome: Future[Task | None] = Future()
        try:
            if self._tasks is None:
                self._tasks = self._owner.open_loop(self._adapted())
                self._tasks.runs_bodies = False
            outcome.set_result(self._next_task(self._tasks))
        except BaseException as error:  # noqa: BLE001 - it belongs to the consumer.
            outcome.set_exception(error)
        self._post(outcome)

    def _next_task(self, tasks: TaskLoop) -> Task | None:
        try:
            return next(tasks, None)
        except _WalkOver:
            tasks.close()
            self._owner.require_running()
            return None

    def _close_tasks(self) -> None:
        if self._tasks is not None:
            self._tasks.close()

    def _ask(self, work: _Pull) -> Any:
        question = self._asked = _Question(work)
        if self._closed:
            raise _WalkOver
        self._post(question)
        try:
            return question.wait()
        finally:
            self._asked = None

    def _post(self, item: "_Question | Future[Task | None]") -> None:
        with suppress(RuntimeError):  # The event loop is closed; nobody waits for this any more.
            self._loop.call_soon_threadsafe(self._inbox.put_nowait, item)

    def _adapted(self) -> Source:
        """Make of the application's ids a source that the thread can walk."""
        source = self._source
        if callable(source):
            give = source
            return lambda: self._pulled(self._ask(lambda: _called(give)))
        return self._pulled(source)

    def _pulled(self, ids: Ids) -> Iterable[TaskId | Task]:
        if isinstance(ids, AsyncIterable) or (isinstance(ids, Iterable) and not isinstance(ids, Collection | Task)):
            return _Pulled(ids, self._ask, self._owner.may_be_mine)
        # One id, or a collection: walking it runs nobody's code, and its tasks can be claimed in batches.
        return ids


async def _called(give: Callable[[], Any]) -> Any:
    ids = give()
    return await ids if isawaitable(ids) else ids


class _Pulled(Iterator[TaskId | Task]):
    """Ids that come from the event loop.

    As many at a time as are certainly not this node's, up to one that may be: a task never waits here for the next id.
    """

    def __init__(self, ids: Ids, ask: Callable[[_Pull], Any], may_be_mine: Callable[[TaskId | Task], bool]) -> None:
        self._ids = ids
        self._walk: AsyncIterator[TaskId | Task] | Iterator[TaskId | Task] | None = None
        self._ask = ask
        self._may_be_mine = may_be_mine
        self._ready: deque[TaskId | Task] = deque()
        self._taken: list[TaskId | Task] = []
        self._at_end = False

    def __next__(self) -> TaskId | Task:
        while not self._ready:
            if self._at_end:
                raise StopIteration
            self._ready.extend(self._ask(self._pull))
        return self._ready.popleft()

    async def _pull(self) -> list[TaskId | Task]:
        # What was taken stays taken when this is cancelled: the next call goes on with it.
        while not self._at_end and len(self._taken) < MOST_PULLED:
            each = await self._pull_one()
            if isinstance(each, _End):
                self._at_end = True
                break
            self._taken.append(each)
            if self._may_be_mine(each):
                break
        taken, self._taken = self._taken, []
        return taken

    async def _pull_one(self) -> TaskId | Task | _End:
        if self._walk is None:
            self._walk = aiter(self._ids) if isinstance(self._ids, AsyncIterable) else iter(self._ids)
        if isinstance(self._walk, AsyncIterator):
            return await anext(self._walk, _End())
        return next(self._walk, _End())
