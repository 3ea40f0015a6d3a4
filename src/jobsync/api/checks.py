"""Refusing bad arguments at the call."""

from jobsync.core.errors import InvalidArgument

MOST_NAME_BYTES = 500


def checked_name(what: str, name: object) -> str:
    """Give a name of a node, a run or an environment: text that PostgreSQL can store and index."""
    if not isinstance(name, str) or not name:
        raise InvalidArgument(f"{what}={name!r} is no name: give a non-empty text")
    if len(name.encode("utf-8", "surrogatepass")) > MOST_NAME_BYTES:
        raise InvalidArgument(f"{what}={name[:40]!r}... is too long: give at most {MOST_NAME_BYTES} bytes")
    if "\0" in name:
        raise InvalidArgument(f"{what}={name!r} holds a NUL character, which PostgreSQL cannot store")
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidArgument(f"{what}={name!r} holds half a surrogate pair, which PostgreSQL cannot store") from None
    return name


def checked_wait(wait_sec: object) -> float | None:
    """Give a grace period in seconds, or None."""
    if wait_sec is None:
        return None
    if isinstance(wait_sec, bool) or not isinstance(wait_sec, int | float) or not 0 <= wait_sec < float("inf"):
        raise InvalidArgument(f"wait_on_enter={wait_sec!r} is refused: give seconds, 0 or more, or None")
    return float(wait_sec)
