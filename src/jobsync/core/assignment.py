"""Who gets which tokens: pins first, then even counts, and nothing moves that need not.

Model: a deal is a pure function of four things: how many tokens there are, the live nodes in order of
seniority, what each node is meant to hold today, and the pins. Any node computes the same deal from the same
four.

1. A pinned token goes to a node that matches the first of its patterns which matches any live node: to its
   present holder if that one matches, else to the match with the fewest pinned tokens.
2. All other tokens are dealt evenly: counts differ by one at most. Each node keeps what it holds up to
   `floor`, and `extra` of them up to `floor + 1`, where `floor, extra = divmod(tokens, nodes)`; nodes that
   hold so many already go before others. So the tokens that move are those that nobody alive holds and those
   above these counts, and no even deal moves fewer.
3. Which of its tokens a node gives, and to whom, is chosen for few ranges (`strips.py`), at no cost in moves.

Authoritative: nothing. A deal is a wish, written down as targets; grants follow it one by one, or not.

Cost grows with nodes, pins and ranges, never with the number of tokens. Every input has an answer: names
that repeat, holders that are gone, holdings that overlap or reach beyond the last token, more nodes than
tokens, no nodes at all.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapreplace
from itertools import pairwise
from typing import Final

from jobsync.core.filling import hand_out
from jobsync.core.opening import release
from jobsync.core.pins import Pin, choose
from jobsync.core.strips import Dues, Strip
from jobsync.core.tokens import TokenSet

_NOTHING: Final = TokenSet()


@dataclass(frozen=True, slots=True)
class Deal:
    """Say who should hold what.

    `targets` has an entry for every live node, and their sets are disjoint; `unplaced` are the tokens that
    nobody can have: all if no node lives, otherwise none; `unmatched` are the pins whose patterns match no
    live node, and whose tokens were dealt as if they were not pinned.
    """

    targets: dict[str, TokenSet]
    unplaced: TokenSet
    unmatched: tuple[Pin, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """Say which tokens pass from one node to another; None stands for nobody."""

    source: str | None
    target: str | None
    tokens: TokenSet


def deal(
    total_tokens: int,
    nodes: Sequence[str],
    held: Mapping[str, TokenSet],
    pins: Iterable[Pin] = (),
    *,
    aside: TokenSet = _NOTHING,
) -> Deal:
    """Deal the tokens 0 to `total_tokens` - 1 to the live nodes: pins first, then even, moving the fewest.

    `nodes` are the live nodes, most senior first; `held` is what nodes are meant to hold today, those that
    are gone included; `aside` are tokens of the line that are not dealt at all, nor counted in anybody's share, nor
    pinned. Where holdings overlap the more senior holder counts, live before gone; tokens and
    pins outside the line are ignored; of several pins of one token the first counts. Never raises; the same
    input gives the same deal everywhere, and a deal that is dealt again moves nothing.
    """
    names = tuple(dict.fromkeys(nodes))
    wanted = _first_pins(total_tokens, pins)
    if aside:
        wanted = {token: pin for token, pin in wanted.items() if token not in aside}
    if not names:
        return Deal({}, TokenSet.span(0, total_tokens) - aside, tuple(wanted.values()))
    strips = _lay_out(TokenSet.span(0, total_tokens) - aside, names, held)
    placed, unmatched = _place(wanted, names, strips)
    ranges = _even_out(_without(strips, list(placed)), len(names))
    for token, owner in placed.items():
        ranges[owner].append((token, token + 1))
    targets = {name: TokenSet.from_ranges(ranges[owner]) for owner, name in enumerate(names)}
    return Deal(targets, TokenSet(), unmatched)


def moves(before: Mapping[str, TokenSet], after: Mapping[str, TokenSet]) -> tuple[Move, ...]:
    """List what changes hands between two assignments: one move for each pair of nodes, by lowest token.

    Where holdings of one assignment overlap, the holder that comes first in the mapping counts.
    """
    was, now = _disjoint(before.values()), _disjoint(after.values())
    edges = sorted({edge for strip in (*was, *now) for edge in strip[:2]})
    moved: dict[tuple[str | None, str | None], list[tuple[int, int]]] = defaultdict(list)
    sources, targets = _holders((*before, None), was, edges), _holders((*after, None), now, edges)
    for (start, stop), source, target in zip(pairwise(edges), sources, targets, strict=False):
        if source != target:
            moved[source, target].append((start, stop))
    return tuple(Move(*pair, TokenSet.from_ranges(ranges)) for pair, ranges in moved.items())


def _holders(names: tuple[str | None, ...], strips: list[Strip], edges: list[int]) -> Iterator[str | None]:
    """Name the holder of the tokens from each edge on; the last name is that of nobody."""
    upcoming = iter(strips)
    nothing = (edges[-1], edges[-1] + 1, -1) if edges else (0, 0, -1)
    start, stop, holder = next(upcoming, nothing)
    for edge in edges:
        while stop <= edge:
            start, stop, holder = next(upcoming, nothing)
        yield names[holder if start <= edge else -1]


# --- the line ----------------------------------------------------------------------------------


def _lay_out(line: TokenSet, names: tuple[str, ...], held: Mapping[str, TokenSet]) -> list[Strip]:
    """Write down who holds each token of the line today."""
    gone = sorted(held.keys() - set(names))
    # Between the live nodes and the gone ones lies the place of nobody, who holds what the others leave.
    ranked = [held.get(name, TokenSet()) for name in names] + [TokenSet()] + [held[name] for name in gone]
    strips = _disjoint(tokens & line for tokens in ranked)
    if sum([stop - start for start, stop, _ in strips]) == len(line):  # Nothing is nobody's, as nearly always.
        return strips
    free = line - TokenSet.from_ranges(strip[:2] for strip in strips)
    return sorted([*strips, *((start, stop, len(names)) for start, stop in free.ranges)])


def _disjoint(holdings: Iterable[TokenSet]) -> list[Strip]:
    """List the ranges of all holdings, ascending, with the holder's place; in overlaps the first counts."""
    in_order = list(holdings)
    strips = _sorted_strips(in_order)
    if all(before[1] <= after[0] for before, after in pairwise(strips)):
        return strips
    taken = TokenSet()
    for place, tokens in enumerate(in_order):
        in_order[place] = tokens - taken
        taken |= tokens
    return _sorted_strips(in_order)


def _sorted_strips(holdings: Iterable[TokenSet]) -> list[Strip]:
    return sorted((start, stop, place) for place, tokens in enumerate(holdings) for start, stop in tokens.ranges)


def _without(strips: list[Strip], tokens: list[int]) -> list[Strip]:
    """Take single tokens, ascending, out of the line."""
    if not tokens:
        return strips
    remaining: list[Strip] = []
    coming = iter([*tokens, strips[-1][1]])
    token = next(coming)
    for start, stop, owner in strips:
        reached = start
        while token < stop:
            if reached < token:
                remaining.append((reached, token, owner))
            reached = token + 1
            token = next(coming)
        if reached < stop:
            remaining.append((reached, stop, owner))
    return remaining


# --- pins --------------------------------------------------------------------------------------


def _first_pins(total_tokens: int, pins: Iterable[Pin]) -> dict[int, Pin]:
    """Keep the first pin of each token of the line, by token."""
    first: dict[int, Pin] = {}
    for pin in pins:
        if 0 <= pin.token < total_tokens:
            first.setdefault(pin.token, pin)
    return dict(sorted(first.items()))


def _place(
    wanted: dict[int, Pin], names: tuple[str, ...], strips: list[Strip]
) -> tuple[dict[int, int], tuple[Pin, ...]]:
    """Find the node for each pinned token, by token, and the pins that match no live node."""
    matches = _matches_of({pin.patterns for pin in wanted.values()}, names)
    starts = [start for start, _, _ in strips]
    placed: dict[int, int] = {}
    waiting: list[tuple[int, tuple[int, ...]]] = []
    loads = [0] * len(names)
    for token, pin in wanted.items():
        candidates = matches[pin.patterns]
        holder = strips[bisect_right(starts, token) - 1][2]
        if holder in candidates:
            placed[token] = holder
            loads[holder] += 1
        elif candidates:
            waiting.append((token, candidates))
    queues: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for token, candidates in waiting:
        queue = queues.setdefault(candidates, [(0, owner) for owner in candidates])
        placed[token] = _least_loaded(queue, loads)
    return dict(sorted(placed.items())), tuple(pin for pin in wanted.values() if not matches[pin.patterns])


def _matches_of(patterns: Iterable[tuple[str, ...]], names: tuple[str, ...]) -> dict[tuple[str, ...], tuple[int, ...]]:
    """Find the owners that each list of patterns allows."""
    owners = {name: owner for owner, name in enumerate(names)}
    chosen = {each: choose(each, names) for each in patterns}
    return {each: tuple(owners[name] for name in choice[1]) if choice else () for each, choice in chosen.items()}


def _least_loaded(queue: list[tuple[int, int]], loads: list[int]) -> int:
    """Give one more token to the least loaded of a queue: a heap of (load, owner), the loads perhaps outdated.

    Loads only grow, so that the head of the queue is the least loaded as soon as it is up to date.
    """
    while queue[0][0] != loads[queue[0][1]]:
        heapreplace(queue, (loads[queue[0][1]], queue[0][1]))
    owner = queue[0][1]
    loads[owner] += 1
    return owner


# --- even counts -------------------------------------------------------------------------------


def _even_out(strips: list[Strip], live: int) -> list[list[tuple[int, int]]]:
    """Give each live node its share of the line, as ranges in any order, moving as few tokens as can be."""
    floor, extra = divmod(sum([stop - start for start, stop, _ in strips]), live)
    counts = _counts(strips, live)
    over = [count > floor for count in counts]
    givers = sum(over)
    # If more nodes than `extra` hold above the floor, all but `extra` of them must give that one token as
    # well; if fewer, others take one more. Which ones these are is left to the tidying: it changes no count
    # of moves.
    if givers:
        must_give = [max(0, count - floor - 1) for count in counts]
        needy = [count < floor for count in counts]
        strips = release(strips, live, Dues(must_give, over, spare=max(0, givers - extra)), needy)
        counts = _counts(strips, live)
    must_take = [max(0, floor - count) for count in counts]
    may_take = [count <= floor for count in counts]
    return hand_out(strips, live, Dues(must_take, may_take, spare=max(0, extra - givers)))


def _counts(strips: list[Strip], live: int) -> list[int]:
    counts = [0] * live
    for start, stop, owner in strips:
        if owner < live:
            counts[owner] += stop - start
    return counts
