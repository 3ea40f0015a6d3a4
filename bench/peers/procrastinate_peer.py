"""procrastinate: its psycopg connector, deferring in batches, many jobs at once in one worker."""

import procrastinate

from speech import Teller, main, now_and_then, now_sec, one_by_one, say

CONCURRENCY = 100
BATCH = 1000
teller = Teller()


def _app(dsn: str) -> procrastinate.App:
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=dsn, min_size=4, max_size=20))

    @app.task(name="noop")
    async def noop(at_sec: float | None = None) -> None:
        teller.job(at_sec)

    return app


async def setup(dsn: str) -> None:
    app = _app(dsn)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


async def enqueue(dsn: str, count: int) -> None:
    app = _app(dsn)
    async with app.open_async():
        began_sec = now_sec()
        for _ in range(0, count, BATCH):
            await app.configure_task("noop").batch_defer_async(*({} for _ in range(BATCH)))
        say(enqueue_sec=now_sec() - began_sec)


async def single(dsn: str, count: int) -> None:
    app = _app(dsn)
    async with app.open_async():
        await one_by_one(lambda at_sec: app.configure_task("noop").defer_async(at_sec=at_sec), count)


async def pickup(dsn: str, count: int) -> None:
    app = _app(dsn)
    async with app.open_async():
        await now_and_then(lambda at_sec: app.configure_task("noop").defer_async(at_sec=at_sec), count)


async def work(dsn: str) -> None:
    app = _app(dsn)
    async with app.open_async():
        await app.run_worker_async(concurrency=CONCURRENCY, wait=True, install_signal_handlers=False)


if __name__ == "__main__":
    main({"setup": setup, "enqueue": enqueue, "single": single, "pickup": pickup, "work": work})
