"""Jobs as they stand in the database, for people and programs to look at."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

STATUSES: Final = ("pending", "processing", "retry", "done", "failed", "cancelled")
"""Every status of a job. `retry` waits for a further attempt; the last three are ends."""

UNFINISHED: Final = ("pending", "processing", "retry")
ENDS: Final = ("done", "failed", "cancelled")
RELEASES: Final = ("done", "failed", "retry", "pending")
"""What `release_lease` can make of a running job."""


def read_json(text: str | None) -> Any:
    """Read JSON as it is stored; what Python cannot carry is given as its text, so that it hides nothing else.

    That is a number of more than 4,300 digits, or lists in lists in their thousands: `enqueue` refuses them, but
    somebody may have written them in SQL.
    """
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


@dataclass(frozen=True, slots=True)
class StoredJob:
    """One job as it was read: the row of the view `{appname}job`.

    A `payload` or `result` written in SQL that Python cannot carry (1e5000) is given as its JSON text.
    `attempts` counts those begun, `crashes` those among them whose lease was lost. `attempt` is the number by which
    the running attempt, or the one that ended the job, is told from every other. `locked_by` and `locked_until` say
    who works on it, and until when that is certain. `updated_at` is the latest instant that the tables know of.
    `taken_by` and `taken_at` tell of the attempt that runs, or that ended the job: which worker took it, and when; its
    handler began then, or later, where it was fetched ahead. None where none did, and of jobs that ended before
    schema version 6.
    """

    id: int
    job_id: str | None
    queue: str
    kind: str
    payload: Any
    status: str
    priority: int
    progress: int
    progress_message: str | None
    attempts: int
    crashes: int
    max_attempts: int
    locked_by: str | None
    locked_until: datetime | None
    run_at: datetime
    last_error: str | None
    result: Any
    affinity: str | None
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    attempt: int | None
    limit_key: str | None
    taken_by: str | None = None
    taken_at: datetime | None = None

    @classmethod
    def of(cls, row: Sequence[Any]) -> "StoredJob":
        """Make one of a row of the statements, in which payload and result are texts."""
        values = [*row]
        values[4], values[16] = read_json(row[4]), read_json(row[16])
        return cls(*values)


@dataclass(frozen=True, slots=True)
class ActiveLease:
    """A job that a worker has taken: it runs there, or was fetched ahead and is about to."""

    id: int
    kind: str
    worker_id: str
    locked_until: datetime
    attempt: int
    attempts: int
    progress: int


@dataclass(frozen=True, slots=True)
class AttemptError:
    """The evidence of one attempt that failed (`error` is its traceback) or crashed (its lease was lost).

    `taken_at` is when its worker took the job; None of an attempt that ended before schema version 6.
    """

    attempts: int
    worker_id: str
    at: datetime
    crashed: bool
    error: str
    attempt: int
    taken_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class UnknownKind:
    """A kind with jobs that wait in a queue, and that no live worker of this queue knows."""

    queue: str
    kind: str
    waiting: int
