"""Lists that each viewer filters as he likes, kept fresh: jobs, one job with its attempts, locks.

What the fleet's snapshot does not have is read here, and shared by all who ask for the same. The database is spared as
it is by the snapshots: however many look, and at whatever, one list is read a second, and after a slow one the rest is
ten times as long. Where several are looked at, the one that waited longest is next. Only a page that is loaded reads
its list at once, where nobody has read the same within the last second.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from jobsync.api.clock import boot_sec
from jobsync.core.errors import JobsyncError
from jobsync.core.queue.stored import ENDS, STATUSES, UNFINISHED
from jobsync.web.desk import JOBS_A_PAGE, Desk
from jobsync.web.poller import EVERY_SEC, SHARE

NAMES: Final = {"jobs": ("status", "kind", "queue", "before"), "job": ("id",), "locks": ("like",)}
"""What may be asked of each list, as in the address of its page."""

_EMPTY: Final[Mapping[str, Mapping[str, Any]]] = {
    "jobs": {"jobs": [], "full": False},
    "job": {"job": None},
    "locks": {"locks": (), "more": 0},
}

LOCKS_SHOWN: Final = 500
MOST_LETTERS: Final = 2_000
LOOKED_AT_SEC: Final = 5.0  # Nobody has asked for it for so long: it waits for no turn any more.
FORGOTTEN_SEC: Final = 60.0
MOST_KEPT: Final = 200  # Whoever asks for ever other things takes no more memory than for so many.
MOST_CHARACTERS: Final = 20_000

Asked = tuple[str, ...]
"""The list, and what was asked of it, in the order of `NAMES`; empty where nothing was."""


@dataclass(slots=True)
class Found:
    """What was read last: words for the template, why it could not be read, and what was drawn of it."""

    given: Mapping[str, Any] | None = None
    error: str | None = None
    began_sec: float = float("-inf")
    read_sec: float = float("-inf")
    asked_sec: float = float("-inf")
    drawn: dict[bool, str] = field(default_factory=dict)


def asked_of(page: str, query: Mapping[str, str]) -> Asked:
    """Take from an address what its list is asked for."""
    return (page, *((query.get(name) or "")[:MOST_LETTERS] for name in NAMES[page]))


class Lists:
    """Reads lists, and keeps each as long as somebody looks at it. For one event loop."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._kept: dict[Asked, Found] = {}
        self._reading = asyncio.Lock()
        self._rest_until_sec = float("-inf")
        self._changed_sec = float("-inf")

    async def latest(self, asked: Asked, *, is_away: bool) -> Found:
        """Give a list as it was read last, reading it first where it is its turn.

        Who has something to show waits neither for another list, nor for a database that `is_away`: other news of the
        page comes along with this.
        """
        found = self._note(asked)
        if is_away or (found.read_sec > 0 and self._reading.locked()):
            return found
        async with self._reading:
            if boot_sec() >= self._rest_until_sec and self._is_next(found):
                await self._read(asked, found)
        return found

    async def now(self, asked: Asked) -> Found:
        """Give a list that is younger than a second, and than the last change: somebody loads its page."""
        found = self._note(asked)
        async with self._reading:
            if found.began_sec <= max(boot_sec() - EVERY_SEC, self._changed_sec):
                await self._read(asked, found)
        return found

    def changed(self) -> None:
        """Read anew whatever a page is loaded with: something was changed."""
        self._changed_sec = boot_sec()

    def lacks(self, asked: Asked) -> bool:
        """Tell whether a job was looked for, and is not there."""
        given = self._note(asked).given
        return given is not None and given.get("job", given) is None

    def _note(self, asked: Asked) -> Found:
        now_sec = boot_sec()
        self._kept = {each: it for each, it in self._kept.items() if it.asked_sec > now_sec - FORGOTTEN_SEC}
        found = self._kept.pop(asked, None) or Found()
        while len(self._kept) >= MOST_KEPT:
            self._kept.pop(next(iter(self._kept)))  # The one that nobody has asked for the longest.
        self._kept[asked] = found
        found.asked_sec = now_sec
        return found

    def _is_next(self, found: Found) -> bool:
        since_sec = boot_sec() - LOOKED_AT_SEC
        others = (each.read_sec for each in self._kept.values() if each.asked_sec > since_sec)
        return found.read_sec <= min(others)

    async def _read(self, asked: Asked, found: Found) -> None:
        read: dict[str, Callable[[Asked], dict[str, Any]]] = {
            "jobs": self._jobs, "job": self._job, "locks": self._locks
        }  # fmt: skip
        began_sec = boot_sec()
        try:
            found.given, found.error = await asyncio.to_thread(read[asked[0]], asked), None
        except JobsyncError as error:
            found.error = str(error)
        found.began_sec, found.read_sec = began_sec, boot_sec()
        found.drawn.clear()
        self._rest_until_sec = found.read_sec + max(EVERY_SEC, SHARE * (found.read_sec - began_sec))

    # --- in a thread -----------------------------------------------------------------------------

    def _jobs(self, asked: Asked) -> dict[str, Any]:
        _, status, kind, queue, before = asked
        last = int(before) if before.isdecimal() and len(before) < 19 else None
        jobs = self._desk.jobs(status or None, kind or None, queue or None, last)
        return {"jobs": jobs, "full": len(jobs) == JOBS_A_PAGE}

    def _job(self, asked: Asked) -> dict[str, Any]:
        found = self._desk.one_job(asked[1])
        if found is None:
            return {"job": None}
        job, errors = found
        return {"job": job, "errors": errors, "texts": {"payload": as_text(job.payload), "result": as_text(job.result)}}

    def _locks(self, asked: Asked) -> dict[str, Any]:
        locks = self._desk.locks(asked[1] or None)
        return {"locks": locks[:LOCKS_SHOWN], "more": len(locks) - LOCKS_SHOWN}


def words_of(asked: Asked, found: Found) -> dict[str, Any]:
    """Give what the template of a list is drawn from."""
    page, *values = asked
    words: dict[str, Any] = {"asked": dict(zip(NAMES[page], values, strict=True)), "asked_error": found.error}
    words |= {"unread": found.given is None, "statuses": STATUSES, "ends": ENDS, "unfinished": UNFINISHED}
    return words | dict(_EMPTY[page] if found.given is None else found.given)


def as_text(value: Any) -> str:
    """Write a payload or a result for people, cut where it is endless."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}\n[... cut ...]"
