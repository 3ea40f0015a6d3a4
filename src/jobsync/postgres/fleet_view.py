"""What the live page and the fleet's metrics read, each in one statement that gives one row."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jobsync.postgres.statement import Row, Statement, statement

Run = Callable[[Statement], list[Row]]
Rows = list[list[Any]]


@dataclass(frozen=True, slots=True)
class FleetRow:
    """Nodes, ranges of tokens and history as they came; see `fleet_view.sql` for the columns of each list."""

    read_at: datetime
    total_tokens: int | None
    hash_function: str | None
    plan_version: int
    schema_version: int
    quarantined: bool
    locks: int
    rebalances_an_hour: int
    leads: str | None
    leads_since: datetime | None
    nodes: Rows | None
    held: Rows | None
    wanted: Rows | None
    rebalances: Rows | None
    steering: Rows | None


@dataclass(frozen=True, slots=True)
class QueueRow:
    """The queue as it came; see `queue_view.sql` for the columns of each list."""

    lanes: Rows | None
    failed: int
    cancelled: int
    last_minute: list[int]
    pauses: Rows | None
    workers: int


def read_fleet(run: Run, prefix: str) -> FleetRow:
    """Read nodes, tokens and history."""
    return FleetRow(*run(statement("fleet_view", prefix))[0])


def read_queue(run: Run, prefix: str) -> QueueRow:
    """Read the queue's counts."""
    return QueueRow(*run(statement("queue_view", prefix))[0])
