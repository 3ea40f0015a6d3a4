"""Invariant I9: once the faults stop, the fleet comes to rest, and what it rests in is right.

Judged from outside: what the nodes answer, what the database shows, and the targets that the plan names. What the
shares must look like is worked out here anew from the locks, in a few lines that know nothing of how the deal is made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobsync.core.pins import choose
from jobsync.core.pool import LEADERSHIP, pool_of
from jobsync.core.tokens import TokenSet
from jobsync.simulation.checkers import NodeRow, Shown, union
from jobsync.simulation.steered import InForce

Lock = tuple[int, str, tuple[str, ...]]
Targets = Mapping[str, TokenSet]


def unrest(
    shown: Shown,
    targets: Targets,
    held: Sequence[tuple[str, TokenSet]],
    locks: Sequence[Lock],
    total: int,
    steering: InForce,
) -> str:
    """Say what is not yet as it must be at rest; empty when all is.

    `held` has (name, what it answers yes for) of every process that is in the fleet.
    """
    live = [row for row in shown.nodes if row.state == "live"]
    names = sorted(row.name for row in live)
    if sorted(name for name, _ in held) != names:
        return f"processes {sorted(name for name, _ in held)} are there, the database knows {names}"
    places = sorted(name for name in targets if name not in names)  # kept by a freeze for those who left
    if sorted(targets) != sorted([*names, *places]) or (places and not steering.frozen):
        return f"the plan is for {sorted(targets)}, there are {names}"
    for name, tokens in sorted(held):
        if tokens != targets[name]:
            return f"{name} answers yes for {tokens}, the plan wants {targets[name]}"
        row = shown.node(name)
        granted = TokenSet() if row is None else shown.granted(name, row.incarnation)
        if granted != tokens:
            return f"{name} answers yes for {tokens}, the database grants {granted}"
    rested = _Rested(targets, [row.name for row in live if row.takes_tokens], places, locks, total, steering)
    return _wrong_leader(targets, live, steering) or rested.unplaced() or rested.wrong_pins() or rested.uneven()


def _wrong_leader(targets: Targets, live: Sequence[NodeRow], steering: InForce) -> str:
    """Let the first lead that is not drained, else the first of all."""
    wanted = [row.name for row in live if row.name not in steering.drained] or [row.name for row in live]
    leaders = [name for name, tokens in targets.items() if LEADERSHIP in tokens]
    return "" if leaders == wanted[:1] else f"the plan lets {leaders} lead"


@dataclass(frozen=True)
class _Rested:
    """What a fleet rests in, to be found right."""

    targets: Targets
    takers: Sequence[str]
    places: Sequence[str]
    locks: Sequence[Lock]
    total: int
    steering: InForce

    @property
    def _open(self) -> list[str]:
        return [name for name in self.takers if self.steering.is_open(name)]

    def unplaced(self) -> str:
        """Every token has one place, where somebody may be given it, and none is where it may not be."""
        planned, whole = pool_of(union(self.targets.values())), TokenSet.span(0, self.total)
        if planned - whole or (self._open and planned != whole):
            return f"the plan covers {planned} of {self.total} tokens"
        if sum(len(pool_of(tokens)) for tokens in self.targets.values()) != len(planned):
            return "the plan names a token twice"
        for name, tokens in self.targets.items():
            if pool_of(tokens) and name not in (*self.takers, *self.places):
                return f"the plan has tokens for {name}, which takes none"
            if pool_of(tokens) and name in self.steering.drained and self._open:
                return f"the plan has tokens for {name}, which is drained"
        return ""

    def _pins(self) -> dict[int, tuple[str, ...]]:
        """Give the open nodes that may have each pinned token; the lock registered first decides."""
        first: dict[int, tuple[str, ...]] = {}
        for token, _, patterns in self.locks:
            if token < self.total:
                first.setdefault(token, patterns)
        chosen = {token: choose(patterns, self._open) for token, patterns in first.items()}
        return {token: choice[1] for token, choice in chosen.items() if choice is not None}

    def wrong_pins(self) -> str:
        """Pinned tokens are where they belong; those that a cordoned node has are judged when it is planned for."""
        if self.steering.frozen:
            return ""
        for token, allowed in self._pins().items():
            owner = next((name for name, tokens in self.targets.items() if token in tokens), None)
            if owner not in allowed and (owner is None or self.steering.is_open(owner)):
                return f"token {token} is pinned to {allowed} and planned for {owner}"
        return ""

    def uneven(self) -> str:
        """What is not pinned is shared evenly by those who may be given tokens."""
        if self.steering.frozen:
            return ""
        free = TokenSet.span(0, self.total) - TokenSet.of(self._pins())
        counts = {name: len(self.targets[name] & free) for name in self._open}
        return f"shares are uneven: {counts}" if counts and max(counts.values()) - min(counts.values()) > 1 else ""
