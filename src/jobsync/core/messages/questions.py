"""What the member may ask of the database: one operation each on the node's own session, at most one under way."""

from collections.abc import Mapping
from dataclasses import dataclass

from jobsync.core.messages.values import Identity, Server
from jobsync.core.tokens import TokenSet


@dataclass(frozen=True, slots=True)
class Register:
    """Enter the fleet under a name."""

    name: str
    total_tokens: int
    hash_function: str
    heartbeat_timeout_ms: int
    row_lease_ms: int
    session_lease_ms: int | None
    system_id: str
    timeline: str
    takes_tokens: bool = True


@dataclass(frozen=True, slots=True)
class Rebind:
    """Continue an incarnation on a new session. A late attempt changes nothing once a later one was carried out."""

    name: str
    incarnation: int
    attempt: int
    session_lease_ms: int | None
    system_id: str
    timeline: str


@dataclass(frozen=True, slots=True)
class ReadGrants:
    """Read what the database says this incarnation holds: after a broken session the row is the truth.

    `server` as with a beat: another's rows may name this node for what it has given away.
    """

    name: str
    incarnation: int
    server: Server | None = None


@dataclass(frozen=True, slots=True)
class Beat:
    """Prove life and learn what changed. `check` also looks for expired locks.

    `server` is given behind a pooler, which may keep its clients over a fail-over: on any other the session is over.
    """

    me: Identity
    applied_version: int
    known_plan_version: int
    check: bool
    server: Server | None = None


@dataclass(frozen=True, slots=True)
class Watch:
    """Look at all other nodes."""

    name: str


@dataclass(frozen=True, slots=True)
class WatchForEntry:
    """Look, from outside, at the holder of one name, or at everybody (None)."""

    name: str | None


@dataclass(frozen=True, slots=True)
class Fence:
    """Take every token from a node that was silent (rule A) or absent (rule B) for longer than its lease.

    `silent_ms`: how long ago the observer last saw it alive, None if never; it is written down, and decides nothing.
    """

    who: Identity
    beats: int
    rule: str
    silent_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Grow:
    """Take what the plan wants for this node and nobody holds; `server` as with a beat."""

    me: Identity
    server: Server | None = None


@dataclass(frozen=True, slots=True)
class Shrink:
    """Give tokens up that have not been believed in for so long (it is written down, and decides nothing)."""

    me: Identity
    tokens: TokenSet
    uncovered_ms: int = 0


@dataclass(frozen=True, slots=True)
class ReadPlanInputs:
    """Read everything that the deal depends on, in one snapshot."""

    locks_enabled: bool


@dataclass(frozen=True, slots=True)
class SavePlan:
    """Write a plan, if nobody planned since its inputs were read; `tokenless` of its nodes take no tokens."""

    me: Identity
    plan_version: int
    lock_version: int
    nodes: tuple[str, ...]
    targets: Mapping[str, TokenSet]
    reason: str
    nodes_before: int
    tokens_moved: int
    moves: tuple[tuple[str | None, str | None, TokenSet], ...]
    began_at: str
    tokenless: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class LiftQuarantine:
    """Allow grants again, a whole lease after a fail-over was seen."""

    generation: int


@dataclass(frozen=True, slots=True)
class Prune:
    """Delete a bounded number of rows past their retention; None keeps for ever."""

    claim_days: float | None
    audit_days: float | None
    rebalance_days: float | None
    dead_node_days: float | None


@dataclass(frozen=True, slots=True)
class BeginLeave:
    """Announce a graceful exit."""

    me: Identity


@dataclass(frozen=True, slots=True)
class Leave:
    """Delete the own row: nothing is held any more."""

    me: Identity


@dataclass(frozen=True, slots=True)
class HearJobs:
    """Begin or cease to hear, on this session, that jobs may have become free."""

    wanted: bool


@dataclass(frozen=True, slots=True)
class Ping:
    """Make one round trip on the bound session: a bare protocol Sync, no statement, no transaction."""


Question = (
    Register
    | Rebind
    | ReadGrants
    | Beat
    | Watch
    | WatchForEntry
    | Fence
    | Grow
    | Shrink
    | ReadPlanInputs
    | SavePlan
    | LiftQuarantine
    | Prune
    | BeginLeave
    | Leave
    | HearJobs
    | Ping
)
