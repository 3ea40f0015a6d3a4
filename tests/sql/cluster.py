"""A live fleet of three, in a schema of its own, so that SQL with the prefix sync_ runs as it stands."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

import psycopg
from psycopg import Connection, sql
from psycopg.conninfo import make_conninfo

from jobsync import CoordinationConfig, Job
from tests.api.jobs import eventually

NAMES = ("worker-01", "worker-02", "worker-03")
TOKENS = 100
RUN = "nightly-2026-11-22"
DONE_IN_RUN = [f"invoice-{number}" for number in range(1, 61)]
IN_HAND = [f"invoice-{number}" for number in range(61, 91)]
TASKS_TODAY = [f"parcel-{number}" for number in range(12)]
ABANDONED = "invoice-99"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Three nodes that are at work, in this process, and the way to their database."""

    dsn: str
    config: CoordinationConfig
    jobs: tuple[Job, ...]

    @property
    def today(self) -> date:
        return self.jobs[0].date

    def counts(self) -> dict[str, int]:
        """Tell how many tokens each node has."""
        return {job.node_name: len(job.my_tokens) for job in self.jobs}

    def owner_of(self, task: str) -> Job:
        return next(job for job in self.jobs if job.can_claim_task(task))

    @contextmanager
    def connect(self, **options: Any) -> Iterator[Connection[Any]]:
        with psycopg.connect(self.dsn, autocommit=True, **options) as conn:
            conn.execute("set statement_timeout = '20s'")
            yield conn


def schema_dsn(server_dsn: str, prefix: str) -> str:
    """Make a schema that goes with the prefix, and give a DSN whose sessions see nothing else."""
    schema = f"{prefix}app"
    with psycopg.connect(server_dsn, autocommit=True) as conn:
        conn.execute(sql.SQL("create schema {}").format(sql.Identifier(schema)))
    return make_conninfo(server_dsn, options=f"-c search_path={schema}")


@contextmanager
def live_cluster(server_dsn: str, prefix: str) -> Iterator[Cluster]:
    """Run three nodes that have shared all tokens; they leave at the end."""
    dsn = schema_dsn(server_dsn, prefix)
    config = CoordinationConfig(dsn=dsn, total_tokens=TOKENS, dead_node_retention_days=None, claim_retention_days=None)
    with ExitStack() as stack:
        jobs = tuple(stack.enter_context(Job(name, coordination_config=config, run=RUN)) for name in NAMES)
        cluster = Cluster(dsn, config, jobs)
        eventually(lambda: sorted(cluster.counts().values()) == [33, 33, 34], "the tokens are shared")
        yield cluster


def put_to_work(cluster: Cluster) -> None:
    """Give the fleet a past: locks of all kinds, work done, in hand and abandoned, a dead node, a node that left."""
    with Job("admin-01", coordination_config=cluster.config, observer=True) as admin:
        admin.register_lock("model-1", ["gpu-%", "worker-02"], reason="wants a GPU")
        admin.register_lock("model-2", "gpu-%", reason="wants a GPU")
        admin.register_lock("model-3", "worker-01", reason="for the season", expires_in_days=7)
    with cluster.connect() as conn:
        conn.execute("update sync_lock set created_by = 'worker-01' where task_id = 'model-2'")
        conn.execute(
            "insert into sync_lock (token_id, task_id, node_patterns, created_by, expires_at) "
            "values (1, 'old', '[\"worker-03\"]', 'worker-09', now() + interval '1 day'), "
            "(2, 'kept', '[\"worker-03\"]', 'worker-09', null)"
        )
        leave_the_dead_behind(conn, cluster.today)
    with cluster.connect() as conn:
        fill_the_queue(conn)
    wait_until_pinned(cluster)
    for job in cluster.jobs:
        for task in job.get_my_task_ids(DONE_IN_RUN):
            assert job.add_task(task)
        job.write_audit()
        assert len(job.set_claim(IN_HAND)) == len(job.get_my_task_ids(IN_HAND))


def leave_the_dead_behind(conn: Connection[Any], today: date) -> None:
    """Add a node that died eight days ago, and a task that it took up and never finished."""
    conn.execute(
        "insert into sync_node (name, created_on, last_heartbeat, state, incarnation, bind, heartbeat_timeout_ms, "
        "row_lease_ms, backend_pid, postmaster_start) values ('worker-09', now() - interval '9 days', "
        "now() - interval '8 days', 'fenced', 999999, 1, 15000, 14500, 1, now())"
    )
    conn.execute(
        "insert into sync_claim (node, item, date, run, incarnation, created_on) "
        "values ('worker-09', %s, %s, %s, 999999, now() - interval '10 minutes')",
        (ABANDONED, today, RUN),
    )
    conn.execute(
        "insert into sync_claim (node, item, date, incarnation, created_on) "
        "select 'worker-09', item, %s, 999999, now() from unnest(%s::text[]) item",
        (today, TASKS_TODAY),
    )


# What the queue holds, made by its own functions: one job for every sort of trouble. Ids count from 1.
_ENQUEUE = """
    select id from sync_job_enqueue(
        array[sync_job_lane_of(%(queue)s, %(kind)s)], array[0], array[%(most)s::integer],
        array[clock_timestamp() + %(delay_sec)s * interval '1 s'], array[null::text], array[%(affinity)s::text],
        array[null::text], array['{}'::jsonb], clock_timestamp() - interval '10 minutes',
        array['00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01'])
"""
_TAKE = """
    select epoch, place, id from sync_job_take_gated(
        %(worker)s, (select incarnation from sync_node where name = 'worker-01'), null,
        array(select lane from sync_job_lane), 1, 60000, true, 0, 3, clock_timestamp() - %(ago_sec)s * interval '1 s')
"""
_END = "select sync_job_end_attempt(%s, %s, %s, %s, clock_timestamp() + interval '1 hour', %s, null)"


def fill_the_queue(conn: Connection[Any]) -> None:
    """Leave jobs behind that wait, run, are stuck, in back-off, failed, done, cancelled and delayed."""

    def enqueue(
        kind: str, affinity: str | None = None, delay_sec: int = -600, queue: str = "default", most: int = 1
    ) -> None:
        given = {"kind": kind, "affinity": affinity, "delay_sec": delay_sec, "queue": queue, "most": most}
        conn.execute(_ENQUEUE.encode(), given)

    def take(worker: str, ago_sec: int = 0) -> tuple[Any, ...]:
        row = conn.execute(_TAKE.encode(), {"worker": worker, "ago_sec": ago_sec}).fetchone()
        assert row is not None
        return tuple(row)

    conn.execute(
        "insert into sync_job_worker select incarnation, 'crew-1', name, '[\"default\"]', '[\"resize\", \"mail\"]' "
        "from sync_node where name = 'worker-01'"
    )
    conn.execute("insert into sync_job_limit values ('video', 2, null)")
    conn.execute("insert into sync_job_periodic (name, schedule, timezone, queue, kind, payload) "
                 "values ('tidy', '0 3 * * *', 'UTC', 'default', 'tidy', '{}')")  # fmt: skip
    for kind in ("done-1", "done-2", "failed", "cancelled"):
        enqueue(kind)
    conn.execute(_END.encode(), (*take("crew-1"), "done", None))
    conn.execute(_END.encode(), (*take("crew-1"), "done", None))
    conn.execute(_END.encode(), (*take("crew-1"), "failed", "Traceback\n  line\nValueError: no such file"))
    conn.execute("select sync_job_cancel('{4}')")
    enqueue("mail", "customer-7", most=3)  # 5: in back-off, and its line waits
    conn.execute(_END.encode(), (*take("crew-1"), "retry", "Traceback\nTimeoutError: too slow"))
    enqueue("mail", "customer-7")
    enqueue("mail", "customer-7")
    enqueue("resize")  # 8: stuck
    take("crew-0", ago_sec=3600)
    enqueue("video")  # 9: runs
    take("crew-1")
    enqueue("resize", delay_sec=7200)  # 10: delayed
    conn.execute("insert into sync_job_pause values ('nightly', now(), 'an operator')")
    enqueue("report", queue="nightly")  # 11: its queue is paused, and nobody knows its kind


def wait_until_pinned(cluster: Cluster) -> None:
    """Wait until the tokens of the locks that match somebody are where these say, and every node knows its plan."""
    query = """
        select m.planned_lock_version = m.lock_version
           and (select count(*) from sync_token) = m.total_tokens
           and not exists (select from sync_node n where n.state = 'live' and n.applied_version < m.plan_version)
           and (select count(*) from sync_lock l join sync_token t using (token_id)
                where l.task_id <> 'model-2'
                  and t.node = any (array(select jsonb_array_elements_text(l.node_patterns)))) = 4
        from sync_meta m
    """
    with cluster.connect() as conn:

        def pinned() -> bool:
            row = conn.execute(query.encode()).fetchone()
            return row is not None and bool(row[0]) and sum(cluster.counts().values()) == TOKENS

        eventually(pinned, "the pins are obeyed")
