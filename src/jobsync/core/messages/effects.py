"""What the member wants done: values that the runtime carries out in order."""

from dataclasses import dataclass
from enum import Enum

from jobsync.core.errors import JobsyncError
from jobsync.core.holding import NOTHING, Holding
from jobsync.core.leases import Instant
from jobsync.core.messages.questions import Question
from jobsync.core.tokens import TokenSet


class Phase(Enum):
    """Where a member is in its life; `TRANSITIONS` in jobsync.core.member_state is the table."""

    NEW = "new"
    LIVE = "live"
    LEAVING = "leaving"
    LEFT = "left"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Standing:
    """All that readers of other threads may know of the member, as one value.

    `live` counts live nodes that take tokens. `hears_jobs`: a session is bound, and is notified of jobs. `servers_met`
    grows when the rows come from another server or timeline than before, which may lack what was acknowledged.
    """

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
    hears_jobs: bool = False
    servers_met: int = 0


# How a node stands that is in no fleet, not yet or no more.
NOBODY = Standing(
    phase=Phase.NEW,
    incarnation=0,
    holding=NOTHING,
    connected=False,
    settled=False,
    plan_version=0,
    target=None,
    leader=None,
    live=0,
    last_reply=None,
    session_lease_ms=None,
)


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
    WRITE_REFUSED = "write_refused"  # Said by the runtime, as is what follows.
    JOBS_RECOVERED = "jobs_recovered"


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that happened: its stable name, a sentence for people, and how loud it is to be said.

    `count` says how many (tokens, jobs) it was about, `took_sec` how long it took; only where that is of use. `details`
    are what else a program would like to know, by name.
    """

    kind: FactKind
    text: str
    level: str = "info"
    count: int = 1
    took_sec: float | None = None
    details: tuple[tuple[str, str | int], ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """Say a fact."""

    fact: Fact


@dataclass(frozen=True, slots=True)
class Finish:
    """The member's life is over; an error says why it did not end well."""

    error: JobsyncError | None


Effect = OpenSession | Ask | WakeAt | Publish | Tell | Drain | Report | Finish
