"""`AsyncJobQueue` on a real loop: what it does, that it blocks nobody, and what a cancelled call leaves."""

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from jobsync import AsyncJobQueue, CoordinationConfig, InvalidArgument, NewJob, NotRunning

LIMIT_SEC = 30.0


@pytest.fixture
def config(server_dsn: str, prefix: str) -> CoordinationConfig:
    return CoordinationConfig(dsn=server_dsn, appname=prefix)


@pytest.fixture
def locker(server_dsn: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(server_dsn) as conn:
        yield conn
        conn.rollback()


def test_jobs_go_in_and_are_seen(config: CoordinationConfig) -> None:
    async def main() -> None:
        async with AsyncJobQueue(config) as queue:
            number = await queue.enqueue("k", {"a": 1}, job_id="one")
            assert await queue.enqueue("k", {"a": 2}, job_id="one") == number
            ids = await queue.enqueue_many([("k", 1), NewJob("k", 2, affinity="a")])
            job = await queue.get(number)
            assert job is not None
            assert job.payload == {"a": 1}
            assert (await queue.counts())["pending"] == 3
            assert await queue.cancel(ids[0])
            assert await queue.cancel_all() == 2

    asyncio.run(main())


def test_bad_input_is_refused_when_it_is_awaited(config: CoordinationConfig) -> None:
    async def main() -> None:
        async with AsyncJobQueue(config) as queue:
            with pytest.raises(InvalidArgument):
                await queue.enqueue("")
            with pytest.raises(InvalidArgument, match=r"jobs\[1\]"):
                await queue.enqueue_many([("k", 1), ("k", {1})])
            assert (await queue.counts())["pending"] == 0

    asyncio.run(main())


def test_many_begin_at_once_on_an_empty_database(config: CoordinationConfig) -> None:
    async def main() -> None:
        async with AsyncJobQueue(config) as queue:
            ids = await asyncio.gather(*(queue.enqueue("k", i) for i in range(20)))
            assert len(set(ids)) == 20

    asyncio.run(main())


def test_the_loop_goes_on_while_a_call_waits(
    config: CoordinationConfig, prefix: str, locker: psycopg.Connection
) -> None:
    async def main() -> None:
        async with AsyncJobQueue(config) as queue:
            await queue.enqueue("k")
            locker.execute(f"lock table {prefix}job_body in access exclusive mode")
            waiting = asyncio.ensure_future(queue.enqueue("k"))
            await _until_blocked(locker)
            assert not waiting.done()
            locker.rollback()
            await asyncio.wait_for(waiting, LIMIT_SEC)

    asyncio.run(main())


def test_a_cancelled_call_gives_its_connection_back(
    config: CoordinationConfig, prefix: str, locker: psycopg.Connection
) -> None:
    """More calls are cancelled than the pool has connections; then one goes through."""

    async def main() -> None:
        async with AsyncJobQueue(config) as queue:
            await queue.enqueue("k")
            for _ in range(3):
                locker.execute(f"lock table {prefix}job_body in access exclusive mode")
                calls: list[asyncio.Future[object]] = [asyncio.ensure_future(queue.enqueue("k")) for _ in range(4)]
                calls += [asyncio.ensure_future(queue.enqueue_many([("k", 1)])) for _ in range(4)]
                await _until_blocked(locker)
                for call in calls:
                    call.cancel()
                ended = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), LIMIT_SEC)
                assert [type(each) for each in ended] == [asyncio.CancelledError] * 8
                locker.rollback()
            await asyncio.wait_for(queue.enqueue("k"), LIMIT_SEC)
            assert (await queue.counts())["pending"] == 2

    asyncio.run(main())


def test_it_belongs_to_one_loop_and_ends(config: CoordinationConfig) -> None:
    queue = AsyncJobQueue(config)
    asyncio.run(_use_and_close(queue))
    with pytest.raises(NotRunning, match="closed"):
        asyncio.run(_use_and_close(queue))
    other = AsyncJobQueue(config)

    async def use() -> None:
        await other.counts()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(use())
    with pytest.raises(NotRunning, match="another event loop"):
        asyncio.run(use())
    loop.run_until_complete(other.close())
    loop.close()


def test_with_says_what_to_write(config: CoordinationConfig) -> None:
    with pytest.raises(NotRunning, match="async with"), AsyncJobQueue(config):
        pass


async def _use_and_close(queue: AsyncJobQueue) -> None:
    await queue.counts()
    await queue.close()


async def _until_blocked(locker: psycopg.Connection) -> None:
    """Wait until somebody waits for the locker's lock."""
    waits = f"select count(*) from pg_stat_activity where {locker.info.backend_pid} = any (pg_blocking_pids(pid))"
    async with asyncio.timeout(LIMIT_SEC):
        while not locker.execute(waits).fetchone()[0]:  # type: ignore[index]
            locker.execute("select pg_stat_clear_snapshot()")
            await asyncio.sleep(0.01)
