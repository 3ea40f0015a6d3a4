"""What a queue is steered by: pauses, limits, schedules. The values that are shown, and what is refused at the call."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jobsync.core.errors import InvalidArgument
from jobsync.core.queue.new_job import NewJob, checked_text, checked_whole, payload_text
from jobsync.core.queue.periodic import Cron
from jobsync.core.queue.stored import read_json

MOST_AT_ONCE = 10_000
MOST_DAYS = 36_500.0
MOST_NAME_BYTES = 400  # A due time is written behind the name, and both together are a job_id.


@dataclass(frozen=True, slots=True)
class Pause:
    """A queue of which nothing is taken, since when, and by whom."""

    queue: str
    paused_at: datetime
    paused_by: str | None


@dataclass(frozen=True, slots=True)
class Limit:
    """How many jobs of a kind run at once in the whole fleet, and how many of one `limit_key`. None: any number."""

    at_once: int | None
    per_key: int | None


@dataclass(frozen=True, slots=True)
class Schedule:
    """A periodic job: what is enqueued whenever its cron expression is due.

    `last_due` is the latest due time that was enqueued, or when the schedule was made or its times were changed;
    `last_id` is the job of the latest one.
    """

    name: str
    cron: str
    timezone: str
    queue: str
    kind: str
    payload: Any
    priority: int
    last_due: datetime
    last_id: int | None

    @classmethod
    def of(cls, row: Sequence[Any]) -> "Schedule":
        """Make one of a row of the statement, in which the payload is a text."""
        values = [*row]
        values[5] = read_json(row[5])
        return cls(*values)


@dataclass(frozen=True, slots=True)
class PeriodicWish:
    """A periodic job as it is asked for; `payload` is JSON text. Make it with `checked_wish`."""

    name: str
    cron: Cron
    queue: str
    kind: str
    payload: str
    priority: int


def checked_wish(name: object, when: Cron, job: NewJob) -> PeriodicWish:
    """Check a periodic job that enqueues such jobs. Raises InvalidArgument."""
    payload = payload_text(job.payload)
    return PeriodicWish(checked_schedule_name(name), when, job.queue, job.kind, payload, job.priority)


def checked_limit(kind: str, at_once: object, per_key: object) -> Limit:
    """Check a limit for a kind. Raises InvalidArgument."""
    if "\t" in checked_text("kind", kind):
        raise InvalidArgument(f"kind={kind!r} is refused: a kind with a tab in its name cannot have a limit")
    return Limit(
        None if at_once is None else checked_whole("at_once", at_once, 1, MOST_AT_ONCE),
        None if per_key is None else checked_whole("per_key", per_key, 1, MOST_AT_ONCE),
    )


def checked_days(what: str, days: object) -> float:
    """Check a retention in days. Raises InvalidArgument."""
    if isinstance(days, bool) or not isinstance(days, int | float) or not 0 <= days <= MOST_DAYS:
        raise InvalidArgument(f"{what}={days!r:.80} is refused: give days, from 0 to {MOST_DAYS:g}")
    return float(days)


def checked_schedule_name(name: object) -> str:
    """Check the name of a periodic job. Raises InvalidArgument."""
    text = checked_text("name", name)
    if len(text.encode()) > MOST_NAME_BYTES:
        raise InvalidArgument(f"name={text[:40]!r}... is too long: give at most {MOST_NAME_BYTES} bytes")
    return text
