"""What happens to the member; each event carries the instant at which it is handled."""

from dataclasses import dataclass
from enum import Enum

from jobsync.core.errors import JobsyncError
from jobsync.core.leases import Instant
from jobsync.core.messages.answers import Answer
from jobsync.core.messages.questions import Question
from jobsync.core.messages.values import Hello


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
class JobsWanted:
    """Somebody in this process wants to hear of jobs, or nobody any more."""

    at: Instant
    wanted: bool


@dataclass(frozen=True, slots=True)
class LeaveAsked:
    """The application wants out."""

    at: Instant


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time passed."""

    at: Instant


Event = (
    Started
    | Connected
    | ConnectFailed
    | Answered
    | Refused
    | Broken
    | Notified
    | Drained
    | JobsWanted
    | LeaveAsked
    | Ticked
)
