"""What the queue says of the demo at one instant: counts, leases, and what the handlers have logged."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from jobsync import JobQueue
from jobsync.api.cluster import Cluster
from jobsync.cli.demo_queue.tables import Tables, Trace


@dataclass(frozen=True, slots=True)
class InHand:
    """The jobs that a worker holds: those that run, in the order begun, and how many it has fetched ahead."""

    running: tuple[int, ...] = ()
    ahead: int = 0

    @property
    def held(self) -> int:
        """Count them all."""
        return len(self.running) + self.ahead


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One look: how many jobs have which status, who holds what, and how many results each worker has stored."""

    at_sec: float
    counts: Mapping[str, int]
    in_hand: Mapping[str, InHand]
    done_by: Mapping[str, int]
    trace: tuple[Trace, ...]

    @property
    def done(self) -> int:
        """Count what is done."""
        return self.counts["done"]

    @property
    def open(self) -> int:
        """Count what has not ended yet."""
        return sum(self.counts[status] for status in ("pending", "processing", "retry"))


def look(queue: JobQueue, cluster: Cluster, tables: Tables, at_sec: float) -> Snapshot:
    """Read all of it; the parts follow each other within a few milliseconds."""
    leases = queue.get_active_leases()
    trace = tables.read_trace(cluster)
    begun = {(line.job, line.attempt) for line in trace if line.what == "begin"}
    in_hand: dict[str, InHand] = {}
    for lease in leases:
        hand = in_hand.get(lease.worker_id, InHand())
        if (lease.id, lease.attempt) in begun:
            hand = InHand((*hand.running, lease.id), hand.ahead)
        else:
            hand = InHand(hand.running, hand.ahead + 1)
        in_hand[lease.worker_id] = hand
    return Snapshot(at_sec, queue.counts(), in_hand, tables.done_by(cluster), trace)


def begun_again(trace: tuple[Trace, ...], jobs: tuple[int, ...], since: datetime) -> dict[int, Trace]:
    """Give, for each of these jobs that was begun after an instant, the line that says so first."""
    found: dict[int, Trace] = {}
    for line in trace:
        if line.what == "begin" and line.job in jobs and line.at > since:
            found.setdefault(line.job, line)
    return found
