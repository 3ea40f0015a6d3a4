"""The queue's SQL by hand: each function as one call, under a clock of the test's own."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from psycopg import Connection

from jobsync.postgres.statement import Row, Statement, run

LEASE_SEC = 60
START = datetime(2100, 1, 1, tzinfo=UTC)  # later than the server's own clock, which operators' changes go by
NODE = (
    "insert into sync_node (name, incarnation, bind, heartbeat_timeout_ms, row_lease_ms, backend_pid, "
    "postmaster_start) values ('node-' || $1::bigint, $1::bigint, $1::bigint, 15000, 14500, 1, now())"
)

# What must hold after whatever was done. Each gives the ids, or what else there is, for which it does not.
INVARIANTS = {
    "a body is in no place, or in two": """
        select b.id from sync_job_body b
        where 1 <> (select count(*) from sync_job_ready r where r.id = b.id)
                 + (select count(*) from sync_job_gated g where g.id = b.id)
                 + (select count(*) from sync_job_later t where t.id = b.id)
                 + (select count(*) from sync_job_end e where e.id = b.id)
                 + (select count(*) from sync_job_lease l cross join lateral unnest(l.ids) u(id)
                    where u.id = b.id and not exists (select from sync_job_end e where e.id = b.id))""",
    "something is there without its body": """
        select s.id from (
            select id from sync_job_ready union all select id from sync_job_gated
            union all select id from sync_job_later union all select id from sync_job_end
            union all select id from sync_job_place
            union all select id from sync_job_error union all select id from sync_job_progress
            union all select u.id from sync_job_lease l cross join lateral unnest(l.ids) u(id) where u.id <> 0) s
        where not exists (select from sync_job_body b where b.id = s.id)""",
    "the view does not show a job once": """
        select b.id from sync_job_body b where 1 <> (select count(*) from sync_job v where v.id = b.id)""",
    "a place of one that neither runs nor waits for another attempt": """
        select p.id from sync_job_place p join sync_job v on v.id = p.id
        where v.status <> 'processing'
          and not (p.scope = 'affinity' and v.status in ('pending', 'retry') and v.attempts > 0)""",
    "a job of an affinity runs, or waits for another attempt, without the place of its line": """
        select v.id from sync_job v
        where v.affinity is not null
          and (v.status = 'processing' or v.status in ('pending', 'retry') and v.attempts > 0)
          and not exists (select from sync_job_place p
                          where p.scope = 'affinity' and p.name = v.affinity and p.id = v.id)""",
    "an ended job is listed by another lease than the one it ended under": """
        select u.id from sync_job_lease l cross join lateral unnest(l.ids) u(id)
        join sync_job_end e on e.id = u.id where e.epoch is distinct from l.epoch""",
}


class Took(NamedTuple):
    """One job that a take gave."""

    epoch: int
    place: int
    id: int
    attempts: int
    crashes: int


class Hands:
    """The functions, on one connection; `clock` None leaves the time to the server."""

    def __init__(self, conn: Connection[Any], prefix: str, clock: datetime | None = None) -> None:
        self.conn = conn
        self.prefix = prefix
        self.clock = clock

    def sql(self, text: str, *args: object) -> list[Row]:
        """Run SQL that is written with the default prefix."""
        return run(self.conn, Statement(text.replace("sync_", self.prefix), args))

    def later(self, sec: float) -> datetime | None:
        """Give an instant so many seconds from now."""
        return (self.clock or datetime.now(UTC)) + timedelta(seconds=sec)

    def broken_rules(self) -> dict[str, list[Row]]:
        """Give the invariants that do not hold."""
        found = {rule: self.sql(query) for rule, query in INVARIANTS.items()}
        return {rule: rows for rule, rows in found.items() if rows}

    def join(self, incarnation: int) -> None:
        """Let a node live."""
        self.sql(NODE, incarnation)

    def fence(self, incarnation: int) -> None:
        """Let it be taken for dead."""
        self.sql("update sync_node set state = 'fenced' where incarnation = $1::bigint", incarnation)

    def lane(self, kind: str, queue: str = "default") -> int:
        return int(self.sql("select sync_job_lane_of($1::text, $2::text)", queue, kind)[0][0])

    def enqueue(self, lane: int, count: int = 1, **given: Any) -> list[tuple[int, bool]]:
        """Store jobs that are alike; (id, whether it is new) each."""
        values = [
            given.get("priority", 0),
            given.get("max_attempts", 3),
            given.get("run_at"),
            given.get("job_id"),
            given.get("affinity"),
            given.get("limit_key"),
        ]
        rows = self.sql(
            "select id, is_new from sync_job_enqueue($1::integer[], $2::integer[], $3::integer[], $4::timestamptz[], "
            "$5::text[], $6::text[], $7::text[], $8::jsonb[], $9::timestamptz, null) order by place",
            [lane] * count,
            *([value] * count for value in values),
            ["{}"] * count,
            self.clock,
        )
        return [(id_, is_new) for id_, is_new in rows]

    def add(self, lane: int, **given: Any) -> int:
        """Store one job; its id."""
        return self.enqueue(lane, **given)[0][0]

    def take(self, lanes: Sequence[int], want: int = 10, node: int = 1) -> list[Took]:
        rows = self.sql(
            "select epoch, place, id, attempts, crashes "
            "from sync_job_take('w' || $1, $1::bigint, $2::integer[], $3::integer, $4::integer, $5::timestamptz)",
            node,
            list(lanes),
            want,
            LEASE_SEC * 1000,
            self.clock,
        )
        return [Took(*row) for row in rows]

    def take_gated(
        self, lanes: Sequence[int], want: int = 10, node: int = 1, *, suspects: bool = True, max_crashes: int = 3
    ) -> list[Took]:
        rows = self.sql(
            "select epoch, place, id, attempts, crashes from sync_job_take_gated('w' || $1, $1::bigint, null, "
            "$2::integer[], $3::integer, $4::integer, $5::boolean, 0, $6::integer, $7::timestamptz)",
            node,
            list(lanes),
            want,
            LEASE_SEC * 1000,
            suspects,
            max_crashes,
            self.clock,
        )
        return [Took(*row) for row in rows]

    def done(self, took: Sequence[Took], over: Sequence[int] = ()) -> set[int]:
        """Say that jobs are done; the ids that are refused."""
        rows = self.sql(
            "select refused from sync_job_done($1::bigint[], $2::integer[], $3::bigint[], "
            "array_fill(null::jsonb, array[cardinality($3::bigint[])]), $4::bigint[], $5::timestamptz)",
            [t.epoch for t in took],
            [t.place for t in took],
            [t.id for t in took],
            list(over),
            self.clock,
        )
        return {row[0] for row in rows}

    def end(self, took: Took, outcome: str, run_at: datetime | None = None, error: str | None = None) -> bool:
        query = "select sync_job_end_attempt($1::bigint, $2::integer, $3::bigint, $4::text, $5::timestamptz, $6::text, null, $7::timestamptz)"  # noqa: E501
        return bool(self.sql(query, took.epoch, took.place, took.id, outcome, run_at, error, self.clock)[0][0])

    def release(self, took: Sequence[Took]) -> int:
        query = "select sync_job_release($1::bigint[], $2::integer[], $3::bigint[], $4::timestamptz)"
        columns = [t.epoch for t in took], [t.place for t in took], [t.id for t in took]
        return int(self.sql(query, *columns, self.clock)[0][0])

    def extend(self, epochs: Sequence[int], node: int = 1) -> dict[int, list[int]]:
        query = (
            "select epoch, ids from sync_job_extend('w' || $1, $1::bigint, $2::bigint[], $3::integer, $4::timestamptz)"
        )
        return dict(self.sql(query, node, list(epochs), LEASE_SEC * 1000, self.clock))

    def recover(self) -> int:
        return int(self.sql("select sync_job_recover($1::timestamptz)", self.clock)[0][0])

    def promote(self, most: int = 1000) -> datetime | None:
        due: datetime | None = self.sql("select sync_job_promote($1::integer, $2::timestamptz)", most, self.clock)[0][0]
        return due

    def cancel(self, *ids: int) -> set[int]:
        return {
            row[0] for row in self.sql("select sync_job_cancel($1::bigint[], $2::timestamptz)", list(ids), self.clock)
        }

    def retry(self, *ids: int) -> set[int]:
        return {
            row[0] for row in self.sql("select sync_job_retry($1::bigint[], $2::timestamptz)", list(ids), self.clock)
        }

    def prune(self, days: float, most: int = 1000) -> int:
        query = "select sync_job_prune($1::float8, $2::integer, $3::timestamptz)"
        return int(self.sql(query, days, most, self.clock)[0][0])

    def limit(self, kind: str, at_once: int | None, per_key: int | None) -> None:
        self.sql("select sync_job_set_limit($1::text, $2::integer, $3::integer)", kind, at_once, per_key)

    def status(self, id_: int) -> str | None:
        rows = self.sql("select status from sync_job where id = $1::bigint", id_)
        return rows[0][0] if rows else None
