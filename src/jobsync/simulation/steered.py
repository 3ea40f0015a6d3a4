"""Invariant I12: a plan obeys what people ask of the fleet, as far as whoever made it could know.

Judged from outside: what the database showed when the leader read it, against the targets that it wrote. The rules are
those that people are told, each by itself; how a deal is made is not known here.

* Who is cordoned or drained is to get nothing.
* Who is drained is to keep nothing, where somebody may take it.
* Who is cordoned and there is to lose nothing but what is pinned.
* In a frozen fleet nobody is to lose anything but the certainly dead and the drained.
* The certainly dead are to have nothing.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from jobsync.core.pool import pool_of
from jobsync.core.tokens import TokenSet
from jobsync.postgres.statement import Row


@dataclass(frozen=True, slots=True)
class InForce:
    """What is asked of nodes, by name, and of the fleet."""

    cordoned: frozenset[str] = frozenset()
    drained: frozenset[str] = frozenset()
    frozen: bool = False

    def is_open(self, name: str) -> bool:
        """Whether a node may be given tokens."""
        return name not in self.cordoned | self.drained


@dataclass(frozen=True, slots=True)
class PlanShown:
    """What the database shows of a plan: nodes as (state, takes tokens), the pool's targets, steering, pins."""

    nodes: Mapping[str, tuple[str, bool]]
    targets: Mapping[str, TokenSet]
    steering: InForce
    pinned: TokenSet

    def takers(self) -> list[str]:
        """Name the live nodes that may be given tokens."""
        live = [name for name, (state, takes_tokens) in self.nodes.items() if state == "live" and takes_tokens]
        return [name for name in live if self.steering.is_open(name)]


def plan_shown(rows: list[Row]) -> PlanShown:
    """Read the rows of `show_plan.sql`."""
    nodes, targets, steering, pinned = map(json.loads, rows[0])
    asked = {
        verb: frozenset(node for other, node in steering if other == verb) for verb in ("cordon", "drain", "freeze")
    }
    return PlanShown(
        {name: (state, takes_tokens) for name, state, takes_tokens in nodes},
        {node: pool_of(TokenSet.parse(tokens)) for node, tokens in targets},
        InForce(asked["cordon"], asked["drain"], frozen=bool(asked["freeze"])),
        TokenSet.of(pinned),
    )


def disobeyed(read: PlanShown, written: PlanShown) -> str:
    """Say where a plan, made from what was read, does not obey; empty when it does."""
    return next(_disobeyed(read, written.targets), "")


def _disobeyed(read: PlanShown, after: Mapping[str, TokenSet]) -> Iterator[str]:
    steering, takers = read.steering, read.takers()
    nothing = TokenSet()
    for name in sorted(read.targets.keys() | after.keys()):
        before, then = read.targets.get(name, nothing), after.get(name, nothing)
        state, takes_tokens = read.nodes.get(name, ("gone", True))
        dead = state == "fenced" or (state == "live" and not takes_tokens)
        drained = name in steering.drained
        if not steering.is_open(name) and then - before:
            yield f"{name} is {'drained' if drained else 'cordoned'} and is to get {then - before}"
        if drained and takers and then:
            yield f"{name} is drained and is to have {then}, although {takers} may take it"
        if dead and then:
            yield f"{name} is certainly dead and is to have {then}"
        if dead or drained:
            continue
        if steering.frozen and before - then:
            yield f"the fleet is frozen and {name} ({state}) is to lose {before - then}"
        if name in steering.cordoned and state == "live" and before - then - read.pinned:
            yield f"{name} is cordoned and is to lose {before - then - read.pinned}"
