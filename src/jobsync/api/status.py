"""What a job tells of itself and its cluster, as one value."""

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True)
class JobStatus:
    """One job at one instant. `tokens_owned` counts what is owned with a certain lease, as `my_tokens` does."""

    node_name: str
    environment: str | None
    date: date | None
    run: str | None
    coordinated: bool
    phase: str
    connected: bool
    healthy: bool
    leader: str | None
    am_i_leader: bool
    live_nodes: int
    tokens_owned: int
    total_tokens: int
    token_version: int
    session_lease_ms: int | None
