"""The application's callbacks: one background thread, in order, never two at once, never the thread of the lease.

A listener is one `Job` and its three functions. Its first call waits until the application's `with` body can
use the name bound by `as`: until the body first uses the job, or 50 ms after `__enter__` returned. What a
callback raises is logged and changes nothing else. A hand-over waits for the removed-callback, bounded by the
member, not here.
"""

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

from jobsync.core.log_events import Event, marks
from jobsync.core.messages import NOTHING_TO_OWN, Change
from jobsync.core.tokens import TokenSet
from jobsync.runtime.clock import boot_sec
from jobsync.runtime.listener import Listener, RebalanceEvent, takes_an_argument

SLOW_SEC = 1.0

log = logging.getLogger("jobsync")


def _sum_of(so_far: Change | None, change: Change) -> Change | None:
    """Add a change to the sum of all before it; None before the first assignment."""
    if so_far is None and not is_assignment(change):
        return None
    held = TokenSet() if so_far is None else so_far.added
    now = (held - change.removed) | change.added
    return Change(TokenSet(), now, change.version, "shared node" if now else NOTHING_TO_OWN)


def is_assignment(change: Change) -> bool:
    """Tell whether a change can be the first that a listener hears of; the first assignment may be an empty one."""
    return bool(change.added) or change.reason == NOTHING_TO_OWN


class Callbacks:
    """Calls all listeners' functions, one change after the other. The thread starts with the first listener."""

    def __init__(self, node_name: str) -> None:
        self._node_name = node_name
        self._listeners: list[Listener] = []
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()  # A handler may put into it at any instant.
        self._thread: threading.Thread | None = None
        self._lock = threading.RLock()  # reentrant: a signal handler may leave the job
        self._calling_since_sec: float | None = None
        # The sum of all changes told: what a listener that comes late has missed.
        self._so_far: Change | None = None

    def add(self, listener: Listener) -> None:
        """Add a listener; one that comes after the first assignment is told first of all that is held now."""
        with self._lock:
            self._listeners.append(listener)
            if listener.wants_anything and self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name=f"jobsync-callbacks-{self._node_name}", daemon=True
                )
                self._thread.start()
            missed = self._so_far
            if missed is not None and listener.wants_anything:
                self._put(lambda: self._tell_one(listener, missed))

    def remove(self, listener: Listener) -> None:
        """Call this listener no more; a call under way goes on."""
        with self._lock:
            listener.gone = True
            listener.entered.set()
            listener.body_began.set()
            self._listeners = [other for other in self._listeners if other is not listener]

    def tell(self, change: Change, then: Callable[[], None] | None = None) -> None:
        """Queue a change for all listeners; `then` is called, on this thread or the callbacks', when all returned."""
        with self._lock:
            self._so_far = _sum_of(self._so_far, change)
            idle = self._thread is None
            listeners = tuple(self._listeners)

            def work() -> None:
                try:
                    for listener in listeners:
                        self._tell_one(listener, change)
                finally:
                    if then is not None:
                        then()

            if not idle:
                # Queued under the lock, so that a listener that is added now misses nothing and is told nothing twice.
                self._put(work)
        if idle and then is not None:
            then()

    def stop(self) -> None:
        """End the thread after what is queued; does not wait."""
        self._put(None)

    def stuck_for_sec(self) -> float:
        """Tell for how long the call under way has been running, 0 if there is none."""
        since_sec = self._calling_since_sec
        return 0.0 if since_sec is None else boot_sec() - since_sec

    def _put(self, work: Callable[[], None] | None) -> None:
        self._work.put(work)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()

    def _tell_one(self, listener: Listener, change: Change) -> None:
        if not listener.wants_anything or (not listener.told and not is_assignment(change)):
            return
        listener.wait_for_body()
        first, listener.told = not listener.told, True
        if change.removed and not first:
            self._call(listener, "on_tokens_removed", listener.on_tokens_removed, set(change.removed))
        if change.added:
            self._call(listener, "on_tokens_added", listener.on_tokens_added, set(change.added))
        rebalance = listener.on_rebalance
        if rebalance is not None and takes_an_argument(rebalance):
            event = RebalanceEvent(first, change.version, change.added, change.removed, change.reason)
            self._call(listener, "on_rebalance", rebalance, event)
        else:
            self._call(listener, "on_rebalance", rebalance)

    def _call(self, listener: Listener, what: str, function: Callable[..., object] | None, *args: object) -> None:
        if function is None or listener.gone:
            return
        began_sec = self._calling_since_sec = boot_sec()
        try:
            function(*args)
        except BaseException:  # sys.exit() too: this thread must outlive whatever a callback does.
            log.exception(
                "node %r: %s raised; coordination goes on",
                listener.name,
                what,
                extra=marks(Event.CALLBACK_FAILED, node=listener.name, callback=what),
            )
        finally:
            self._calling_since_sec = None
        took_sec = boot_sec() - began_sec
        if took_sec > SLOW_SEC:
            log.warning(
                "node %r: %s took %.1f s; hand heavy work to another thread, since hand-overs wait for it",
                listener.name,
                what,
                took_sec,
                extra=marks(Event.CALLBACK_SLOW, node=listener.name, callback=what, seconds=took_sec),
            )
