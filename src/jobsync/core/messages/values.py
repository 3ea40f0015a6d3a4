"""Who is meant, and what is seen of others: values that questions, answers and events have in common."""

from dataclasses import dataclass


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
class Server:
    """Whose rows are meant: both parts change at a fail-over."""

    system_id: str
    timeline: str


@dataclass(frozen=True, slots=True)
class Sighting:
    """Another node as an observer reads it: what matters is what advances, never a timestamp."""

    who: Identity
    beats: int
    row_lease_ms: int
    session_lease_ms: int | None
    absent: bool
    leaving: bool
