"""A fleet at one instant: its nodes, what they hold, its latest rebalances, what people ask of it.

A module of its own that needs little else: `jobsync status` is to be there at once, and loads nothing but this.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from jobsync.api.fleet_access import FleetAccess, way_to
from jobsync.core.settings import Settings
from jobsync.postgres.overview import NodeRow, list_nodes, read_cluster, recent_rebalances
from jobsync.postgres.statement import Statement, statement

RECENT_REBALANCES = 5


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node that the fleet knows. `share` is its part of all tokens, from 0 to 1; ages are in seconds.

    `takes_tokens` is False for a queue worker: none are dealt to it, though it may lead. `steered` is cordon or drain
    where people asked for it.
    """

    name: str
    is_leader: bool
    is_live: bool
    state: str
    tokens: int
    share: float
    heartbeat_age_sec: float
    created_on: datetime
    version: int
    host: str | None
    pid: int | None
    environment: str | None
    takes_tokens: bool = True
    steered: str | None = None
    heartbeat_timeout_sec: float = 15.0


@dataclass(frozen=True, slots=True)
class Rebalance:
    """One distribution of tokens that moved something, as the history keeps it."""

    id: int
    triggered_at: datetime
    reason: str
    leader: str
    nodes_before: int
    nodes_after: int
    tokens_moved: int
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Steered:
    """What people ask of a node, or of the fleet (`node` None): `verb` is cordon, drain or freeze.

    It is in force while `ended_at` is None; `ends_at` is when it will end by itself.
    """

    verb: str
    node: str | None
    reason: str | None
    asked_by: str
    asked_at: datetime
    ends_at: datetime | None
    ended_at: datetime | None
    ended_by: str | None


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """A fleet at one instant.

    `total_tokens` and `hash_function` are None until the first node has registered. `tokens_held` counts what is held
    by anybody, `tokens_live` what live nodes hold. `nodes` come oldest first, `rebalances` newest first. `steering` is
    what people ask of nodes and of the fleet.
    """

    where: str
    appname: str
    read_at: datetime
    total_tokens: int | None
    hash_function: str | None
    plan_version: int
    schema_version: int
    quarantined: bool
    tokens_held: int
    locks: int
    nodes: tuple[NodeStatus, ...]
    rebalances: tuple[Rebalance, ...]
    steering: tuple[Steered, ...] = ()

    @property
    def frozen(self) -> bool:
        """Whether joins and leaves move no tokens, since people asked for it."""
        return any(
            each.verb == "freeze" and not (each.ends_at and each.ends_at <= self.read_at) for each in self.steering
        )

    @property
    def leader(self) -> str | None:
        """The oldest live node, if there is one."""
        return next((node.name for node in self.nodes if node.is_leader), None)

    @property
    def live_nodes(self) -> int:
        """How many live nodes take tokens."""
        return sum(node.is_live for node in self.nodes if node.takes_tokens)

    @property
    def live_tokenless(self) -> int:
        """How many live nodes take none: queue workers."""
        return sum(node.is_live for node in self.nodes if not node.takes_tokens)

    @property
    def tokens_live(self) -> int:
        """How many tokens live nodes hold."""
        return sum(node.tokens for node in self.nodes if node.is_live)

    @property
    def is_healthy(self) -> bool:
        """Whether at least one node is live and live nodes hold all tokens, unless none of them takes any."""
        if not self.live_nodes:
            return self.live_tokenless > 0
        return self.tokens_live == self.total_tokens


class FleetStatus(FleetAccess):
    """The part of `Cluster` that tells how the fleet is."""

    def status(self, *, rebalances: int = RECENT_REBALANCES) -> ClusterStatus:
        """Read the fleet in one snapshot, with the latest `rebalances` of its history.

        Raises SchemaError where the tables are missing, DatabaseUnavailable where the database is.
        """
        self._require_schema()
        inquiry, prefix = self._inquiry, self._prefix
        with inquiry.snapshot():
            read_at = inquiry.run(Statement("select clock_timestamp()"))[0][0]
            cluster = read_cluster(inquiry.run, prefix)
            nodes = list_nodes(inquiry.run, prefix)
            history = recent_rebalances(inquiry.run, prefix, rebalances)
            steering = tuple(Steered(*row) for row in inquiry.run(statement("list_steering", prefix, False)))  # noqa: FBT003
        asked = {each.node: each.verb for each in steering}
        by_rank = sorted(nodes, key=lambda row: (asked.get(row.name) == "drain", not row.takes_tokens))
        leader = next((row.name for row in by_rank if row.active), None)
        return ClusterStatus(
            where=self.where,
            appname=prefix,
            read_at=read_at,
            total_tokens=cluster.total_tokens,
            hash_function=cluster.hash_function,
            plan_version=cluster.plan_version,
            schema_version=cluster.schema_version,
            quarantined=cluster.quarantined,
            tokens_held=cluster.tokens_held,
            locks=cluster.locks,
            nodes=tuple(
                replace(_node_status(row, leader, read_at, cluster.total_tokens), steered=asked.get(row.name))
                for row in nodes
            ),
            steering=steering,
            rebalances=tuple(
                Rebalance(
                    id=row.id,
                    triggered_at=row.triggered_at,
                    reason=row.reason,
                    leader=row.leader,
                    nodes_before=row.nodes_before,
                    nodes_after=row.nodes_after,
                    tokens_moved=row.tokens_moved,
                    duration_ms=row.duration_ms,
                )
                for row in history
            ),
        )


def read_status(config: Settings, *, rebalances: int = RECENT_REBALANCES) -> ClusterStatus:
    """Read a fleet once; see `Cluster.status`."""
    with way_to(config) as (inquiry, where):
        return FleetStatus(inquiry, config, where).status(rebalances=rebalances)


def _node_status(row: NodeRow, leader: str | None, read_at: datetime, total_tokens: int | None) -> NodeStatus:
    return NodeStatus(
        name=row.name,
        is_leader=row.name == leader,
        is_live=row.active,
        state=row.state if row.active or row.state == "fenced" else "silent",
        tokens=row.tokens,
        share=row.tokens / total_tokens if total_tokens else 0.0,
        heartbeat_age_sec=max(0.0, (read_at - row.last_heartbeat).total_seconds()),
        created_on=row.created_on,
        version=row.version,
        host=row.host,
        pid=row.pid,
        environment=row.environment,
        takes_tokens=row.takes_tokens,
        heartbeat_timeout_sec=row.heartbeat_timeout_ms / 1000,
    )
