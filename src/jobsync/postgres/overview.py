"""What people ask of a fleet: who is there, what is held, what moved."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from jobsync.postgres.statement import Row, Statement, statement

Run = Callable[[Statement], list[Row]]


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One node as the table knows it, with the number of tokens granted to it."""

    name: str
    created_on: datetime
    last_heartbeat: datetime
    state: str
    active: bool
    tokens: int
    version: int
    host: str | None
    pid: int | None
    environment: str | None
    takes_tokens: bool
    heartbeat_timeout_ms: int


@dataclass(frozen=True, slots=True)
class ClusterRow:
    """What the whole cluster agrees on, and how much of it is held."""

    total_tokens: int | None
    hash_function: str | None
    plan_version: int
    schema_version: int
    quarantined: bool
    tokens_held: int
    locks: int


@dataclass(frozen=True, slots=True)
class RebalanceRow:
    """One distribution that moved something."""

    id: int
    triggered_at: datetime
    reason: str
    leader: str
    nodes_before: int
    nodes_after: int
    tokens_moved: int
    duration_ms: int


def list_nodes(run: Run, prefix: str) -> list[NodeRow]:
    """List all nodes, oldest first."""
    return [NodeRow(*row) for row in run(statement("list_nodes", prefix))]


def read_cluster(run: Run, prefix: str) -> ClusterRow:
    """Read the cluster's agreement."""
    return ClusterRow(*run(statement("cluster", prefix))[0])


def recent_rebalances(run: Run, prefix: str, limit: int) -> list[RebalanceRow]:
    """List the latest distributions, newest first."""
    return [RebalanceRow(*row) for row in run(statement("recent_rebalances", prefix, limit))]
