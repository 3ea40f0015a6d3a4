"""The `Job` that an `AsyncJob` stands on, with what only the latter asks of it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from jobsync.api.async_bridge import StopEvent
from jobsync.api.claim import Claim
from jobsync.api.health import Health
from jobsync.api.job import Job
from jobsync.api.tasks_loop import Source, TaskLoop
from jobsync.core.settings import Timing
from jobsync.core.tasks import Task, TaskId, as_task
from jobsync.runtime.leadership import Lead, gain
from jobsync.runtime.transactions import OwnedWork
from jobsync.runtime.visitor import Visitor
from jobsync.runtime.waiting import Flag

if TYPE_CHECKING:
    from jobsync.api.health_server import HealthServer


class InnerJob(Job):
    """A job whose steps can be taken apart: what is local is done on the event loop, what waits in a thread."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stop = self.stop_event = StopEvent()

    def serve_health_of(self, ask: Callable[[], Health], port: int, *, host: str, metrics: bool) -> "HealthServer":
        """Serve the health of who stands on this job."""
        return self._serve(ask, host, port, metrics=metrics)

    # --- claims and audits ---------------------------------------------------------------------

    @property
    def claims_wait(self) -> bool:
        """Whether `add_task` waits for the database: only in a run."""
        return self._run is not None

    def one_adding(self, task: Task | TaskId) -> AbstractContextManager[bool]:
        """Tell whether one call of `add_task` alone may add the task."""
        return self._one_adding(as_task(task).text)

    def claim_to_add(self, task: Task | TaskId) -> bool:
        """Do the part of `add_task` that may wait: claim."""
        return self._claim_to_add(task)

    def remember(self, task: Task | TaskId) -> None:
        """Do the rest of it: `write_audit` will mark the task done."""
        self._remember(as_task(task).text)

    def take_added(self) -> list[str]:
        """Do the part of `write_audit` that belongs together with `remember`."""
        self._recording()
        return self._take_added()

    def audit(self, texts: list[str]) -> None:
        """Do the rest of it, which may wait."""
        self._audit(texts)

    # --- loops over tasks ----------------------------------------------------------------------

    def require_worker(self) -> None:
        """Raise why there can be no loop over tasks now."""
        self._working()

    def open_loop(self, source: Source) -> TaskLoop:
        """Begin a loop over tasks, which ends the one before; may wait."""
        return self.tasks(source)

    def may_be_mine(self, task: Task | TaskId) -> bool:
        """Tell whether the task is this node's now, or that cannot be told."""
        node = self._node
        holding = None if node is None else node.holding
        try:
            return holding is None or self._token_of_text(as_task(task).text) in holding.tokens
        except (TypeError, ValueError):
            return True  # It is no task id: the loop refuses it.

    def require_running(self) -> None:
        """Raise what ended the node, if it ended."""
        if self._node is not None:
            self._node.require_running()

    # --- leading -------------------------------------------------------------------------------

    def gain_lead(self, stop: Flag, timeout: float | None) -> Lead:
        """Wait until this node leads, unless `stop` is set before."""
        node = self._running()
        assert not isinstance(node, Visitor)
        return gain(node, stop, timeout)

    # --- transactions and health ---------------------------------------------------------------

    def owned_work(self, task: Task | TaskId | Claim, *, repeat: bool) -> OwnedWork:
        """Decide what a transaction needs before its body."""
        return self._owned_work(task, repeat=repeat)

    def outcome_noted(self, text: str) -> AbstractContextManager[None]:
        """Tell the loop that has the task in hand how its transaction ended."""
        return self._outcome_noted(text)

    @property
    def handover_sec(self) -> float:
        """For how long a hand-over waits for this application."""
        return Timing.of(self._standing_alone_with, session_lease_sec=None).handover_sec
