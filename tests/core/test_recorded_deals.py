"""Deals that were recorded: what one release makes of a fleet, every other makes too, on every interpreter.

A deal is a pure function, and leaders of two releases may follow one another while a fleet is upgraded. The examples in
`test_assignment.py` say which deal is right and why; the digests here notice any other deal, in worlds of every kind
that nobody would write down one by one. Where a deal is changed on purpose, record it anew and say so in CHANGELOG.md.
"""

import random
from collections.abc import Callable
from hashlib import sha256

import pytest

from jobsync.core.assignment import deal, moves
from jobsync.core.pins import Pin
from jobsync.core.tokens import TokenSet

NAMES = tuple("abcdefgh")
PATTERNS = ("a", "b", "%", "_", "z", "c%")


class Chance:
    """Draws from a seed by `Random.random` alone, whose numbers no release of Python will change."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def below(self, stop: int) -> int:
        return int(self._random() * stop)

    def some(self, names: tuple[str, ...], share: float) -> list[str]:
        return sorted((name for name in names if self._random() < share), key=lambda _: self._random())


def line(chance: Chance, total: int, longest: int) -> dict[str, TokenSet]:
    """Cut the line into strips of random holders; some of it is nobody's."""
    held: dict[str, list[tuple[int, int]]] = {}
    start = 0
    while start < total:
        stop = min(total, start + 1 + chance.below(longest))
        if chance.below(8):
            held.setdefault(NAMES[chance.below(len(NAMES))], []).append((start, stop))
        start = stop
    return {name: TokenSet.from_ranges(ranges) for name, ranges in sorted(held.items())}


def world(seed: int, *, longest: int, pinned: int, living: float) -> str:
    """Play one world for three steps; write down who gets what, and what moves."""
    chance = Chance(seed)
    total = 20 + chance.below(60)
    held = line(chance, total, longest)
    written = []
    for _ in range(3):
        nodes = chance.some(NAMES, living) or ["a"]
        pins = [Pin(chance.below(total), (PATTERNS[chance.below(6)], PATTERNS[chance.below(6)])) for _ in range(pinned)]
        dealt = deal(total, nodes, held, pins)
        written += [f"{name} {tokens.text()}" for name, tokens in dealt.targets.items()]
        written += [f"{move.source} {move.target} {move.tokens.text()}" for move in moves(held, dealt.targets)]
        written += [str(pin.token) for pin in dealt.unmatched]
        held = dealt.targets
    return "\n".join(written)


def garbled(seed: int) -> str:
    """Holdings that overlap and reach beyond the line, a part of it left out: no plan of ours, but an input."""
    chance = Chance(seed)
    total = 10 + chance.below(20)
    held: dict[str, TokenSet] = {}
    for name in chance.some(NAMES, 0.7):
        pieces = [(start := chance.below(total + 5) - 2, start + chance.below(6)) for _ in range(4)]
        held[name] = TokenSet.from_ranges(pieces)
    nodes = chance.some(NAMES, 0.5)
    aside = TokenSet.of(chance.below(total) for _ in range(4))
    pins = [Pin(chance.below(total + 2) - 1, (PATTERNS[chance.below(6)],)) for _ in range(4)]
    dealt = deal(total, nodes, held, pins, aside=aside)
    written = [f"{name} {tokens.text()}" for name, tokens in dealt.targets.items()]
    written += [f"{move.source} {move.target} {move.tokens.text()}" for move in moves(held, dealt.targets)]
    return "\n".join([*written, dealt.unplaced.text(), *(str(pin.token) for pin in dealt.unmatched)])


def short_strips(seed: int) -> str:
    return world(seed, longest=4, pinned=0, living=0.8)


def long_strips(seed: int) -> str:
    return world(seed, longest=16, pinned=0, living=0.8)


def few_are_left(seed: int) -> str:
    return world(seed, longest=6, pinned=0, living=0.3)


def many_pins(seed: int) -> str:
    return world(seed, longest=8, pinned=8, living=0.7)


@pytest.mark.parametrize(
    ("kind", "digest"),
    [
        (short_strips, "e98f35cc8e79d153"),
        (long_strips, "2fc505f8c111f7ef"),
        (few_are_left, "87b3dc34c19f6b97"),
        (many_pins, "4493736f8dcbd3de"),
        (garbled, "fc1b937578b8dd74"),
    ],
)
def test_the_same_input_gives_the_same_deal_as_ever(kind: Callable[[int], str], digest: str) -> None:
    written = "\n\n".join(kind(seed) for seed in range(100))
    assert sha256(written.encode()).hexdigest()[:16] == digest
