"""Invariant I9: once the faults stop, the fleet comes to rest, and what it rests in is right.

Judged from outside: what the nodes answer, what the database shows, and the targets that the plan names. What the
shares must look like is worked out here anew from the locks, in a few lines that know nothing of how the deal is made.
"""

from collections.abc import Mapping, Sequence

from jobsync.core.pins import choose
from jobsync.core.pool import LEADERSHIP, RIGHT_TO_LEAD, pool_of
from jobsync.core.tokens import TokenSet
from jobsync.simulation.checkers import NodeRow, Shown, union

Lock = tuple[int, str, tuple[str, ...]]


def unrest(
    shown: Shown,
    targets: Mapping[str, TokenSet],
    held: Sequence[tuple[str, TokenSet]],
    locks: Sequence[Lock],
    total: int,
) -> str:
    """Say what is not yet as it must be at rest; empty when all is.

    `held` has (name, what it answers yes for) of every process that is in the fleet.
    """
    live = [row for row in shown.nodes if row.state == "live"]
    takers = [row.name for row in live if row.takes_tokens]
    if sorted(name for name, _ in held) != sorted(row.name for row in live):
        return (
            f"processes {sorted(name for name, _ in held)} are there, the database knows {[row.name for row in live]}"
        )
    if sorted(targets) != sorted(row.name for row in live):
        return f"the plan is for {sorted(targets)}"
    for name, tokens in sorted(held):
        if tokens != targets[name]:
            return f"{name} answers yes for {tokens}, the plan wants {targets[name]}"
        row = shown.node(name)
        granted = TokenSet() if row is None else shown.granted(name, row.incarnation)
        if granted != tokens:
            return f"{name} answers yes for {tokens}, the database grants {granted}"
    return (
        _unplaced(targets, takers, total)
        or _wrong_leader(targets, live)
        or _wrong_pins(targets, takers, locks)
        or _uneven(targets, takers, locks, total)
    )


def _unplaced(targets: Mapping[str, TokenSet], takers: Sequence[str], total: int) -> str:
    planned = pool_of(union(targets.values()))
    if planned != TokenSet.span(0, total if takers else 0):
        return f"the plan covers {planned} of {total} tokens"
    if sum(len(pool_of(tokens)) for tokens in targets.values()) != len(planned):
        return "the plan names a token twice"
    if any(pool_of(tokens) for name, tokens in targets.items() if name not in takers):
        return "the plan has tokens for a node that takes none"
    return ""


def _wrong_leader(targets: Mapping[str, TokenSet], live: Sequence[NodeRow]) -> str:
    leaders = [name for name, tokens in targets.items() if LEADERSHIP in tokens]
    return "" if leaders == [row.name for row in live[:1]] else f"the plan lets {leaders} lead"


def _pins(takers: Sequence[str], locks: Sequence[Lock]) -> dict[int, tuple[str, ...]]:
    """Give the nodes that may have each pinned token; the lock registered first decides."""
    first: dict[int, tuple[str, ...]] = {}
    for token, _, patterns in locks:
        first.setdefault(token, patterns)
    chosen = {token: choose(patterns, takers) for token, patterns in first.items()}
    return {token: choice[1] for token, choice in chosen.items() if choice is not None}


def _wrong_pins(targets: Mapping[str, TokenSet], takers: Sequence[str], locks: Sequence[Lock]) -> str:
    for token, allowed in _pins(takers, locks).items():
        owner = next((name for name, tokens in targets.items() if token in tokens), None)
        if owner not in allowed:
            return f"token {token} is pinned to {allowed} and planned for {owner}"
    return ""


def _uneven(targets: Mapping[str, TokenSet], takers: Sequence[str], locks: Sequence[Lock], total: int) -> str:
    free = TokenSet.span(0, total) - TokenSet.of(_pins(takers, locks)) - RIGHT_TO_LEAD
    counts = {name: len(targets[name] & free) for name in takers}
    return f"shares are uneven: {counts}" if counts and max(counts.values()) - min(counts.values()) > 1 else ""
