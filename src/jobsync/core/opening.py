"""Which tokens a node with too many gives away: whole strips where that tidies, then one part of a strip.

Model, costs and reasons: `strips.py`. In short:

1. Sweep: runs of neighbouring strips that can all go whole become one open strip.
2. Shave: a node that still owes cuts the rest off its smallest strip beside an open one, at no cost.
3. Whole strips that stand alone go, smallest first; and what they make possible is shaved.
4. Two nodes that owe and lie beside each other cut on both sides of their border: one strip more for two.
5. Whoever still owes cuts its smallest strip. So no node cuts more than one strip.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise

from jobsync.core.strips import Dues, Strip

_LEFT, _RIGHT = -1, 1
# What lies beyond the end of a strip, the cheapest place to cut first.
_BESIDE_OPEN, _BESIDE_GIVER, _ANYWHERE = range(3)


def release(strips: list[Strip], live: int, dues: Dues, needy: Sequence[bool]) -> list[Strip]:
    """Open as many tokens of each node as it must give; `needy` are the nodes that will take some.

    Gives the strips as they are then; what was opened belongs to nobody (`live`).
    """
    opening = _Opening(strips, live, dues, needy)
    alone = opening.sweep()
    opening.shave(dues.must.__getitem__, at_worst=_BESIDE_OPEN)
    opening.open_smallest(alone)
    opening.shave(dues.must.__getitem__, at_worst=_BESIDE_GIVER)
    opening.shave(dues.must.__getitem__, at_worst=_ANYWHERE)
    opening.shave(dues.room, at_worst=_BESIDE_OPEN)
    opening.shave(dues.room, at_worst=_ANYWHERE)
    return opening.strips()


class _Opening:
    """What is opened so far: whole strips in `_owners`, parts of strips in `_cuts` as (side, tokens)."""

    def __init__(self, strips: list[Strip], live: int, dues: Dues, needy: Sequence[bool]) -> None:
        self._strips, self._live, self._dues = strips, live, dues
        self._owners = [owner for _, _, owner in strips]
        self._sizes = [stop - start for start, stop, _ in strips]
        # Whether a strip touches the one before it; pinned tokens lie between those that do not.
        touching = [before[1] == after[0] for before, after in pairwise(strips)]
        self._joined = [False, *touching, False]
        # Beside these it costs no strip to open one: they are open, or belong to nodes that will take some.
        self._receptive = [owner >= live or needy[owner] for owner in self._owners]
        self._cuts: dict[int, tuple[int, int]] = {}
        self._strips_of: dict[int, list[int]] = defaultdict(list)
        for strip, owner in enumerate(self._owners):
            if owner < live and dues.room(owner):
                self._strips_of[owner].append(strip)

    def strips(self) -> list[Strip]:
        """Give the line as it is now, the strips cut where they were cut."""
        strips = [(start, stop, owner) for (start, stop, _), owner in zip(self._strips, self._owners, strict=True)]
        for strip in sorted(self._cuts, reverse=True):
            start, stop, owner = strips[strip]
            side, count = self._cuts[strip]
            if side == _LEFT:
                parts = [(start, start + count, self._live), (start + count, stop, owner)]
            else:
                parts = [(start, stop - count, owner), (stop - count, stop, self._live)]
            strips[strip : strip + 1] = parts
        return strips

    # --- whole strips ------------------------------------------------------------------------

    def sweep(self) -> list[int]:
        """Open runs of neighbouring strips that can go whole, the longest first; list the strips left alone.

        A strip is left alone if it could go whole, but has nothing open beside it: opening it saves nothing.
        """
        alone: list[int] = []
        heap = [(-saved, -tokens, first, stop) for saved, tokens, first, stop in self._runs()]
        heapify(heap)
        while heap:
            cost, minus_tokens, first, end = heappop(heap)
            first = next((strip for strip in range(first, end) if self._fits(strip)), end)
            if first == end:
                continue
            saved, tokens, stop = self._measure(first, end)
            # What was opened since then may have shortened the run: its parts wait for their own turns.
            if stop < end:
                heappush(heap, (cost, minus_tokens, stop, end))
            if (-saved, -tokens) > (cost, minus_tokens):
                heappush(heap, (-saved, -tokens, first, stop))
            elif saved == 0:
                alone.append(first)
            else:
                self._open(range(first, stop))
        return alone

    def open_smallest(self, strips: Iterable[int]) -> None:
        """Open those of the strips that their owners can still give whole, smallest first."""
        self._open(sorted(strips, key=lambda strip: (self._sizes[strip], strip)))

    def _runs(self) -> Iterator[tuple[int, int, int, int]]:
        """Divide the line into the longest runs that could be opened: (strips saved, tokens, first, stop)."""
        strip = 0
        while strip < len(self._sizes):
            if self._fits(strip):
                saved, tokens, stop = self._measure(strip, len(self._sizes))
                yield saved, tokens, strip, stop
                strip = stop
            else:
                strip += 1

    def _measure(self, first: int, limit: int) -> tuple[int, int, int]:
        """Follow a run from its first strip: the strips saved by opening it, its tokens, where it stops."""
        receptive, joined = self._receptive, self._joined
        used: dict[int, int] = defaultdict(int)
        saved = -1 + (joined[first] and receptive[first - 1])
        tokens, strip = 0, first
        while strip == first or (strip < limit and joined[strip]):
            if receptive[strip]:
                saved += not receptive[strip - 1]
            else:
                owner, size = self._owners[strip], self._sizes[strip]
                used[owner] += size
                if used[owner] > self._dues.room(owner):
                    break
                saved, tokens = saved + 1, tokens + size
            strip += 1
        saved += joined[strip] and receptive[strip] and not receptive[strip - 1]
        return saved, tokens, strip

    def _fits(self, strip: int) -> bool:
        """Tell whether a strip is still its owner's, and its owner can give the whole of it."""
        return (
            not self._receptive[strip]
            and strip not in self._cuts
            and self._sizes[strip] <= self._dues.room(self._owners[strip])
        )

    def _open(self, strips: Iterable[int]) -> None:
        for strip in strips:
            if self._fits(strip):
                self._dues.pay(self._owners[strip], self._sizes[strip])
                self._owners[strip] = self._live
                self._receptive[strip] = True

    # --- parts of strips ---------------------------------------------------------------------

    def shave(self, due: Callable[[int], int], *, at_worst: int) -> None:
        """Let each node give what is due off the end of a strip, if a place is as good as `at_worst`."""
        for owner in self._strips_of:
            while due(owner):
                kind, _, strip, side = min(self._places(owner))
                if kind > at_worst:
                    break
                self._cut(strip, side)

    def _cut(self, strip: int, side: int) -> None:
        if self._fits(strip):
            self._open([strip])
        else:
            owner = self._owners[strip]
            self._cuts[strip] = side, self._dues.room(owner)
            self._dues.pay(owner, self._dues.room(owner))

    def _places(self, owner: int) -> Iterator[tuple[int, int, int, int]]:
        """List the ends at which a node could give, as (kind, size of the strip, strip, side)."""
        for strip in self._strips_of[owner]:
            if not self._receptive[strip] and strip not in self._cuts:
                size = self._sizes[strip]
                yield self._kind(strip, _LEFT), size, strip, _LEFT
                yield self._kind(strip, _RIGHT), size, strip, _RIGHT

    def _kind(self, strip: int, side: int) -> int:
        beside = strip + side
        if not self._joined[max(strip, beside)]:
            return _ANYWHERE
        if self._receptive[beside]:
            return _BESIDE_OPEN
        if beside in self._cuts:
            return _BESIDE_OPEN if self._cuts[beside][0] == -side else _ANYWHERE
        return _BESIDE_GIVER if self._dues.must[self._owners[beside]] else _ANYWHERE
