"""Leading from an event loop: `async with job.leader() as lead`, and singletons that are coroutine functions."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any, TypeVar, overload

from jobsync.api.async_membership import AsyncMembership
from jobsync.api.async_mirror import described_by
from jobsync.api.async_threads import Threads, outcome_of
from jobsync.api.checks import is_async
from jobsync.api.job import Job
from jobsync.runtime.leadership import Lead, Loss
from jobsync.runtime.listener import takes_an_argument
from jobsync.runtime.waiting import Flag

R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


@described_by(Loss)
class AsyncLoss:
    """Here `wait` is awaited."""

    __slots__ = ("_lead",)

    def __init__(self, lead: "AsyncLead") -> None:
        self._lead = lead

    @described_by(Loss.is_set)
    def is_set(self) -> bool:
        """Answered at once."""
        return not self._lead.held

    @described_by(Loss.wait)
    async def wait(self, timeout: float | None = None) -> bool:
        """Blocks this coroutine alone."""
        return await self._lead.wait_for(self.is_set, timeout)


@described_by(Lead)
class AsyncLead:
    """Here `wait` is awaited."""

    __slots__ = ("_lead", "lost")

    def __init__(self, lead: Lead) -> None:
        self._lead = lead
        self.lost = AsyncLoss(self)

    @property
    @described_by(Lead.epoch)
    def epoch(self) -> int:
        """Known at once."""
        return self._lead.epoch

    @property
    @described_by(Lead.held)
    def held(self) -> bool:
        """Answered at once."""
        return self._lead.held

    @described_by(Lead.wait)
    async def wait(self, timeout: float | None = None) -> bool:
        """Blocks this coroutine alone: `while not await lead.wait(10): ...`."""
        return await self.wait_for(lambda: self._lead.wait(0), timeout)

    async def wait_for(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until a condition holds that can change with the lead's standing; True if it does."""
        return await _unless_cancelled(
            lambda given_up: self._lead.wait_for(lambda: given_up.is_set() or condition(), timeout)
        )


class AsyncLeaderMethods(AsyncMembership):
    """Leading: one process of the fleet at a time, under the same leases as tokens."""

    @described_by(Job.leader)
    @asynccontextmanager
    async def leader(self, timeout: float | None = None) -> AsyncIterator[AsyncLead]:
        """Here it is `async with job.leader() as lead:`, and the lead's waits are awaited.

        Waiting that is cancelled takes no lead.
        """
        self._require_loop()
        job = self._job
        job.leader(timeout)  # It refuses what it would refuse; nothing is waited for before it is entered.
        stop = Flag()
        job.stop_event.on_set(stop.set)
        try:
            lead = await _gained(lambda: job.gain_lead(stop, timeout), give_up=stop.set)
            lead.watch()
            try:
                yield AsyncLead(lead)
            finally:
                lead.let_go()
        finally:
            job.stop_event.forget(stop.set)

    @overload
    def singleton(self, function: F, /) -> F: ...
    @overload
    def singleton(self, function: None = None, /, *, every: float | None = None) -> Callable[[F], F]: ...
    @described_by(Job.singleton)
    def singleton(self, function: Any = None, /, *, every: float | None = None) -> Any:
        """A coroutine function runs on the event loop, and is given an `AsyncLead`; a plain one in the thread."""

        def enlist(given: F) -> F:
            self._job.singleton(every=every)(self._on_loop(given) if is_async(given) else given)
            return given

        self._job.singleton(every=every)  # It refuses what is wrong with the interval, or with an observer.
        return enlist if function is None else enlist(function)

    def _on_loop(self, function: Callable[..., Any]) -> Callable[..., object]:
        """Make of a coroutine function one that a singleton's thread can call."""
        on_loop = self._bridge.callback(function)
        if not takes_an_argument(function):
            return on_loop

        @wraps(function)
        def led(lead: Lead) -> object:
            return on_loop(AsyncLead(lead))

        return led


async def _gained(gain: Callable[[], Lead], *, give_up: Callable[[], None]) -> Lead:
    """Await the lead; a waiter who is cancelled gives up, and lets a lead go that came in the same instant."""
    threads = Threads("jobsync-gain", 1)
    gaining = threads.submit(gain)
    threads.close()
    assert gaining is not None
    try:
        return await outcome_of(gaining, late_error_level=logging.DEBUG)
    except asyncio.CancelledError:
        give_up()
        gaining.add_done_callback(lambda gained: gained.result().let_go() if gained.exception() is None else None)
        raise


async def _unless_cancelled(wait: Callable[[Flag], R]) -> R:
    """Wait in a thread of its own, which ends with a waiter who is cancelled."""
    given_up = Flag()
    threads = Threads("jobsync-lead-wait", 1)
    waiting = threads.submit(lambda: wait(given_up))
    threads.close()
    assert waiting is not None
    try:
        return await outcome_of(waiting)
    finally:
        given_up.set()
