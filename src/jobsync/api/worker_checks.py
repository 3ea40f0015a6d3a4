"""What a worker's arguments must be, and its name where none is given."""

import itertools
import os
import platform
import time
from typing import Final

from jobsync.core.errors import InvalidArgument
from jobsync.core.queue.new_job import checked_text

_NUMBERS: Final = itertools.count(1)


def default_id() -> str:
    """Make a worker's name: host, process, time."""
    # Two workers of one process may be made within one millisecond.
    started_ms = time.clock_gettime_ns(time.CLOCK_REALTIME) // 1_000_000
    return f"{platform.node()[:200]}-{os.getpid()}-{started_ms}-{next(_NUMBERS)}"


def checked_queues(queues: object) -> tuple[str, ...]:
    """Give the queues that a worker serves, each once."""
    if isinstance(queues, str) or not isinstance(queues, list | tuple | set | frozenset) or not queues:
        raise InvalidArgument(f"queues={queues!r:.80} is refused: give a list of names")
    return tuple(dict.fromkeys(checked_text("queue", queue) for queue in queues))


def checked_number(what: str, number: object, least: float, most: float) -> float:
    """Give a number within bounds; a bool is none."""
    if isinstance(number, bool) or not isinstance(number, int | float) or not least <= number <= most:
        raise InvalidArgument(f"{what}={number!r:.80} is refused: give a number from {least:g} to {most:g}")
    return number
