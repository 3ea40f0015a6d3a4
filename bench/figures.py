"""What was asked, what was reached, and the table that says both."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `holds` is None where nothing was asked: the line explains another one."""

    name: str
    asked: str
    reached: str
    n: int
    holds: bool | None
    command: str
    details: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Give the figure as JSON has it."""
        return asdict(self)


def command_for(bench: str) -> str:
    """Give the command that measures one figure alone."""
    return f"python -m bench {bench}"


def spread(values: Sequence[float], unit: str, *, digits: int = 1) -> str:
    """Write median, smallest and largest."""
    low, middle, high = min(values), median(values), max(values)
    return f"median {middle:,.{digits}f} {unit} ({low:,.{digits}f} to {high:,.{digits}f})"


def worst(values: Sequence[float], unit: str, *, digits: int = 2) -> str:
    """Write the largest, then median and smallest."""
    low, middle, high = min(values), median(values), max(values)
    return f"worst {high:,.{digits}f} {unit} (median {middle:,.{digits}f}, least {low:,.{digits}f})"


def weighted_median(pairs: Sequence[tuple[float, int]]) -> float:
    """Give the median of values that each stand for a number of tokens."""
    half = sum(count for _, count in pairs) / 2
    reached = 0
    for value, count in sorted(pairs):
        reached += count
        if reached >= half:
            return value
    raise ValueError("the median of nothing was asked for")


def rounded(values: Sequence[float], digits: int = 3) -> list[float]:
    """Round values for the JSON file."""
    return [round(value, digits) for value in values]


_VERDICT = {True: "yes", False: "NO", None: "-"}
_TITLES = ("figure", "asked", "reached", "n", "holds", "command")


def _cells(figure: Figure) -> tuple[str, ...]:
    count = f"{figure.n:,}" if figure.n else "-"
    return (figure.name, figure.asked, figure.reached, count, _VERDICT[figure.holds], figure.command)


def table(figures: Sequence[Figure]) -> str:
    """Lay the figures out for a terminal."""
    rows = [_TITLES, *map(_cells, figures)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_TITLES))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def markdown(figures: Sequence[Figure]) -> str:
    """Lay the figures out for a page."""
    lines = [f"| {' | '.join(_TITLES)} |", "|---|---|---|---|---|---|"]
    for figure in figures:
        *cells, command = _cells(figure)
        lines.append(f"| {' | '.join(cells)} | `{command}` |")
    return "\n".join(lines)
