"""What is asked of the database for one viewer: jobs, locks, keys, changes. Each call may wait: run it in a thread."""

import threading
import weakref
from collections.abc import Callable
from typing import Any

from jobsync.api.checks import checked_name
from jobsync.api.cluster import open_cluster
from jobsync.api.config import CoordinationConfig
from jobsync.api.fleet_values import Explanation, LockStatus
from jobsync.api.fleet_view import open_reader
from jobsync.api.job_queue import JobQueue
from jobsync.api.standing_queue import StandingQueue
from jobsync.core.errors import InvalidArgument
from jobsync.core.queue.steering import Limit, Schedule
from jobsync.core.queue.stored import AttemptError, StoredJob
from jobsync.web.kept import KeptCluster

JOBS_A_PAGE = 50
MOST_KEY = 2_000


class Desk:
    """One queue and one connection to look at the fleet, kept open for all, and one for each change of the fleet."""

    def __init__(self, config: CoordinationConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._queue: JobQueue | None = None
        self._closing: Callable[[], object] | None = None
        self._cluster = KeptCluster(config)

    @property
    def queue(self) -> JobQueue:
        """The queue, one for all threads, connected at its first use. Raises SchemaError where its tables are missing.

        An application that mounts the page does not tell it when it ends: then the queue is closed with the process.
        """
        queue = self._queue
        if queue is not None:
            return queue
        # It refuses where the queue would, but outside the lock, since it may take long: those who come at once need
        # not wait for one another.
        with open_reader(self._config):
            pass
        with self._lock:
            if self._queue is None:
                self._queue = StandingQueue(self._config)
                self._closing = weakref.finalize(self, self._queue.close)
            return self._queue

    def close(self) -> None:
        """Close the queue's connections; whoever looks afterwards opens it anew."""
        with self._lock:
            closing, self._queue, self._closing = self._closing, None, None
        if closing is not None:
            closing()
        self._cluster.close()

    # --- looking -------------------------------------------------------------------------------

    def jobs(self, status: str | None, kind: str | None, queue: str | None, before: int | None) -> list[StoredJob]:
        """Read one page of jobs, newest first."""
        return self.queue.list_jobs(status=status, kind=kind, queue=queue, limit=JOBS_A_PAGE, before_id=before)

    def one_job(self, named: str) -> tuple[StoredJob, list[AttemptError]] | None:
        """Read a job by its number or its job_id, with the attempts that failed; None where there is none."""
        job = self.queue.get(int(named)) if named.isdecimal() and len(named) < 19 else None
        job = job or (self.queue.get_by_job_id(named) if named else None)
        return None if job is None else (job, self.queue.errors(job.id))

    def failed(self) -> list[StoredJob]:
        """Read the latest jobs that failed for good."""
        return self.queue.list_jobs(status="failed", limit=10)

    def steadies(self) -> tuple[list[Schedule], dict[str, Limit]]:
        """Read what changes rarely: the periodic jobs and the limits."""
        return self.queue.schedules(), self.queue.limits()

    def explain(self, key: str) -> Explanation:
        """Say who has a task, and why."""
        if len(key) > MOST_KEY:
            raise InvalidArgument(f"the key has {len(key):,} characters: give at most {MOST_KEY:,}")
        return self._cluster.ask(lambda cluster: cluster.explain(key))

    def locks(self, like: str | None) -> tuple[LockStatus, ...]:
        """Read the locks whose task contains a text."""
        return self._cluster.ask(lambda cluster: cluster.locks(like))

    # --- changing ------------------------------------------------------------------------------

    def act(self, act: list[Any], *, minutes: str, by: str) -> str:
        """Do what a button asks for; say what was done. Raises JobsyncError for what is refused."""
        match act:
            case ["drain" | "cordon" as verb, str(node)]:
                return self._steer_node(verb, checked_name("node", node), by)
            case ["resume", str() | None as node]:
                with open_cluster(self._config) as cluster:
                    ended = cluster.resume(node, by=by)
                whom = "the fleet" if node is None else f"node {node}"
                return f"Resumed {whom}." if ended else f"There was nothing to resume for {whom}."
            case ["freeze"]:
                return self._freeze(minutes, by)
            case ["retry" | "cancel" | "retry all" | "cancel all" | "pause" | "run", *rest]:
                return self._act_on_jobs(str(act[0]), rest, by)
            case _:
                raise InvalidArgument("the form asks for nothing that this page knows: load it again")

    def _steer_node(self, verb: str, node: str, by: str) -> str:
        with open_cluster(self._config) as cluster:
            done = cluster.drain(node, by=by) if verb == "drain" else cluster.cordon(node, by=by)
        if not done:
            return f"Node {node} was {verb}ed already."
        return f"Node {node} hands over all it has." if verb == "drain" else f"Node {node} gets nothing new."

    def _freeze(self, minutes: str, by: str) -> str:
        if not minutes.isdecimal() or not 1 <= int(minutes) <= 10_080:
            raise InvalidArgument("a freeze lasts 1 to 10,080 minutes")
        with open_cluster(self._config) as cluster:
            cluster.freeze(int(minutes) * 60, by=by)
        return f"The fleet is frozen for {minutes} minutes: joins and leaves move nothing."

    def _act_on_jobs(self, verb: str, rest: list[Any], by: str) -> str:
        queue = self.queue
        match [verb, *rest]:
            case ["retry", int(number)]:
                done = queue.retry(number)
                return f"Job {number} will run again." if done else f"Job {number} was left alone: it runs or waits."
            case ["cancel", int(number)]:
                return f"Job {number} is cancelled." if queue.cancel(number) else f"Job {number} has ended already."
            case ["retry all", str(status), str() | None as kind, str() | None as name]:
                return f"{queue.retry_all(status=status, kind=kind, queue=name):,} jobs will run again."
            case ["cancel all", str() | None as status, str() | None as kind, str() | None as name]:
                return f"{queue.cancel_all(status=status, kind=kind, queue=name):,} jobs are cancelled."
            case ["pause", str(name)]:
                queue.pause(name, by=by)
                return f"Queue {name} is paused."
            case ["run", str(name)]:
                return f"Queue {name} runs again." if queue.resume(name) else f"Queue {name} was not paused."
            case _:
                raise InvalidArgument("the form asks for nothing that this page knows: load it again")
