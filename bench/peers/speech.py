"""What a peer's worker says, and how its command line is read."""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

EVERY_SEC = 0.02


def say(**answer: Any) -> None:
    """Write one answer."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def now_sec() -> float:
    """Give the clock that all processes of the machine share."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Teller:
    """Tells of the first job, and of the delay of those that bear the time of their enqueueing."""

    def __init__(self) -> None:
        self._told = False

    def job(self, at_sec: float | None) -> None:
        """One job begins."""
        if at_sec is not None:
            say(pickup_ms=(now_sec() - at_sec) * 1000)
        elif not self._told:
            self._told = True
            say(first=now_sec())


async def one_by_one(enqueue: Callable[[float | None], Awaitable[object]], count: int) -> None:
    """Enqueue one at a time, as fast as each is committed."""
    began_sec = now_sec()
    for _ in range(count):
        await enqueue(None)
    say(single_sec=now_sec() - began_sec)


async def now_and_then(enqueue: Callable[[float | None], Awaitable[object]], count: int) -> None:
    """Enqueue to an idle worker."""
    for _ in range(count):
        await asyncio.sleep(EVERY_SEC)
        await enqueue(now_sec())


def main(verbs: dict[str, Callable[..., Awaitable[object]]], runner: Callable[[Any], object] = asyncio.run) -> None:
    """Run the verb that the command line names."""
    verb, dsn, *count = sys.argv[1:]
    runner(verbs[verb](dsn, *map(int, count)))
