"""Refusing bad locks at the call."""

from typing import Final

from jobsync.core.errors import InvalidArgument
from jobsync.core.pins import LikePattern

MOST_PATTERN_BYTES: Final = 2_000


def checked_patterns(text: str, patterns: object) -> tuple[str, ...]:
    """Give the patterns of a lock: one text, or several in order of preference."""
    listed = [patterns] if isinstance(patterns, str) else patterns
    if not isinstance(listed, list | tuple) or not listed:
        raise InvalidArgument(
            f"the lock on task {text!r} has no patterns: give a text such as 'gpu-%', or a list of them"
        )
    for pattern in listed:
        if not isinstance(pattern, str) or not pattern or not is_storable(pattern):
            raise InvalidArgument(
                f"pattern {pattern!r:.80} of the lock on task {text!r} is no text, empty, or holds NUL"
            )
        if len(pattern.encode()) > MOST_PATTERN_BYTES:
            # Every plan reads it, and no name is so long.
            raise InvalidArgument(
                f"pattern {pattern[:40]!r}... of the lock on task {text!r} is too long: give at most "
                f"{MOST_PATTERN_BYTES} bytes"
            )
        try:
            LikePattern(pattern)
        except InvalidArgument as error:
            raise InvalidArgument(f"the lock on task {text!r} is refused: {error}") from None
    return tuple(listed)


def checked_days(days: object) -> float | None:
    """Give the days after which a lock expires, or None."""
    if days is None:
        return None
    if isinstance(days, bool) or not isinstance(days, int | float) or not 0 < days < 1_000_000:
        raise InvalidArgument(f"expires_in_days={days!r} is refused: give days, more than 0, or None for no end")
    return float(days)


def is_storable(text: str) -> bool:
    """Tell whether PostgreSQL can store a text."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
