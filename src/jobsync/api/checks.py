"""Refusing bad arguments at the call."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from jobsync.core.errors import InvalidArgument

MOST_NAME_BYTES = 500
MOST_SECONDS = 1_000_000_000
F = TypeVar("F", bound=Callable[..., Any])


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


def checked_seconds(what: str, seconds: object) -> float | None:
    """Give a time in seconds, or None."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < float("inf"):
        raise InvalidArgument(f"{what}={seconds!r} is refused: give seconds, 0 or more, or None")
    # Longer waits are none that anybody sees the end of, and more than the system's clocks can count.
    return float(min(seconds, MOST_SECONDS))


def checked_flag(what: str, flag: object) -> bool:
    """Give True or False."""
    if not isinstance(flag, bool):
        raise InvalidArgument(f"{what}={flag!r} is refused: give True or False")
    return flag


def checked_callback(what: str, function: F | None, *counts: int) -> F | None:
    """Give a plain function that can be called with as many arguments as one of the counts says, or None."""
    if function is None:
        return None
    if not callable(function):
        raise InvalidArgument(f"{what}={function!r} is refused: give a function, or None")
    if is_async(function):
        raise InvalidArgument(f"{what}={function!r} is refused: it is async, and nobody would await it; use AsyncJob")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return function  # Written in C: nothing can be told of it.
    if not any(_takes(signature, count) for count in counts):
        wanted = " or ".join(map(str, counts))
        raise InvalidArgument(f"{what}={function!r} is refused: it is called with {wanted} argument(s)")
    return function


def _takes(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def is_async(function: object) -> bool:
    """Tell whether calling it gives something to await: an async function, or an object whose call is one."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(vars(type(function)).get("__call__"))
