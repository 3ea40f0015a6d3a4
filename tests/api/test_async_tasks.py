# ruff: noqa: PT012 - what raises is a step of a loop.
"""`async for task in job.tasks(ids)`: sources of every kind, runs, ending early, cancellation at any point."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from jobsync import AsyncJob, CoordinationDisabled, InvalidTaskId, JobsyncError, Task
from jobsync.runtime.node import Node
from tests.api.async_jobs import cancelled, eventually, held_claims, run_async
from tests.api.jobs import query, settings

IDS = [f"t{number}" for number in range(40)]


def audited(dsn: str, prefix: str) -> list[str]:
    return sorted(item for (item,) in query(dsn, f"select item from {prefix}audit"))


def claimed(dsn: str, prefix: str) -> list[str]:
    return sorted(item for (item,) in query(dsn, f"select item from {prefix}claim"))


async def async_ids() -> AsyncIterator[str]:
    for each in IDS:
        await asyncio.sleep(0)
        yield each


def plain_ids() -> Iterator[str]:
    assert threading.current_thread() is threading.main_thread()
    assert asyncio.get_running_loop()
    yield from IDS


async def a_list() -> list[str]:
    await asyncio.sleep(0)
    return IDS


SOURCES: dict[str, Callable[[], Any]] = {
    "list": lambda: IDS,
    "iterator": plain_ids,
    "async generator": async_ids,
    "function that gives a list": lambda: lambda: IDS,
    "function that gives an iterator": lambda: plain_ids,
    "function that gives an async iterator": lambda: async_ids,
    "async function": lambda: a_list,
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("run", [None, "r"])
def test_every_task_comes_once_and_is_recorded(server_dsn: str, prefix: str, kind: str, run: str | None) -> None:
    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix), run=run) as job:
            assert [task.id async for task in job.tasks(SOURCES[kind]())] == IDS
            assert len(await job.get_audit()) == len(IDS)

    run_async(body())
    assert audited(server_dsn, prefix) == sorted(IDS)


def test_one_id_is_a_source_too() -> None:
    async def body() -> None:
        async with AsyncJob("a", coordination_config=None) as job:
            one: Any
            for one in ("x", 5, Task("y"), ("t", 1)):
                assert [task.id async for task in job.tasks(one)] == [one.id if isinstance(one, Task) else one]

    run_async(body())


def test_two_nodes_share_a_run(server_dsn: str, prefix: str) -> None:
    async def work(job: AsyncJob, done: list[Any]) -> None:
        async for task in job.tasks(async_ids):
            done.append(task.id)

    async def body() -> None:
        config = settings(server_dsn, prefix)
        done: list[Any] = []
        async with AsyncJob("a", coordination_config=config, run="r") as a:
            first = asyncio.create_task(work(a, done))
            async with AsyncJob("b", coordination_config=config, run="r") as b:
                await asyncio.gather(first, work(b, done))
        assert sorted(done) == sorted(IDS)

    run_async(body())
    assert audited(server_dsn, prefix) == sorted(IDS)


def test_ids_of_others_are_passed_over(server_dsn: str, prefix: str) -> None:
    async def body() -> None:
        config = settings(server_dsn, prefix)
        async with AsyncJob("a", coordination_config=config) as a, AsyncJob("b", coordination_config=config) as b:
            await eventually(lambda: len(a.my_tokens) == len(b.my_tokens) == 50)
            here = [task.id async for task in a.tasks(async_ids())]
            there = [task.id async for task in b.tasks(plain_ids())]
            assert here == a.get_my_task_ids(IDS)
            assert sorted([*here, *there]) == sorted(IDS)

    run_async(body())


def test_the_claim_is_in_the_database_before_the_task_is_given(server_dsn: str, prefix: str) -> None:
    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix)) as job:
            async for task in job.tasks(async_ids()):
                assert task.id in claimed(server_dsn, prefix)

    run_async(body())


def test_leaving_early_releases_what_was_not_begun(server_dsn: str, prefix: str) -> None:
    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix), run="r") as job:
            async with job.tasks(IDS) as tasks:
                number = 0
                async for _ in tasks:
                    number += 1
                    if number == 5:
                        break
            await job.get_audit()
            assert audited(server_dsn, prefix) == sorted(IDS[:4])
            assert claimed(server_dsn, prefix) == sorted(IDS[:4])

    run_async(body())


def test_done_marks_the_task_in_hand_before_a_break(server_dsn: str, prefix: str) -> None:
    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix)) as job:
            tasks = job.tasks(IDS)
            async for _ in tasks:
                await tasks.done()
                break

    run_async(body())
    assert audited(server_dsn, prefix) == [IDS[0]]


def test_an_error_in_the_body_leaves_the_task_not_done(server_dsn: str, prefix: str) -> None:
    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix)) as job:
            async for task in job.tasks(IDS):
                if task.id == IDS[2]:
                    raise KeyError

    with pytest.raises(KeyError):
        run_async(body())
    assert audited(server_dsn, prefix) == IDS[:2]


def test_a_source_that_raises_passes_its_error_on() -> None:
    async def broken() -> AsyncIterator[str]:
        yield "x"
        raise TimeoutError("of the source")

    async def body() -> None:
        async with AsyncJob("a", coordination_config=None) as job:
            seen = []
            with pytest.raises(TimeoutError, match="of the source"):
                async for task in job.tasks(broken()):
                    seen.append(task.id)
            assert seen == ["x"]
            with pytest.raises(InvalidTaskId):
                async for _ in job.tasks(iter([1.5])):  # type: ignore[arg-type]
                    pytest.fail("it is no id")

    run_async(body())


def test_an_observer_has_no_loop(server_dsn: str, prefix: str) -> None:
    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix), observer=True) as job:
            with pytest.raises(CoordinationDisabled):
                job.tasks(IDS)

    run_async(body())


def test_one_loop_has_one_consumer() -> None:
    async def silent() -> AsyncIterator[str]:
        await asyncio.Event().wait()
        yield "x"

    async def body() -> None:
        async with AsyncJob("a", coordination_config=None) as job:
            tasks = job.tasks(silent())
            first = asyncio.ensure_future(anext(tasks))
            await asyncio.sleep(0.01)
            with pytest.raises(JobsyncError, match="one consumer"):
                await anext(tasks)
            await cancelled(first)

    run_async(body())


def test_a_new_loop_ends_the_one_before(server_dsn: str, prefix: str) -> None:
    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix), run="r") as job:
            first = job.tasks(IDS)
            assert (await anext(first)).id == IDS[0]
            assert (await anext(first)).id == IDS[1]
            second = job.tasks(IDS)
            assert (await anext(second)).id in {IDS[1], IDS[2]}
            with pytest.raises(StopAsyncIteration):
                await anext(first)

    run_async(body())
    assert audited(server_dsn, prefix) == [IDS[0]]


# --- stop and cancellation -------------------------------------------------------------------------


@pytest.mark.parametrize("ended_by", ["stop", "close"])
def test_stop_and_close_end_a_loop_that_waits_for_its_next_id(ended_by: str) -> None:
    finished = []

    async def silent() -> AsyncIterator[str]:
        try:
            yield "x"
            await asyncio.Event().wait()
        finally:
            finished.append(True)

    async def body() -> None:
        async with AsyncJob("a", coordination_config=None) as job:
            seen = []
            tasks = job.tasks(silent())

            async def work() -> None:
                async for task in tasks:
                    seen.append(task.id)

            working = asyncio.create_task(work())
            await eventually(lambda: seen)
            await asyncio.sleep(0.01)
            if ended_by == "stop":
                await asyncio.to_thread(job.stop)
            else:
                await tasks.close()
            await working
            assert seen == ["x"]
            assert finished == [True]
            assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]

    run_async(body())


def test_a_node_that_ended_by_itself_is_told_to_who_waits(server_dsn: str, prefix: str) -> None:
    async def silent() -> AsyncIterator[str]:
        await asyncio.Event().wait()
        yield "x"

    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix)) as job:
            step = asyncio.ensure_future(anext(job.tasks(silent())))
            waiting = asyncio.ensure_future(job.wait())
            await asyncio.sleep(0.05)
            node = job._job._node
            assert isinstance(node, Node)
            node.engine.error = JobsyncError("the engine is gone")
            node._ended()
            for each in (step, waiting):
                with pytest.raises(JobsyncError, match="the engine is gone"):
                    await each

    run_async(body())


def test_a_step_that_was_cancelled_at_its_source_is_taken_up_by_the_next(server_dsn: str, prefix: str) -> None:
    queue: asyncio.Queue[str] = asyncio.Queue()

    class Arrivals:
        def __aiter__(self) -> "Arrivals":
            return self

        async def __anext__(self) -> str:
            return await queue.get()

    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix), run="r") as job:
            tasks = job.tasks(Arrivals())
            seen = []
            for each in ("x", "y", "z"):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await anext(tasks)
                queue.put_nowait(each)
                seen.append((await anext(tasks)).id)
            assert seen == ["x", "y", "z"]

    run_async(body())
    assert audited(server_dsn, prefix) == ["x", "y"]


def test_a_step_that_was_cancelled_at_its_claim_loses_no_task_and_finishes_none(server_dsn: str, prefix: str) -> None:
    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix), run="r") as job:
            with held_claims(server_dsn, prefix) as claims:
                tasks = job.tasks(IDS)
                step = asyncio.ensure_future(anext(tasks))
                await eventually(claims.is_waited_for)
                await cancelled(step)
            await eventually(lambda: IDS[0] in claimed(server_dsn, prefix))
            assert [task.id async for task in tasks] == IDS, "the first was claimed, and nobody had got it"

    run_async(body())
    assert audited(server_dsn, prefix) == sorted(IDS)


def test_a_loop_that_was_left_in_the_middle_of_a_claim_releases_it_at_exit(server_dsn: str, prefix: str) -> None:
    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix), run="r") as job:
            with held_claims(server_dsn, prefix) as claims:
                step = asyncio.ensure_future(anext(job.tasks(IDS)))
                await eventually(claims.is_waited_for)
                await cancelled(step)

    run_async(body())
    assert audited(server_dsn, prefix) == []
    assert claimed(server_dsn, prefix) == []


def test_cancelling_in_the_body_leaves_the_task_not_done(server_dsn: str, prefix: str) -> None:
    async def body() -> None:
        began = asyncio.Event()

        async def work() -> None:
            async with AsyncJob("a", coordination_config=settings(server_dsn, prefix), run="r") as job:
                async for _ in job.tasks(IDS):
                    began.set()
                    await asyncio.Event().wait()

        working = asyncio.create_task(work())
        await began.wait()
        await cancelled(working)

    run_async(body())
    assert audited(server_dsn, prefix) == claimed(server_dsn, prefix) == []
