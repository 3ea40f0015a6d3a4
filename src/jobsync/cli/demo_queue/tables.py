"""The demo's own two tables: what the handlers say of themselves, and what they measured.

Neither has a unique key, and nothing is ever updated: a file that was measured twice would stand there twice. The
names below bear the prefix `demo_`; a demo's own prefix takes its place.
"""

from dataclasses import dataclass
from datetime import datetime

from jobsync.api.cluster import Cluster
from jobsync.cli.demo import tables as demo_tables
from jobsync.cli.demo_queue.measure import Measure

_CREATE = """
create table demo_trace (
    id bigint generated always as identity, at timestamptz not null default clock_timestamp(),
    worker text not null, job bigint not null, attempt bigint not null, what text not null
)
""", """
create table demo_measured (
    item text not null, worker text not null, job bigint not null,
    sha256 text not null, size_bytes integer not null, lines integer not null, functions integer not null
)
"""  # fmt: skip

_TRACE = "insert into demo_trace (worker, job, attempt, what) values ($1::text, $2::bigint, $3::bigint, $4::text)"
_MEASURED = (
    "insert into demo_measured (item, worker, job, sha256, size_bytes, lines, functions) "
    "values (%s, %s, %s, %s, %s, %s, %s)"
)
_READ_TRACE = "select at, worker, job, attempt, what from demo_trace order by id"
_READ_MEASURED = "select item, worker, sha256, size_bytes, lines, functions from demo_measured"
_DONE_BY = "select worker, count(*) from demo_measured group by worker"
_OPEN = """
select b.job from demo_trace b
where b.worker = $1::text and b.what = 'begin'
and ($2::float8 is null or b.at > clock_timestamp() - $2::float8 * interval '1 ms')
and not exists (select from demo_trace l where l.job = b.job and l.id > b.id)
and not exists (select from demo_measured m where m.job = b.job)
"""


@dataclass(frozen=True, slots=True)
class Trace:
    """One line of the handlers' log, in the order written.

    `what` is 'begin', committed before the work, 'failed', or 'told': a handler that saw that its job was cancelled.
    """

    at: datetime
    worker: str
    job: int
    attempt: int
    what: str


@dataclass(frozen=True, slots=True)
class Measured:
    """One row of the results."""

    item: str
    worker: str
    measure: Measure


@dataclass(frozen=True, slots=True)
class Tables:
    """The statements on one demo's tables."""

    prefix: str

    def _named(self, sql: str) -> str:
        return sql.replace("demo_", self.prefix)

    def create(self, cluster: Cluster) -> None:
        """Create both tables."""
        for sql in _CREATE:
            cluster.execute(self._named(sql))

    def trace(self, cluster: Cluster, worker: str, job: int, attempt: int, what: str) -> None:
        """Commit one line of the log."""
        cluster.execute(self._named(_TRACE), worker, job, attempt, what)

    def measured_statement(self, item: str, worker: str, job: int, found: Measure) -> tuple[str, tuple[str | int, ...]]:
        """Give what belongs into the transaction of a job: the row with its result."""
        values = (item, worker, job, found.sha256, found.size_bytes, found.lines, found.functions)
        return self._named(_MEASURED), values

    def read_trace(self, cluster: Cluster) -> tuple[Trace, ...]:
        """Read the whole log, in the order in which its lines were numbered."""
        return tuple(Trace(*row) for row in cluster.execute(self._named(_READ_TRACE)))

    def read_measured(self, cluster: Cluster) -> tuple[Measured, ...]:
        """Read all results."""
        rows = cluster.execute(self._named(_READ_MEASURED))
        return tuple(Measured(item, worker, Measure(*rest)) for item, worker, *rest in rows)

    def done_by(self, cluster: Cluster) -> dict[str, int]:
        """Count the results of each worker."""
        return dict(cluster.execute(self._named(_DONE_BY)))

    def read_open(self, cluster: Cluster, worker: str, *, age_ms: float | None = None) -> list[int]:
        """List the jobs that a worker has begun, within the last `age_ms` if so, and that nobody has ended since."""
        return [row[0] for row in cluster.execute(self._named(_OPEN), worker, age_ms)]

    def now(self, cluster: Cluster) -> datetime:
        """Read the clock by which the log is written."""
        found: datetime = cluster.execute("select clock_timestamp()")[0][0]
        return found

    def drop_all(self, cluster: Cluster) -> None:
        """Drop everything that bears the prefix, the queue's own tables included."""
        demo_tables.Tables(self.prefix).drop_all(cluster)
