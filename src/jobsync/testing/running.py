"""Running what waits, here and now.

`run_pending` does what a worker would do with an error: it writes it down, and the job is tried again or has failed.
`run_pending_or_raise` does so too, and then raises it where the test stands. Handlers that are async are run by a loop
of their own, or, in the `_async` forms, by the caller's.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

from jobsync.api.checks import is_async
from jobsync.api.job_queue import JobQueue
from jobsync.api.processing_worker import ProcessingWorker
from jobsync.core.errors import InvalidArgument, NotRunning
from jobsync.core.queue.new_job import checked_text
from jobsync.core.queue.policy import RetryPolicy
from jobsync.core.queue.running import RunningAttempt
from jobsync.runtime.running import RUNNING
from jobsync.runtime.worker.hub import Hub
from jobsync.runtime.worker.inline import LEASE_MS, InlineRunner
from jobsync.runtime.worker.kinds import Handler, Knowledge
from jobsync.runtime.worker.running_job import RunningJob
from jobsync.runtime.worker.terms import Terms
from jobsync.testing.clock import TestClock

MOST_JOBS: Final = 10_000
WORKER_ID: Final = "jobsync-testing"

Handlers = ProcessingWorker | Mapping[str, Callable[[Any], Any]]


@dataclass(frozen=True, slots=True)
class Ran:
    """One attempt that ran: of which job, how it ended, and what its handler returned or raised.

    `status` is what the attempt ended as: done, retry, failed, cancelled; None where the handler ended it itself, or
    the job was cancelled meanwhile.
    """

    id: int
    kind: str
    payload: Any
    attempts: int
    status: str | None
    result: Any = None
    error: BaseException | None = None


def run_pending(handlers: Handlers, queue: JobQueue, *, clock: TestClock | None = None) -> list[Ran]:
    """Run what waits, in order, until nothing more may run; give what ran.

    `handlers` is a ProcessingWorker that was not started, or functions by kind. With a `clock`, its time decides what
    is due, periodic jobs included; without one, the database's. What handlers enqueue runs as well.

    An error of a handler is written down as a worker does it, and is in the `Ran`.
    """
    with _open(handlers, queue, clock) as bench:
        return list(bench.run_all())


def run_pending_or_raise(handlers: Handlers, queue: JobQueue, *, clock: TestClock | None = None) -> list[Ran]:
    """Do as `run_pending`, but raise the first error of a handler, after it was written down."""
    with _open(handlers, queue, clock) as bench:
        return [_or_raise(ran) for ran in bench.run_all()]


def run_next(handlers: Handlers, queue: JobQueue, *, clock: TestClock | None = None) -> Ran | None:
    """Run one job, the one that a worker would run next; None where nothing may run."""
    with _open(handlers, queue, clock) as bench:
        return next(bench.run_all(), None)


async def run_pending_async(handlers: Handlers, queue: JobQueue, *, clock: TestClock | None = None) -> list[Ran]:
    """Do as `run_pending`, with async handlers on the loop that runs this. The database is waited for on it."""
    with _open(handlers, queue, clock) as bench:
        return [ran async for ran in bench.run_all_async()]


async def run_pending_or_raise_async(
    handlers: Handlers, queue: JobQueue, *, clock: TestClock | None = None
) -> list[Ran]:
    """Do as `run_pending_or_raise`, with async handlers on the loop that runs this."""
    with _open(handlers, queue, clock) as bench:
        return [_or_raise(ran) async for ran in bench.run_all_async()]


def _or_raise(ran: Ran) -> Ran:
    if ran.error is not None:
        raise ran.error
    return ran


@dataclass(slots=True)
class _Attempt:
    """What a handler did with a job."""

    job: RunningJob
    result: Any = None
    error: BaseException | None = None


class _Bench:
    """A runner, and the time that it runs by."""

    def __init__(self, runner: InlineRunner, clock: TestClock | None) -> None:
        self._runner = runner
        self._clock = clock

    def run_all(self) -> Iterator[Ran]:
        """Run one job after the other."""
        for job in self._jobs():
            with self._in_hand(job) as attempt:
                handler = job._lane.handler  # noqa: SLF001 - of the same package
                attempt.result = _run_to_end(handler.function(job)) if handler.is_async else handler.function(job)
            yield self._end(attempt)

    async def run_all_async(self) -> AsyncIterator[Ran]:
        """Do the same on a running loop."""
        for job in self._jobs():
            with self._in_hand(job) as attempt:
                handler = job._lane.handler  # noqa: SLF001 - of the same package
                attempt.result = await handler.function(job) if handler.is_async else handler.function(job)
            yield self._end(attempt)

    def _jobs(self) -> Iterator[RunningJob]:
        if self._clock is not None:
            self._runner.fire_due(self._clock.now())
        for _ in range(MOST_JOBS):
            job = self._runner.take(self._now())
            if job is None:
                return
            yield job
        raise AssertionError(f"the queue is not idle after {MOST_JOBS:,} jobs: does a handler enqueue its job again?")

    def _now(self) -> datetime | None:
        return None if self._clock is None else self._clock.now()

    @contextmanager
    def _in_hand(self, job: RunningJob) -> Iterator[_Attempt]:
        attempt = _Attempt(job)
        before = RUNNING.set(cast("RunningAttempt", job))
        try:
            yield attempt
        except (Exception, SystemExit, GeneratorExit, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and _is_being_cancelled():
                self._runner.give_back(job)
                raise
            attempt.error = error
        except BaseException:  # Not the handler's: somebody ends the test, or pytest does.
            self._runner.give_back(job)
            raise
        finally:
            RUNNING.reset(before)

    def _end(self, attempt: _Attempt) -> Ran:
        job, error = attempt.job, attempt.error
        ending = (
            self._runner.after_return(job, attempt.result) if error is None else self._runner.after_error(job, error)
        )
        taken = self._runner.end(job, ending, self._now())
        return Ran(
            id=job.id,
            kind=job.kind,
            payload=job.payload,
            attempts=job.attempts,
            status=ending.outcome if taken else None,
            result=attempt.result,
            error=error,
        )


def _is_being_cancelled() -> bool:
    """Whether the task that runs this is asked to end, rather than that a handler raised by itself."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return False
    return task is not None and task.cancelling() > 0


def _run_to_end(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    work.close()
    raise _LoopRunsError


class _LoopRunsError(BaseException):
    """An async handler cannot be run to its end where a loop runs already."""


@contextmanager
def _open(handlers: Handlers, queue: JobQueue, clock: TestClock | None) -> Iterator[_Bench]:
    settings = queue._desk._settings  # noqa: SLF001 - of the same package
    terms = Terms(
        worker_id=WORKER_ID,
        knowledge=_knowledge(handlers),
        slots=1,
        lease_ms=LEASE_MS,
        extend_after=0.5,
        poll_sec=60.0,
        stop_sec=0.0,
        max_crashes=3,
        owns_tokens=False,
        keep_days=None,
    )
    with ExitStack() as stack:
        runner = InlineRunner(settings, terms)
        stack.callback(runner.close)
        if isinstance(handlers, ProcessingWorker):
            stack.enter_context(_standing_in(handlers, runner))
        try:
            yield _Bench(runner, clock)
        except _LoopRunsError:
            raise NotRunning(
                "an async handler is to run, and an event loop runs here already: await run_pending_async(...)"
            ) from None


def _knowledge(handlers: Handlers) -> Knowledge:
    if isinstance(handlers, ProcessingWorker):
        if handlers._hub is not None:  # noqa: SLF001
            raise NotRunning(
                f"worker {handlers.worker_id!r} was started: its jobs run by themselves; give one that was not"
            )
        return handlers._knowledge()  # noqa: SLF001
    if not isinstance(handlers, Mapping) or not handlers:
        raise InvalidArgument(f"handlers={handlers!r:.80} is refused: give a ProcessingWorker, or functions by kind")
    by_kind = {
        checked_text("kind", kind): Handler(function, is_async(function), RetryPolicy())
        for kind, function in handlers.items()
    }
    return Knowledge((), by_kind, None)


@contextmanager
def _standing_in(worker: ProcessingWorker, runner: InlineRunner) -> Iterator[None]:
    """Let the worker's own methods (`transaction`, `update_progress`, `release_lease`) work inside its handlers."""
    worker._hub, worker._desk, worker._pid = cast("Hub", runner), runner.desk, os.getpid()  # noqa: SLF001
    try:
        yield
    finally:
        worker._hub = worker._desk = None  # noqa: SLF001
