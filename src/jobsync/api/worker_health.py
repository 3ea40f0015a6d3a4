"""The part of `ProcessingWorker` that tells whether it does its duty: its node's, and getting on with its jobs.

Nothing is written down at each job: what is seen at one look is compared with what was seen at the look before, so
the more often a probe asks, the sooner a worker is found that stands still.
"""

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from jobsync.api.checks import checked_seconds
from jobsync.api.health import Health
from jobsync.core.errors import NotRunning
from jobsync.runtime.clock import boot_sec
from jobsync.runtime.node import Node
from jobsync.runtime.worker.desk import Desk
from jobsync.runtime.worker.hub import Hub
from jobsync.runtime.worker.kinds import Knowledge

if TYPE_CHECKING:  # As in `health`.
    from jobsync.api.health_server import HealthServer
    from jobsync.api.metrics.process import ProcessMeters

STALLED_SEC: Final = 600.0
LOOP_BLOCKED_SEC: Final = 10.0


class WorkerHealth:
    """Health of a queue worker and of the node that it runs on."""

    worker_id: str
    _hub: Hub | None
    _desk: Desk | None
    _node: Node | None
    _health_server: "HealthServer | None" = None
    _progress: "Progress | None" = None
    _meters: "tuple[ProcessMeters, ...]" = ()

    def health(self, *, stalled_after_seconds: float | None = STALLED_SEC) -> Health:
        """Say whether the worker and its node do their duty, and if not, why; from any thread, without a query.

        A worker that holds jobs, none of which begins, ends or reports progress for `stalled_after_seconds`, does not.
        Where handlers run for longer, let them call `job.update_progress`, or give more seconds; None: never mind.
        """
        stalled_sec = checked_seconds("stalled_after_seconds", stalled_after_seconds)
        hub, desk, node = self._hub, self._desk, self._node
        if hub is None or desk is None or node is None:
            state = "has not started" if hub is None else "has stopped"
            is_live = hub is None or hub.error is None
            return Health(self.worker_id, is_live, (f"worker {self.worker_id!r} {state}",), tokens=0)
        if self._progress is None:
            self._progress = Progress()
        why = (*node.why_unhealthy(), *self._progress.why_not(hub, desk, stalled_sec))
        is_live = not node.ended_badly and hub.error is None
        held = len(hub.slots.running()) + len(hub.slots.fetched)
        return Health(self.worker_id, is_live, why, len(node.tokens), held)

    def serve_health(
        self,
        port: int,
        *,
        host: str = "",
        metrics: bool = False,
        stalled_after_seconds: float | None = STALLED_SEC,
    ) -> "HealthServer":
        """Answer `/health/live` and `/health/ready` on a port until the worker has stopped; see `Job.serve_health`.

        It may be called before the worker starts, and must be for `metrics`. What is told of the worker is told of its
        node, too.
        """
        checked_seconds("stalled_after_seconds", stalled_after_seconds)
        page = None
        if metrics:
            from jobsync.api.metrics.process import meters_of  # noqa: PLC0415

            self.expose_metrics()
            page = meters_of().page
        self._close_health()
        from jobsync.api.health_server import HealthServer  # noqa: PLC0415

        server = self._health_server = HealthServer(
            lambda: self.health(stalled_after_seconds=stalled_after_seconds), host, port, page
        )
        return server

    def expose_metrics(self, registry: Any = None) -> None:
        """Have the metrics of this worker, its jobs and its node in a registry of prometheus-client; before it starts.

        By default the registry is the client library's own. Raises ExtraMissing where `jobsync[metrics]` is not
        installed, NotRunning where the worker has started: its handlers are timed from their first job on, or never.
        """
        from jobsync.api.metrics.process import meters_of  # noqa: PLC0415

        meters = meters_of(registry)
        if self._hub is not None:
            raise NotRunning(f"worker {self.worker_id!r} has started: expose its metrics before")
        self._meters = (*self._meters, meters)

    def _metered(self, node: Node, knowledge: Knowledge) -> Knowledge:
        for meters in self._meters:
            knowledge = meters.timing(node.settings.prefix, self.worker_id, knowledge)
        return knowledge

    def _traced(self, node: Node, knowledge: Knowledge) -> Knowledge:
        """Give handlers that run within spans. Raises ExtraMissing where `jobsync[otel]` is not installed."""
        from jobsync.api.tracing.process import tracing  # noqa: PLC0415 - only who traces loads it

        tracing().attach(node)
        return tracing().traced(self.worker_id, knowledge)

    def _let_meters_watch(self, hub: Hub) -> None:
        for meters in self._meters:
            meters.attach(hub.node)
            meters.attach_hub(hub)

    def _close_health(self) -> None:
        server, self._health_server = self._health_server, None
        if server is not None:
            server.close()


class Progress:
    """Whether a worker gets on, from one look to the next."""

    def __init__(self) -> None:
        self._seen: object = None
        self._since_sec = boot_sec()
        self._asked_loop_sec: float | None = None

    def why_not(self, hub: Hub, desk: Desk, stalled_sec: float | None) -> Iterator[str]:
        """Say what keeps the worker from getting on, a sentence each."""
        name = hub.terms.worker_id
        if not hub.is_alive:
            yield f"worker {name!r} has ended" + (f": {hub.error}" if hub.error is not None else "")
            return
        if hub.is_stopping:
            yield f"worker {name!r} is stopping: it takes no more jobs"
        running, fetched = hub.slots.running(), len(hub.slots.fetched)
        lost = sum(job.lost for job in running)
        if lost:
            yield f"worker {name!r} runs {lost} jobs whose leases it has lost: their results will be refused"
        still_sec = self._still_sec((frozenset(job.id for job in running), fetched, desk.progress_told))
        if (running or fetched) and stalled_sec is not None and still_sec >= stalled_sec:
            yield (
                f"worker {name!r} holds {len(running) + fetched} jobs, and none of them began, ended or reported "
                f"progress for {still_sec:.0f} s"
            )
        blocked_sec = self._loop_blocked_sec(hub.slots._loop)  # noqa: SLF001 - asked once in a while, from here alone
        if blocked_sec >= LOOP_BLOCKED_SEC:
            yield f"the event loop of worker {name!r} has not run for {blocked_sec:.0f} s: a handler blocks it"

    def _still_sec(self, seen: object) -> float:
        now_sec = boot_sec()
        if seen != self._seen:
            self._seen, self._since_sec = seen, now_sec
        return now_sec - self._since_sec

    def _loop_blocked_sec(self, loop: asyncio.AbstractEventLoop | None) -> float:
        if loop is None or loop.is_closed():
            return 0.0
        if self._asked_loop_sec is None:
            self._asked_loop_sec = boot_sec()
            loop.call_soon_threadsafe(self._loop_answered)
        asked_sec = self._asked_loop_sec
        return 0.0 if asked_sec is None else boot_sec() - asked_sec

    def _loop_answered(self) -> None:
        self._asked_loop_sec = None
