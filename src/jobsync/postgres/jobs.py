"""What is asked of the queue, as talks: to store one job, to look, to steer. Many at once: `job_batches`."""

from dataclasses import dataclass

from jobsync.core.queue.new_job import NewJob
from jobsync.core.queue.stored import (
    STATUSES,
    ActiveLease,
    AttemptError,
    StoredJob,
    UnknownKind,
)
from jobsync.postgres.run_at import delay_sec, instant
from jobsync.postgres.statement import Statement, call, statement
from jobsync.postgres.talk import Apart, Talk

CHUNK = 2_000


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs are meant; None means every one."""

    kind: str | None = None
    queue: str | None = None
    status: str | None = None


class Jobs:
    """Makes the talks of one fleet (prefix)."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    # --- enqueueing ------------------------------------------------------------------------------

    def enqueue(self, job: NewJob, payload: str, trace: str | None = None) -> Talk[int]:
        """Store one job whose payload is written already; give its id, or that of the job that has its job_id.

        `trace` is the trace context in which it is enqueued, for whoever runs it.
        """
        rows = yield self._enqueue_by_name(job, payload, trace)
        if not rows or rows[0][0] is None:  # The kind is new in this queue.
            lane = yield from self.lane(job.queue, job.kind)
            rows = yield self._enqueue_in_lane(lane, job, payload, trace)
        return int(rows[0][0])

    def _enqueue_by_name(self, job: NewJob, payload: str, trace: str | None) -> Statement:
        if job.is_plain:
            plain = (job.queue, job.kind, job.priority, job.max_attempts, payload)
            if trace is None:
                return statement("enqueue_plain", self.prefix, *plain)
            return statement("enqueue_plain_traced", self.prefix, *plain, trace)
        where = (job.queue, job.kind, job.priority, job.max_attempts, instant(job.run_at), delay_sec(job.run_at))
        keys = (job.job_id, job.affinity, job.limit_key)
        return statement("enqueue_one", self.prefix, *where, *keys, payload, trace)

    def _enqueue_in_lane(self, lane: int, job: NewJob, payload: str, trace: str | None) -> Statement:
        when = ([instant(job.run_at)], [delay_sec(job.run_at)])
        keys = ([job.job_id], [job.affinity], [job.limit_key])
        what = ([lane], [job.priority], [job.max_attempts])
        return statement("enqueue_many", self.prefix, *what, *when, *keys, [payload], [trace])

    def lane(self, queue: str, kind: str) -> Talk[int]:
        """Give the number of a kind in a queue; a new one commits at once, apart from the talk's transaction."""
        rows = yield statement("find_lane", self.prefix, queue, kind)
        if not rows:
            rows = yield Apart(call("job_lane_of", self.prefix, queue, kind, types=("text", "text")))
        return int(rows[0][0])

    def schema(self) -> Talk[str]:
        """Name the schema that the tables are in, as this role finds them."""
        rows = yield statement("find_queue_schema", self.prefix)
        return str(rows[0][0])

    # --- looking ---------------------------------------------------------------------------------

    def get(self, id: int) -> Talk[StoredJob | None]:  # noqa: A002 - the column's name
        """Read one job."""
        rows = yield statement("get_job", self.prefix, id)
        return StoredJob.of(rows[0]) if rows else None

    def get_by_job_id(self, job_id: str) -> Talk[StoredJob | None]:
        """Read one job by the caller's own key."""
        rows = yield statement("get_job_by_job_id", self.prefix, job_id)
        return StoredJob.of(rows[0]) if rows else None

    def list_jobs(self, which: JobFilter, before_id: int | None, limit: int) -> Talk[list[StoredJob]]:
        """Read jobs, newest first."""
        rows = yield statement("list_jobs", self.prefix, which.status, which.kind, which.queue, before_id, limit)
        return [StoredJob.of(row) for row in rows]

    def counts(self, queue: str | None) -> Talk[dict[str, int]]:
        """Count the jobs of each status."""
        rows = yield statement("count_jobs", self.prefix, queue)
        return dict.fromkeys(STATUSES, 0) | dict(rows)

    def active_leases(self) -> Talk[list[ActiveLease]]:
        """List what workers have taken."""
        rows = yield statement("active_leases", self.prefix)
        return [ActiveLease(*row) for row in rows]

    def errors(self, id: int) -> Talk[list[AttemptError]]:  # noqa: A002
        """List the failed attempts of a job, oldest first."""
        rows = yield statement("job_errors", self.prefix, id)
        return [AttemptError(*row) for row in rows]

    def unknown_kinds(self) -> Talk[list[UnknownKind]]:
        """List the kinds that wait for a worker that knows them."""
        rows = yield statement("unknown_kinds", self.prefix)
        return [UnknownKind(*row) for row in rows]

    # --- steering --------------------------------------------------------------------------------

    def cancel(self, id: int) -> Talk[bool]:  # noqa: A002
        """Cancel one job; whether it had not ended before."""
        rows = yield call("job_cancel", self.prefix, [id], types=("bigint[]",))
        return bool(rows)

    def cancel_all(self, which: JobFilter) -> Talk[int]:
        """Cancel what stands now, a bounded number in a transaction; the count."""
        newest = (yield statement("newest_job", self.prefix))[0][0]
        total: int = 0
        while True:
            rows = yield statement("cancel_some", self.prefix, which.kind, which.queue, which.status, newest, CHUNK)
            total += rows[0][0]
            if not rows[0][0]:
                return total

    def retry(self, id: int) -> Talk[bool]:  # noqa: A002
        """Run one job again; whether it had ended, or waited for later."""
        rows = yield call("job_retry", self.prefix, [id], types=("bigint[]",))
        return bool(rows)

    def retry_all(self, which: JobFilter) -> Talk[int]:
        """Run again what ended so, each once; the count."""
        total: int = 0
        last: int | None = 0
        while True:
            rows = yield statement("retry_some", self.prefix, which.kind, which.queue, which.status, last, CHUNK)
            count, last = rows[0]
            total += count
            if last is None:
                return total

    def recover(self) -> Talk[int]:
        """Take back what lost its lease; the count."""
        total: int = 0
        while True:
            rows = yield call("job_recover", self.prefix, types=())
            total += rows[0][0]
            if not rows[0][0]:
                return total

    # --- running attempts ------------------------------------------------------------------------

    def set_progress(self, id: int, attempt: int, progress: int, message: str | None) -> Talk[bool]:  # noqa: A002
        """Say how far an attempt has come; whether it is the one that runs."""
        rows = yield statement("set_progress", self.prefix, attempt, id, progress, message)
        return bool(rows and rows[0][0])

    def release(
        self,
        id: int,  # noqa: A002
        attempt: int,
        worker: str,
        outcome: str,
        error: str | None,
        result: str | None,
    ) -> Talk[bool]:
        """End an attempt; whether it was the one that runs, and this worker's."""
        rows = yield statement("release_job", self.prefix, attempt, id, worker, outcome, error, result)
        return bool(rows and rows[0][0])
