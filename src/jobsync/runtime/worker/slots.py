"""Where handlers run: at most so many at once, on threads of their own or as tasks of one event loop.

Theory of operation. A *permit* is the right to run one job; there are `count` of them, and who has none runs nothing.
Fetched jobs stand in one deque. A thread that has a permit takes one job after the other from it, and so does the event
loop; where the next job is the other's, the permit goes over with it. A permit that finds no job lies in `_permits`
until the hub has fetched more. Nothing here takes a lock: lists and deques are changed by single calls that are whole.
Whoever lays a permit down looks at the deque again afterwards, so no job is left lying by a permit.

What ended is left in `done` (plain, for the hub to tell together) or told to `calls`, and the hub is woken only if it
sleeps.
"""

import asyncio
import logging
import os
import threading
import time
from _thread import LockType, allocate_lock
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from jobsync.core.log_events import Event, marks
from jobsync.runtime.running import RUNNING
from jobsync.runtime.waiting import begin
from jobsync.runtime.worker.running_job import RunningJob

log = logging.getLogger("jobsync")

_BOOT_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
CHILD_STATUS: Final = 70


@dataclass(slots=True)
class Seat:
    """One thread, and the job that it runs."""

    sleep: LockType
    given: RunningJob | None = None
    job: RunningJob | None = None


@dataclass(frozen=True, slots=True)
class Calls:
    """What the slots ask of the worker around them; each returns at once.

    returned, raised  how a handler ended, where that is not plain; they take note of it
    unstartable       a job that could not begin, for want of a thread
    is_certain        whether a job may begin: its lease is believed in
    wake              wake the hub, which sleeps
    """

    returned: Callable[[RunningJob, object], None]
    raised: Callable[[RunningJob, BaseException], None]
    unstartable: Callable[[RunningJob, Exception], None]
    is_certain: Callable[[RunningJob, float], bool]
    wake: Callable[[], None]


class Slots:
    """The permits, the threads and the loop of one worker."""

    def __init__(self, count: int, name: str, calls: Calls) -> None:
        self.fetched: deque[RunningJob] = deque()
        self.done: list[RunningJob] = []
        self.hub_sleeps = False
        self.reserve = 0  # How many permits the hub would like to have laid down although jobs are fetched.
        self._name = name
        self._calls = calls
        self._permits: list[None] = [None] * count
        self._seats: list[Seat] = []
        self._free_seats: list[Seat] = []
        self._tasks: dict[RunningJob, asyncio.Task[None] | None] = {}  # None: on its way to the loop.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_begins = threading.Lock()
        self._closed = False
        self._pid = os.getpid()

    # --- for the hub -----------------------------------------------------------------------------

    @property
    def free(self) -> int:
        """How many permits lie idle."""
        return len(self._permits)

    def running(self) -> list[RunningJob]:
        """Give the jobs whose handlers run at this moment, or are about to.

        One that is between the deque and its seat is not among them, for an instant: its permit does not lie idle.
        """
        # First what is given: it is on its seat before it is given no more.
        sitting = [job for seat in tuple(self._seats) for job in (seat.given, seat.job) if job is not None]
        return list(dict.fromkeys([*sitting, *self._tasks]))

    def take_permits(self, most: int) -> int:
        """Take up to so many idle permits for jobs that are to begin at once; the count."""
        taken = 0
        with suppress(IndexError):
            while taken < most:
                self._permits.pop()
                taken += 1
        return taken

    def put_permits(self, count: int) -> None:
        """Lay permits down."""
        self._permits.extend([None] * count)

    def start(self, job: RunningJob) -> None:
        """Begin a job; its permit is the caller's, and goes with it."""
        try:
            if job._lane.handler.is_async:  # noqa: SLF001 - the job and its slots are one piece
                self._start_task(job)
            else:
                self._start_seat(job)
        except (RuntimeError, MemoryError, OSError) as error:  # The system gives no thread, or no loop.
            self._tasks.pop(job, None)
            self._calls.unstartable(job, error)
            self._permits.append(None)

    def _start_task(self, job: RunningJob) -> None:
        loop = self._running_loop()
        self._tasks[job] = None
        loop.call_soon_threadsafe(self._begin_task, job, loop)

    def _start_seat(self, job: RunningJob) -> None:
        try:
            seat = self._free_seats.pop()
        except IndexError:
            seat = self._new_seat()
        seat.given = job
        seat.sleep.release()

    def dispatch(self) -> None:
        """Begin fetched jobs while permits lie idle."""
        while self.fetched and not self._closed:
            try:
                self._permits.pop()
            except IndexError:
                return
            job = self._next()
            if job is None:
                self._permits.append(None)
                if self.reserve or not self._may_begin():
                    return
                continue
            self.start(job)

    def _may_begin(self) -> bool:
        """Whether the first of the fetched may begin; what is not certain waits for the hub to find out."""
        try:
            return self._calls.is_certain(self.fetched[0], time.clock_gettime(_BOOT_CLOCK))
        except IndexError:
            return True

    def take_back(self, count: int) -> list[RunningJob]:
        """Take the last so many of the fetched jobs out again."""
        back: list[RunningJob] = []
        with suppress(IndexError):
            while len(back) < count:
                back.append(self.fetched.pop())
        return back

    def drop_lost(self) -> list[RunningJob]:
        """Take out the fetched jobs whose leases are lost."""
        jobs = self.take_back(len(self.fetched))[::-1]
        self.fetched.extendleft(job for job in reversed(jobs) if not job._lease.is_lost)  # noqa: SLF001
        return [job for job in jobs if job._lease.is_lost]  # noqa: SLF001

    def cancel(self, job: RunningJob) -> None:
        """Cancel the task of a job whose attempt is over; a thread's handler can only look at `job.lost`."""
        loop = self._loop
        if job in self._tasks and loop is not None:
            with suppress(RuntimeError):  # The loop is closed.
                loop.call_soon_threadsafe(self._cancel_task, job)

    def _cancel_task(self, job: RunningJob) -> None:
        task = self._tasks.get(job)
        if task is not None:
            task.cancel()

    def close(self) -> None:
        """Begin nothing more; the threads that run nothing end, the others when they are done."""
        self._closed = True
        while self._free_seats:
            self._free_seats.pop().sleep.release()
        loop = self._loop
        if loop is not None and not self._tasks:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(loop.stop)

    def disown(self) -> None:
        """In a forked child: begin nothing more; whoever comes out of a handler here ends the process."""
        self._closed = True

    # --- threads ---------------------------------------------------------------------------------

    def _new_seat(self) -> Seat:
        seat = Seat(allocate_lock())
        seat.sleep.acquire()
        name = f"jobsync-slot-{self._name}-{len(self._seats) + 1}"
        begin(threading.Thread(target=self._sit, args=(seat,), name=name, daemon=True))
        self._seats.append(seat)  # Before it is given anything.
        return seat

    def _sit(self, seat: Seat) -> None:
        while True:
            seat.sleep.acquire()
            job = seat.job = seat.given
            seat.given = None
            if job is None:
                return
            while job is not None:
                self._work(seat, job)
                job = self._next()
                if job is not None and job._lane.handler.is_async:  # noqa: SLF001
                    self._free_seats.append(seat)
                    self.start(job)
                    break
            else:
                self._free_seats.append(seat)
                self._lay_down()
            if self._closed:
                self._leave_child()
                return

    def _work(self, seat: Seat, job: RunningJob) -> None:
        """Run jobs one after the other until something out of the ordinary comes: the path on which speed depends."""
        fetched, done, calls = self.fetched, self.done, self._calls
        take, tell, is_certain = fetched.popleft, done.append, calls.is_certain
        clock, boot = time.clock_gettime, _BOOT_CLOCK
        remember = RUNNING.set
        while True:
            seat.job = job
            remember(job)  # type: ignore[arg-type]
            try:
                result = job._lane.handler.function(job)  # noqa: SLF001
            except BaseException as error:  # noqa: BLE001 - whatever a handler does, the worker goes on
                self._leave_child()
                calls.raised(job, error)
            else:
                if result is None and job.is_plain:
                    tell(job)
                else:
                    self._leave_child()
                    calls.returned(job, result)
            seat.job = None
            if self.hub_sleeps:
                calls.wake()
            if self.reserve or self._closed:
                return
            try:
                job = take()
            except IndexError:
                return
            if job._lane.handler.is_async or not is_certain(job, clock(boot)):  # noqa: SLF001
                fetched.appendleft(job)
                return

    def _next(self) -> RunningJob | None:
        """Take the next job that may begin, for a permit that the caller has."""
        if self.reserve or self._closed:
            return None
        try:
            job = self.fetched.popleft()
        except IndexError:
            return None
        if not self._calls.is_certain(job, time.clock_gettime(_BOOT_CLOCK)):
            self.fetched.appendleft(job)
            return None
        return job

    def _lay_down(self) -> None:
        """Lay a permit down, and see that no job came meanwhile."""
        self._permits.append(None)
        if self.fetched and not self.reserve:
            self.dispatch()
        if self.hub_sleeps:
            self._calls.wake()

    def _leave_child(self) -> None:
        """End the child that a handler forked and that came out of the handler: everything here is its parent's."""
        if os.getpid() != self._pid:
            os._exit(CHILD_STATUS)

    # --- the event loop --------------------------------------------------------------------------

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._loop_begins:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                name = f"jobsync-loop-{self._name}"
                try:
                    begin(threading.Thread(target=self._run_loop, args=(loop,), name=name, daemon=True))
                except BaseException:
                    loop.close()
                    raise
                self._loop = loop
            return self._loop

    def _run_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            while True:
                self._run_until_stopped(loop)
                if self._closed and not self._tasks:
                    break
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    def _run_until_stopped(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run the loop until something stops it: this room at the end, or a handler, which has no business to."""
        try:
            loop.run_forever()
        except BaseException as error:  # A task that a handler began raised SystemExit or the like.
            self._leave_child()
            log.exception(
                "worker %r: %s came out of a task in its event loop, which goes on",
                self._name,
                type(error).__name__,
                extra=marks(Event.WORKER_LOOP_ERROR, worker=self._name),
            )
            return
        self._leave_child()
        if not self._closed:
            log.error(
                "worker %r: a handler stopped the event loop of all async handlers; it goes on",
                self._name,
                extra=marks(Event.WORKER_LOOP_STOPPED, worker=self._name),
            )

    def _begin_task(self, job: RunningJob, loop: asyncio.AbstractEventLoop) -> None:
        task = loop.create_task(self._await(job))
        self._tasks[job] = task

    async def _await(self, job: RunningJob) -> None:
        RUNNING.set(job)  # type: ignore[arg-type]
        try:
            result: Any = await job._lane.handler.function(job)  # noqa: SLF001
        except BaseException as error:  # noqa: BLE001 - SystemExit as well: it would end the loop of all the others
            self._leave_child()
            self._calls.raised(job, error)
        else:
            self._leave_child()
            if result is None and job.is_plain:
                self.done.append(job)
            else:
                self._calls.returned(job, result)
        finally:
            self._tasks.pop(job, None)
        if self.hub_sleeps:
            self._calls.wake()
        following = self._next()
        if following is None:
            self._lay_down()
        else:
            self.start(following)
        if self._closed and not self._tasks and self._loop is not None:
            self._loop.stop()
