"""Who gets the tokens that are open: heirs and neighbours first, then whoever needs them.

Model, costs and reasons: `strips.py`. In short:

1. Inherit: a node that holds nothing yet takes over all that one gone node had.
2. Absorb: nodes that need some take what lies beside their own strips, the shortest gaps first, at no cost.
3. Fill: what is left goes to node after node, in the order of the line.
4. Scatter: single tokens that are left go to nodes that may take one more.

Cleverer choices in 2 and 3 (the gap that fits a need exactly, the neighbour with fewest choices, the largest
gaps or needs first) were tried, and leave no fewer ranges in the long run.
"""

from collections import defaultdict
from dataclasses import dataclass

from jobsync.core.strips import Dues, Strip

_LEFT, _RIGHT = -1, 1


def hand_out(strips: list[Strip], live: int, dues: Dues) -> list[list[tuple[int, int]]]:
    """Give every open token to a node that must or may take one: the ranges of each live node, unordered."""
    filling = _Filling(_inherit(strips, live, dues), live, dues)
    filling.absorb()
    filling.fill()
    filling.scatter()
    return filling.ranges


def _inherit(strips: list[Strip], live: int, dues: Dues) -> list[Strip]:
    """Give newcomers, by seniority, the largest estate of a gone node that each has room for."""
    estates: dict[int, int] = defaultdict(int)
    for start, stop, owner in strips:
        if owner > live:
            estates[owner] += stop - start
    if not estates:
        return strips
    settled = {owner for _, _, owner in strips}
    heirs: dict[int, int] = {}
    for newcomer in range(live):
        room = dues.room(newcomer)
        fitting = [(-size, gone) for gone, size in estates.items() if size <= room]
        if fitting and newcomer not in settled:
            minus_size, gone = min(fitting)
            del estates[gone]
            heirs[gone] = newcomer
            dues.pay(newcomer, -minus_size)
    return [(start, stop, heirs.get(owner, owner)) for start, stop, owner in strips]


@dataclass(slots=True)
class _Gap:
    """An open interval, and the live nodes whose strips touch it, as (side, owner)."""

    start: int
    stop: int
    neighbours: list[tuple[int, int]]

    @property
    def size(self) -> int:
        return self.stop - self.start

    def take(self, side: int, count: int) -> tuple[int, int]:
        """Cut so many tokens off one side."""
        if side == _LEFT:
            self.start += count
            return self.start - count, self.start
        self.stop -= count
        return self.stop, self.stop + count


class _Filling:
    """The ranges that nodes keep and get, and the gaps that are yet to be filled."""

    def __init__(self, strips: list[Strip], live: int, dues: Dues) -> None:
        self.ranges: list[list[tuple[int, int]]] = [[] for _ in range(live)]
        self._dues = dues
        self._gaps: list[_Gap] = []
        reached, last_owner = -1, live
        for start, stop, owner in strips:
            touches = start == reached
            beside_open = touches and last_owner >= live
            if owner < live:
                self.ranges[owner].append((start, stop))
                if beside_open:
                    self._gaps[-1].neighbours.append((_RIGHT, owner))
            elif beside_open:
                self._gaps[-1].stop = stop
            else:
                self._gaps.append(_Gap(start, stop, [(_LEFT, last_owner)] if touches else []))
            reached, last_owner = stop, owner

    def _give(self, owner: int, gap: _Gap, count: int, *, side: int = _LEFT) -> None:
        self.ranges[owner].append(gap.take(side, count))
        self._dues.pay(owner, count)

    def absorb(self) -> None:
        """Let nodes take what they need from the gaps beside their strips, the shortest gaps first."""
        for gap in sorted(self._gaps, key=lambda gap: gap.size):
            for side, owner in gap.neighbours:
                if self._dues.must[owner]:
                    self._give(owner, gap, min(self._dues.room(owner), gap.size), side=side)

    def fill(self) -> None:
        """Give the rest of the gaps to node after node: a gap is cut only where a node has got its due."""
        needing = (owner for owner, count in enumerate(self._dues.must) if count)
        owner = next(needing, None)
        for gap in self._gaps:
            while gap.size and owner is not None:
                self._give(owner, gap, min(self._dues.room(owner), gap.size))
                if not self._dues.must[owner]:
                    owner = next(needing, None)

    def scatter(self) -> None:
        """Give what is left, a token each, to nodes that may take one more: neighbours first."""
        everybody = [(_LEFT, owner) for owner in range(len(self.ranges))]
        for gap in self._gaps:
            while gap.size:
                takers = (taker for taker in (*gap.neighbours, *everybody) if self._dues.room(taker[1]))
                side, owner = next(takers)
                self._give(owner, gap, 1, side=side)
