"""What is on its way: tokens that are not where the plan wants them, from whom to whom, and since when.

Model: a move is one pair of nodes, with all tokens that the first holds and the second is to hold. It began when the
plan took these tokens from their holder for the last time, whomever it has given them to since: a distribution that is
made meanwhile makes a stuck hand-over no younger. Of tokens that nobody holds it began when they lost their owner.

Authoritative: the history of the database, by its clock. Only the latest distributions are looked at; a move that is
older than these is known to be, and no more. Not promised: an age where the history is kept for less long than that.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from typing import Final

from jobsync.core.tokens import TokenSet
from jobsync.postgres.statement import Row, Statement, statement

LATEST: Final = 50
"""How many distributions are looked at."""
MOST_DATED: Final = 100
"""How many moves are dated, the largest first: no list shows more of them."""


@dataclass(frozen=True, slots=True)
class Span:
    """The tokens from `first` up to, not including, `end`, and one node that holds or is to hold them."""

    node: str
    first: int
    end: int

    @property
    def size(self) -> int:
        """Count the tokens."""
        return self.end - self.first


@dataclass(frozen=True, slots=True)
class Move:
    """Tokens that are not where the plan wants them: held by `source` (None: by nobody), wanted by `target`.

    `since` is by the database's clock, of the tokens that wait the longest; None where it is not known. `is_older`:
    some of them have been on their way for longer than that. `ranges` are (first, end), end not included.
    """

    source: str | None
    target: str | None
    tokens: int
    first: int
    phase: str
    since: datetime | None = None
    is_older: bool = False
    ranges: tuple[tuple[int, int], ...] = field(default=(), compare=False, repr=False)


def moves_between(held: Sequence[Span], wanted: Sequence[Span], live: frozenset[str]) -> tuple[Move, ...]:
    """Find what is not where the plan wants it, one move for each pair of nodes, the largest first; undated."""
    return moves_of(_pieces(held, wanted), live)


def moves_of(pieces: Iterable[tuple[int, int, str | None, str | None]], live: frozenset[str]) -> tuple[Move, ...]:
    """Put pieces together (first, end, holder, for whom they are) that are not where they are to be; as above."""
    found: dict[tuple[str | None, str | None], list[tuple[int, int]]] = {}
    for first, end, source, target in pieces:
        if source != target:
            found.setdefault((source, target), []).append((first, end))
    moves = [
        Move(
            source,
            target,
            sum(end - first for first, end in ranges),
            ranges[0][0],
            _phase(source, target, live),
            ranges=tuple(ranges),
        )
        for (source, target), ranges in found.items()
    ]
    return tuple(sorted(moves, key=lambda move: (-move.tokens, move.first)))


def dated(run: Callable[[Statement], list[Row]], prefix: str, moves: tuple[Move, ...]) -> tuple[Move, ...]:
    """Tell since when the first of these moves are under way, in one statement; none where nothing moves."""
    if not moves:
        return moves
    tokens = [TokenSet.from_ranges(move.ranges) for move in moves[:MOST_DATED]]
    sources = [move.source for move in moves[:MOST_DATED]]
    rows = run(statement("move_past", prefix, sources, [each.text() for each in tokens], LATEST))
    begins = rows[0][1]
    told: dict[int, list[tuple[datetime, TokenSet]]] = {}
    for number, at, part in rows[1:]:
        told.setdefault(number, []).append((at, TokenSet.parse(part)))
    found = [
        _dated(move, each, told.get(number, ()), begins)
        for number, (move, each) in enumerate(zip(moves, tokens, strict=False), start=1)
    ]
    return (*found, *moves[MOST_DATED:])


def _dated(move: Move, left: TokenSet, told: Iterable[tuple[datetime, TokenSet]], begins: datetime | None) -> Move:
    """Give each token to the latest row that has it; the oldest of these is the age of the move."""
    since: datetime | None = None
    for at, part in told:
        mine = left & part
        if mine:
            since = at if since is None else min(since, at)
            left -= mine
    if not left or begins is None:
        return replace(move, since=since)
    return replace(move, since=begins if since is None else min(since, begins), is_older=True)


def _pieces(held: Sequence[Span], wanted: Sequence[Span]) -> Iterator[tuple[int, int, str | None, str | None]]:
    """Cut the line of tokens at every edge of either list; who holds each piece, and who is to."""
    edges = sorted({edge for span in (*held, *wanted) for edge in (span.first, span.end)})
    holders, takers = iter(held), iter(wanted)
    holder, taker = next(holders, None), next(takers, None)
    for first, end in pairwise(edges):
        while holder is not None and holder.end <= first:
            holder = next(holders, None)
        while taker is not None and taker.end <= first:
            taker = next(takers, None)
        source = holder.node if holder is not None and holder.first <= first else None
        target = taker.node if taker is not None and taker.first <= first else None
        yield first, end, source, target


def _phase(source: str | None, target: str | None, live: frozenset[str]) -> str:
    if target is None:
        return "not placed"
    if source is None:
        return "to be taken"
    return "being handed over" if source in live else "waits for a fence"
