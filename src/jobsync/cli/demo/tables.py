"""The demo's own two tables: an append-only log, and the counts.

Neither has a unique key, and nothing is ever updated: a file that was done twice would stand there twice. The names
below bear the prefix `demo_`; a demo's own prefix takes its place.
"""

from dataclasses import dataclass

from jobsync.api.cluster import Cluster
from jobsync.cli.demo.stdlib import Counts

_CREATE = """
create table demo_file_log (
    id bigint generated always as identity, at timestamptz not null default clock_timestamp(),
    node text not null, item text not null, what text not null
)
""", """
create table demo_file_counts (
    item text not null, lines integer not null, functions integer not null, imports integer not null
)
"""  # fmt: skip

_BEGIN = "insert into demo_file_log (node, item, what) values ($1::text, $2::text, 'begin')"
_END = "insert into demo_file_log (node, item, what) values (%s, %s, 'end')"
_COUNTS = "insert into demo_file_counts (item, lines, functions, imports) values (%s, %s, %s, %s)"

_READ = "select node, item, what from demo_file_log order by id"
_COUNTED = "select item from demo_file_counts"
_TOTALS = "select coalesce(sum(lines), 0), coalesce(sum(functions), 0), coalesce(sum(imports), 0) from demo_file_counts"
_PROGRESS = """
select node, count(*) filter (where what = 'end'), (array_agg(item order by id desc))[1]
from demo_file_log group by node
"""
_OPEN = """
select b.item from demo_file_log b
where b.node = $1::text and b.what = 'begin' and b.at > clock_timestamp() - $2::float8 * interval '1 ms'
and not exists (select from demo_file_log e where e.node = b.node and e.item = b.item and e.what = 'end')
"""

_TRACES = """
select 'drop ' || kind || ' if exists ' || thing || ' cascade' from (
    select case relkind when 'S' then 2 else 1 end as turn, oid, oid::regclass::text as thing,
           case relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end as kind
    from pg_class where starts_with(relname, 'demo_') and relkind in ('r', 'p', 'v', 'S')
    union all
    select 3, oid, oid::regprocedure::text, 'routine' from pg_proc where starts_with(proname, 'demo_')
) found order by turn, oid
"""


@dataclass(frozen=True, slots=True)
class LogRow:
    """One line of the log, in the order written: `what` is 'begin' or 'end'."""

    node: str
    item: str
    what: str


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

    def log_begin(self, cluster: Cluster, node: str, item: str) -> None:
        """Commit that a node begins a file."""
        cluster.execute(self._named(_BEGIN), node, item)

    def file_statements(self, node: str, item: str, counts: Counts) -> list[tuple[str, tuple[object, ...]]]:
        """Give what belongs into the transaction of a file: its counts, and its end in the log."""
        values = (item, counts.lines, counts.functions, counts.imports)
        return [(self._named(_COUNTS), values), (self._named(_END), (node, item))]

    def read_log(self, cluster: Cluster) -> tuple[LogRow, ...]:
        """Read the whole log, in the order in which its lines were numbered."""
        return tuple(LogRow(*row) for row in cluster.execute(self._named(_READ)))

    def read_counted(self, cluster: Cluster) -> tuple[str, ...]:
        """Name the file of each row of the counts."""
        return tuple(row[0] for row in cluster.execute(self._named(_COUNTED)))

    def read_totals(self, cluster: Cluster) -> Counts:
        """Sum the counts of all files."""
        return Counts(*(int(value) for value in cluster.execute(self._named(_TOTALS))[0]))

    def read_progress(self, cluster: Cluster) -> dict[str, tuple[int, str]]:
        """Give, by node, how many files it has ended and which one it began last."""
        return {node: (ended, item) for node, ended, item in cluster.execute(self._named(_PROGRESS))}

    def read_open(self, cluster: Cluster, node: str, *, age_ms: float) -> list[str]:
        """List the files that a node has begun within the last `age_ms`, and not ended."""
        return [row[0] for row in cluster.execute(self._named(_OPEN), node, age_ms)]

    def drop_all(self, cluster: Cluster) -> None:
        """Drop everything that bears the prefix, the fleet's own tables included."""
        for (drop,) in cluster.execute(self._named(_TRACES)):
            cluster.execute(drop)
