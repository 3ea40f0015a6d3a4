"""What the database says to a question."""

from collections.abc import Mapping
from dataclasses import dataclass

from jobsync.core.holding import Grant
from jobsync.core.messages.values import Sighting
from jobsync.core.steering import FREE, Steering
from jobsync.core.tokens import TokenSet


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
    """What one beat brings back. `target` is None when the plan is the one already known, or does not know this node.

    `live` counts live nodes that take tokens, and `roster` changes as they come and go; `members` counts everybody.
    """

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
    """One snapshot: nodes oldest first, today's targets, locks (token, task, patterns) in order of registration.

    `tokenless` are the nodes that take no tokens; `planned_tokenless` those whose target of today was made for such.
    """

    plan_version: int
    lock_version: int
    total_tokens: int
    began_at: str
    nodes: tuple[str, ...]
    fenced: frozenset[str]
    targets: Mapping[str, TokenSet]
    locks: tuple[tuple[int, str, tuple[str, ...]], ...]
    tokenless: frozenset[str] = frozenset()
    planned_tokenless: frozenset[str] = frozenset()
    steering: Steering = FREE


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
    """The exit is announced; `live` nodes that take tokens remain."""

    live: int


@dataclass(frozen=True, slots=True)
class Left:
    """The row is gone."""


@dataclass(frozen=True, slots=True)
class JobsHeard:
    """The session hears of jobs now, or no more."""


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
    | JobsHeard
    | Pong
    | NotCurrent
)
