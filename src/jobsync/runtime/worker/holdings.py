"""What a worker holds: its leases, as far as it believes in them, and the jobs that are taken one by one."""

from collections import Counter
from collections.abc import Iterable
from operator import attrgetter
from typing import Final

from jobsync.core.holding import Holding
from jobsync.runtime.node import Node
from jobsync.runtime.worker.running_job import HeldLease, RunningJob

_LEASE_OF: Final = attrgetter("_lease")


class Holdings:
    """The leases of one worker. Changed by the hub alone."""

    def __init__(self, node: Node, *, lease_sec: float, threshold: float) -> None:
        self.leases: dict[int, HeldLease] = {}
        self.gated: dict[int, RunningJob] = {}
        self.over: set[int] = set()  # Epochs whose leases have nothing left to do, and stand in the database yet.
        self._node = node
        self._lease_sec = lease_sec
        self._extend_after_sec = lease_sec * threshold

    def add(self, lease: HeldLease) -> None:
        """Take note of a lease that was given."""
        self.leases[lease.epoch] = lease

    def until_sec(self, sent_sec: float) -> float:
        """Say how long a lease is believed in that a statement gave which was sent then."""
        return sent_sec + self._lease_sec

    @property
    def extend_due_sec(self) -> float:
        """When leases are to be extended: as soon as the threshold of the oldest has passed; infinite without any."""
        oldest = min((lease.until_sec for lease in self.leases.values()), default=float("inf"))
        return oldest - self._lease_sec + self._extend_after_sec

    def over_with(self, jobs: Iterable[RunningJob]) -> list[int]:
        """Say which leases have nothing left to do once these jobs' ends are told; none that is lost among them."""
        counts = Counter(map(_LEASE_OF, jobs))
        return [lease.epoch for lease, count in counts.items() if lease.left == count and not lease.is_lost]

    def closed(self, jobs: Iterable[RunningJob]) -> None:
        """Take note that the database knows the end of these jobs, each of which is named once."""
        for lease, count in Counter(map(_LEASE_OF, jobs)).items():
            lease.left -= count
            if lease.left <= 0:
                self.leases.pop(lease.epoch, None)
                if not lease.is_lost:
                    self.over.add(lease.epoch)

    def lose(self, lost: Iterable[HeldLease]) -> bool:
        """Believe in these leases no more; True if there were any."""
        any_lost = False
        for lease in list(lost):
            lease.is_lost = any_lost = True
            self.leases.pop(lease.epoch, None)
        return any_lost

    def doubtful(self, now_sec: float) -> list[HeldLease]:
        """Give the leases that may have run out, and those of a registration that is over."""
        incarnation = self._node.incarnation
        return [
            lease
            for lease in self.leases.values()
            if lease.until_sec <= now_sec or (incarnation and lease.incarnation != incarnation)
        ]

    def is_certain(self, job: RunningJob, now_sec: float) -> bool:
        """Whether a job may begin: its lease is believed in, and so is the node's own."""
        lease = job._lease  # noqa: SLF001 - the job and the worker's rooms are one piece
        holding: Holding = self._node.engine.standing.holding
        return (
            now_sec < lease.until_sec
            and now_sec < holding.boot_until_sec
            and holding.incarnation == lease.incarnation
            and not lease.is_lost
        )
