"""What a job tells of itself and its cluster, as one value."""

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True)
class JobStatus:
    """One job at one instant. `tokens_owned` counts what is owned with a certain lease, as `my_tokens` does.

    `loop_blocked_sec` is for an `AsyncJob`: for how long its event loop was blocked at the longest since the job was
    entered, the present included; less than 2 s counts as 0. A `Job` has no event loop: 0.
    """

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
    loop_blocked_sec: float = 0.0
