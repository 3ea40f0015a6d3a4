"""What happens to the queue, and when: one job is cancelled while it runs, and one worker is killed with jobs in hand.

An event is due at a share of the files measured. The kill is over when every job that the killed worker had begun has
been begun again. Both times are read from the database's clock, which the log is written by.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from jobsync import JobQueue
from jobsync.api.cluster import Cluster
from jobsync.cli.demo.fleet import Fleet
from jobsync.cli.demo_queue.tables import Tables
from jobsync.cli.demo_queue.watch import Snapshot, begun_again

CANCEL_AT, KILL_AT = 0.15, 0.40
SETTLE_LIMIT_SEC = 30.0


@dataclass(frozen=True, slots=True)
class Kill:
    """A worker's death: when, and which jobs it seemed to have begun and not ended (a commit may be on its way)."""

    worker: str
    at: datetime
    begun_sec: float
    jobs: tuple[int, ...]


class Scenario:
    """Brings the events about; `step` is called with every snapshot, `say(text)` is told what happens."""

    def __init__(  # noqa: PLR0913 - what it acts on
        self,
        queue: JobQueue,
        cluster: Cluster,
        tables: Tables,
        fleet: Fleet,
        *,
        files: int,
        endless: int,
        items: Mapping[int, str],
        pace_ms: float,
        say: Callable[[str], None],
    ) -> None:
        self._queue = queue
        self._cluster = cluster
        self._tables = tables
        self._fleet = fleet
        self._files = files
        self._endless = endless
        self._items = items
        self._pace_ms = pace_ms
        self._say = say
        self._told: set[tuple[int, str]] = set()
        self.cancelled_at: datetime | None = None
        self.kill: Kill | None = None
        self.taken_over_ms: dict[int, float] = {}
        self._left: list[int] = []

    @property
    def is_settling(self) -> bool:
        """Whether jobs of the killed worker wait to be begun again."""
        return bool(self._left)

    def has_given_up(self, at_sec: float) -> bool:
        """Tell whether what should have been begun again was not, for too long."""
        return self.kill is not None and self.is_settling and at_sec - self.kill.begun_sec > SETTLE_LIMIT_SEC

    def step(self, snapshot: Snapshot) -> None:
        """Bring about what is due, and see what became of what was done."""
        self._tell_failures(snapshot)
        if self.cancelled_at is None and snapshot.done >= CANCEL_AT * self._files:
            self._cancel(snapshot)
        elif self.kill is None and snapshot.done >= KILL_AT * self._files:
            self._kill(snapshot)
        elif self.kill is not None and self.is_settling:
            self._see_taken_over(self.kill, snapshot)

    def _cancel(self, snapshot: Snapshot) -> None:
        if any(self._endless in hand.running for hand in snapshot.in_hand.values()):
            self.cancelled_at = self._tables.now(self._cluster)
            self._queue.cancel(self._endless)
            self._say("the endless job is cancelled while it runs")

    def _kill(self, snapshot: Snapshot) -> None:
        running = self._fleet.running()
        worker = max(running, key=lambda name: snapshot.in_hand[name].held if name in snapshot.in_hand else 0)
        at: list[datetime] = []

        def just_begun(name: str) -> list[str]:
            # A file takes the pace or longer before its transaction begins: in the first half no commit is on its way.
            found = self._tables.read_open(self._cluster, name, age_ms=self._pace_ms / 2)
            at[:] = [self._tables.now(self._cluster)]
            return [str(job) for job in found]

        begun_sec, _ = self._fleet.kill(worker, just_begun)
        self._left = self._tables.read_open(self._cluster, worker)
        self.kill = Kill(worker, at[0], begun_sec, tuple(self._left))
        inside_of = ", ".join(self._items[job] for job in self._left) or "no file"
        self._say(f"{worker} is killed (SIGKILL) inside {inside_of}")

    def _see_taken_over(self, kill: Kill, snapshot: Snapshot) -> None:
        self._left = self._tables.read_open(self._cluster, kill.worker)
        for job, line in begun_again(snapshot.trace, kill.jobs, kill.at).items():
            if job not in self.taken_over_ms:
                self.taken_over_ms[job] = (line.at - kill.at).total_seconds() * 1000
                after_ms = self.taken_over_ms[job]
                self._say(f"{line.worker} begins {self._items[job]} again, {after_ms:.0f} ms after the kill")

    def _tell_failures(self, snapshot: Snapshot) -> None:
        for line in snapshot.trace:
            if line.what != "begin" and (line.attempt, line.what) not in self._told:
                self._told.add((line.attempt, line.what))
                if line.what == "failed":
                    self._say(f"{self._items[line.job]} fails on {line.worker}, and will be tried again")
                else:
                    self._say(f"{line.worker} is told that its job is cancelled")
