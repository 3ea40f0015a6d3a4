"""`JobQueue`: durable jobs, put into the queue, looked at and steered. Who runs them is `ProcessingWorker`."""

import os
from collections.abc import Iterable
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from jobsync.api.config import FROM_ENVIRONMENT, SettingsSource, resolve
from jobsync.api.queue_admin import QueueAdmin
from jobsync.api.queue_checks import checked_filter, checked_id, checked_message, checked_release, checked_result
from jobsync.core.errors import CoordinationDisabled, InvalidArgument, InvalidSettings, LeaseLost
from jobsync.core.queue.new_job import DEFAULT_QUEUE, NewJob, checked_text, checked_whole, payload_text
from jobsync.core.queue.stored import (
    ENDS,
    STATUSES,
    UNFINISHED,
    ActiveLease,
    AttemptError,
    StoredJob,
    UnknownKind,
)
from jobsync.core.settings import Settings
from jobsync.postgres.job_batches import Reader
from jobsync.postgres.talk import Talk
from jobsync.runtime.queue_desk import QueueDesk
from jobsync.runtime.running import RUNNING

if TYPE_CHECKING:
    from jobsync.api.tracing.sending import Sender

MOST_LISTED = 10_000


class JobQueue(QueueAdmin):
    """A queue of durable jobs in the fleet's database. Usable at once, shared by threads, closed by `with` or `close`.

    `config` is a `CoordinationConfig`, as for `Job`; by default the environment decides. Nothing is connected before
    the first call, which also sees that the tables stand.

    Every method raises InvalidArgument (a ValueError) for what cannot be meant, before anything is written;
    DatabaseUnavailable where the server cannot be reached; and JobsyncError for what it refuses.
    """

    def __init__(self, config: SettingsSource = FROM_ENVIRONMENT) -> None:
        settings = _settings_of(config)
        self._sender = self._make_sender() if settings.tracing else None
        self._desk = self._make_desk(settings)

    def _make_desk(self, settings: Settings) -> QueueDesk:
        return QueueDesk(settings)

    def _make_sender(self) -> "Sender":
        from jobsync.api.tracing.sending import Sender  # noqa: PLC0415 - only who traces loads it

        return Sender()

    def close(self) -> None:
        """Close the connections; calls after it are refused. Jobs are in the database and stay."""
        return self._desk.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- enqueueing ------------------------------------------------------------------------------

    def enqueue(  # noqa: PLR0913 - each is a column of the job
        self,
        kind: str,
        payload: object = None,
        *,
        job_id: str | None = None,
        priority: int = 0,
        run_at: datetime | timedelta | None = None,
        max_attempts: int = 3,
        affinity: str | None = None,
        limit_key: str | None = None,
        queue: str = DEFAULT_QUEUE,
        connection: Any = None,
    ) -> int:
        """Store one job and give its id; when this returns the job is committed.

        `payload` is what JSON can carry, at most 1 MB of it. `job_id` is a key of your own: as long as a job with it
        stands, in whatever state, its id is given and nothing is stored. Higher `priority` goes first. `run_at` is an
        instant (with a time zone) or a delay from now. `max_attempts` counts the first one. Jobs of one `affinity` run
        one at a time, in order; of one `limit_key`, as many at once as `set_limit` lets.

        `connection` is a psycopg connection of your own: then the job exists if and only if its transaction commits,
        and workers hear of it at that instant. Errors of the database come as psycopg's own there.
        """
        job = NewJob(kind, payload, job_id, priority, run_at, max_attempts, affinity, limit_key, queue)
        text = payload_text(payload)
        if self._sender is None:
            return self._desk.enqueue(self._desk.jobs.enqueue(job, text), connection)
        jobs = self._desk.jobs
        return self._sender.send(job, lambda trace: self._desk.enqueue(jobs.enqueue(job, text, trace), connection))

    def enqueue_many(self, jobs: Iterable[NewJob | tuple[str, object]], *, connection: Any = None) -> list[int]:
        """Store many jobs, all or none, and give their ids in order: NewJobs, or pairs of kind and payload.

        An iterator is read as it is stored, within one transaction; only the ids are kept. A job that is refused is
        named by its position, as `jobs[3]`. `connection` is as for `enqueue`.

        Two callers that store the same `job_id`s in different orders, a thousand jobs apart, may meet in a deadlock,
        and the database undoes one of them: it is begun anew by itself. Not so where its jobs come from an iterator,
        which can be read once, or on a connection of your own, whose transaction is yours to repeat.
        """
        if self._sender is None:
            return self._desk.enqueue_many(Reader(jobs), connection)
        return self._sender.send_many(lambda trace: self._desk.enqueue_many(Reader(jobs, trace), connection))

    # --- running jobs ----------------------------------------------------------------------------

    def update_progress(
        self,
        id: int,  # noqa: A002
        progress: int,
        message: str | None = None,
        *,
        attempt: int | None = None,
    ) -> None:
        """Say how far a running job has come: 0 to 100, and a text for people.

        In the job's own handler this speaks for the attempt that runs there. Elsewhere `attempt` says for which
        (`StoredJob.attempt`). Raises LeaseLost, and changes nothing, where that attempt does not run any more.
        """
        of = _attempt_of(checked_id(id), attempt)
        checked_whole("progress", progress, 0, 100)
        return self._desk.do(_or_lost(self._desk.jobs.set_progress(id, of, progress, checked_message(message)), id, of))

    def release_lease(
        self,
        id: int,  # noqa: A002
        worker_id: str,
        status: str,
        *,
        error: str | None = None,
        result: object = None,
        attempt: int | None = None,
    ) -> None:
        """End the attempt that `worker_id` makes at a job: it becomes `done`, `failed`, `retry` or `pending`.

        `retry` charges the attempt and runs the job again at once (`failed` on the last one); `pending` charges
        nothing. `error` is kept as the reason, `result` (JSON, with `done`) as what came out. In the job's own handler
        this speaks for the attempt that runs there; elsewhere `attempt` says for which. Raises LeaseLost, and changes
        nothing, where that attempt does not run any more, or is another worker's.
        """
        of = _attempt_of(checked_id(id), attempt)
        checked_text("worker_id", worker_id)
        checked_release(status)
        talk = self._desk.jobs.release(
            id, of, worker_id, status, checked_message(error), checked_result(status, result)
        )
        return self._desk.do(_or_lost(talk, id, of))

    def get_active_leases(self) -> list[ActiveLease]:
        """List the jobs that workers have taken, by worker."""
        return self._desk.do(self._desk.jobs.active_leases())

    def reset_expired_leases(self) -> int:
        """Take back the jobs of workers that died or whose leases ran out; the count.

        Workers do this by themselves, when they start and all the time; it is for when none runs.
        """
        return self._desk.do(self._desk.jobs.recover())

    # --- looking ---------------------------------------------------------------------------------

    def get(self, id: int) -> StoredJob | None:  # noqa: A002
        """Read one job; None where there is none, or it was pruned."""
        return self._desk.do(self._desk.jobs.get(checked_id(id)))

    def get_by_job_id(self, job_id: str) -> StoredJob | None:
        """Read one job by your own key."""
        return self._desk.do(self._desk.jobs.get_by_job_id(checked_text("job_id", job_id)))

    def list_jobs(
        self,
        *,
        status: str | None = None,
        kind: str | None = None,
        queue: str | None = None,
        limit: int = 100,
        before_id: int | None = None,
    ) -> list[StoredJob]:
        """Read jobs, newest first, of this status, kind and queue; `before_id`, a page's last, gives the next."""
        which = checked_filter(kind, queue, status, STATUSES)
        if before_id is not None:
            checked_id(before_id)
        return self._desk.do(self._desk.jobs.list_jobs(which, before_id, checked_whole("limit", limit, 1, MOST_LISTED)))

    def errors(self, id: int) -> list[AttemptError]:  # noqa: A002
        """List the attempts of a job that failed or crashed, oldest first: who, when, and why."""
        return self._desk.do(self._desk.jobs.errors(checked_id(id)))

    def counts(self, *, queue: str | None = None) -> dict[str, int]:
        """Count the jobs of each status, zeros included, in one queue or in all."""
        return self._desk.do(self._desk.jobs.counts(None if queue is None else checked_text("queue", queue)))

    def unknown_kinds(self) -> list[UnknownKind]:
        """List the kinds with jobs that wait, and that no live worker of their queue knows."""
        return self._desk.do(self._desk.jobs.unknown_kinds())

    # --- steering --------------------------------------------------------------------------------

    def cancel(self, id: int) -> bool:  # noqa: A002
        """Cancel a job; False where it has ended, or there is none.

        One that runs is fenced at once: its handler is told to stop, and whatever it returns is refused.
        """
        return self._desk.do(self._desk.jobs.cancel(checked_id(id)))

    def cancel_all(self, *, kind: str | None = None, queue: str | None = None, status: str | None = None) -> int:
        """Cancel every job of this kind, queue and status (pending, processing, retry) that stands now; the count."""
        return self._desk.do(self._desk.jobs.cancel_all(checked_filter(kind, queue, status, UNFINISHED)))

    def retry(self, id: int) -> bool:  # noqa: A002
        """Run a job again that has ended, from its first attempt; or at once, one that waits for later.

        False for a job that runs or is about to, or where there is none. Its errors are kept.
        """
        return self._desk.do(self._desk.jobs.retry(checked_id(id)))

    def retry_all(self, *, kind: str | None = None, queue: str | None = None, status: str = "failed") -> int:
        """Run every job again that ended so (failed, cancelled, done), of this kind and queue; the count."""
        if status is None:
            raise InvalidArgument(f"status=None is refused: give one of {', '.join(ENDS)}")
        return self._desk.do(self._desk.jobs.retry_all(checked_filter(kind, queue, status, ENDS)))


def _settings_of(config: SettingsSource) -> Settings:
    resolved = resolve(config, os.environ)
    if not resolved.coordinated:
        if resolved.settings.enabled:
            raise InvalidSettings(
                "a JobQueue needs a database, and none is configured: pass CoordinationConfig(dsn=...), or set SYNC_DSN"
            )
        raise CoordinationDisabled("a JobQueue needs the database, and enabled=False switches it off")
    return resolved.settings


def _attempt_of(id: int, attempt: int | None) -> int:  # noqa: A002
    """Settle for which attempt a call speaks: what was given, or the one in whose handler it is made."""
    if attempt is not None:
        return checked_whole("attempt", attempt, 1, 2**63 - 1)
    running = RUNNING.get()
    if running is None or running.id != id:
        raise LeaseLost(
            f"job {id} does not run here, so nothing was changed: outside its handler, say for which attempt this is "
            "(attempt=, as StoredJob.attempt or ActiveLease.attempt gives it)"
        )
    return running.epoch


def _or_lost(talk: Talk[bool], id: int, attempt: int) -> Talk[None]:  # noqa: A002
    if not (yield from talk):
        raise LeaseLost(f"attempt {attempt} at job {id} does not run any more, or not there: nothing was changed")
