"""`connection=`: the job exists if and only if the caller's transaction commits, whatever the caller has set."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection, Connection, ServerCursor
from psycopg.rows import dict_row

from jobsync import AsyncJobQueue, CoordinationConfig, InvalidArgument, JobQueue, JobsyncError, NewJob

EACH_WAY = pytest.mark.parametrize("way", ["one", "plain", "keyed", "many", "many of all sorts"])


@pytest.fixture
def config(server_dsn: str, prefix: str) -> CoordinationConfig:
    return CoordinationConfig(dsn=server_dsn, appname=prefix)


@pytest.fixture
def queue(config: CoordinationConfig) -> Iterator[JobQueue]:
    with JobQueue(config) as queue:
        yield queue


@pytest.fixture
def conn(server_dsn: str) -> Iterator[Connection[Any]]:
    with psycopg.connect(server_dsn) as conn:
        yield conn
        conn.rollback()


def put(queue: JobQueue, way: str, conn: Connection[Any]) -> int:
    """Enqueue in one of the ways, and give how many jobs that should make."""
    match way:
        case "one":
            queue.enqueue("one", 1, run_at=timedelta(1), connection=conn)
        case "plain":
            queue.enqueue("plain", 1, connection=conn)
        case "keyed":
            queue.enqueue("keyed", 1, job_id="key", affinity="a", connection=conn)
        case "many":
            return len(queue.enqueue_many([("many", i) for i in range(2_500)], connection=conn))
        case _:
            jobs = [NewJob("all", i, affinity="a" if i % 3 else None, queue=f"q{i % 2}") for i in range(1_500)]
            return len(queue.enqueue_many(jobs, connection=conn))
    return 1


@EACH_WAY
def test_the_job_is_there_when_the_transaction_commits(queue: JobQueue, conn: Connection[Any], way: str) -> None:
    jobs = put(queue, way, conn)
    assert conn.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
    assert queue.counts()["pending"] == 0
    conn.commit()
    assert queue.counts()["pending"] == jobs


@EACH_WAY
def test_the_job_is_not_there_when_it_rolls_back(queue: JobQueue, conn: Connection[Any], way: str) -> None:
    put(queue, way, conn)
    conn.rollback()
    assert queue.counts()["pending"] == 0
    assert put(queue, way, conn)  # The kind's lane was made apart, and stands.


@EACH_WAY
def test_a_savepoint_takes_the_job_along(queue: JobQueue, conn: Connection[Any], way: str) -> None:
    queue.enqueue("kept", connection=conn)
    with conn.transaction(force_rollback=True):
        put(queue, way, conn)
    conn.commit()
    assert queue.counts()["pending"] == 1


@EACH_WAY
def test_in_autocommit_it_commits_at_once(queue: JobQueue, conn: Connection[Any], way: str) -> None:
    conn.autocommit = True
    jobs = put(queue, way, conn)
    assert queue.counts()["pending"] == jobs
    assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


@EACH_WAY
@pytest.mark.parametrize("autocommit", [False, True])
def test_pipeline_mode(queue: JobQueue, conn: Connection[Any], way: str, autocommit: bool) -> None:
    conn.autocommit = autocommit
    with conn.pipeline():
        conn.execute("select 1")
        jobs = put(queue, way, conn)
        conn.execute("select 2")
    conn.commit()
    assert queue.counts()["pending"] == jobs


@EACH_WAY
def test_nothing_that_the_caller_set_matters_or_changes(
    queue: JobQueue, conn: Connection[Any], way: str, prefix: str
) -> None:
    """Another search path, with tables of the same names in it; another role, that may nothing; other factories."""
    role, schema = f"{prefix}role", f"{prefix}schema"
    queue.counts()
    conn.execute(f"create role {role}")
    conn.execute(f"create schema {schema} authorization {role}")
    for table in ("body", "ready", "gated", "lane", "later"):
        conn.execute(f"create table {schema}.{prefix}job_{table} (nothing text)")
    conn.commit()
    try:
        conn.execute(f"set search_path to {schema}")
        conn.commit()
        conn.execute(f"set local role {role}")
        conn.row_factory = dict_row
        conn.cursor_factory = psycopg.ClientCursor
        conn.server_cursor_factory = ServerCursor
        conn.prepare_threshold = 0
        jobs = put(queue, way, conn)
        jobs += put(queue, way, conn) if way != "keyed" else 0
        asked = "select current_setting('search_path') as path, current_user as role"
        assert conn.execute(asked).fetchone() == {"path": schema, "role": role}
        conn.commit()
        assert conn.execute("show search_path").fetchone() == {"search_path": schema}
        assert queue.counts()["pending"] == jobs
    finally:
        conn.rollback()
        conn.execute("reset role")
        conn.execute(f"drop schema {schema} cascade")
        conn.execute(f"drop role {role}")
        conn.commit()


@pytest.mark.parametrize("level", list(psycopg.IsolationLevel))
@EACH_WAY
def test_every_isolation_level(queue: JobQueue, conn: Connection[Any], way: str, level: psycopg.IsolationLevel) -> None:
    conn.isolation_level = level
    conn.execute("select 1")  # The snapshot is older than the kind's lane.
    jobs = put(queue, way, conn)
    conn.commit()
    assert queue.counts()["pending"] == jobs


def test_a_key_that_stands_gives_its_job_within_the_transaction(queue: JobQueue, conn: Connection[Any]) -> None:
    number = queue.enqueue("k", job_id="key", connection=conn)
    assert queue.enqueue("k", job_id="key", connection=conn) == number
    conn.commit()
    assert queue.enqueue("k", job_id="key", connection=conn) == number


def test_a_batch_that_is_refused_leaves_the_transaction_usable(queue: JobQueue, conn: Connection[Any]) -> None:
    queue.enqueue("kept", connection=conn)
    with pytest.raises(InvalidArgument, match=r"jobs\[3000\]"):
        queue.enqueue_many((("k", i if i < 3_000 else {1}) for i in range(4_000)), connection=conn)
    queue.enqueue("kept", connection=conn)
    conn.commit()
    assert queue.counts()["pending"] == 2


def test_a_batch_of_pairs_whose_source_fails_stores_nothing(queue: JobQueue, conn: Connection[Any]) -> None:
    def source() -> Iterator[tuple[str, object]]:
        yield from (("k", i) for i in range(3_000))
        raise ZeroDivisionError

    for connection in (None, conn):
        with pytest.raises(ZeroDivisionError):
            queue.enqueue_many(source(), connection=connection)
    conn.commit()
    assert queue.counts()["pending"] == 0


@pytest.mark.parametrize("many", [False, True])
def test_what_is_no_open_connection_is_refused(queue: JobQueue, server_dsn: str, many: bool) -> None:
    closed = psycopg.connect(server_dsn)
    closed.close()
    with psycopg.connect(server_dsn) as failed:
        with pytest.raises(psycopg.errors.DivisionByZero):
            failed.execute("select 1 / 0")
        for connection, why in ((closed, "closed"), (failed, "failed"), ("dsn", "builtins.str"), (1, "builtins.int")):
            with pytest.raises(InvalidArgument, match=why):
                queue.enqueue_many([("k", 1)], connection=connection) if many else queue.enqueue(
                    "k", connection=connection
                )
        failed.rollback()
    assert queue.counts()["pending"] == 0


def test_of_an_async_queue_it_is_an_async_connection(config: CoordinationConfig, server_dsn: str) -> None:
    async def main() -> None:
        async with AsyncJobQueue(config) as queue, await AsyncConnection.connect(server_dsn) as conn:
            await queue.enqueue("k", 1, connection=conn)
            await queue.enqueue("k", 1, job_id="a", connection=conn)
            await queue.enqueue_many([("k", 1), ("k", 2)], connection=conn)
            await queue.enqueue_many([NewJob("k", 1, affinity="a")], connection=conn)
            assert (await queue.counts())["pending"] == 0
            await conn.commit()
            assert (await queue.counts())["pending"] == 5
            await queue.enqueue_many([("k", 1), ("k", 2)], connection=conn)
            await conn.rollback()
            async with conn.pipeline():
                await queue.enqueue("k", 1, connection=conn)
                await queue.enqueue_many([("k", 1), ("k", 2)], connection=conn)
            await conn.commit()
            assert (await queue.counts())["pending"] == 8
            with pytest.raises(InvalidArgument, match=r"psycopg\.AsyncConnection"):
                await queue.enqueue("k", connection=psycopg.Connection)
            with psycopg.connect(server_dsn) as plain, pytest.raises(InvalidArgument, match="AsyncConnection"):
                await queue.enqueue_many([("k", 1)], connection=plain)

    asyncio.run(main())


def test_an_async_connection_is_refused_by_the_other_queue(queue: JobQueue, server_dsn: str) -> None:
    async def main() -> None:
        async with await AsyncConnection.connect(server_dsn) as conn:
            with pytest.raises(InvalidArgument, match="AsyncConnection"):
                queue.enqueue("k", connection=conn)

    asyncio.run(main())


def test_a_database_without_the_tables_says_so(queue: JobQueue, server_dsn: str, prefix: str) -> None:
    with psycopg.connect(server_dsn, autocommit=True) as admin:
        admin.execute(f"create database {prefix}db")
    try:
        with psycopg.connect(server_dsn, dbname=f"{prefix}db") as other, pytest.raises((JobsyncError, psycopg.Error)):
            queue.enqueue("k", connection=other)
    finally:
        with psycopg.connect(server_dsn, autocommit=True) as admin:
            admin.execute(f"drop database {prefix}db")
