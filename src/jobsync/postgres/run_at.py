"""When a job may run, as PostgreSQL is told: an instant, or a delay that its own clock counts from."""

from datetime import UTC, datetime, timedelta


def instant(run_at: datetime | timedelta | None) -> str | None:
    """Write the instant, where one was given."""
    return run_at.astimezone(UTC).isoformat() if isinstance(run_at, datetime) else None


def delay_sec(run_at: datetime | timedelta | None) -> float | None:
    """Give the delay in seconds, where one was given."""
    return run_at.total_seconds() if isinstance(run_at, timedelta) else None
