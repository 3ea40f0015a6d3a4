"""Statements that steer a queue, and the values that their rows are."""

from datetime import datetime

from jobsync.core.queue.periodic import Cron, Periodic
from jobsync.core.queue.steering import Limit, Pause, Schedule
from jobsync.core.queue.stored import UnknownKind
from jobsync.postgres.statement import Row, Statement, call, statement

PRUNE_AT_MOST = 2000


class QueueAdminStatements:
    """The statements of administration for one prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def pause(self, queue: str, by: str | None) -> Statement:
        """Pause a queue; `by` None: the role that asks."""
        return statement("pause_queue", self._prefix, queue, by)

    def resume(self, queue: str) -> Statement:
        """Let a queue run again; one row if it was paused."""
        return statement("resume_queue", self._prefix, queue)

    def pauses(self) -> Statement:
        """Ask which queues are paused."""
        return statement("list_pauses", self._prefix)

    def set_limit(self, kind: str, limit: Limit) -> Statement:
        """Set a limit, or lift it."""
        types = ("text", "integer", "integer")
        return call("job_set_limit", self._prefix, kind, limit.at_once, limit.per_key, types=types)

    def limits(self) -> Statement:
        """Ask for all limits."""
        return statement("list_limits", self._prefix)

    def schedule(self, name: str, cron: Cron, *, queue: str, kind: str, payload: str, priority: int) -> Statement:
        """Set a periodic job; `payload` is JSON text."""
        types = ("text", "text", "text", "text", "text", "jsonb", "integer")
        given = (name, cron.expression, cron.timezone, queue, kind, payload, priority)
        return call("job_schedule", self._prefix, *given, types=types)

    def unschedule(self, name: str) -> Statement:
        """Forget a periodic job; one row if it was there."""
        return statement("unschedule", self._prefix, name)

    def schedules(self) -> Statement:
        """Ask for all periodic jobs."""
        return statement("list_schedules", self._prefix)

    def prune(self, days: float) -> Statement:
        """Delete a bounded number of jobs that ended longer ago; gives how many."""
        types = ("double precision", "integer")
        return call("job_prune", self._prefix, days, PRUNE_AT_MOST, types=types)

    def unknown_kinds(self) -> Statement:
        """Ask for kinds that wait and that nobody knows."""
        return statement("unknown_kinds", self._prefix)

    def look_at_periodics(self, incarnation: int) -> Statement:
        """Ask what deciding about periodic jobs needs; see `look_of`."""
        return statement("look_at_periodics", self._prefix, incarnation)

    def fire(self, name: str, due: datetime) -> Statement:
        """Enqueue one due time; null if it was enqueued before."""
        return call("job_fire", self._prefix, name, due, types=("text", "timestamptz"))


def pauses_of(rows: list[Row]) -> list[Pause]:
    """Read the answer to `pauses`."""
    return [Pause(*row) for row in rows]


def limits_of(rows: list[Row]) -> dict[str, Limit]:
    """Read the answer to `limits`."""
    return {kind: Limit(at_once, per_key) for kind, at_once, per_key in rows}


def schedules_of(rows: list[Row]) -> list[Schedule]:
    """Read the answer to `schedules`."""
    return [Schedule(*row) for row in rows]


def unknown_kinds_of(rows: list[Row]) -> list[UnknownKind]:
    """Read the answer to `unknown_kinds`."""
    return [UnknownKind(*row) for row in rows]


def look_of(rows: list[Row]) -> tuple[datetime, bool, list[Periodic]]:
    """Read the answer to `look_at_periodics`: the database's time, whether the asker comes first, what there is."""
    found = [Periodic(name, Cron(schedule, zone), due) for _, name, schedule, zone, due, _ in rows if name is not None]
    return rows[0][0], rows[0][5], found
