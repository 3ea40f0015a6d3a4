"""What one process traces of its nodes and workers."""

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, wraps
from queue import SimpleQueue
from typing import Any, Final

from jobsync.api.tracing.otel import FAILED, Library
from jobsync.api.tracing.tasks import TaskSpans
from jobsync.core.errors import Cancel, Retry
from jobsync.core.log_events import Event, marks
from jobsync.core.messages import Fact, FactKind
from jobsync.runtime.node import Node
from jobsync.runtime.worker.kinds import Handler, Knowledge
from jobsync.runtime.worker.running_job import RunningJob

log = logging.getLogger("jobsync")

FLUSH_SEC: Final = 1.0
_NAMES: Final = {
    FactKind.PLANNED: "rebalance",
    FactKind.GRANTED: "rebalance gain",
    FactKind.GAVE_UP: "rebalance hand over",
    FactKind.LEASE_RAN_OUT: "rebalance lose",
    FactKind.FENCED_BY_OTHERS: "rebalance lose",
}
_ATTRIBUTES: Final = {
    "version": "jobsync.plan.version",
    "epoch": "jobsync.epoch",
    "reason": "jobsync.rebalance.reason",
    "nodes_before": "jobsync.rebalance.nodes_before",
    "nodes_after": "jobsync.rebalance.nodes_after",
}


class Tracing:
    """All of a process's spans but those of enqueueing; made once by `tracing`."""

    def __init__(self) -> None:
        self._otel = Library()
        self._nodes = weakref.WeakSet[Node]()
        self._scribe = Scribe()

    def task_spans(self, node: str, run: str | None) -> TaskSpans:
        """Make what traces the tasks of one job, or of one loop over them."""
        return TaskSpans(self._otel, node, run)

    # --- nodes -----------------------------------------------------------------------------------

    def attach(self, node: Node) -> None:
        """Trace what happens to a node from now on; a second call does nothing."""
        if node in self._nodes:
            return
        self._nodes.add(node)
        name = node.name

        def hear(fact: Fact) -> None:
            if fact.kind in _NAMES and fact.count:
                now_ns = time.time_ns()
                self._scribe.put(lambda: self._write(name, fact, now_ns))

        node.hearers.append(hear)

    def flush(self) -> None:
        """Wait a little until the spans of what has happened are made."""
        self._scribe.flush()

    def _write(self, node: str, fact: Fact, end_ns: int) -> None:
        details = {_ATTRIBUTES[key]: value for key, value in fact.details if key in _ATTRIBUTES}
        attributes = {"jobsync.node": node, "jobsync.tokens": fact.count, **details}
        start_ns = end_ns - int((fact.took_sec or 0.0) * 1e9)
        name = _NAMES[fact.kind]
        span = self._otel.tracer.start_span(
            name, self._otel.context.Context(), attributes=attributes, start_time=start_ns
        )
        if name == "rebalance lose":
            span.set_status(self._otel.trace.StatusCode.ERROR, fact.text)
        span.end(end_ns)

    # --- jobs of the queue -----------------------------------------------------------------------

    def traced(self, worker_id: str, knowledge: Knowledge) -> Knowledge:
        """Give a worker's handlers, each of which runs within a span of its job."""
        by_kind = {kind: self._traced(worker_id, handler) for kind, handler in knowledge.by_kind.items()}
        any_kind = None if knowledge.any_kind is None else self._traced(worker_id, knowledge.any_kind)
        return replace(knowledge, by_kind=by_kind, any_kind=any_kind)

    def _traced(self, worker_id: str, handler: Handler) -> Handler:
        function = handler.function

        @wraps(function)
        def run(job: RunningJob) -> Any:
            with self._attempt(worker_id, job):
                return function(job)

        @wraps(function)
        async def run_async(job: RunningJob) -> Any:
            with self._attempt(worker_id, job):
                return await function(job)

        return replace(handler, function=run_async if handler.is_async else run)

    @contextmanager
    def _attempt(self, worker_id: str, job: RunningJob) -> Iterator[None]:
        """Make the span of an attempt the current one."""
        trace = self._otel.trace
        parent = self._otel.context_of(job.trace_context)
        links = [] if parent is None else [trace.Link(trace.get_current_span(parent).get_span_context())]
        with self._otel.within(
            f"process {job.queue}",
            parent or self._otel.context.Context(),
            tells_errors=False,
            kind=trace.SpanKind.CONSUMER,
            attributes=_about(worker_id, job),
            links=links,
        ) as span:
            try:
                yield
            except BaseException as error:
                span.set_attribute("jobsync.job.outcome", "lost" if job.lost else _outcome(error))
                if not isinstance(error, Retry | Cancel):  # With these a handler says what it wants.
                    self._otel.tell(span, error, "{}: {}")
                raise
            span.set_attribute("jobsync.job.outcome", "lost" if job.lost else "returned")


def _about(worker_id: str, job: RunningJob) -> dict[str, str | int]:
    about: dict[str, str | int] = {
        "messaging.system": "jobsync",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": job.queue,
        "messaging.message.id": str(job.id),
        "messaging.client.id": worker_id,
        "jobsync.job.kind": job.kind,
        "jobsync.job.attempt": job.attempts,
        "jobsync.job.epoch": job.epoch,
    }
    return about if job.job_id is None else about | {"jobsync.job.key": job.job_id}


def _outcome(error: BaseException) -> str:
    match error:
        case Retry():
            return "retry"
        case Cancel():
            return "cancelled"
    return "raised"


class Scribe:
    """Does what it is given on a thread of its own, in order; in a forked child on one of the child's."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="jobsync-spans", daemon=True)

    def put(self, work: Callable[[], None]) -> None:
        """Have something done; returns at once."""
        if self._pid != os.getpid():
            self._begin()
        try:
            self._ensure_thread()
        except RuntimeError:  # No thread is to be had. Who keeps the lease gives this, and goes on without the span.
            log.exception(FAILED, extra=marks(Event.SPAN_FAILED))
            return
        self._work.put(work)

    def _ensure_thread(self) -> None:
        if self._thread.ident is None:
            with _STARTING:
                if self._thread.ident is None:
                    self._thread.start()

    def flush(self) -> None:
        """Wait until what was given before is done, at most `FLUSH_SEC`."""
        if self._thread.ident is not None and self._pid == os.getpid():
            done = threading.Event()
            self._work.put(done.set)
            done.wait(FLUSH_SEC)

    def _run(self) -> None:
        while True:
            work = self._work.get()
            try:
                work()
            except Exception:
                log.exception(FAILED, extra=marks(Event.SPAN_FAILED))


_STARTING: Final = threading.Lock()


@cache
def tracing() -> Tracing:
    """Give the process's tracing. Raises ExtraMissing."""
    return Tracing()
