"""PgQueuer: asyncpg, uvloop, and the largest batch that its own benchmark uses."""

from datetime import timedelta

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries

from speech import Teller, main, now_and_then, now_sec, one_by_one, say

BATCH = 1000


async def setup(dsn: str) -> None:
    conn = await asyncpg.connect(dsn)
    await Queries(AsyncpgDriver(conn)).install()


async def enqueue(dsn: str, count: int) -> None:
    queries = Queries(AsyncpgDriver(await asyncpg.connect(dsn)))
    began_sec = now_sec()
    for _ in range(0, count, BATCH):
        await queries.enqueue(["noop"] * BATCH, [b"{}"] * BATCH, [0] * BATCH)
    say(enqueue_sec=now_sec() - began_sec)


async def _one(dsn: str):  # type: ignore[no-untyped-def]
    queries = Queries(AsyncpgDriver(await asyncpg.connect(dsn)))

    async def one(at_sec: float | None) -> None:
        await queries.enqueue("noop", b"" if at_sec is None else str(at_sec).encode(), 0)

    return one


async def single(dsn: str, count: int) -> None:
    await one_by_one(await _one(dsn), count)


async def pickup(dsn: str, count: int) -> None:
    await now_and_then(await _one(dsn), count)


async def work(dsn: str) -> None:
    queuer = PgQueuer(AsyncpgDriver(await asyncpg.connect(dsn)))
    teller = Teller()

    @queuer.entrypoint("noop")
    async def noop(job: Job) -> None:
        text = job.payload or b""
        teller.job(float(text) if text not in {b"", b"{}"} else None)

    await queuer.run(dequeue_timeout=timedelta(seconds=5), batch_size=BATCH)


if __name__ == "__main__":
    main({"setup": setup, "enqueue": enqueue, "single": single, "pickup": pickup, "work": work}, uvloop.run)
