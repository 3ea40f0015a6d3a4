"""A node's belief about its own tokens, and the tokens on their way out.

A token on its way passes these states; the table is the whole truth about them::

    wanted    the plan names this node; somebody else may still hold the token
    held      granted by the database *and the grant was acknowledged*: only now is it believed
    giving    no longer believed; the application lets go, bounded by the hand-over time
    drained   the application has let go (or the bound ran out): the database may be told
    free      the database was told, and said so

Belief is always within what the database grants: it grows after the acknowledgement and shrinks before the
request. A hand-over that has begun completes even if the plan changes its mind: the token comes back under a
new epoch.

The right to lead passes the same states. `tokens` has it among the others; `pool`, and every change that a method
gives for the application to be told of, leaves it out.
"""

from dataclasses import dataclass

from jobsync.core.holding import NOTHING, Grant, Holding
from jobsync.core.leases import Instant, Lease
from jobsync.core.pool import pool_of
from jobsync.core.tokens import TokenSet

TOKEN_STATES: dict[str, tuple[tuple[str, str], ...]] = {
    "wanted": (("granted", "held"), ("plan changed", "free")),
    "held": (("plan changed", "giving"), ("fenced", "free"), ("row lease ran out", "giving")),
    "giving": (("application let go", "drained"), ("hand-over time ran out", "drained"), ("fenced", "free")),
    "drained": (("shrink acknowledged", "free"), ("fenced", "free")),
    "free": (("plan changed", "wanted"),),
}


@dataclass(slots=True)
class Giving:
    """One hand-over under way."""

    serial: int
    tokens: TokenSet
    since_sec: float
    drained: bool = False


class Belief:
    """What this incarnation holds, what it gives up, and until when it is certain of either."""

    def __init__(self) -> None:
        self.grants: tuple[Grant, ...] = ()
        self.tokens = TokenSet()
        self.pool = self.tokens
        self.giving: list[Giving] = []
        self.row: Lease | None = None
        self.session: Lease | None = None
        self._serial = 0

    def certain_at(self, now: Instant, *, with_session: bool) -> bool:
        """Tell whether the leases that this node lives under are certain."""
        if self.row is None or not self.row.holds_at(now):
            return False
        return not with_session or (self.session is not None and self.session.holds_at(now))

    def holding(self, incarnation: int, *, with_session: bool) -> Holding:
        """Give the value that readers evaluate at the instant of their question."""
        if self.row is None or (with_session and self.session is None):
            return NOTHING
        leases = [self.row] + ([self.session] if with_session and self.session is not None else [])
        return Holding(
            tokens=self.pool,
            grants=self.grants,
            boot_until_sec=min(lease.boot_until_sec for lease in leases),
            wall_until_sec=min(lease.wall_until_sec for lease in leases),
            incarnation=incarnation,
        )

    @property
    def all_giving(self) -> TokenSet:
        """All tokens on their way out: granted still, believed no more."""
        tokens = TokenSet()
        for giving in self.giving:
            tokens |= giving.tokens
        return tokens

    def believe(self, grant: Grant) -> None:
        """Add a grant that the database has acknowledged."""
        self._set((*self.grants, grant))

    def give(self, tokens: TokenSet, now_sec: float) -> Giving:
        """Stop believing in tokens and begin to hand them over."""
        self._remove(tokens)
        self._serial += 1
        giving = Giving(self._serial, tokens, now_sec)
        self.giving.append(giving)
        return giving

    def drained(self, serial: int) -> None:
        """Note that the application let go of one hand-over's tokens."""
        for giving in self.giving:
            if giving.serial == serial:
                giving.drained = True

    def overdue(self, before_sec: float) -> list[Giving]:
        """List the hand-overs begun before an instant that the application has not let go of."""
        return [giving for giving in self.giving if not giving.drained and giving.since_sec <= before_sec]

    def ready_to_shrink(self) -> TokenSet:
        """Give the tokens that the database may be told of."""
        tokens = TokenSet()
        for giving in self.giving:
            if giving.drained:
                tokens |= giving.tokens
        return tokens

    def uncovered_since_sec(self, tokens: TokenSet) -> float | None:
        """Tell since when the first of these tokens has been on its way out; None where none of them is."""
        return min((giving.since_sec for giving in self.giving if giving.tokens & tokens), default=None)

    def shrunk(self, tokens: TokenSet) -> None:
        """Note that the database freed tokens."""
        for giving in self.giving:
            giving.tokens -= tokens
        self.giving = [giving for giving in self.giving if giving.tokens]

    def drop(self) -> TokenSet:
        """Believe nothing any more, at once; give what was believed."""
        lost = self.pool
        self._set(())
        return lost

    def forget(self) -> TokenSet:
        """Drop the belief and everything on its way: the database took it all."""
        self.giving = []
        self.row = None
        self.session = None
        return self.drop()

    def reconcile(self, row: tuple[Grant, ...]) -> tuple[TokenSet, TokenSet]:
        """Take the database's word for what is held, except for what is being given; return (removed, added).

        Used on the same server and timeline, where the row is the truth about an operation of unknown outcome.
        """
        before = self.pool
        granted = _union(row)
        for giving in self.giving:
            giving.tokens &= granted
        self.giving = [giving for giving in self.giving if giving.tokens]
        outgoing = self.all_giving
        self._set(tuple(Grant(g.epoch, g.tokens - outgoing) for g in row if g.tokens - outgoing))
        return before - self.pool, self.pool - before

    def reconcile_with_stranger(self, row: tuple[Grant, ...], now_sec: float) -> TokenSet:
        """Take only what both the database and the belief know; return what was removed.

        Used after a fail-over, whose rows may be old: what they would *add* may have been given away in commits
        that were lost, so it is handed back unused.
        """
        before = self.tokens
        granted = _union(row)
        for giving in self.giving:
            giving.tokens &= granted
        self.giving = [giving for giving in self.giving if giving.tokens]
        self._set(tuple(Grant(g.epoch, g.tokens & before) for g in row if g.tokens & before))
        surplus = granted - self.tokens - self.all_giving
        if surplus:
            self._serial += 1
            self.giving.append(Giving(self._serial, surplus, now_sec, drained=True))
        return pool_of(before - self.tokens)

    def _remove(self, tokens: TokenSet) -> None:
        self._set(tuple(Grant(g.epoch, g.tokens - tokens) for g in self.grants if g.tokens - tokens))

    def _set(self, grants: tuple[Grant, ...]) -> None:
        self.grants = grants
        self.tokens = _union(grants)
        pool = pool_of(self.tokens)
        if pool != self.pool:  # Readers remember answers for as long as they see the same set.
            self.pool = pool


def _union(grants: tuple[Grant, ...]) -> TokenSet:
    return TokenSet.from_ranges([piece for grant in grants for piece in grant.tokens.ranges])
