"""What a deal must come to, worked out token by token and by trying everything: for small worlds only.

Nothing here is clever, shares code with the deal, or knows of ranges. `dumb_deal` does not say which token goes
where, since several deals may be equally good; it says what all good deals have in common.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import combinations

from jobsync.core.pins import LikePattern, Pin


@dataclass(frozen=True)
class Dumb:
    """Where each pinned token goes, which pins match nobody, and how few of the other tokens can move."""

    pinned: dict[int, str]
    unmatched: list[Pin]
    fewest_moved: int


def holder_of(token: int, names: Iterable[str], held: Mapping[str, AbstractSet[int]]) -> str | None:
    """Find the first of the names that holds a token."""
    for name in names:
        if token in held.get(name, ()):
            return name
    return None


def dumb_deal(total: int, nodes: Sequence[str], held: Mapping[str, AbstractSet[int]], pins: Sequence[Pin]) -> Dumb:
    """Work out a deal to the given nodes, of which there is at least one and none twice."""
    unmatched, allowed = [], {}
    for token in range(total):
        pin = next((pin for pin in pins if pin.token == token), None)
        if pin is not None:
            matches = first_matches(pin, nodes)
            if matches:
                allowed[token] = matches
            else:
                unmatched.append(pin)
    pinned: dict[int, str] = {}
    for token, matches in allowed.items():
        holder = holder_of(token, nodes, held)
        if holder in matches:
            pinned[token] = holder
    for token, matches in allowed.items():
        if token not in pinned:
            pinned[token] = min(matches, key=lambda name: list(pinned.values()).count(name))
    unpinned = [token for token in range(total) if token not in pinned]
    return Dumb(pinned, unmatched, fewest_moved(unpinned, nodes, held))


def first_matches(pin: Pin, nodes: Sequence[str]) -> list[str]:
    """List the nodes that match the first of a pin's patterns which matches any node, by seniority."""
    for pattern in pin.patterns:
        matches = [name for name in nodes if LikePattern(pattern).matches(name)]
        if matches:
            return matches
    return []


def fewest_moved(tokens: Sequence[int], nodes: Sequence[str], held: Mapping[str, AbstractSet[int]]) -> int:
    """Try every choice of the nodes that get one token more: the fewest tokens that change hands."""
    floor, extra = divmod(len(tokens), len(nodes))
    holders = [holder_of(token, nodes, held) for token in tokens]
    kept = [
        sum(min(holders.count(name), floor + (name in luckier)) for name in nodes)
        for luckier in combinations(nodes, extra)
    ]
    return len(tokens) - max(kept)
