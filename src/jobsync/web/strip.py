"""The ownership strip: all tokens as one band, as paths of an SVG; its size goes by the pieces, never by the tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from jobsync.api.moving import Span

WIDTH: Final = 1000
MOST_PIECES: Final = 3000
COLUMNS: Final = 1500


@dataclass(frozen=True, slots=True)
class Band:
    """One path for each node: its name, the path, and how many tokens."""

    node: str
    path: str
    tokens: int


def bands(spans: Sequence[Span], total: int, height: int) -> tuple[Band, ...]:
    """Draw spans as one path a node, in the order in which nodes first appear."""
    drawn = joined(spans)
    if len(drawn) > MOST_PIECES:
        drawn = coarse(drawn, total)
    paths: dict[str, list[str]] = {}
    sums: dict[str, int] = {}
    for span in drawn:
        left, right = span.first * WIDTH / total, span.end * WIDTH / total
        # A piece that is narrower than a hair would not be seen: it is drawn as a hair.
        width = max(right - left, 0.15)
        paths.setdefault(span.node, []).append(f"M{_short(left)} 0h{_short(width)}v{height}h-{_short(width)}z")
    for span in spans:
        sums[span.node] = sums.get(span.node, 0) + span.size
    return tuple(Band(node, "".join(pieces), sums[node]) for node, pieces in paths.items())


def joined(spans: Sequence[Span]) -> list[Span]:
    """Make one of neighbours that one node has: between two grants of one node there is no seam to be seen."""
    found: list[Span] = []
    for span in spans:
        if found and found[-1].node == span.node and found[-1].end == span.first:
            found[-1] = Span(span.node, found[-1].first, span.end)
        else:
            found.append(span)
    return found


def coarse(spans: Sequence[Span], total: int) -> list[Span]:
    """Cut the line into columns, and give each to the node that has most of it."""
    found: list[Span] = []
    place = 0
    for column in range(COLUMNS):
        first, end = column * total // COLUMNS, (column + 1) * total // COLUMNS
        shares: dict[str, int] = {}
        while place < len(spans) and spans[place].end <= first:
            place += 1
        ahead = place
        while ahead < len(spans) and spans[ahead].first < end:
            span = spans[ahead]
            shares[span.node] = shares.get(span.node, 0) + min(end, span.end) - max(first, span.first)
            ahead += 1
        if shares:
            found.append(Span(max(shares, key=lambda name: shares[name]), first, end))
    return joined(found)


def line(values: Sequence[int], width: int, height: int) -> str:
    """Draw numbers as a line that ends at the right edge; empty for fewer than two."""
    if len(values) < 2:
        return ""
    most = max(*values, 1)
    step = width / max(len(values) - 1, 59)
    left = width - step * (len(values) - 1)
    points = (
        f"{_short(left + place * step)} {_short(height - value * (height - 4) / most - 2)}"
        for place, value in enumerate(values)
    )
    return "M" + "L".join(points)


def _short(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")
