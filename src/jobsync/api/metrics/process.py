"""What one process exposes of its nodes and workers."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import wraps
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from jobsync.api.metrics.catalogue import PROCESS
from jobsync.core.errors import ExtraMissing, LeaseLost
from jobsync.core.messages import Fact, FactKind
from jobsync.core.pool import pool_of
from jobsync.runtime.clock import boot_sec
from jobsync.runtime.node import Node
from jobsync.runtime.worker.hub import Hub
from jobsync.runtime.worker.kinds import Handler, Knowledge
from jobsync.runtime.worker.running_job import RunningJob

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Histogram
    from prometheus_client.core import Metric as Family

_MOVED: Final = {
    FactKind.GRANTED: "in",
    FactKind.GAVE_UP: "out",
    FactKind.LEASE_RAN_OUT: "lost",
    FactKind.FENCED_BY_OTHERS: "lost",
}
_FENCES: Final = {FactKind.FENCED_OTHER: "of others", FactKind.FENCED_BY_OTHERS: "by others"}
# Every counter of a node whose labels are known beforehand, with the labels after its own. They begin at 0 with the
# node: one that appeared with its first event would appear at 1, which is no increase to Prometheus, and alert nobody.
_FROM_ZERO: Final = (
    *(("jobsync_facts_total", kind.value) for kind in FactKind),
    *(("jobsync_tokens_moved_total", direction) for direction in dict.fromkeys(_MOVED.values())),
    *(("jobsync_fences_total", side) for side in _FENCES.values()),
    ("jobsync_refused_writes_total",),
    ("jobsync_job_crashes_total",),
)


def prometheus() -> Any:
    """Give the client library, or say which extra it is in."""
    try:
        import prometheus_client  # noqa: PLC0415 - an extra: loaded when it is used
        import prometheus_client.core  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ExtraMissing(
            "metrics need prometheus-client, which is not installed: pip install 'jobsync[metrics]'"
        ) from None
    return prometheus_client


class ProcessMeters:
    """All of a process's metrics in one registry; made once a registry by `meters_of`."""

    def __init__(self, registry: "CollectorRegistry") -> None:
        self._client = prometheus()
        self._nodes = weakref.WeakSet[Node]()
        self._hubs = weakref.WeakSet[Hub]()
        self._registry = registry
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        for metric in PROCESS:
            if metric.kind == "counter":
                self._counters[metric.name] = self._client.Counter(
                    metric.name, metric.text, metric.labels, registry=registry
                )
            elif metric.kind == "histogram":
                self._histograms[metric.name] = self._client.Histogram(
                    metric.name, metric.text, metric.labels, buckets=metric.buckets, registry=registry
                )
        registry.register(self)

    # --- what happens --------------------------------------------------------------------------

    def attach(self, node: Node) -> None:
        """Count what happens to a node from now on; a second call does nothing."""
        if node in self._nodes:
            return
        self._nodes.add(node)
        count = self._counters
        who = node.settings.prefix, node.name
        for metric, *labels in _FROM_ZERO:
            count[metric].labels(*who, *labels)
        handover = self._histograms["jobsync_handover_seconds"].labels(*who)

        def hear(fact: Fact) -> None:
            count["jobsync_facts_total"].labels(*who, fact.kind.value).inc()
            if fact.kind in _MOVED:
                count["jobsync_tokens_moved_total"].labels(*who, _MOVED[fact.kind]).inc(fact.count)
            if fact.kind in _FENCES:
                count["jobsync_fences_total"].labels(*who, _FENCES[fact.kind]).inc()
            if fact.kind is FactKind.WRITE_REFUSED:
                count["jobsync_refused_writes_total"].labels(*who).inc(fact.count)
            if fact.kind is FactKind.JOBS_RECOVERED:
                count["jobsync_job_crashes_total"].labels(*who).inc(fact.count)
            if fact.kind is FactKind.GAVE_UP and fact.took_sec is not None:
                handover.observe(fact.took_sec)

        node.hearers.append(hear)
        node.engine.time_beat = self._histograms["jobsync_heartbeat_seconds"].labels(*who).observe

    def attach_hub(self, hub: Hub) -> None:
        """Tell of a worker from now on."""
        self._hubs.add(hub)

    def timing(self, fleet: str, worker_id: str, knowledge: Knowledge) -> Knowledge:
        """Give a worker's handlers, each of which takes its time and counts its attempts."""
        by_kind = {kind: self._timed(fleet, worker_id, handler) for kind, handler in knowledge.by_kind.items()}
        any_kind = None if knowledge.any_kind is None else self._timed(fleet, worker_id, knowledge.any_kind)
        return replace(knowledge, by_kind=by_kind, any_kind=any_kind)

    def _timed(self, fleet: str, worker_id: str, handler: Handler) -> Handler:
        function = handler.function

        def note(job: RunningJob, began_sec: float, outcome: str) -> None:
            labels = fleet, worker_id, job.queue, job.kind
            self._histograms["jobsync_job_seconds"].labels(*labels).observe(boot_sec() - began_sec)
            self._counters["jobsync_job_attempts_total"].labels(*labels, outcome).inc()

        @wraps(function)
        def run(job: RunningJob) -> Any:
            began_sec = boot_sec()
            try:
                result = function(job)
            except BaseException as error:
                note(job, began_sec, _outcome(job, error))
                raise
            note(job, began_sec, _outcome(job, None))
            return result

        @wraps(function)
        async def run_async(job: RunningJob) -> Any:
            began_sec = boot_sec()
            try:
                result = await function(job)
            except BaseException as error:
                note(job, began_sec, _outcome(job, error))
                raise
            note(job, began_sec, _outcome(job, None))
            return result

        return replace(handler, function=run_async if handler.is_async else run)

    # --- what is, when it is asked for ---------------------------------------------------------

    def collect(self) -> "Iterator[Family]":
        """Read the gauges: what the registry calls at each scrape."""
        families = {
            metric.name: self._client.core.GaugeMetricFamily(metric.name, metric.text, labels=metric.labels)
            for metric in PROCESS
            if metric.kind == "gauge"
        }
        for node in list(self._nodes):
            if not node.has_ended:
                for name, value in _node_gauges(node):
                    families[name].add_metric([node.settings.prefix, node.name], value)
        for hub in list(self._hubs):
            if hub.is_alive:
                worker = [hub.node.settings.prefix, hub.terms.worker_id]
                families["jobsync_worker_jobs_running"].add_metric(worker, len(hub.slots.running()))
                families["jobsync_worker_jobs_fetched"].add_metric(worker, len(hub.slots.fetched))
                families["jobsync_worker_slots"].add_metric(worker, hub.terms.slots)
        yield from families.values()

    def page(self) -> bytes:
        """Write everything in the registry as Prometheus reads it."""
        text: bytes = self._client.generate_latest(self._registry)
        return text


def _node_gauges(node: Node) -> Iterator[tuple[str, float]]:
    standing, holding = node.engine.standing, node.holding
    yield "jobsync_tokens_held", len(node.tokens)
    yield "jobsync_tokens_target", 0 if standing.target is None else len(pool_of(standing.target))
    yield "jobsync_lease_margin_seconds", 0.0 if holding is None else max(0.0, holding.boot_until_sec - boot_sec())
    if standing.last_reply is not None:
        yield "jobsync_reply_age_seconds", boot_sec() - standing.last_reply.boot_sec
    yield "jobsync_healthy", float(node.is_healthy())
    yield "jobsync_leads", float(holding is not None and holding.leads_under is not None)


def _outcome(job: RunningJob, error: BaseException | None) -> str:
    with suppress(Exception):
        if job.lost or isinstance(error, LeaseLost):
            return "lost"
    return "returned" if error is None else "raised"


_MADE: "weakref.WeakKeyDictionary[Any, ProcessMeters]" = weakref.WeakKeyDictionary()
_MAKING: Final = Lock()


def meters_of(registry: Any = None) -> ProcessMeters:
    """Give the meters in a registry, by default the client library's own. Raises ExtraMissing."""
    chosen = prometheus().REGISTRY if registry is None else registry
    with _MAKING:
        made = _MADE.get(chosen)
        if made is None:
            made = _MADE[chosen] = ProcessMeters(chosen)
        return made


Page = Callable[[], bytes]
