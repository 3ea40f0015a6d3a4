"""Periodic jobs: when a cron expression is due, and which due times are to be enqueued now.

Model: a `Cron` is an expression of five fields (minute, hour, day of month, month, day of week) in a time zone. A
periodic job remembers up to which due time it has been enqueued (`last_due`); what is due since then is decided here,
by the clock that the caller passes in, which is the database's.

After an outage only the latest due time that was missed is made up for, once: a report that was missed nine times is
wanted once. Where the clock goes by daylight saving time, an expression with a fixed minute and hour runs once a day:
in the hour that is left out, at its end; in the hour that comes twice, the first time. One whose minute or hour begins
with a star follows the hours that really pass.

Not promised: anything about expressions that were written into the table by hand; they are told as broken.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from jobsync.core.errors import ExtraMissing, InvalidArgument

MOST_TEXT = 200
# Looking back goes from short to long, so that neither a dense expression nor a sparse one costs many steps.
LOOKS_BACK = (timedelta(hours=1), timedelta(days=1), timedelta(days=32), timedelta(days=366), timedelta(days=366 * 30))
_FIRST_LOOK = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression in a time zone; make it with `checked_cron`."""

    expression: str
    timezone: str = "UTC"

    def next_due(self, after: datetime) -> datetime:
        """Give the first due time after an instant, in UTC."""
        for due in self._from(after):
            if due > after:
                return due
        raise InvalidArgument(f"the cron expression {self.expression!r} is never due")

    def latest_due(self, after: datetime, until: datetime) -> datetime | None:
        """Give the latest due time after one instant and not after another, in UTC; None where there is none."""
        for look in LOOKS_BACK:
            start = max(after, until - look)
            latest = None
            for due in self._from(start):
                if due > until:
                    break
                if due > after:
                    latest = due
            if latest is not None or start == after:
                return latest
        return None

    def _from(self, start: datetime) -> Iterator[datetime]:
        """Give the due times from about an instant on, in UTC: what lies before it is for the caller to drop."""
        # Two times of one zone would be compared by what the clock on the wall says, which says some hours twice.
        for due in _due_times(self.expression, start.astimezone(_zone(self.timezone))):
            yield due.astimezone(UTC)


def checked_cron(expression: object, timezone: object = "UTC") -> Cron:
    """Check an expression and a time zone. Raises InvalidArgument, or ExtraMissing without `jobsync[periodic]`."""
    if not isinstance(timezone, str) or len(timezone) > MOST_TEXT:
        raise InvalidArgument(f"timezone={timezone!r} is refused: give a name such as 'Europe/Berlin', or 'UTC'")
    _zone(timezone)
    if not isinstance(expression, str) or len(expression) > MOST_TEXT or len(expression.split()) != 5:
        raise InvalidArgument(
            f"cron={expression!r} is refused: give five fields (minute, hour, day of month, month, day of week), "
            "such as '*/5 * * * *'"
        )
    cron = Cron(" ".join(expression.split()), timezone)
    cron.next_due(_FIRST_LOOK)
    return cron


@dataclass(frozen=True, slots=True)
class Periodic:
    """What is enqueued at the due times of a cron expression, as far as deciding needs it."""

    name: str
    cron: Cron
    last_due: datetime


@dataclass(frozen=True, slots=True)
class Due:
    """One due time of a periodic job that is to be enqueued; and the first one since the last that was."""

    name: str
    at: datetime
    first_missed: datetime


@dataclass(frozen=True, slots=True)
class Round:
    """What is to be enqueued, the earliest first; and what cannot be read, by name, with the reason."""

    due: tuple[Due, ...]
    broken: tuple[tuple[str, str], ...]


def decide_round(periodics: Iterable[Periodic], now: datetime) -> Round:
    """Decide what is due at an instant. Raises ExtraMissing where there are any and `jobsync[periodic]` is missing."""
    due: list[Due] = []
    broken: list[tuple[str, str]] = []
    for each in periodics:
        try:
            at = each.cron.latest_due(each.last_due, now)
            if at is not None:
                due.append(Due(each.name, at, each.cron.next_due(each.last_due)))
        except InvalidArgument as error:
            broken.append((each.name, str(error)))
    return Round(tuple(sorted(due, key=lambda one: (one.at, one.name))), tuple(broken))


def until_next_minute_sec(now: datetime) -> float:
    """Count the seconds to the start of the next minute: no expression is due in between."""
    return 60.0 - now.second - now.microsecond / 1e6


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise InvalidArgument(
            f"timezone={name!r} is not known: give a name such as 'Europe/Berlin'; where a machine has no time zones, "
            "pip install 'jobsync[periodic]' brings them"
        ) from None


def _due_times(expression: str, start: datetime) -> Iterator[datetime]:
    try:
        from cronsim import CronSim, CronSimError  # noqa: PLC0415 - an extra: only who schedules needs it
    except ImportError:
        raise ExtraMissing(
            "periodic jobs need a library for cron expressions: pip install 'jobsync[periodic]'"
        ) from None
    try:
        yield from CronSim(expression, start)
    except CronSimError as error:
        raise InvalidArgument(f"the cron expression {expression!r} cannot be read: {error}") from None
