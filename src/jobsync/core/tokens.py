"""A set of tokens as a few ranges: what a node owns, in the space of a few numbers.

Model: a `TokenSet` is an immutable set of ints, written as half-open ranges [start, stop) that are sorted,
not empty, and neither overlap nor touch. They are kept as one flat, strictly increasing row of edges: start,
stop, start, stop. Every question then has a short answer. A token is inside when the number of edges at or
below it is odd. Two sets are equal when their edges are. And in the sorted starts and the sorted stops of two
sets together, the n-th stop and the start after it say everything: if that start is higher, there is a gap in
the union; if it is lower, there is an overlap.

Authoritative: the ints. A `TokenSet` equals, and hashes like, any set of the same ints; the ranges are how it
happens to be stored, in the one normal form that each set has.

Costs grow with the number of ranges (pieces), never with the number of tokens, except where ints are asked
for one by one: iteration, `hash`, and comparison with sets of other kinds.
"""

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain
from operator import index
from typing import Any, Final, final

from jobsync.core.errors import InvalidArgument

# Up to here the edges stand in a tuple, whose ints bisect finds ready-made: half again as quick as an array,
# and at most 40 kB. Longer rows are arrays of 4 or, where the numbers are that large, 8 bytes an edge.
_LONGEST_TUPLE: Final = 1_000
_INT4: Final = range(-(2**31), 2**31)
_SHOWN_RANGES: Final = 4

_RANGE: Final = r"\[\s*-?\d+\s*,\s*-?\d+\s*\)"
_MULTIRANGE: Final = re.compile(rf"\s*\{{\s*(?:{_RANGE}\s*(?:,\s*{_RANGE}\s*)*)?\}}\s*", re.ASCII)
_NUMBER: Final = re.compile(r"-?\d+", re.ASCII)


@final
class TokenSet(AbstractSet[int]):
    """Hold tokens, immutably, as sorted half-open ranges.

    Behaves as a frozenset of ints in every expression, with sets of any kind on either side, and gives a
    `TokenSet` wherever a set comes out. Membership costs a bisection of the ranges, `len` nothing; the
    algebra is linear in the ranges of both sides.
    """

    __slots__ = ("_edges", "_len")

    _edges: Sequence[int]
    _len: int

    def __init__(self) -> None:
        """Make the empty set; the other constructors are `of`, `span`, `from_ranges` and `parse`."""
        self._edges = ()
        self._len = 0

    # --- making one --------------------------------------------------------------------------

    @classmethod
    def of(cls, tokens: Iterable[int]) -> "TokenSet":
        """Collect any ints, in any order, repeated or not. Raises TypeError for what is no int."""
        if isinstance(tokens, TokenSet):
            return tokens
        ordered = sorted(set(map(index, tokens)))
        return cls._of_edges(_united(ordered, [token + 1 for token in ordered]))

    @classmethod
    def span(cls, start: int, stop: int) -> "TokenSet":
        """Make one range [start, stop), empty when `stop` is not above `start`, as in `range`."""
        return cls._of_edges([start, stop] if start < stop else [])

    @classmethod
    def from_ranges(cls, ranges: Iterable[tuple[int, int]]) -> "TokenSet":
        """Unite half-open ranges (start, stop) in any order, overlapping or not; empty ones are dropped."""
        filled = [piece for piece in ranges if piece[0] < piece[1]]
        starts, stops = sorted([start for start, _ in filled]), sorted([stop for _, stop in filled])
        return cls._of_edges(_united(starts, stops))

    @classmethod
    def parse(cls, text: str) -> "TokenSet":
        """Read PostgreSQL's text of an int4multirange, such as `{[0,5),[7,9)}`; `empty` is the empty set too.

        Blanks and the order of the ranges do not matter. Raises InvalidArgument (a ValueError) for any other
        text, and for a range that ends before it starts.
        """
        if text.strip() == "empty":
            return cls()
        if _MULTIRANGE.fullmatch(text) is None:
            raise InvalidArgument(
                f"{_shortened(text)!r} is not the text of an int4multirange such as '{{[0,5),[7,9)}}'"
            )
        numbers = list(map(int, _NUMBER.findall(text)))
        ranges = list(zip(numbers[::2], numbers[1::2], strict=True))
        for start, stop in ranges:
            if start > stop:
                raise InvalidArgument(f"range [{start},{stop}) of {_shortened(text)!r} ends before it starts")
        return cls.from_ranges(ranges)

    @classmethod
    def _of_edges(cls, edges: list[int]) -> "TokenSet":
        made = cls()
        if edges:
            made._edges = _packed(edges)
            made._len = sum(edges[1::2]) - sum(edges[::2])
        return made

    # --- looking at it -----------------------------------------------------------------------

    def __contains__(self, token: Any) -> bool:
        try:
            edges_below = bisect_right(self._edges, token)
        except TypeError:  # What cannot be compared with an int is no token.
            return False
        return edges_below & 1 == 1 and (type(token) is int or token == int(token))

    def __len__(self) -> int:
        return self._len

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(map(range, self._edges[::2], self._edges[1::2]))

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """List the ranges as (start, stop), ascending; neighbours neither overlap nor touch."""
        return tuple(zip(self._edges[::2], self._edges[1::2], strict=True))

    @property
    def edges(self) -> Sequence[int]:
        """The bounds of all ranges, ascending: a token is in the set if the number of edges up to it is odd."""
        return self._edges

    @property
    def pieces(self) -> int:
        """Count the ranges."""
        return len(self._edges) // 2

    @property
    def first(self) -> int | None:
        """Give the lowest token, None of the empty set."""
        return self._edges[0] if self._edges else None

    @property
    def last(self) -> int | None:
        """Give the highest token, None of the empty set."""
        return self._edges[-1] - 1 if self._edges else None

    def text(self) -> str:
        """Write the set as PostgreSQL writes an int4multirange; `parse` reads it back."""
        return "{" + ",".join([f"[{start},{stop})" for start, stop in self.ranges]) + "}"

    def __repr__(self) -> str:
        if not self._edges:
            return "TokenSet()"
        ranges = self._few_ranges()
        shown = [f"{start}" if stop == start + 1 else f"{start}-{stop - 1}" for start, stop in ranges]
        if self.pieces > _SHOWN_RANGES:
            shown.insert(-1, "...")
        counts = f"{_counted(self._len, 'token')} in {_counted(self.pieces, 'range')}"
        return f"TokenSet({counts}: {', '.join(shown)})"

    def _few_ranges(self) -> list[tuple[int, int]]:
        edges = self._edges
        if self.pieces > _SHOWN_RANGES:
            edges = (*edges[: 2 * _SHOWN_RANGES - 2], *edges[-2:])
        return list(zip(edges[::2], edges[1::2], strict=True))

    # --- comparing ---------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TokenSet):
            return self._edges == other._edges
        return super().__eq__(other)

    def __hash__(self) -> int:
        """Hash like a frozenset of the same ints, to which the set is equal: takes a step for every token."""
        return hash(frozenset(self))

    def __le__(self, other: AbstractSet[Any]) -> bool:
        if isinstance(other, TokenSet):
            return self._len <= other._len and (self & other)._len == self._len
        return super().__le__(other)

    def __ge__(self, other: AbstractSet[Any]) -> bool:
        return other <= self if isinstance(other, TokenSet) else super().__ge__(other)

    def issubset(self, other: Iterable[int]) -> bool:
        """Tell whether every token is in `other`."""
        return self <= _as_set(other)

    def issuperset(self, other: Iterable[int]) -> bool:
        """Tell whether every element of `other` is a token of this set."""
        return self >= _as_set(other)

    def isdisjoint(self, other: Iterable[Any]) -> bool:
        """Tell whether this set and `other` have nothing in common."""
        if isinstance(other, TokenSet):
            return not self & other
        return not any(token in self for token in other)

    # --- set algebra -------------------------------------------------------------------------

    def __or__(self, other: AbstractSet[Any]) -> "TokenSet":
        if not isinstance(other, AbstractSet):
            return NotImplemented
        return TokenSet._of_edges(_united(*_merged(self._edges, TokenSet.of(other)._edges)))

    def __and__(self, other: AbstractSet[Any]) -> "TokenSet":
        if not isinstance(other, AbstractSet):
            return NotImplemented
        if not isinstance(other, TokenSet):
            return TokenSet.of(token for token in other if token in self)
        starts, stops = _merged(self._edges, other._edges)
        overlaps = [(start, stop) for start, stop in zip(starts[1:], stops, strict=False) if start < stop]
        return TokenSet._of_edges(list(chain.from_iterable(overlaps)))

    def __xor__(self, other: AbstractSet[Any]) -> "TokenSet":
        if not isinstance(other, AbstractSet):
            return NotImplemented
        # Crossing an edge changes sides in one of the sets; crossing an edge of both changes nothing.
        edges = sorted([*self._edges, *TokenSet.of(other)._edges])
        triples = zip([None, *edges], edges, [*edges[1:], None], strict=False)
        return TokenSet._of_edges([edge for before, edge, after in triples if before != edge != after])

    def __sub__(self, other: AbstractSet[Any]) -> "TokenSet":
        if not isinstance(other, AbstractSet):
            return NotImplemented
        common = self & other
        return self ^ common if common else self

    __ror__ = __or__
    __rand__ = __and__
    __rxor__ = __xor__

    def __rsub__(self, other: AbstractSet[Any]) -> "TokenSet":
        if not isinstance(other, AbstractSet):
            return NotImplemented
        return TokenSet.of(token for token in other if token not in self)

    def union(self, *others: Iterable[int]) -> "TokenSet":
        """Add all tokens of the others."""
        return TokenSet.from_ranges(chain(self.ranges, *(TokenSet.of(other).ranges for other in others)))

    def intersection(self, *others: Iterable[int]) -> "TokenSet":
        """Keep only the tokens that all others have too."""
        kept = self
        for other in others:
            kept &= _as_set(other)
        return kept

    def difference(self, *others: Iterable[int]) -> "TokenSet":
        """Leave out the tokens of all others."""
        kept = self
        for other in others:
            kept -= _as_set(other)
        return kept

    def symmetric_difference(self, other: Iterable[int]) -> "TokenSet":
        """Collect the tokens that are in exactly one of the two."""
        return self ^ _as_set(other)

    # --- copying -----------------------------------------------------------------------------

    def copy(self) -> "TokenSet":
        """Give the set itself, which cannot change."""
        return self

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, object]) -> "TokenSet":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenSet.parse, (self.text(),)


def _packed(edges: list[int]) -> Sequence[int]:
    if len(edges) <= _LONGEST_TUPLE:
        return tuple(edges)
    return array("i" if edges[0] in _INT4 and edges[-1] in _INT4 else "q", edges)


def _merged(one: Sequence[int], two: Sequence[int]) -> tuple[list[int], list[int]]:
    """Sort the starts of both, and the stops of both: to sort two sorted rows is one linear merge."""
    return sorted([*one[::2], *two[::2]]), sorted([*one[1::2], *two[1::2]])


def _united(starts: list[int], stops: list[int]) -> list[int]:
    """Find the edges of the union of any ranges from their sorted starts and their sorted stops.

    Between the n-th stop and the start after it there is a gap exactly if that start is higher: then n ranges
    have begun below the gap, and all n have ended.
    """
    if not starts:
        return []
    gaps = [(stop, start) for stop, start in zip(stops, starts[1:], strict=False) if stop < start]
    return [starts[0], *chain.from_iterable(gaps), stops[-1]]


def _as_set(tokens: Iterable[int]) -> AbstractSet[int]:
    return tokens if isinstance(tokens, AbstractSet) else frozenset(tokens)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
