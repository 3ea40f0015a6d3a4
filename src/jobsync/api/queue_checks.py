"""Refusing bad arguments of the queue's methods at the call."""

from jobsync.core.errors import InvalidArgument
from jobsync.core.queue.new_job import checked_text, checked_whole, payload_text
from jobsync.core.queue.stored import RELEASES
from jobsync.postgres.jobs import JobFilter

MOST_MESSAGE = 100_000


def checked_id(id: object) -> int:  # noqa: A002 - the column's name
    """Give the number of a job."""
    return checked_whole("id", id, 1, 2**63 - 1)


def checked_filter(kind: object, queue: object, status: object, statuses: tuple[str, ...]) -> JobFilter:
    """Give which jobs are meant."""
    return JobFilter(
        None if kind is None else checked_text("kind", kind),
        None if queue is None else checked_text("queue", queue),
        None if status is None else checked_status(status, statuses),
    )


def checked_status(status: object, statuses: tuple[str, ...]) -> str:
    """Give one of these statuses."""
    if not isinstance(status, str) or status not in statuses:
        raise InvalidArgument(f"status={status!r:.80} is refused: give one of {', '.join(statuses)}")
    return status


def checked_release(status: object) -> str:
    """Give what `release_lease` can make of a job."""
    return checked_status(status, RELEASES)


def checked_message(message: object) -> str | None:
    """Give a text for people, or None: cut where it is long, with escapes for what PostgreSQL cannot store."""
    if message is None:
        return None
    if not isinstance(message, str):
        raise InvalidArgument(f"{message!r:.80} is no text: give a str, or None")
    return message[:MOST_MESSAGE].encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def checked_result(status: str, result: object) -> str | None:
    """Give the text of a result; only what is done has one."""
    if result is None:
        return None
    if status != "done":
        raise InvalidArgument(f"result is given with status={status!r}: only what is done has one")
    return payload_text(result)
