"""The demo from its first process to its verdict."""

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from rich.console import Console

from jobsync import CoordinationConfig, JobQueue, NewJob, StoredJob
from jobsync.api.cluster import Cluster, open_cluster
from jobsync.cli.demo import stdlib
from jobsync.cli.demo.fleet import Fleet
from jobsync.cli.demo_queue import control
from jobsync.cli.demo_queue.measure import Measure
from jobsync.cli.demo_queue.scenario import Scenario
from jobsync.cli.demo_queue.tables import Tables
from jobsync.cli.demo_queue.verdict import STAGED_FAILURES, Evidence, JobFacts, KillFacts, Outcome, judge
from jobsync.cli.demo_queue.view import LiveView, PlainView, SilentView, View
from jobsync.cli.demo_queue.watch import Snapshot, look
from jobsync.cli.demo_queue.worker import AT_ONCE
from jobsync.cli.given import worker_environment
from jobsync.cli.processes import Lifeline, sigterm_unwinds, start_worker

WORKER_MODULE = "jobsync.cli.demo_queue.worker"
CONTROL_MODULE = "jobsync.cli.demo_queue.control"
LOOK_SEC = 0.1
LOOK_CLOSELY_SEC = 0.01
LIMIT_SEC = 75.0
CONTROL_LIMIT_SEC = 60.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What is played: where, with how many workers, over how many files (None: all), at what length."""

    dsn: str
    workers: int
    keep: bool
    files: int | None
    seconds: float


def pace_ms(files: int, workers: int, seconds: float) -> float:
    """Give how long a file must take at least, so that the whole takes about so many seconds.

    Each worker has AT_ONCE files in hand at once, and one worker is killed when two fifths are done.
    """
    course = 0.4 / workers + 0.6 / (workers - 1)
    return 1000 * seconds * AT_ONCE / (files * course)


def play(options: DemoOptions, console: Console, *, silent: bool) -> Outcome:
    """Play the demo and judge it; whatever happens, no process is left over, and no table unless it is kept."""
    items = stdlib.module_files(options.files)
    prefix = f"demo_{time.strftime('%m%d_%H%M%S')}_{time.perf_counter_ns() % 1000:03}_"
    config = CoordinationConfig(dsn=options.dsn, appname=prefix)
    pace = pace_ms(len(items), options.workers, options.seconds)
    with sigterm_unwinds(), open_cluster(config) as cluster, tempfile.TemporaryDirectory() as directory:
        if not silent:
            _announce(console, cluster, prefix, options.workers, len(items))
        fleet = Fleet(
            dsn=options.dsn, prefix=prefix, module=WORKER_MODULE, arguments=[str(pace)], log_dir=Path(directory)
        )
        try:
            cluster.migrate()
            Tables(prefix).create(cluster)
            with JobQueue(config) as queue, _Control(len(items), Path(directory)) as others:
                show = _Show(queue, cluster, Tables(prefix), fleet, items, pace)
                view = _view(console, fleet, show.items, silent=silent)
                return show.run(options.workers, view, others)
        finally:
            fleet.close()
            if not options.keep:
                # By a connection of its own: an interrupt may have broken the other one in the middle of a statement.
                with open_cluster(config) as sweeping:
                    Tables(prefix).drop_all(sweeping)


class _Control:
    """The process that measures the same files by other means, without a queue."""

    def __init__(self, files: int, directory: Path) -> None:
        self._files = files
        self._target = directory / "control.json"
        self._lifeline = Lifeline()

    def __enter__(self) -> Self:
        arguments = [str(self._files), str(self._target)]
        environment = worker_environment({})
        self._worker = start_worker(
            "control", CONTROL_MODULE, arguments, lifeline=self._lifeline, environment=environment
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.process.kill()
        self._worker.process.wait()
        self._lifeline.close()

    def read(self) -> dict[str, Measure]:
        """Wait for it to end; give what it found, nothing if it failed."""
        self._worker.process.wait(CONTROL_LIMIT_SEC)
        return control.read(self._target) if self._target.exists() else {}


class _Show:
    """One demo under way: its jobs are in the queue from the start."""

    def __init__(
        self, queue: JobQueue, cluster: Cluster, tables: Tables, fleet: Fleet, items: list[str], pace: float
    ) -> None:
        self._queue = queue
        self._cluster = cluster
        self._fleet = fleet
        self._pace = pace
        self._tables = tables
        flaky = len(items) // 20
        jobs = [
            NewJob("measure", {"item": item, "fails": STAGED_FAILURES}, job_id=item, priority=1, max_attempts=9)
            if number == flaky
            else NewJob("measure", {"item": item}, job_id=item)
            for number, item in enumerate(items)
        ]
        ids = queue.enqueue_many([*jobs, NewJob("endless", {}, job_id="endless", priority=1)])
        self.items = dict(zip(ids, [*items, "(endless)"], strict=True))
        self._flaky, self._endless = ids[flaky], ids[-1]

    @property
    def _files(self) -> int:
        return len(self.items) - 1

    def run(self, workers: int, view: View, others: _Control) -> Outcome:
        """Play, and judge."""
        start_sec = time.perf_counter()
        scenario = Scenario(
            self._queue,
            self._cluster,
            self._tables,
            self._fleet,
            files=self._files,
            endless=self._endless,
            items=self.items,
            pace_ms=self._pace,
            say=view.say,
        )
        with view:
            view.say(f"{len(self.items)} jobs are enqueued, {workers} workers start")
            for _ in range(workers):
                self._fleet.start(minimum_nodes=1)
            snapshot = self._follow(scenario, view, start_sec + LIMIT_SEC)
            for name in self._fleet.running():
                self._fleet.stop(name)
            exit_statuses = self._fleet.wait()
            view.show(snapshot, scenario)
        return self._judged(scenario, exit_statuses, others.read(), snapshot.at_sec - start_sec)

    def _follow(self, scenario: Scenario, view: View, until_sec: float) -> Snapshot:
        """Look again and again until every job has ended, or nobody is left to do them, or time is up."""
        while True:
            snapshot = look(self._queue, self._cluster, self._tables, time.perf_counter())
            scenario.step(snapshot)
            view.show(snapshot, scenario)
            is_late = snapshot.at_sec > until_sec or scenario.has_given_up(snapshot.at_sec)
            if (snapshot.open == 0 and not scenario.is_settling) or is_late or not self._fleet.running():
                return snapshot
            time.sleep(LOOK_CLOSELY_SEC if scenario.is_settling else LOOK_SEC)

    def _judged(
        self, scenario: Scenario, exit_statuses: dict[str, int], found: dict[str, Measure], took_sec: float
    ) -> Outcome:
        stored = {job.id: _facts(job, self.items) for job in self._queue.list_jobs(limit=len(self.items))}
        kill = scenario.kill
        evidence = Evidence(
            control=found,
            measured=self._tables.read_measured(self._cluster),
            trace=self._tables.read_trace(self._cluster),
            jobs=tuple(job for id_, job in sorted(stored.items()) if id_ != self._endless),
            flaky=self._flaky,
            endless=stored[self._endless],
            kill=None if kill is None else KillFacts(kill.worker, kill.at),
            cancelled_at=scenario.cancelled_at,
            exit_statuses=exit_statuses,
        )
        return Outcome(
            verdict=judge(evidence),
            files=self._files,
            size_bytes=sum(row.measure.size_bytes for row in evidence.measured),
            took_sec=round(took_sec, 3),
            prefix=self._tables.prefix,
            complaints=tuple(self._fleet.complaints()),
        )


def _facts(job: StoredJob, items: dict[int, str]) -> JobFacts:
    return JobFacts(job.id, items[job.id], job.status, job.attempts, job.crashes, job.max_attempts)


def _view(console: Console, fleet: Fleet, items: dict[int, str], *, silent: bool) -> View:
    if silent:
        return SilentView()
    return LiveView(console, fleet, items) if console.is_terminal else PlainView(console, len(items) - 1)


def _announce(console: Console, cluster: Cluster, prefix: str, workers: int, files: int) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    what = (
        f"{workers} workers measure the {files} modules of Python {version}'s standard library, a job each."
        "\nOne job fails twice, one is cancelled, one worker is killed. The pace is held."
    )
    where = f"Database: {cluster.where}; tables {prefix}*"
    for line in (what, where):
        console.print(line, style="dim", highlight=False, markup=False)
    console.print()
