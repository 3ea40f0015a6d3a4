"""What an administrator is told of a fleet, as values. Times are the database's; JSON has these field by field."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class HeldRange:
    """The tokens from `first` up to, not including, `end`: who holds them, and for whom the plan wants them.

    `node`, `epoch` and `assigned_at` are None where nobody holds them, `intended` where the plan has them for nobody.
    """

    first: int
    end: int
    node: str | None
    intended: str | None
    epoch: int | None
    assigned_at: datetime | None

    @property
    def size(self) -> int:
        """Count the tokens."""
        return self.end - self.first


@dataclass(frozen=True, slots=True)
class TokenMove:
    """Tokens that pass from one node to another; None is nobody. `ranges` are (first, end), end not included."""

    source: str | None
    target: str | None
    tokens: int
    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class PastRebalance:
    """One distribution that moved something.

    `duration_ms` is what planning took. `settled_ms` is the time from the plan until every token that it moved was
    granted to its new owner; None where some have not arrived yet, or arrived under a later plan.

    `uncovered_ms` is the longest that any token which arrived under this plan was without an owner: from the instant
    at which its last owner ceased to believe in it, by that node's own word, until the grant. When a process died
    nobody can say; what it had counts from the last sign of life that whoever fenced it had seen, a session or a beat.
    None where no token that arrived had an owner before.
    """

    id: int
    triggered_at: datetime
    reason: str
    leader: str
    nodes_before: int
    nodes_after: int
    tokens_moved: int
    duration_ms: int
    settled_ms: int | None
    uncovered_ms: int | None
    plan_version: int
    moves: tuple[TokenMove, ...]


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """What a node still has: tokens, and jobs that it has taken and not ended."""

    tokens: int
    jobs: int


@dataclass(frozen=True, slots=True)
class LockStatus:
    """One lock. `step` is the place, from 1, of the pattern that decides now; None: none matches a live node.

    `decides` is False where another lock on the same token was registered first.
    """

    task_id: str
    token_id: int
    node_patterns: tuple[str, ...]
    reason: str | None
    created_by: str | None
    created_at: datetime
    expires_at: datetime | None
    step: int | None
    matches: tuple[str, ...]
    decides: bool


@dataclass(frozen=True, slots=True)
class PastOwner:
    """One time that a token was granted to a node: under which epoch, from when, until when, and why.

    `until` is when the node ceased to believe in it, or was last seen alive; None for the owner of now, or where that
    was not written down. `uncovered_ms` is how long nobody had had the token before, None where nobody ever had.
    `reason` is that of the distribution, 'restart' where the node had it before, None where that is not known.
    """

    node: str
    epoch: int
    since: datetime
    until: datetime | None
    uncovered_ms: int | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Who has a task, and why.

    `rule` is a sentence: which lock and which step of it, what people steer, or the even deal. `past` are the owners
    that the history still has, newest first, the one of now among them.
    """

    task_id: str
    token: int
    owner: str | None
    owner_is_live: bool
    epoch: int | None
    since: datetime | None
    intended: str | None
    rule: str
    lock: LockStatus | None
    past: tuple[PastOwner, ...]


@dataclass(frozen=True, slots=True)
class DryRun:
    """What the leader would plan; nothing was written. `counts` are the tokens of each node before and after."""

    without: tuple[str, ...]
    joining: tuple[str, ...]
    reason: str
    total_tokens: int
    tokens_moved: int
    moves: tuple[TokenMove, ...]
    counts: dict[str, tuple[int, int]]
    unplaced: int
    unmatched_locks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QueuePulse:
    """The queue at one moment: jobs that wait, wait for later and run; how long the oldest has waited.

    `drawn` counts the numbers of jobs ever given out; `ended` and `failed` are of the last ten seconds.
    """

    waiting: int
    later: int
    running: int
    oldest_sec: float | None
    drawn: int
    ended: int
    failed: int
    workers: int


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a pruning did: deleted old rows in so many `bites`, dropped whole days, deleted ended jobs."""

    bites: int
    days: int
    jobs: int
