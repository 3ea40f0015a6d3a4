"""The page about jobs in a transaction of one's own, played: what it stores stands together, or not at all."""

import asyncio
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from jobsync import AsyncJobQueue, CoordinationConfig, JobQueue
from tests.docs.stage import Stage


def test_jobs_that_belong_to_data(stage: Stage) -> None:
    stage.rows("create table orders (id integer primary key, customer text)")
    names = stage.play(
        "guide/queue-transactional-enqueue.md",
        connect=lambda: psycopg.connect(stage.dsn),
        connect_async=lambda: psycopg.AsyncConnection.connect(stage.dsn),
    )
    names["queue"].close()
    names["engine"].dispose()
    assert stage.rows("select payload from sync_job where kind = 'confirm' order by id") == [
        ({"order": order},) for order in range(1, 6)
    ]
    assert stage.rows("select count(*) from orders") == [(5,)]


def test_a_session_that_rolls_back_takes_the_job_along(server_dsn: str, prefix: str) -> None:
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(server_dsn))
    with JobQueue(CoordinationConfig(dsn=server_dsn, appname=prefix)) as queue:

        def put(session: Session) -> Any:
            below = session.connection().connection.driver_connection
            queue.enqueue("k", 1, connection=below)
            queue.enqueue("k", 2, job_id="key", connection=below)
            return queue.enqueue_many([("k", 3)], connection=below)

        with Session(engine) as session:
            put(session)
            session.rollback()
            assert queue.counts()["pending"] == 0
            put(session)
            session.commit()
            assert queue.counts()["pending"] == 3
        with pytest.raises(DBAPIError), Session(engine) as session, session.begin():
            session.execute(text("select 1 / :count"), {"count": put(session) and 0})
        assert queue.counts()["pending"] == 3
    engine.dispose()


def test_an_async_session_gives_its_connection_as_the_page_says(server_dsn: str, prefix: str) -> None:
    async def main() -> None:
        engine = create_async_engine(
            "postgresql+psycopg://", async_creator=lambda: psycopg.AsyncConnection.connect(server_dsn)
        )
        async with AsyncJobQueue(CoordinationConfig(dsn=server_dsn, appname=prefix)) as queue:
            async with AsyncSession(engine) as session:
                below = (await (await session.connection()).get_raw_connection()).driver_connection
                await queue.enqueue("k", connection=below)
                await session.rollback()
                below = (await (await session.connection()).get_raw_connection()).driver_connection
                await queue.enqueue("k", connection=below)
                assert (await queue.counts())["pending"] == 0
                await session.commit()
            assert (await queue.counts())["pending"] == 1
        await engine.dispose()

    asyncio.run(main())
