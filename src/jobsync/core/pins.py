"""Which node a pinned task belongs on: patterns, best first, matched against the names of live nodes.

Model: a pin is a token and its patterns. The first pattern that matches any live node decides; the later ones
are for the days on which the earlier ones match nobody.

Patterns are those of SQL's LIKE, so that an operator can try them in psql: `%` stands for any text, also
none; `_` for one character; a backslash takes away the meaning of the character behind it. Case counts, a
pattern covers the whole name, and line breaks are characters like others.

Authoritative: PostgreSQL's LIKE under its default escape. Not promised: that a malformed pattern (a backslash
with nothing behind it) is noticed when a choice is made. It is refused where it is registered; one that was
written into the table by hand matches nobody, so that it cannot stop the deal for everybody else.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from jobsync.core.errors import InvalidArgument

_PATTERNS_KEPT: Final = 4_096
_SPECIAL: Final = re.compile(r"[%_\\]")


@dataclass(frozen=True, slots=True)
class LikePattern:
    """Hold one SQL LIKE pattern, compiled.

    Raises InvalidArgument (a ValueError) for a pattern that ends with a lone backslash, as PostgreSQL does.
    Time to match is at most length of pattern times length of name, whatever the pattern.
    """

    text: str
    _match: Callable[[str], object] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_match", _compiled(self.text))

    def matches(self, name: str) -> bool:
        """Tell whether the pattern covers the whole name."""
        return bool(self._match(name))


@dataclass(frozen=True, slots=True)
class Pin:
    """Tie a token to the nodes that its patterns match, best pattern first."""

    token: int
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NewLock:
    """One task that is to be pinned, and the ordered patterns of the nodes that may have it."""

    task_id: str
    token: int
    patterns: tuple[str, ...]
    reason: str | None


def choose(patterns: Sequence[str], names: Iterable[str]) -> tuple[int, tuple[str, ...]] | None:
    """Find the first pattern that matches any of the names: its place among the patterns, and its matches.

    The matches keep the order of the names. None if no pattern matches any name. A malformed pattern matches
    none.
    """
    candidates = tuple(names)
    for step, pattern in enumerate(patterns):
        matching = _matching(pattern, candidates)
        if matching:
            return step, matching
    return None


def _matching(pattern: str, names: tuple[str, ...]) -> tuple[str, ...]:
    try:
        match = _compiled(pattern)
    except InvalidArgument:
        return ()
    return tuple(filter(match, names))


@lru_cache(maxsize=_PATTERNS_KEPT)
def _compiled(pattern: str) -> Callable[[str], object]:
    """Turn a pattern into a predicate on names: plain equality, or a regular expression.

    The texts between the `%` are looked for one after the other, each at the first place where it fits. That
    is always right: if a later place leads to a match, so does the first. Atomic groups say so to the engine
    of regular expressions, which would otherwise try all places, in time that grows with a power of the
    length of the name.
    """
    if _SPECIAL.search(pattern) is None:
        return pattern.__eq__
    segments = [""]
    for character, plain in _read(pattern):
        if plain:
            segments[-1] += re.escape(character)
        elif character == "_":
            segments[-1] += "."
        else:
            segments.append("")
    expression = segments[0]
    if len(segments) > 1:
        searches = [f"(?>.*?{segment})" for segment in segments[1:-1] if segment]
        expression += "".join(searches) + ".*" + segments[-1]
    return re.compile(expression, re.DOTALL).fullmatch


def _read(pattern: str) -> Iterator[tuple[str, bool]]:
    """Give the characters of a pattern, each with whether it stands for itself."""
    rest = iter(pattern)
    for character in rest:
        if character != "\\":
            yield character, character not in "%_"
            continue
        escaped = next(rest, None)
        if escaped is None:
            raise InvalidArgument(f"pattern {pattern!r} ends with a lone backslash: write two for one, or none")
        yield escaped, True
