"""The part of `Job` for work that runs in exactly one process of the fleet."""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, Self, TypeVar, cast, overload

from jobsync import runtime
from jobsync.api.checks import checked_seconds
from jobsync.api.membership import AnyNode, Membership
from jobsync.core.errors import CoordinationDisabled, InvalidArgument
from jobsync.runtime.clock import boot_sec
from jobsync.runtime.listener import takes_an_argument

F = TypeVar("F", bound=Callable[..., Any])


class LeaderMethods(Membership):
    """Leading: one process of the fleet at a time, under the same leases as tokens."""

    def leader(self, timeout: float | None = None) -> "AbstractContextManager[runtime.Lead]":
        """Wait until this node leads the fleet, then run the body: `with job.leader() as lead:`.

        At most one process leads at any instant, by a grant under the same leases as tokens: the oldest live node. The
        body is given a `Lead`: `held` (does it lead at this instant), `lost` (like an Event: `is_set`, `wait`), `epoch`
        (the fencing number), `wait(seconds)` (until lost or stopped). Leadership may be lost under a body: it is
        told by these and in the log, and has to end by itself; a graceful hand-over waits for it, at most
        `handover_timeout_sec`. Leaving the body does not give leadership up. Threads of one process lead together.

        Raises LeaderTimeout (a TimeoutError) after `timeout` seconds, JobStopped when the job is stopped meanwhile,
        NotRunning outside the job, CoordinationDisabled for an observer. Stand-alone, the job always leads.
        """
        wait_sec = checked_seconds("timeout", timeout)
        self._refuse_observers()
        return runtime.leading(_who_may_lead(self._running()), self._stop, wait_sec)

    @overload
    def singleton(self, function: F, /) -> F: ...
    @overload
    def singleton(self, function: None = None, /, *, every: float | None = None) -> Callable[[F], F]: ...
    def singleton(self, function: Any = None, /, *, every: float | None = None) -> Any:
        """Run a function in exactly one process of the fleet, in a background thread.

        From entering the job to leaving it, `@job.singleton` runs it once each time that this node becomes the leader;
        `@job.singleton(every=seconds)` again and again while it leads, that many seconds from start to start. A
        function that requires an argument is given the `Lead`, and is to end when that is lost or the job stops
        (`lead.wait`). What it raises is logged, and it is tried again after growing waits. It may be declared before
        the job is entered, as at import, and later. Every process of the fleet declares it, since any of them may come
        to lead. The function itself is returned unchanged.

        Raises InvalidArgument for what is no plain function or no interval, CoordinationDisabled for an observer.
        """
        every_sec = checked_seconds("every", every)
        if every_sec == 0:
            raise InvalidArgument("every=0 is refused: give more than 0 seconds, or leave it out to run once")
        self._refuse_observers()

        def enlist(given: F) -> F:
            singleton = runtime.Singleton(_caller(given), getattr(given, "__qualname__", repr(given)), every_sec)
            with self._lock:
                self._singletons.append(singleton)
                if self._leads_with is not None:
                    singleton.start(self._leads_with, self._stop)
            return given

        return enlist if function is None else enlist(function)

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            with self._lock:
                if self._node is not None and not self._is_observer:
                    node = self._leads_with = _who_may_lead(self._node)
                    for singleton in self._singletons:
                        singleton.start(node, self._stop)
        except BaseException:  # No thread could be started: a job that was not entered is not exited by `with`.
            self._exit()
            raise
        return self

    def _leave(self, node: AnyNode) -> None:
        """Let the singletons end first, as long as a hand-over may take: they may want to write something yet."""
        self._leads_with = None
        until_sec = boot_sec() + node.settings.handover_sec
        try:
            for singleton in self._singletons:
                singleton.finish(until_sec)
        finally:
            # Whoever loses patience here, by Ctrl-C, must not leave a node behind that nothing can end any more.
            super()._leave(node)

    @cached_property
    def _singletons(self) -> "list[runtime.Singleton]":
        return []

    _leads_with: "runtime.LeadingNode | None" = None  # Set while singletons run.

    def _refuse_observers(self) -> None:
        if self._is_observer:
            raise CoordinationDisabled(
                f"job {self._name!r} only observes: it never leads; enter one without observer=True"
            )


def _who_may_lead(node: AnyNode) -> "runtime.LeadingNode":
    """Give the node of a job that does not only observe; asking its class would load what only observers need."""
    return cast("runtime.LeadingNode", node)


def _caller(function: Any) -> "Callable[[runtime.Lead], object]":
    """Give the function as one that takes the lead, whether it wants it or not."""
    if not callable(function):
        raise InvalidArgument(
            f"singleton({function!r}) is refused: decorate a function; the interval goes by name, as in every=60"
        )
    if inspect.iscoroutinefunction(function):
        raise InvalidArgument(f"singleton({function!r}) is refused: it is async; give a plain function")
    if takes_an_argument(function):
        return function  # type: ignore[no-any-return]
    return lambda _: function()
