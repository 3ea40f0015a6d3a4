"""A table and lines with a little colour, for a command that must be there at once: Rich takes longer to load.

The shape is that of the tables drawn with Rich: no lines, two spaces between columns, titles dim. Colour goes to a
terminal alone, and not where `NO_COLOR` asks for none.
"""

import os
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

Styled = tuple[str, str]
"""A piece of a line, and how it is to look: words of `CODES`, or nothing."""

CODES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}
GAP: Final = "  "
NARROWEST: Final = 8


@dataclass(frozen=True, slots=True)
class Column:
    """One column; what `folds` is broken over several lines where the terminal is too narrow."""

    title: str
    right: bool = False
    folds: bool = False


class Paper:
    """Where a command writes to people: standard output as it is."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._colours = self._is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def line(self, *pieces: Styled) -> None:
        """Write one line; a terminal wraps it."""
        print("".join(self._painted(text, style) for text, style in pieces))  # noqa: T201 - what it is for

    def table(self, columns: Sequence[Column], rows: Iterable[tuple[Sequence[str | Styled], str]]) -> None:
        """Write rows below their titles; each row comes with the style of those cells that bring none."""
        titles: list[Styled] = [(column.title, "dim") for column in columns]
        cells = [[each if isinstance(each, tuple) else (each, style) for each in row] for row, style in rows]
        widths = self._widths(columns, [titles, *cells])
        for row in (titles, *cells):
            folded = [_folded(text, width) for (text, _), width in zip(row, widths, strict=True)]
            for parts in zip_longest(*folded, fillvalue=""):
                self._row(columns, widths, parts, [style for _, style in row])

    def _row(
        self, columns: Sequence[Column], widths: Sequence[int], parts: Sequence[str], styles: Sequence[str]
    ) -> None:
        written = []
        for column, width, text, style in zip(columns, widths, parts, styles, strict=True):
            pad = " " * (width - width_of(text))
            written.append(pad + self._painted(text, style) if column.right else self._painted(text, style) + pad)
        print(GAP.join(written).rstrip())  # noqa: T201 - what it is for

    def _widths(self, columns: Sequence[Column], rows: Iterable[Sequence[Styled]]) -> list[int]:
        """Give each column what its widest cell needs; where that is too much for the terminal, fold the widest."""
        widths = [max(map(width_of, (text for text, _ in cells))) for cells in zip(*rows, strict=True)]
        foldable = [place for place, column in enumerate(columns) if column.folds]
        there = shutil.get_terminal_size().columns if self._is_terminal else sys.maxsize
        while sum(widths) + len(GAP) * (len(widths) - 1) > there:
            widest = max(foldable, key=widths.__getitem__, default=None)
            if widest is None or widths[widest] <= NARROWEST:
                break
            widths[widest] -= 1
        return widths

    def _painted(self, text: str, style: str) -> str:
        if not (self._colours and style and text):
            return text
        return f"\x1b[{';'.join(CODES[word] for word in style.split())}m{text}\x1b[0m"


def width_of(text: str) -> int:
    """Count the columns that a terminal gives to a text: two for wide characters, none for what sits on another."""
    if text.isascii():
        return len(text)
    return sum(_width(each) for each in text)


def _width(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def _folded(text: str, width: int) -> list[str]:
    """Break a text into pieces that fit."""
    pieces, used = [""], 0
    for character in text:
        wide = _width(character)
        if used + wide > width and pieces[-1]:
            pieces.append("")
            used = 0
        pieces[-1] += character
        used += wide
    return pieces
