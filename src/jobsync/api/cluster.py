"""Administration: look at a fleet, steer it, and set up its schema, without running a node.

Model: `open_cluster` holds one connection; `status` reads nodes, tokens and history in one snapshot of the
database, so the figures belong together. Ages are counted by the database's clock.

Authoritative: the database. A node counts as live while its heartbeat is younger than its own timeout and nobody has
fenced it; the oldest live node leads. Not promised: that a node which died this second is seen as dead already, or
that anything still holds when it is read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from jobsync.api.fleet_looks import FleetLooks
from jobsync.api.fleet_steering import FleetSteering
from jobsync.api.fleet_values import Steered
from jobsync.core.settings import Settings
from jobsync.postgres.embedded import default_data_dir
from jobsync.postgres.inquiry import Inquiry, inquire
from jobsync.postgres.overview import NodeRow, list_nodes, read_cluster, recent_rebalances
from jobsync.postgres.schema import awaits_removal
from jobsync.postgres.schema import schema_sql as _schema_sql
from jobsync.postgres.statement import Statement, statement
from jobsync.runtime.place import EMBEDDED, Doorway

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
class TokenSpan:
    """The tokens from `first` up to, not including, `end`, which one node holds."""

    node: str
    first: int
    end: int

    @property
    def size(self) -> int:
        """Count the tokens."""
        return self.end - self.first


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


class Cluster(FleetLooks, FleetSteering):
    """A fleet to look at and to steer, while `open_cluster` keeps the connection; for one thread at a time."""

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

    @property
    def inquiry(self) -> Inquiry:
        """The connection, for the rooms of this package."""
        return self._inquiry

    def spans(self) -> tuple[TokenSpan, ...]:
        """List who holds which ranges of tokens, in the order of the tokens."""
        rows = self._inquiry.run(statement("token_spans", self._prefix))
        return tuple(TokenSpan(*row) for row in rows)

    def migrate(self) -> bool:
        """Create the tables or bring them up to this program's version; True if anything was done.

        It only adds: programs of older versions go on, until `finish_migration`. Raises SchemaError where the role may
        not, where the server is too old, where the tables are too new, or where they are in use for too long.
        """
        return self._inquiry.migrate(self._prefix)

    def finish_migration(self) -> bool:
        """Take away what only programs older than this one need; True if there was anything.

        Raises SchemaError, with nothing changed, while nodes of such programs may be alive: the message names them.
        Programs that run no node, but only enqueue jobs or look, cannot be seen.
        """
        return self._inquiry.finish_migration(self._prefix)

    def awaits_removal(self) -> bool:
        """Tell whether the tables still have what only programs older than this one need."""
        return awaits_removal(self._inquiry.schema(self._prefix))

    def execute(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        """Run one statement of the caller's own, with `$1` placeholders, and give its rows.

        It commits at once. Raises DatabaseUnavailable or JobsyncError.
        """
        return self._inquiry.run(Statement(sql, args))


@contextmanager
def open_cluster(config: Settings) -> Iterator[Cluster]:
    """Connect to the database of a fleet for as long as the block runs.

    The embedded server is started where `dsn='embedded'` asks for it. Raises DatabaseUnavailable, naming host, port
    and database and never the password, or InvalidSettings for a DSN that is none.
    """
    doorway = Doorway(config)
    try:
        with inquire(doorway.place) as inquiry:
            where = doorway.place.shown
            if config.dsn == EMBEDDED:
                where = f"the embedded PostgreSQL, data in {default_data_dir()}"
            yield Cluster(inquiry, config, where)
    finally:
        doorway.release()


def read_status(config: Settings, *, rebalances: int = RECENT_REBALANCES) -> ClusterStatus:
    """Read a fleet once; see `Cluster.status`."""
    with open_cluster(config) as cluster:
        return cluster.status(rebalances=rebalances)


def migrate(config: Settings) -> bool:
    """Create or update the schema; see `Cluster.migrate`."""
    with open_cluster(config) as cluster:
        return cluster.migrate()


def schema_sql(appname: str = "sync_") -> str:
    """Give the whole schema with this prefix as one SQL script, for a DBA to read and run on an empty database.

    Raises InvalidSettings for a prefix that is none.
    """
    return _schema_sql(Settings(appname=appname).prefix)


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
