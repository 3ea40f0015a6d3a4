"""chancy: async jobs on its asyncio executor, pushes in batches, many jobs at once in one queue."""

import logging

from chancy import Chancy, Queue, Worker, job

from speech import Teller, main, now_and_then, now_sec, one_by_one, say

CONCURRENCY = 1000
BATCH = 1000
teller = Teller()
quiet = logging.getLogger("quiet")  # A line for each job would cost more than the job.
quiet.setLevel(logging.ERROR)


@job()
async def noop(*, at_sec: float | None = None) -> None:
    teller.job(at_sec)


async def setup(dsn: str) -> None:
    async with Chancy(dsn, log=quiet) as chancy:
        await chancy.migrate()
        await chancy.declare(
            Queue(
                "default",
                concurrency=CONCURRENCY,
                polling_interval=1,
                executor="chancy.executors.asyncex.AsyncExecutor",
            )
        )


async def enqueue(dsn: str, count: int) -> None:
    async with Chancy(dsn, log=quiet) as chancy:
        began_sec = now_sec()
        async for _ in chancy.push_many([noop.job] * count, batch_size=BATCH):
            pass
        say(enqueue_sec=now_sec() - began_sec)


async def single(dsn: str, count: int) -> None:
    async with Chancy(dsn, log=quiet) as chancy:
        await one_by_one(lambda at_sec: chancy.push(noop.job.with_kwargs(at_sec=at_sec)), count)


async def pickup(dsn: str, count: int) -> None:
    async with Chancy(dsn, log=quiet) as chancy:
        await now_and_then(lambda at_sec: chancy.push(noop.job.with_kwargs(at_sec=at_sec)), count)


async def work(dsn: str) -> None:
    async with Chancy(dsn, log=quiet) as chancy, Worker(chancy) as worker:
        await worker.wait_for_shutdown()


if __name__ == "__main__":
    main({"setup": setup, "enqueue": enqueue, "single": single, "pickup": pickup, "work": work})
