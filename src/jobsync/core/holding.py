"""What a node may answer without asking: the tokens it believes in, and until when.

A `Holding` is one immutable value. The engine replaces it as a whole whenever a lease is renewed or a grant
comes or goes; a reader in any thread takes one reference and evaluates it at the instant of its own question, so
that a process which was paused answers False at its first question after it wakes.
"""

from dataclasses import dataclass

from jobsync.core.leases import Instant
from jobsync.core.pool import LEADERSHIP
from jobsync.core.tokens import TokenSet


@dataclass(frozen=True, slots=True)
class Grant:
    """Tokens granted under one epoch: the fencing number that only grows."""

    epoch: int
    tokens: TokenSet


@dataclass(frozen=True, slots=True)
class Fence:
    """The right to act on a token, as the database can check it: of which registration, under which epoch."""

    incarnation: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Holding:
    """Tokens believed in, and the clock readings beyond which the belief is not certain.

    `tokens` are those of the pool; the right to lead, where it is held, stands in `grants` alone.
    """

    tokens: TokenSet
    grants: tuple[Grant, ...]
    boot_until_sec: float
    wall_until_sec: float
    incarnation: int

    def certain_at(self, now: Instant) -> bool:
        """Tell whether the leases behind this holding are certain at an instant."""
        return now.boot_sec < self.boot_until_sec and now.wall_sec < self.wall_until_sec

    def fence_of(self, token: int) -> Fence | None:
        """Give the fence under which a token is held, or None."""
        for grant in self.grants:
            if token in grant.tokens:
                return Fence(self.incarnation, grant.epoch)
        return None

    @property
    def leads_under(self) -> Fence | None:
        """The fence under which the right to lead is held, or None."""
        return self.fence_of(LEADERSHIP)


NOTHING = Holding(
    tokens=TokenSet(), grants=(), boot_until_sec=float("-inf"), wall_until_sec=float("-inf"), incarnation=0
)
