"""The words in which the pure member and the world speak: events in, effects out, questions and answers between.

Events carry the instant at which they are handled; effects are values that the runtime carries out in order.
A question is one database operation on the node's own session, of which at most one is under way; its answer comes
back in an `Answered` event together with the instant just before the question was sent. No word here knows SQL.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from jobsync.core.errors import JobsyncError
from jobsync.core.holding import Grant, Holding
from jobsync.core.leases import Instant
from jobsync.core.tokens import TokenSet

# --- who is meant ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Identity:
    """A node as every one of its statements names it: an older incarnation or session changes nothing."""

    name: str
    incarnation: int
    bind: int


@dataclass(frozen=True, slots=True)
class Hello:
    """What a new session says of the server behind it."""

    direct: bool
    system_id: str
    timeline: str
    durable: bool
    round_trip_sec: float


@dataclass(frozen=True, slots=True)
class Sighting:
    """Another node as an observer reads it: what matters is what advances, never a timestamp."""

    who: Identity
    beats: int
    row_lease_ms: int
    session_lease_ms: int | None
    absent: bool
    leaving: bool


# --- questions -------------------------------------------------------------------------------


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
    """Read what the database says this incarnation holds: after a broken session the row is the truth."""

    name: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class Beat:
    """Prove life and learn what changed. `check` also looks for expired locks."""

    me: Identity
    applied_version: int
    known_plan_version: int
    check: bool


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
    """Take every token from a node that was silent (rule A) or absent (rule B) for longer than its lease."""

    who: Identity
    beats: int
    rule: str


@dataclass(frozen=True, slots=True)
class Grow:
    """Take what the plan wants for this node and nobody holds."""

    me: Identity


@dataclass(frozen=True, slots=True)
class Shrink:
    """Give tokens up."""

    me: Identity
    tokens: TokenSet


@dataclass(frozen=True, slots=True)
class ReadPlanInputs:
    """Read everything that the deal depends on, in one snapshot."""

    locks_enabled: bool


@dataclass(frozen=True, slots=True)
class SavePlan:
    """Write a plan, if nobody planned since its inputs were read."""

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
    | Ping
)

# --- answers ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Registration:
    """`registered`, or why not: `held` by another incarnation, `mismatch` with the settings of others."""

    outcome: str
    incarnation: int | None
    bind: int | None
    total_tokens: int | None
    hash_function: str | None
    generation: int | None
    quarantined: bool | None


@dataclass(frozen=True, slots=True)
class Rebound:
    """The incarnation goes on under a new bind."""

    bind: int
    generation: int
    quarantined: bool


@dataclass(frozen=True, slots=True)
class HeldGrants:
    """What the database says this incarnation holds."""

    grants: tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class BeatReply:
    """What one beat brings back. `target` is None when the plan is the one already known."""

    plan_version: int
    planned: bool
    target: TokenSet | None
    leader: str | None
    live: int
    elders: int
    members: int
    roster: str
    plan_due: bool
    quarantined: bool
    longest_lease_ms: int


@dataclass(frozen=True, slots=True)
class Sightings:
    """All nodes that were looked at."""

    nodes: tuple[Sighting, ...]


@dataclass(frozen=True, slots=True)
class FenceReply:
    """Whether the fence was carried out; False when the node had moved on."""

    done: bool


@dataclass(frozen=True, slots=True)
class Growth:
    """`granted` with its grant, or `nothing`, `quarantined`, `fenced`."""

    outcome: str
    grant: Grant | None


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The tokens are free."""


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """One snapshot: nodes oldest first, today's targets, locks (token, task, patterns) in order of registration."""

    plan_version: int
    lock_version: int
    total_tokens: int
    began_at: str
    nodes: tuple[str, ...]
    fenced: frozenset[str]
    targets: Mapping[str, TokenSet]
    locks: tuple[tuple[int, str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class PlanSaved:
    """The plan's number, or None when somebody planned in between."""

    version: int | None


@dataclass(frozen=True, slots=True)
class QuarantineLifted:
    """Grants are allowed again."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """Old rows are gone; `more` are left."""

    more: bool


@dataclass(frozen=True, slots=True)
class LeaveBegun:
    """The exit is announced; `live` nodes remain."""

    live: int


@dataclass(frozen=True, slots=True)
class Left:
    """The row is gone."""


@dataclass(frozen=True, slots=True)
class Pong:
    """The session answered."""


@dataclass(frozen=True, slots=True)
class NotCurrent:
    """The database knows this incarnation or this bind no more: the node was fenced."""


Answer = (
    Registration
    | Rebound
    | HeldGrants
    | BeatReply
    | Sightings
    | FenceReply
    | Growth
    | Shrunk
    | PlanInputs
    | PlanSaved
    | QuarantineLifted
    | Pruned
    | LeaveBegun
    | Left
    | Pong
    | NotCurrent
)

# --- events ----------------------------------------------------------------------------------


class Channel(Enum):
    """What a notification hints at."""

    PLAN = "plan"
    FREE = "free"


@dataclass(frozen=True, slots=True)
class Started:
    """The engine runs."""

    at: Instant


@dataclass(frozen=True, slots=True)
class Connected:
    """A new session stands."""

    at: Instant
    hello: Hello


@dataclass(frozen=True, slots=True)
class ConnectFailed:
    """No session could be made. `fatal`: asking again will not help."""

    at: Instant
    error: JobsyncError


@dataclass(frozen=True, slots=True)
class Answered:
    """The question under way was answered; `sent` is the instant just before it was sent."""

    at: Instant
    sent: Instant
    question: Question
    answer: Answer


@dataclass(frozen=True, slots=True)
class Refused:
    """The question under way failed on a sound session, as on a lock that is held; it may be asked again."""

    at: Instant
    question: Question
    error: str


@dataclass(frozen=True, slots=True)
class Broken:
    """The session is gone, or did not answer within its deadline; the question's outcome is unknown."""

    at: Instant
    error: str


@dataclass(frozen=True, slots=True)
class Notified:
    """The database hints that something changed. A hint may be lost: the next beat reads the truth."""

    at: Instant
    channel: Channel
    leader: str = ""  # whom alone it concerns; empty: everybody


@dataclass(frozen=True, slots=True)
class Drained:
    """The application has let go of the tokens of one hand-over."""

    at: Instant
    serial: int


@dataclass(frozen=True, slots=True)
class LeaveAsked:
    """The application wants out."""

    at: Instant


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time passed."""

    at: Instant


Event = Started | Connected | ConnectFailed | Answered | Refused | Broken | Notified | Drained | LeaveAsked | Ticked

# --- effects ---------------------------------------------------------------------------------


class Phase(Enum):
    """Where a member is in its life; `TRANSITIONS` in jobsync.core.member is the table."""

    NEW = "new"
    LIVE = "live"
    LEAVING = "leaving"
    LEFT = "left"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Standing:
    """All that readers of other threads may know of the member, as one value."""

    phase: Phase
    incarnation: int
    holding: Holding
    connected: bool
    settled: bool
    plan_version: int
    target: TokenSet | None
    leader: str | None
    live: int
    last_reply: Instant | None
    session_lease_ms: int | None


@dataclass(frozen=True, slots=True)
class OpenSession:
    """Make a new session; an older one that did not answer is kept until the new one is bound."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Send a question on the session; without an answer by `deadline_sec` (boot clock) the session is given up."""

    question: Question
    deadline_sec: float


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send `Ticked` at this boot-clock reading at the latest."""

    boot_sec: float


@dataclass(frozen=True, slots=True)
class Publish:
    """Let all readers see this from now on. Comes before any effect that depends on readers having seen it."""

    standing: Standing


NOTHING_TO_OWN = "no tokens to own"  # the reason of a first assignment that is empty


@dataclass(frozen=True, slots=True)
class Change:
    """One change to tell the application of: removed first, then added, then the rebalance."""

    removed: TokenSet
    added: TokenSet
    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class Tell:
    """Call the application's callbacks; nothing waits for them."""

    change: Change


@dataclass(frozen=True, slots=True)
class Drain:
    """Let the application go of tokens that it may no longer use; answer with `Drained(serial)`.

    `change` is None where no callback is called: at exit, and for the right to lead.
    """

    serial: int
    tokens: TokenSet
    change: Change | None


class FactKind(Enum):
    """Stable names of what happened, for logs, metrics and tests."""

    REGISTERED = "registered"
    REBOUND = "rebound"
    SESSION_BROKEN = "session_broken"
    SESSION_LEASE_OFF = "session_lease_off"
    SESSION_LEASE_RAISED = "session_lease_raised"
    LEASE_RAN_OUT = "lease_ran_out"
    FENCED_BY_OTHERS = "fenced_by_others"
    FENCED_OTHER = "fenced_other"
    GRANTED = "granted"
    GAVE_UP = "gave_up"
    LEADS = "leads"
    LEADS_NO_MORE = "leads_no_more"
    HANDOVER_OVERDUE = "handover_overdue"
    PLANNED = "planned"
    LOCKS_UNMATCHED = "locks_unmatched"
    LOCKS_CONFLICT = "locks_conflict"
    QUARANTINED = "quarantined"
    REFUSED = "refused"
    NOT_DURABLE = "not_durable"
    WAITING_FOR_NAME = "waiting_for_name"
    VIOLATION = "violation"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that happened: its stable name, a sentence for people, and how loud it is to be said."""

    kind: FactKind
    text: str
    level: str = "info"


@dataclass(frozen=True, slots=True)
class Report:
    """Say a fact."""

    fact: Fact


@dataclass(frozen=True, slots=True)
class Finish:
    """The member's life is over; an error says why it did not end well."""

    error: JobsyncError | None


Effect = OpenSession | Ask | WakeAt | Publish | Tell | Drain | Report | Finish
