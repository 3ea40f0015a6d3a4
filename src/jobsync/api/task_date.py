"""The date that a job works for."""

from datetime import date, datetime

from jobsync.core.errors import InvalidArgument


def date_of(given: object) -> date | None:
    """Read a date given as date, datetime or ISO text; None stays None. Anything else is InvalidArgument."""
    if given is None:
        return None
    if isinstance(given, datetime):
        return given.date()
    if isinstance(given, date):
        return given
    if isinstance(given, str):
        try:
            return datetime.fromisoformat(given).date()
        except ValueError:
            pass
    raise InvalidArgument(f"date={given!r} is no date: give a date, a datetime or ISO text such as '2026-11-22'")


def local_today() -> date:
    """Give the local date: only the stand-alone job asks it, since it has no database to ask."""
    return date.today()  # noqa: DTZ011, TID251
