"""Health as load balancers and whoever restarts processes ask for it: what is the matter, and what that means.

Model: *ready* means that this process does its duty at this instant: its lease is certain, the database answers, no
callback hangs, its event loop runs, its workers get on with what they hold. *Live* means that a restart would not help:
it is False only where the node or a worker has ended by itself, and does not follow the database. A fleet that was
restarted because its database is away would come back to a database that is away.

Authoritative: what the node's own engine and clocks say; nothing here asks the database. Not promised: that a process
which is ready now is so a moment later.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobsync import runtime
from jobsync.api.membership import Membership

if TYPE_CHECKING:  # A server and a client library, which most never use, are loaded when they are.
    from jobsync.api.health_server import HealthServer
    from jobsync.api.metrics.process import ProcessMeters


@dataclass(frozen=True, slots=True)
class Health:
    """How a node, or a worker with its node, stands at one instant. `why` has a sentence for each thing that is wrong.

    `tokens` counts what is owned with a certain lease; `jobs` what the workers asked hold.
    """

    name: str
    is_live: bool
    why: tuple[str, ...]
    tokens: int
    jobs: int = 0

    @property
    def is_ready(self) -> bool:
        """Whether nothing is wrong."""
        return not self.why

    def as_dict(self) -> dict[str, Any]:
        """Give what `/health/ready` answers."""
        status = "ready" if self.is_ready else "not ready"
        return {"status": status, "node": self.name, "tokens": self.tokens, "jobs": self.jobs, "why": list(self.why)}

    def but(self, *why: str) -> "Health":
        """Give the same with more that is wrong."""
        return Health(self.name, self.is_live, (*self.why, *why), self.tokens, self.jobs)


class HealthMethods(Membership):
    """The part of `Job` that tells whether it does its duty."""

    _health_server: "HealthServer | None" = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._meters: list[ProcessMeters] = []

    def health(self) -> Health:
        """Say whether this node does its duty, and if not, why; from any thread, without a query.

        `job.health().is_ready` is the same as `job.am_i_healthy()`.
        """
        self._touch()
        node = self._node
        if node is None:
            return Health(self._name, is_live=True, why=("it is not in the fleet: not yet, or not any more",), tokens=0)
        return Health(self._name, not node.ended_badly, tuple(node.why_unhealthy()), len(node.tokens))

    def serve_health(self, port: int, *, host: str = "", metrics: bool = False) -> "HealthServer":
        """Answer `/health/live` and `/health/ready` on a port, from a thread of its own, until the job is left.

        200 or 503, with a JSON body that says why. `host` is the address to listen on, by default all. It may be called
        before the job is entered: then it is live, and not ready. `port` 0 takes a free one, which `.port` of the
        result tells; `.close()` ends it sooner. With `metrics` it calls `expose_metrics()` and answers `/metrics`, too.
        Raises OSError where the port is taken.
        """
        return self._serve(self.health, host, port, metrics=metrics)

    def expose_metrics(self, registry: Any = None) -> None:
        """Have this node's metrics in a registry of prometheus-client, by default its own; from now on.

        It may be called before the job is entered. Raises ExtraMissing where `jobsync[metrics]` is not installed.
        """
        from jobsync.api.metrics.process import meters_of  # noqa: PLC0415

        meters = meters_of(registry)
        self._meters.append(meters)
        if self._is_member(self._node):
            meters.attach(self._node)

    def _serve(self, ask: Callable[[], Health], host: str, port: int, *, metrics: bool) -> "HealthServer":
        page = None
        if metrics:
            from jobsync.api.metrics.process import meters_of  # noqa: PLC0415

            self.expose_metrics()
            page = meters_of().page
        self._close_health()
        from jobsync.api.health_server import HealthServer  # noqa: PLC0415

        server = self._health_server = HealthServer(ask, host, port, page)
        return server

    def _close_health(self) -> None:
        server, self._health_server = self._health_server, None
        if server is not None:
            server.close()

    def _node_is_known(self, node: "runtime.Node") -> None:
        for meters in self._meters:
            meters.attach(node)

    def _exit(self) -> None:
        try:
            super()._exit()
        finally:
            self._close_health()
