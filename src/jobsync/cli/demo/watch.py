"""What the database says of the demo at one instant: nodes, tokens, history, files."""

from dataclasses import dataclass

from jobsync.api.cluster import Cluster, ClusterStatus, TokenSpan
from jobsync.cli.demo.tables import Tables

HISTORY = 50


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One look. `files` gives, by worker, how many files it has ended and which one it began last."""

    at_sec: float
    status: ClusterStatus
    spans: tuple[TokenSpan, ...]
    files: dict[str, tuple[int, str]]

    @property
    def ended(self) -> int:
        """How many ends stand in the log."""
        return sum(ended for ended, _ in self.files.values())

    @property
    def total_tokens(self) -> int:
        """The number of tokens, 0 until the first worker has registered."""
        return self.status.total_tokens or 0

    @property
    def last_rebalance(self) -> int:
        """The number of the latest distribution in the history."""
        return self.status.rebalances[0].id if self.status.rebalances else 0

    def tokens_of(self, *names: str) -> int:
        """Count the tokens that these workers hold."""
        return sum(span.size for span in self.spans if span.node in names)


def look(cluster: Cluster, tables: Tables, at_sec: float) -> Snapshot:
    """Read all of it. The files come last: while some are left, no worker had finished when the rest was read."""
    status = cluster.status(rebalances=HISTORY)
    return Snapshot(at_sec=at_sec, status=status, spans=cluster.spans(), files=tables.read_progress(cluster))
