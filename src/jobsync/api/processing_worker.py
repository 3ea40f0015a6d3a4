"""`ProcessingWorker`: a process that runs the jobs of the queue."""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from jobsync.api.checks import checked_flag, checked_name, checked_seconds
from jobsync.api.config import FROM_ENVIRONMENT, SettingsSource, resolve
from jobsync.api.job import Job
from jobsync.api.periodic_handlers import PeriodicHandlers
from jobsync.api.signals import STOP_SIGNALS
from jobsync.api.worker_checks import checked_number, checked_queues, default_id
from jobsync.api.worker_health import WorkerHealth
from jobsync.api.worker_roll import enrol, enter
from jobsync.core.errors import CoordinationDisabled, InvalidArgument, LeaseLost, NotRunning
from jobsync.core.queue.new_job import checked_whole
from jobsync.core.queue.policy import RetryPolicy
from jobsync.runtime.node import Node
from jobsync.runtime.running import RUNNING
from jobsync.runtime.waiting import Flag
from jobsync.runtime.worker.desk import Desk
from jobsync.runtime.worker.hub import Hub
from jobsync.runtime.worker.job_transaction import JobTransaction
from jobsync.runtime.worker.kinds import Knowledge
from jobsync.runtime.worker.running_job import RunningJob
from jobsync.runtime.worker.terms import Terms

log = logging.getLogger("jobsync")

MOST_SLOTS: Final = 10_000
MOST_LEASE_SEC: Final = 7 * 86_400
_STOP_MARGIN_SEC: Final = 10.0  # For the database that is away at the end of a stop.


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """A worker at one moment. `active_jobs` run; `fetched_jobs` were fetched ahead, and have not begun."""

    worker_id: str
    is_running: bool
    active_jobs: int
    max_concurrent_jobs: int
    lease_duration_seconds: float
    active_job_ids: tuple[int, ...]
    fetched_jobs: int


class ProcessingWorker(PeriodicHandlers, WorkerHealth):
    """Takes jobs from the queue and runs them, each by the function that was registered for its kind.

        worker = ProcessingWorker(config, max_concurrent_jobs=4)

        @worker.handles("resize")
        def resize(job):
            make_thumbnail(job.payload["file"])

        worker.run()

    A handler that returns marks its job `done`, with what it returned as the result; one that raises has failed, and
    the job is tried again by its RetryPolicy until `max_attempts`. Sync handlers run on threads, async ones on one
    event loop; `max_concurrent_jobs` counts both. Or override `process_job`, which then gets every kind of its queues.

    A worker is a node of the fleet, by its own session: when its process dies, its jobs are others' within a second.
    What it holds is leased for `lease_duration_seconds` and extended once `lease_extension_threshold_percent` of that
    have passed, for as long as the worker lives, however long a job runs. With `node`, an entered `Job`, it is that
    job's node, and gets the jobs whose affinity's token the node owns.
    """

    def __init__(  # noqa: PLR0913 - the keyword arguments of the contract
        self,
        config: SettingsSource = FROM_ENVIRONMENT,
        *,
        worker_id: str | None = None,
        node: Job | None = None,
        queues: tuple[str, ...] | list[str] = ("default",),
        lease_duration_seconds: float = 300,
        poll_interval_ms: int = 5000,
        max_concurrent_jobs: int = 1,
        lease_extension_threshold_percent: float = 50,
        stop_timeout_seconds: float = 30.0,
        max_crashes: int = 3,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - a frozen value
        handle_signals: bool = False,
        job_retention_days: float | None = 7.0,
    ) -> None:
        super().__init__(retry)
        self.worker_id = checked_name("worker_id", worker_id) if worker_id is not None else default_id()
        self._queues = checked_queues(queues)
        self._lease_sec = checked_number("lease_duration_seconds", lease_duration_seconds, 1, MOST_LEASE_SEC)
        self._poll_ms = checked_whole("poll_interval_ms", poll_interval_ms, 10, 86_400_000)
        self._slots = checked_whole("max_concurrent_jobs", max_concurrent_jobs, 1, MOST_SLOTS)
        self._threshold = checked_number("lease_extension_threshold_percent", lease_extension_threshold_percent, 1, 90)
        stop_sec = checked_seconds("stop_timeout_seconds", stop_timeout_seconds)
        if stop_sec is None:
            raise InvalidArgument("stop_timeout_seconds=None is refused: give seconds")
        self._stop_sec = stop_sec
        self._max_crashes = checked_whole("max_crashes", max_crashes, 1, 32_000)
        self._handles_signals = checked_flag("handle_signals", handle_signals)
        self._keep_days = (
            None if job_retention_days is None else checked_number("job_retention_days", job_retention_days, 0, 36_525)
        )
        if node is not None and not isinstance(node, Job):
            raise InvalidArgument(f"node={node!r:.80} is refused: give an entered Job, or None")
        self._job = node
        self._config = config
        self._lock = threading.RLock()  # reentrant: a signal handler may stop the worker
        self._hub: Hub | None = None
        self._desk: Desk | None = None
        self._own_node: Node | None = None
        self._node: Node | None = None
        self._is_starting = False
        self._stop_asked_sec: float | None = None  # While it was starting.
        self._stop_asked = Flag()
        self._pid = 0
        self._ended = Flag()
        enter(self)

    # --- its life ----------------------------------------------------------------------------------

    def adjust(
        self,
        *,
        worker_id: str | None = None,
        queues: tuple[str, ...] | list[str] | None = None,
        max_concurrent_jobs: int | None = None,
    ) -> None:
        """Change what the worker was made with, before it starts; what is not given stays.

        `jobsync worker` does so for its options, where a module makes the worker.
        """
        if self._hub is not None:
            raise NotRunning(f"worker {self.worker_id!r} has started: adjust it before")
        if worker_id is not None:
            self.worker_id = checked_name("worker_id", worker_id)
        if queues is not None:
            self._queues = checked_queues(queues)
        if max_concurrent_jobs is not None:
            self._slots = checked_whole("max_concurrent_jobs", max_concurrent_jobs, 1, MOST_SLOTS)

    def start(self) -> None:
        """Join the fleet, take back what others lost, and begin; returns when the worker runs.

        One that is told to stop meanwhile, by `stop()` or a signal, returns early and has ended. Raises
        DatabaseUnavailable, NodeNameInUse and what else keeps a node out. A worker starts once.
        """
        with self._lock:
            if self._hub is not None or self._ended.is_set():
                raise NotRunning(f"worker {self.worker_id!r} was started before: make another one")
            knowledge = self._knowledge()
            self._stop_asked_sec, self._stop_asked = None, Flag()
            self._is_starting = True
            try:
                self._start(knowledge)
            except BaseException:
                STOP_SIGNALS.end(self)
                raise
            finally:
                self._is_starting = False
            self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        if self._hub is None:  # It was told to before it was let in.
            self._end()
        elif self._stop_asked_sec is not None:
            self._hub.stop(self._stop_asked_sec)

    def _hear_signals(self) -> None:
        """Hear them from now on: whoever is told to end before has nothing to give back, and may just end."""
        if self._handles_signals:
            STOP_SIGNALS.begin(self, self._ask_to_stop)

    def _start(self, knowledge: Knowledge) -> None:
        """Begin; not where a stop is asked for before the node is in."""
        node = self._joined_node()
        if self._stop_asked.is_set():
            self._leave_node()
            return
        try:
            knowledge = self._metered(node, knowledge)
            if node.settings.tracing:
                knowledge = self._traced(node, knowledge)
            enrol(self, node)
            self._schedule_periodic(node.settings.prefix, node.pool.run, self._queues)
            terms = Terms(
                worker_id=self.worker_id,
                knowledge=knowledge,
                slots=self._slots,
                lease_ms=int(self._lease_sec * 1000),
                extend_after=self._threshold / 100,
                poll_sec=self._poll_ms / 1000,
                stop_sec=self._stop_sec,
                max_crashes=self._max_crashes,
                owns_tokens=self._job is not None,
                keep_days=self._keep_days,
                traced=node.settings.tracing,
            )
            desk = Desk(node, terms)
            hub = Hub(node, terms, desk, failed=self._end)
            self._let_meters_watch(hub)
            hub.start()
        except BaseException:
            self._leave_node()
            raise
        self._desk, self._hub, self._pid = desk, hub, os.getpid()
        if self._job is not None:
            self._job._stops_before_leaving(self._stop_with_job, self._stop_sec + _STOP_MARGIN_SEC)  # noqa: SLF001

    def _joined_node(self) -> Node:
        if self._job is not None:
            node = self._job._node  # noqa: SLF001 - the worker is a part of the job's node
            if not isinstance(node, Node):
                raise NotRunning(f"worker {self.worker_id!r} needs an entered Job of a fleet as its node")
            node.require_running()
            self._hear_signals()
            return node
        resolved = resolve(self._config, os.environ)
        if not resolved.coordinated:
            raise CoordinationDisabled(
                f"worker {self.worker_id!r} needs a database: pass a CoordinationConfig, or set SYNC_DSN"
            )
        own = self._own_node = Node(self.worker_id, resolved.settings, environment=None, takes_tokens=False)
        try:
            own.receive()
            self._hear_signals()
            own.join()
            own.wait_until_in(wait_sec=None, stop=self._stop_asked)
        except BaseException:
            self._leave_node()
            raise
        return own

    def _leave_node(self) -> None:
        self._node = None
        own, self._own_node = self._own_node, None
        if own is not None:
            own.leave()

    def run(self) -> None:
        """Start, and run until `stop()` is called or the process is told to end. Raises what ended the worker."""
        self.start()
        try:
            self.wait()
        finally:
            self.stop()

    def stop(self, timeout: float | None = None) -> bool:
        """Stop gracefully: take nothing more, give back what has not begun, let handlers end for so many seconds.

        The default is `stop_timeout_seconds`. What still runs then is released for others at once, and its attempt is
        not charged; the thread of a handler that never returns is left to itself. True if every handler has ended.
        Called by a handler it only asks, and returns at once; while the worker starts, it waits until that is over.
        """
        timeout_sec = checked_seconds("timeout", timeout)
        patience_sec = self._stop_sec if timeout_sec is None else timeout_sec
        hub = self._hub or self._hub_that_starts(patience_sec)
        if hub is None:
            return not self._is_starting
        if os.getpid() != self._pid:
            return False
        hub.stop(patience_sec)
        here: object = RUNNING.get()
        if any(job is here for job in hub.slots.running()):
            return False
        hub.has_ended.wait(None)
        self._end()
        return not hub.left_behind

    def _hub_that_starts(self, patience_sec: float) -> Hub | None:
        """Have a start under way followed by a stop; give the hub, unless this is within that start."""
        if not self._is_starting:
            return self._hub
        self._ask_in_start(patience_sec)
        with self._lock:
            return self._hub

    def _ask_in_start(self, patience_sec: float) -> None:
        self._stop_asked_sec = patience_sec
        self._stop_asked.set()

    def _stop_with_job(self) -> Callable[[], None]:
        """Stop, since the job leaves whose node this worker is; give who waits for it."""
        self._ask_to_stop()

        def wait() -> None:
            hub = self._hub
            here: object = RUNNING.get()
            if hub is not None and not any(job is here for job in hub.slots.running()):
                hub.has_ended.wait(self._stop_sec + _STOP_MARGIN_SEC)
                self._end()

        return wait

    def _ask_to_stop(self) -> None:
        self._ask_in_start(self._stop_sec)  # Before the look: a start that ends now looks here after it has a hub.
        hub = self._hub
        if hub is not None:
            hub.stop(self._stop_sec)

    def _end(self) -> None:
        with self._lock:
            if self._ended.is_set():
                return
            STOP_SIGNALS.end(self)
            if self._job is not None:
                self._job._forgets(self._stop_with_job)  # noqa: SLF001
            try:
                if self._desk is not None:
                    self._desk.close()
                self._leave_node()
            finally:
                self._close_health()
                self._ended.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the worker has stopped, at most `timeout` seconds; True if it has. Raises what ended it."""
        timeout_sec = checked_seconds("timeout", timeout)
        if self._hub is None and self._ended.is_set():
            return True  # It was told to stop before it had begun.
        hub = self._required_hub()
        if not hub.has_ended.wait(timeout_sec):
            return False
        self._end()
        if hub.error is not None:
            raise hub.error
        return True

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- what it does ------------------------------------------------------------------------------

    def get_status(self) -> WorkerStatus:
        """Look at the worker, from any thread."""
        hub = self._hub
        running = hub.slots.running() if hub is not None else []
        return WorkerStatus(
            worker_id=self.worker_id,
            is_running=hub is not None and hub.is_alive and os.getpid() == self._pid,
            active_jobs=len(running),
            max_concurrent_jobs=self._slots,
            lease_duration_seconds=self._lease_sec,
            active_job_ids=tuple(sorted(job.id for job in running)),
            fetched_jobs=len(hub.slots.fetched) if hub is not None else 0,
        )

    def update_progress(self, id: int, progress: int, message: str | None = None) -> None:  # noqa: A002
        """Write down how far a job has come that runs here, from 0 to 100. Raises LeaseLost if it does not."""
        job = self._running_job(id)
        job.update_progress(progress, message)

    def release_lease(self, id: int, status: str, *, error: str | None = None, result: object = None) -> None:  # noqa: A002
        """End the attempt at a job that runs here: as done, failed, retry, or pending, which is not charged.

        What its handler returns afterwards has no effect. Raises LeaseLost if the job does not run here any more.
        """
        self._required_desk().release(self._running_job(id), status, error=error, result=result)

    def transaction(self, job: RunningJob, *, result: object = None) -> JobTransaction:
        """Lend a psycopg connection in a transaction that commits together with the job's `done`, or not at all.

        `with` lends a Connection, and `async with`, for coroutines, an AsyncConnection. `result` is stored with the
        `done`; what is known only within the block is set there, as `result` of what this gives. What the handler
        returns afterwards has no effect. Raises LeaseLost where the job is no longer this attempt's: then nothing is
        written. An error at COMMIT is psycopg's own, and fails the attempt even where the handler passes over it.
        """
        return self._required_desk().transaction(job, result)

    def _running_job(self, id: int) -> RunningJob:  # noqa: A002
        for job in self._required_hub().slots.running():
            if job.id == id:
                return job
        raise LeaseLost(f"job {id} does not run in worker {self.worker_id!r}: nothing is written")

    def _required_hub(self) -> Hub:
        if self._hub is None:
            raise NotRunning(f"worker {self.worker_id!r} has not started: call start() or run()")
        if os.getpid() != self._pid:
            raise NotRunning(f"worker {self.worker_id!r} belongs to the process that started it")
        return self._hub

    def _required_desk(self) -> Desk:
        self._required_hub()
        assert self._desk is not None
        return self._desk

    def _disown(self) -> None:
        if self._hub is not None:
            self._hub.disown()
