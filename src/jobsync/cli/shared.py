"""What the commands share: how they print, and what they make of what people type.

Names, keys and reasons are data: they are shown without markup, and whatever a terminal would obey is written out. Rich
is loaded when something is shown, so that `--json` and errors need not wait for it.
"""

import getpass
import json
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jobsync.cli.given import config_of
from jobsync.cli.output import as_taken, say
from jobsync.core.errors import InvalidArgument

if TYPE_CHECKING:
    from rich.console import Console

    from jobsync.api.cluster import Cluster

NOTHING = 1

WIDTH_OF_PIPES = 200
MOST_SHOWN = 200
_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}


def one_line(error: Exception) -> str:
    """Write an error as the command shows it: one line."""
    return f"jobsync: {' '.join(inert(str(error)).split())}"


@contextmanager
def asked(dsn: str | None, appname: str | None) -> "Iterator[Cluster]":
    """Open the fleet that the options name."""
    from jobsync.api.cluster import open_cluster  # noqa: PLC0415 - `--help` needs no driver

    with open_cluster(config_of({"dsn": dsn, "appname": appname})) as cluster:
        yield cluster


def console() -> "Console":
    """Give the console: as wide as the terminal, wide in a pipe, and blind to markup."""
    from rich.console import Console  # noqa: PLC0415 - see above

    is_terminal = sys.stdout.isatty()
    return Console(
        soft_wrap=not is_terminal, highlight=False, markup=False, width=None if is_terminal else WIDTH_OF_PIPES
    )


def say_json(value: Any) -> None:
    """Print a value for programs: objects by the names of their fields, times as ISO 8601 texts."""
    say(json.dumps(as_plain(value), indent=2))


def as_plain(value: Any) -> Any:
    """Give a value as JSON takes it."""
    if is_dataclass(value) and not isinstance(value, type):
        return as_plain(asdict(value))
    match value:
        case dict():
            return {key: as_plain(each) for key, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [as_plain(each) for each in value]
        case datetime():
            return value.isoformat()
        case _:
            return value


def shown(text: str | None, *, nobody: str = "nobody") -> str:
    """Give a name, a key or a reason as a terminal may see it: one line, bounded, nothing that it would obey."""
    if text is None:
        return nobody
    cut = text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 1]}…"
    return _written_out(cut, "")


def inert(text: str) -> str:
    """Give a text of many lines, such as a traceback, as a terminal may see it: nothing else that it would obey."""
    return _written_out(text, "\n\t")


def _written_out(text: str, kept: str) -> str:
    if not text.isprintable():
        text = "".join(
            each if each.isprintable() or each in kept else each.encode("unicode_escape").decode() for each in text
        )
    return as_taken(text)


def at(moment: datetime | None) -> str:
    """Write an instant, in UTC, to the second."""
    return "" if moment is None else f"{moment.astimezone(tz=UTC):%Y-%m-%d %H:%M:%S}Z"


def count(number: int, what: str) -> str:
    """Write '1 token', '2 tokens'."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def seconds_of(text: str) -> float:
    """Read '90s', '10m', '2h', '1d', or seconds. Raises InvalidArgument."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower(), re.ASCII)
    if found is None or found[2] not in _UNITS or not 0 < float(found[1]) * _UNITS[found[2]] < 1e9:
        raise InvalidArgument(f"{text!r:.80} is no time: give something like 90s, 10m, 2h or 1d")
    return float(found[1]) * _UNITS[found[2]]


def agreed(what: str, nothing: object | None) -> bool:
    """Ask at the terminal whether to do what many would notice; the question goes to stderr.

    `nothing` is what `--json` prints where it is not to be done. Raises InvalidArgument where there is nobody to ask.
    """
    is_heard = sys.stdin.isatty()
    if is_heard:
        say(f"{what[0].upper()}{what[1:]}? [y/N] ", err=True, end="")
        typed = ""
        try:
            typed = sys.stdin.readline()
        finally:
            if not typed.endswith("\n"):  # Ctrl-C or Ctrl-D: the cursor stands behind the question still.
                say("", err=True)
        if typed.strip().lower() in {"y", "yes"}:
            return True
    if nothing is not None:
        say_json(nothing)
    if not is_heard:
        raise InvalidArgument(f"this would {what}: add --yes, since there is nobody to ask")
    if nothing is None:
        say("nothing was changed", err=True)
    return False


def who_asks() -> str:
    """Name the person at this machine, for the record."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # A container without a name for its user.
        user = "somebody"
    return f"{user}@{socket.gethostname()}"[:200]
