"""What a queue is steered by, as talks: pauses, limits, schedules, pruning; and a worker's look at what is due."""

from datetime import UTC, datetime, timedelta

from jobsync.core.queue.periodic import Cron, Periodic
from jobsync.core.queue.steering import Limit, Pause, PeriodicWish, Schedule
from jobsync.postgres.statement import Row, Statement, call, statement
from jobsync.postgres.talk import Talk

PRUNE_AT_MOST = 2000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class QueueAdminTalks:
    """Makes the talks of administration for one fleet (prefix)."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def pause(self, queue: str, by: str | None) -> Talk[None]:
        """Pause a queue; `by` None: the role that asks."""
        yield statement("pause_queue", self._prefix, queue, by)

    def resume(self, queue: str) -> Talk[bool]:
        """Let a queue run again; True if it was paused."""
        return bool((yield statement("resume_queue", self._prefix, queue)))

    def pauses(self) -> Talk[list[Pause]]:
        """Ask which queues are paused."""
        return [Pause(*row) for row in (yield statement("list_pauses", self._prefix))]

    def paused(self) -> Talk[list[str]]:
        """Ask for their names alone."""
        return [row[0] for row in (yield statement("list_pauses", self._prefix))]

    def set_limit(self, kind: str, limit: Limit) -> Talk[None]:
        """Set a limit, or lift it."""
        types = ("text", "integer", "integer")
        yield call("job_set_limit", self._prefix, kind, limit.at_once, limit.per_key, types=types)

    def limits(self) -> Talk[dict[str, Limit]]:
        """Ask for all limits, by kind."""
        rows = yield statement("list_limits", self._prefix)
        return {kind: Limit(at_once, per_key) for kind, at_once, per_key in rows}

    def schedule(self, wish: PeriodicWish) -> Talk[None]:
        """Set a periodic job."""
        yield schedule(self._prefix, wish)

    def unschedule(self, name: str) -> Talk[bool]:
        """Forget a periodic job; True if there was one."""
        return bool((yield statement("unschedule", self._prefix, name)))

    def schedules(self) -> Talk[list[Schedule]]:
        """Ask for all periodic jobs."""
        return [Schedule.of(row) for row in (yield statement("list_schedules", self._prefix))]

    def prune(self, days: float) -> Talk[int]:
        """Delete the jobs that ended longer ago, a bounded number at a time; give how many."""
        gone = 0
        while True:
            rows = yield call("job_prune", self._prefix, days, PRUNE_AT_MOST, types=("double precision", "integer"))
            bite = int(rows[0][0])
            gone += bite
            if bite < PRUNE_AT_MOST:
                return gone


def schedule(prefix: str, wish: PeriodicWish) -> Statement:
    """Make the statement that sets a periodic job."""
    types = ("text", "text", "text", "text", "text", "jsonb", "integer")
    when = (wish.cron.expression, wish.cron.timezone)
    return call(
        "job_schedule", prefix, wish.name, *when, wish.queue, wish.kind, wish.payload, wish.priority, types=types
    )


class PeriodicStatements:
    """The statements of a worker that looks after periodic jobs."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def look(self, incarnation: int) -> Statement:
        """Ask what deciding needs; see `look_of`."""
        return statement("look_at_periodics", self._prefix, incarnation)

    def fire(self, name: str, due: datetime) -> Statement:
        """Enqueue one due time; null if it was enqueued before."""
        return call("job_fire", self._prefix, name, due, types=("text", "timestamptz"))


def look_of(rows: list[Row]) -> tuple[datetime, bool, list[Periodic]]:
    """Read the answer to a look: the database's time, whether the asker comes first, what there is."""
    found = [
        Periodic(name, Cron(cron, zone), _instant(due)) for _, _, name, cron, zone, due in rows if name is not None
    ]
    return _instant(rows[0][0]), bool(rows[0][1]), found


def _instant(unix_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=unix_us)
