"""The demo from its first process to its verdict."""

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from jobsync import CoordinationConfig
from jobsync.api.cluster import Cluster, open_cluster
from jobsync.cli.demo import stdlib
from jobsync.cli.demo.fleet import Fleet
from jobsync.cli.demo.scenario import Scenario
from jobsync.cli.demo.tables import Tables
from jobsync.cli.demo.verdict import Evidence, Outcome, judge
from jobsync.cli.demo.view import LiveView, PlainView, SilentView, View
from jobsync.cli.demo.watch import Snapshot, look
from jobsync.cli.processes import sigterm_unwinds

WORKER_MODULE = "jobsync.cli.demo.worker"
LOOK_SEC = 0.1
LOOK_CLOSELY_SEC = 0.02
# The files' own time, times the mean of 1/workers over the course of events, is how long the demo takes.
COURSE = ((0.25, 0), (0.20, -1), (0.15, -2), (0.40, -1))
LIMIT_SEC = 60.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What is played: where, with how many workers, over how many files (None: all), at what length."""

    dsn: str
    workers: int
    keep: bool
    files: int | None
    seconds: float


def pace_ms(files: int, workers: int, seconds: float) -> float:
    """Give how long a file must take at least, so that the whole takes about so many seconds."""
    course = sum(share / (workers + change) for share, change in COURSE)
    return 1000 * seconds / (files * course)


def play(options: DemoOptions, console: Console, *, silent: bool) -> Outcome:
    """Play the demo and judge it; whatever happens, no process is left over, and no table unless it is kept."""
    files = stdlib.module_files(options.files)
    prefix = f"demo_{time.strftime('%m%d_%H%M%S')}_{time.perf_counter_ns() % 1000:03}_"
    config = CoordinationConfig(dsn=options.dsn, appname=prefix)
    pace = pace_ms(len(files), options.workers, options.seconds)
    with sigterm_unwinds(), open_cluster(config) as cluster, tempfile.TemporaryDirectory() as log_dir:
        if not silent:
            _announce(console, cluster, prefix, options.workers, len(files))
        tables = Tables(prefix)
        arguments = [str(len(files)), str(pace)]
        fleet = Fleet(dsn=options.dsn, prefix=prefix, module=WORKER_MODULE, arguments=arguments, log_dir=Path(log_dir))
        try:
            # The parent sets up the tables; the workers then find them.
            cluster.migrate()
            tables.create(cluster)
            view = _view(console, fleet, len(files), silent=silent)
            return _Show(cluster, tables, fleet, files, pace, view).run(options.workers)
        finally:
            fleet.close()
            if not options.keep:
                # By a connection of its own: an interrupt may have broken the other one in the middle of a statement.
                with open_cluster(config) as sweeping:
                    tables.drop_all(sweeping)


class _Show:
    """One demo under way."""

    def __init__(
        self, cluster: Cluster, tables: Tables, fleet: Fleet, files: list[str], pace: float, view: View
    ) -> None:
        self._cluster = cluster
        self._tables = tables
        self._fleet = fleet
        self._files = files
        self._view = view
        self._start_sec = time.perf_counter()
        self._told = 0
        # A file takes `pace` or longer before its transaction begins: in the first half no commit is on its way.
        self._scenario = Scenario(
            fleet, len(files), lambda name: tables.read_open(cluster, name, age_ms=pace / 2), self._say
        )

    def run(self, workers: int) -> Outcome:
        with self._view:
            for _ in range(workers):
                self._fleet.start(minimum_nodes=workers)
            self._fleet.stand_by()
            self._say(f"{workers} workers start")
            snapshot = self._follow()
            took_sec = snapshot.at_sec - self._start_sec
            exit_statuses = self._fleet.wait()
            self._view.show(snapshot)
        evidence = Evidence(
            items=tuple(self._files),
            log=self._tables.read_log(self._cluster),
            counted=self._tables.read_counted(self._cluster),
            events=self._scenario.facts(snapshot),
            exit_statuses=exit_statuses,
        )
        return Outcome(
            verdict=judge(evidence),
            totals=self._tables.read_totals(self._cluster),
            files=len(self._files),
            took_sec=took_sec,
            prefix=self._tables.prefix,
            complaints=tuple(self._fleet.complaints()),
        )

    def _follow(self) -> Snapshot:
        """Look again and again until all files are done, or nobody is left to do them, or time is up."""
        while True:
            snapshot = look(self._cluster, self._tables, time.perf_counter())
            if snapshot.ended < len(self._files):
                self._tell_moves(snapshot)  # Afterwards they only go home, one after the other.
            self._scenario.step(snapshot)
            self._view.show(snapshot)
            is_late = snapshot.at_sec - self._start_sec > LIMIT_SEC
            is_done = snapshot.ended >= len(self._files) and not self._scenario.is_settling
            if is_done or is_late or not self._fleet.running():
                return snapshot
            time.sleep(LOOK_CLOSELY_SEC if self._scenario.is_settling else LOOK_SEC)

    def _tell_moves(self, snapshot: Snapshot) -> None:
        for row in reversed(snapshot.status.rebalances):
            if row.id > self._told:
                self._told = row.id
                self._say(
                    f"{row.leader} deals: {row.tokens_moved:,} tokens move ({row.reason}; "
                    f"{row.nodes_before} to {row.nodes_after} workers, {row.duration_ms} ms)"
                )

    def _say(self, text: str) -> None:
        self._view.say(text)


def _view(console: Console, fleet: Fleet, files: int, *, silent: bool) -> View:
    if silent:
        return SilentView()
    return LiveView(console, fleet, files) if console.is_terminal else PlainView(console, files)


def _announce(console: Console, cluster: Cluster, prefix: str, workers: int, files: int) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    what = (
        f"{workers} workers parse the {files} modules of Python {version}'s standard library; "
        "on the way one is killed, one is stopped, one joins."
    )
    where = f"Database: {cluster.where}; tables {prefix}*. The pace is held, so that you can follow."
    for line in (what, where):
        console.print(line, style="dim", highlight=False, markup=False)
    console.print()
