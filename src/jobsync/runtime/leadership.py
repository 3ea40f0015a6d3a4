"""Leading as an application sees it: work that runs in one process of the fleet, and is told when that is over.

Theory of operation. The right to lead is a grant like any other (`jobsync.core.pool`), so this room adds no protocol. A
`Lead` is one time of leading, under one fence: it is held while that fence stands in the node's holding and the
leases behind it are certain at the instant of the question. Once it was found lost it stays lost, even where the same
grant is found again a moment later, so that nobody who was told to end is told that he need not.

Waiting is done in the waiter's own thread: woken by whatever the engine publishes, and by the end of the lease. Only
the request to stop, which no publication tells of, is looked for every `LOOK_SEC`. While a body runs, one more thread
watches, so that a loss is said in the log at once, and so that a body that goes on beyond it is said too.

Not promised: that a body which was told to end does end. Effects that must not happen twice carry `Lead.epoch`, or go
through `job.transaction()`.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from jobsync.core.errors import JobStopped, LeaderTimeout
from jobsync.core.holding import Fence, Holding
from jobsync.core.log_events import Event, marks
from jobsync.core.messages import Standing
from jobsync.core.pool import LEADERSHIP
from jobsync.core.retry import Retry
from jobsync.runtime.clock import boot_sec, now
from jobsync.runtime.hands import InHand
from jobsync.runtime.waiting import Flag

LOOK_SEC = 0.1
OVERRUN_SEC = 1.0
RETRY_FIRST_SEC = 0.5
RETRY_MOST_SEC = 60.0

log = logging.getLogger("jobsync")


class Publisher(Protocol):
    """An engine, or what stands in for one."""

    standing: Standing

    def wait_until(self, condition: Callable[[Standing], bool], timeout_sec: float | None) -> bool:
        """Wait until the standing fulfils a condition."""


class LeadingNode(Protocol):
    """What leading needs of a node."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def hands(self) -> InHand:
        """The bodies in progress."""

    @property
    def engine(self) -> Publisher:
        """What publishes the standing."""

    def require_running(self) -> None:
        """Raise the reason when the node has ended by itself."""


def _fence_now(holding: Holding) -> Fence | None:
    return holding.leads_under if holding.certain_at(now()) else None


class Loss:
    """Set once leadership is lost. Asked like a `threading.Event`; the answer is evaluated at the instant of asking."""

    __slots__ = ("_lead",)

    def __init__(self, lead: "Lead") -> None:
        self._lead = lead

    def is_set(self) -> bool:
        """Whether leadership is lost."""
        return not self._lead.held

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until leadership is lost, at most `timeout` seconds; True if it is."""
        return self._lead.wait_for(self.is_set, timeout)


class Lead:
    """One time of leading: what the body of `job.leader()` and a singleton are given. Safe from any thread.

    `epoch` is the fencing number: every later leader's is higher, so a store that keeps the highest number it has seen
    and refuses lower ones is safe from a process that was paused while it lost the lead.
    """

    __slots__ = ("_fence", "_is_lost", "_left", "_node", "_once", "_stop", "lost")

    def __init__(self, node: LeadingNode, fence: Fence, stop: Flag) -> None:
        self.lost = Loss(self)
        self._node = node
        self._fence = fence
        self._stop = stop
        self._is_lost = False
        self._left = Flag()
        self._once = [None]

    @property
    def epoch(self) -> int:
        """The fencing number of this leadership; it only grows from leader to leader."""
        return self._fence.epoch

    @property
    def held(self) -> bool:
        """Whether this process leads at this instant, by its own clocks; False for good once it was lost."""
        if not self._is_lost and _fence_now(self._node.engine.standing.holding) != self._fence:
            self._is_lost = True
        return not self._is_lost

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until leadership is lost or the job was stopped, at most `timeout` seconds; True if either is so.

        The pause of a body that works in rounds: `while not lead.wait(10): ...`.
        """
        return self.wait_for(lambda: not self.held or self._stop.is_set(), timeout)

    def wait_for(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until a condition holds that can change with the lead's standing; True if it does."""
        until_sec = float("inf") if timeout is None else boot_sec() + timeout
        while not condition():
            left_sec = until_sec - boot_sec()
            if left_sec <= 0:
                return False
            pause(self._node.engine, self._stop, left_sec)
        return True

    # --- the body ------------------------------------------------------------------------------

    def watch(self) -> None:
        """Say in the log when the lead is lost while the body runs."""
        threading.Thread(target=self._watch, name=f"jobsync-lead-{self._node.name}", daemon=True).start()

    def _watch(self) -> None:
        self.wait_for(lambda: self._left.is_set() or not self.held, None)
        if self._left.is_set():
            return
        log.warning(
            "node %r: leadership (epoch %d) is lost; what leads here is told to end: another process may lead now",
            self._node.name,
            self.epoch,
            extra=marks(Event.LEAD_LOST, node=self._node.name, epoch=self.epoch),
        )
        if not self._left.wait(OVERRUN_SEC):
            log.warning(
                "node %r: what led under epoch %d goes on although leadership was lost %g s ago: "
                "let it look at lead.held or wait with lead.wait()",
                self._node.name,
                self.epoch,
                OVERRUN_SEC,
                extra=marks(Event.LEAD_OVERRUN, node=self._node.name, epoch=self.epoch),
            )

    def let_go(self) -> None:
        """The body is over, or is waited for no more: a hand-over need not wait for it. Once is enough."""
        with suppress(IndexError):
            # Whoever takes it puts back, a handler in the middle of this very call included.
            self._once.pop()
            self._left.set()
            self._node.hands.put_back(LEADERSHIP)


def pause(engine: Publisher, stop: Flag, limit_sec: float) -> None:
    """Wait until the engine says something new or the lease ends, at most `limit_sec`; the stop is looked for often."""
    standing = engine.standing
    left_sec = standing.holding.boot_until_sec - boot_sec()
    slice_sec = min(LOOK_SEC, limit_sec, left_sec if left_sec > 0 else LOOK_SEC)
    if left_sec == float("inf"):
        stop.wait(slice_sec)  # Stand-alone: nothing ever changes but the wish to stop.
    else:
        engine.wait_until(lambda latest: latest is not standing, slice_sec)


def gain(node: LeadingNode, stop: Flag, timeout: float | None) -> Lead:
    """Wait until this node leads; give the lead, in hand.

    Raises LeaderTimeout after `timeout` seconds, JobStopped when the job is stopped first, or what ended the node.
    """
    until_sec = float("inf") if timeout is None else boot_sec() + timeout
    while True:
        node.require_running()
        if stop.is_set():
            raise JobStopped(f"node {node.name!r} was stopped before it led: nothing was begun")
        if _fence_now(node.engine.standing.holding) is not None:
            # In hand first, then the question: a hand-over that begins in between waits for this body.
            node.hands.take(LEADERSHIP)
            fence = _fence_now(node.engine.standing.holding)
            if fence is not None:
                return Lead(node, fence, stop)
            node.hands.put_back(LEADERSHIP)
        left_sec = until_sec - boot_sec()
        if left_sec <= 0:
            raise LeaderTimeout(
                f"node {node.name!r} did not become the leader within {timeout:g} s: "
                f"{node.engine.standing.leader!r} leads; wait longer, or leave the work to it"
            )
        pause(node.engine, stop, left_sec)


@contextmanager
def leading(node: LeadingNode, stop: Flag, timeout: float | None) -> Iterator[Lead]:
    """Lead for as long as the block runs; see `gain`. Leaving the block does not give leadership up."""
    lead = gain(node, stop, timeout)
    lead.watch()
    try:
        yield lead
    finally:
        lead.let_go()


class Singleton:
    """One function that runs in a thread of whichever process leads.

    `every_sec` None: once each time that the node becomes the leader. A number: again and again, that many seconds from
    start to start; a run that takes longer is followed at once by the next. What raises is tried again after growing
    waits.
    """

    def __init__(self, call: Callable[[Lead], object], name: str, every_sec: float | None) -> None:
        self.name = name
        self._call = call
        self._every_sec = every_sec
        self._thread: threading.Thread | None = None
        self._lead: Lead | None = None

    def start(self, node: LeadingNode, stop: Flag) -> None:
        """Run in a thread from now until the job is stopped."""
        title = f"jobsync-singleton-{self.name}"
        self._thread = threading.Thread(target=self._run, args=(node, stop), name=title, daemon=True)
        self._thread.start()

    def finish(self, until_sec: float) -> None:
        """Wait for the function to end, after the stop; from a boot-clock reading on, nobody waits for it any more.

        A thread that waits to lead is left to itself: it ends with its next look.
        """
        thread, lead = self._thread, self._lead
        if thread is None or lead is None:
            return
        if thread is threading.current_thread():
            lead.let_go()  # It ends its own job: nobody can wait for it.
            return
        thread.join(max(0.0, until_sec - boot_sec()))
        if thread.is_alive():
            log.warning(
                "singleton %r goes on although its job ends: let it look at lead.wait()",
                self.name,
                extra=marks(Event.SINGLETON_OVERRUN, singleton=self.name),
            )
            lead.let_go()

    def _run(self, node: LeadingNode, stop: Flag) -> None:
        retry = Retry(f"{node.name} {self.name}", RETRY_FIRST_SEC, RETRY_MOST_SEC)
        try:
            while True:
                with leading(node, stop, None) as lead:
                    self._lead = lead
                    if stop.is_set():  # Whoever stopped the job before he could see the lead does not wait for it.
                        return
                    began_sec = boot_sec()
                    well = self._run_once(lead)
                    self._lead = None
                if not well:
                    retry.failed(boot_sec())
                    stop.wait(max(0.0, retry.not_before_sec - boot_sec()))
                elif self._every_sec is not None:
                    retry.succeeded()
                    stop.wait(max(0.0, began_sec + self._every_sec - boot_sec()))
                else:
                    retry.succeeded()
                    lead.wait()
        except JobStopped:
            log.debug(
                "singleton %r ends with its job", self.name, extra=marks(Event.SINGLETON_ENDED, singleton=self.name)
            )
        except Exception:
            log.exception(
                "singleton %r ends, since its node did",
                self.name,
                extra=marks(Event.SINGLETON_NODE_ENDED, singleton=self.name),
            )

    def _run_once(self, lead: Lead) -> bool:
        try:
            self._call(lead)
        except BaseException:  # sys.exit() too: it would end this thread, and nobody would hear of it.
            log.exception(
                "singleton %r raised under epoch %d; it is tried again",
                self.name,
                lead.epoch,
                extra=marks(Event.SINGLETON_FAILED, singleton=self.name, epoch=lead.epoch),
            )
            return False
        return True
