"""What people list is found by indexes: however many jobs have ended, a page of them reads little more than a page."""

import secrets
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from jobsync import CoordinationConfig, JobQueue
from jobsync.postgres.statement import load_sql
from tests.conftest import drop_all

ENDED = 20_000
PAGE = 50
FILTERS: dict[str, tuple[object, ...]] = {
    "all": (None, None, None, None),
    "the next page": (None, None, None, 10_000),
    "done": ("done", None, None, None),
    "of a kind": ("done", "k", None, None),
    "failed": ("failed", None, None, None),
    "none of a status": ("cancelled", None, None, None),
    "pending": ("pending", None, None, None),
    "no such kind": (None, "nope", None, None),
    "no such kind, done": ("done", "nope", None, None),
    "no such queue, failed": ("failed", None, "nope", None),
}


@pytest.fixture(scope="module")
def place(server_dsn: str) -> Iterator[tuple[str, str]]:
    """Give a server and a prefix with many ended jobs."""
    prefix = f"t_{secrets.token_hex(4)}_"
    with JobQueue(CoordinationConfig(dsn=server_dsn, appname=prefix)) as queue:
        queue.enqueue("k")
    body = (
        f"insert into {prefix}job_body (lane, payload) "
        f"select lane, '1' from {prefix}job_lane, generate_series(1, {ENDED})"
    )
    end = (
        f"insert into {prefix}job_end (id, attempts, crashes, status) "
        f"select id, 1, 0, case when id % 100 = 0 then 'failed' else 'done' end from {prefix}job_body where id > 1"
    )
    with psycopg.connect(server_dsn, autocommit=True) as conn:
        conn.execute(body.encode())
        conn.execute(end.encode())
        conn.execute(f"analyze {prefix}job_body, {prefix}job_end".encode())
    yield server_dsn, prefix
    drop_all(server_dsn, prefix)


def rows_read(plan: dict[str, Any]) -> int:
    """Count the rows that the tables gave, those thrown away included."""
    own = 0
    if "Relation Name" in plan:
        own = (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"]
    return int(own) + sum(rows_read(part) for part in plan.get("Plans", []))


@pytest.mark.parametrize("what", FILTERS)
def test_a_page_reads_little_more_than_a_page(place: tuple[str, str], what: str) -> None:
    dsn, prefix = place
    text = "explain (analyze, format json) " + load_sql("statements", "list_jobs", prefix)
    with psycopg.connect(dsn, autocommit=True) as conn, psycopg.RawCursor(conn) as cursor:
        cursor.execute(text.encode(), (*FILTERS[what], PAGE))
        [(plans,)] = cursor.fetchall()
    assert rows_read(plans[0]["Plan"]) < 30 * PAGE
