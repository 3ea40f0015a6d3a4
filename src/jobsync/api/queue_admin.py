"""Steering a queue as a whole: pauses, limits, periodic jobs, pruning.

Each method checks what it is given, and hands one talk to the desk; so the same methods serve `AsyncJobQueue`, whose
desk gives something to await.
"""

from typing import Any

from jobsync.core.queue.new_job import DEFAULT_QUEUE, NewJob, checked_text
from jobsync.core.queue.periodic import checked_cron
from jobsync.core.queue.steering import (
    Limit,
    Pause,
    Schedule,
    checked_days,
    checked_limit,
    checked_schedule_name,
    checked_wish,
)
from jobsync.postgres.queue_admin import QueueAdminTalks
from jobsync.runtime.queue_desk import QueueDesk

DEFAULT_RETENTION_DAYS = 7.0


class QueueAdmin:
    """The part of `JobQueue` that steers."""

    _desk: QueueDesk

    @property
    def _admin(self) -> QueueAdminTalks:
        return QueueAdminTalks(self._desk.prefix)

    # --- pauses ----------------------------------------------------------------------------------

    def pause(self, queue: str = DEFAULT_QUEUE, *, by: str | None = None) -> None:
        """Let nothing more be taken of a queue, in the whole fleet, until `resume`.

        What a worker has taken already goes on. `by` is written down for others to see; by default the role that asks.
        """
        by = None if by is None else checked_text("by", by)
        return self._desk.do(self._admin.pause(checked_text("queue", queue), by))

    def resume(self, queue: str = DEFAULT_QUEUE) -> bool:
        """Let a paused queue run again, at once; False where it was not paused."""
        return self._desk.do(self._admin.resume(checked_text("queue", queue)))

    def paused(self) -> list[str]:
        """Name the queues that are paused."""
        return self._desk.do(self._admin.paused())

    def pauses(self) -> list[Pause]:
        """List the queues that are paused, since when, and by whom."""
        return self._desk.do(self._admin.pauses())

    # --- limits ----------------------------------------------------------------------------------

    def set_limit(self, kind: str, *, at_once: int | None = None, per_key: int | None = None) -> None:
        """Let at most so many jobs of a kind run at once in the whole fleet, and so many of one `limit_key`.

        It is a constraint of the database, and holds whoever asks at one instant; for what is taken from now on. Where
        it was lowered, nothing begins until enough of those that run have ended. None and None: no limit.
        """
        return self._desk.do(self._admin.set_limit(kind, checked_limit(kind, at_once, per_key)))

    def limits(self) -> dict[str, Limit]:
        """Give the limits by kind."""
        return self._desk.do(self._admin.limits())

    # --- periodic jobs ---------------------------------------------------------------------------

    def schedule(
        self,
        name: str,
        cron: str,
        kind: str,
        payload: Any = None,
        *,
        queue: str = DEFAULT_QUEUE,
        priority: int = 0,
        timezone: str = "UTC",
    ) -> None:
        """Enqueue a job whenever a cron expression is due, once for each due time, as long as a worker lives.

        `cron` has five fields: minute, hour, day of month, month, day of week. `name` tells this periodic job from
        others: setting it again with the same times changes nothing, with other times they count from now on. After an
        outage the latest due time that was missed is made up for. Each job bears `name@due` as its job_id.

        Raises ExtraMissing where `jobsync[periodic]` is not installed.
        """
        job = NewJob(kind, payload, priority=priority, queue=queue)
        return self._desk.do(self._admin.schedule(checked_wish(name, checked_cron(cron, timezone), job)))

    def unschedule(self, name: str) -> bool:
        """Enqueue a periodic job no more; False where there is none of that name. What was enqueued stays."""
        return self._desk.do(self._admin.unschedule(checked_schedule_name(name)))

    def schedules(self) -> list[Schedule]:
        """List the periodic jobs, by name."""
        return self._desk.do(self._admin.schedules())

    # --- pruning ---------------------------------------------------------------------------------

    def prune(self, older_than_days: float | None = None) -> int:
        """Delete the jobs that ended longer ago, by default than 7 days; give how many.

        Workers do so by themselves (`job_retention_days`). A `job_id` is free again when its job is gone.
        """
        days = DEFAULT_RETENTION_DAYS if older_than_days is None else checked_days("older_than_days", older_than_days)
        return self._desk.do(self._admin.prune(days))
