"""What a fleet's database says of all of it, as metrics: for the one process that is asked, such as the dashboard."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from jobsync.api.fleet_view import FleetView
from jobsync.api.metrics.catalogue import FLEET
from jobsync.api.metrics.process import prometheus

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

Sample = tuple[str, tuple[str, ...], float]


class FleetCollector:
    """A collector that shows what `look` gives: the fleet as it was last read, or None where it could not be read.

    `fleet` is its name in every series, known also while nothing can be read.
    """

    def __init__(self, fleet: str, look: Callable[[], FleetView | None]) -> None:
        self._fleet = fleet
        self._look = look
        self._core = prometheus().core

    def collect(self) -> "Iterator[Family]":
        """Read all gauges: what a registry calls at each scrape."""
        families: dict[str, Any] = {
            metric.name: self._core.GaugeMetricFamily(metric.name, metric.text, labels=metric.labels)
            for metric in FLEET
        }
        view = self._look()
        families["jobsync_up"].add_metric((self._fleet,), float(view is not None))
        if view is not None:
            for name, labels, value in samples(view):
                families[name].add_metric((self._fleet, *labels), value)
        yield from families.values()

    def page(self) -> bytes:
        """Write the fleet's metrics as Prometheus reads them."""
        client = prometheus()
        registry = client.CollectorRegistry(auto_describe=False)
        registry.register(self)
        text: bytes = client.generate_latest(registry)
        return text


def samples(view: FleetView) -> Iterator[Sample]:
    """Give the name, the own labels' values and the value of everything that is told of a fleet that answers."""
    yield "jobsync_active_nodes", (), view.active_nodes
    for node in view.nodes:
        if node.is_live and node.balance is not None:
            yield "jobsync_token_balance", (node.name,), node.balance
        if node.state != "fenced":
            yield "jobsync_heartbeat_lag_seconds", (node.name,), node.lag_sec
    yield "jobsync_rebalances_an_hour", (), view.rebalances_an_hour
    if view.leads_since is not None:
        since_sec = (view.read_at - view.leads_since).total_seconds()
        yield "jobsync_seconds_since_leader_change", (), max(0.0, since_sec)
    yield "jobsync_tokens", (), view.total_tokens or 0
    yield "jobsync_tokens_unowned", (), view.tokens_unowned
    yield "jobsync_tokens_moving", (), view.tokens_moving
    yield "jobsync_plan_version", (), view.plan_version
    yield "jobsync_quarantined", (), float(view.quarantined)
    yield "jobsync_locks", (), view.locks
    yield from _queue_samples(view)


def _queue_samples(view: FleetView) -> Iterator[Sample]:
    queue = view.queue
    for lane in queue.lanes:
        where = lane.queue, lane.kind
        yield "jobsync_queue_jobs", (*where, "waiting"), lane.waiting
        yield "jobsync_queue_jobs", (*where, "later"), lane.scheduled + lane.backing_off
        yield "jobsync_queue_jobs", (*where, "processing"), lane.processing
        yield "jobsync_queue_oldest_seconds", where, lane.oldest_sec or 0.0
    yield "jobsync_queue_failed_jobs", (), queue.failed
    yield "jobsync_queue_done_a_minute", (), queue.done_a_minute
    yield "jobsync_queue_failed_a_minute", (), queue.failed_a_minute
    yield "jobsync_queue_workers", (), queue.workers
    for pause in queue.pauses:
        yield "jobsync_queue_paused", (pause.queue,), 1.0
