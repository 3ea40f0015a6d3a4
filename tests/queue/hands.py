"""A worker's hands, by the functions that workers call: for tests that need a job in some state."""

import psycopg

from jobsync import JobQueue, StoredJob

WORKER = "w"


class Hands:
    """Takes jobs as worker `w`, of a node that lives as long as nobody fences it."""

    def __init__(self, queue: JobQueue, dsn: str, prefix: str) -> None:
        self._queue, self._dsn, self._prefix = queue, dsn, prefix
        queue.counts()
        self.call(
            "insert into sync_node (name, incarnation, bind, heartbeat_timeout_ms, row_lease_ms, backend_pid, "
            "backend_start, postmaster_start, takes_tokens) values ('w', 1, 1, 60000, 30000, pg_backend_pid(), "
            "clock_timestamp(), pg_postmaster_start_time(), false) returning name"
        )

    def call(self, sql: str, *args: object) -> list[tuple[object, ...]]:
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            return conn.execute(sql.replace("sync_", self._prefix).encode(), args or None).fetchall()

    def take(self, most: int = 10) -> list[StoredJob]:
        """Take what may be taken; give the jobs as they then stand."""
        lanes = "array(select lane from sync_job_lane)"
        taken = self.call(f"select id from sync_job_take('{WORKER}', 1, {lanes}, {most}, 60000)")
        at_gate = f"null, {lanes}, {most}, 60000, true, 0, 3"
        taken += self.call(f"select id from sync_job_take_gated('{WORKER}', 1, {at_gate})")
        jobs = [self._queue.get(int(str(number))) for (number,) in taken]
        assert all(job is not None and job.status == "processing" for job in jobs)
        return [job for job in jobs if job is not None]

    def fence(self) -> None:
        """Let the worker's node be dead."""
        self.call("update sync_node set state = 'fenced' where incarnation = 1 returning name")

    def prune(self) -> int:
        """Forget every job that has ended."""
        [(gone,)] = self.call("select sync_job_prune(0, 1000, clock_timestamp() + interval '1 s')")
        return int(str(gone))
