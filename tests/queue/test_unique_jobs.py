"""A job_id names one job: the table of the reference, walked state by state, and under races."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import psycopg
import pytest

from jobsync import AsyncJobQueue, CoordinationConfig, JobQueue, JobsyncError, NewJob
from tests.docs.pages import cells, marked
from tests.queue.hands import WORKER, Hands

KEY = "order-1"


@pytest.fixture
def queue(server_dsn: str, prefix: str) -> Iterator[JobQueue]:
    with JobQueue(CoordinationConfig(dsn=server_dsn, appname=prefix)) as queue:
        yield queue


def bring(state: str, queue: JobQueue, hands: Hands) -> int | None:
    """Bring the job of the key into a state, and give its id."""
    if state == "not there":
        return None
    number = queue.enqueue("k", {"first": True}, job_id=KEY, priority=3)
    match state:
        case "processing":
            hands.take()
        case "retry" | "done" | "failed":
            [job] = hands.take()
            queue.release_lease(number, WORKER, state, attempt=job.attempt)
        case "cancelled":
            assert queue.cancel(number)
        case "pruned":
            assert queue.cancel(number)
            assert hands.prune() == 1
    return number


ROWS = [cells(row) for row in marked("reference/queue.md", "job_id")[2:]]


def test_the_table_tells_of_every_status() -> None:
    statuses = {"pending", "processing", "retry", "done", "failed", "cancelled"}
    assert {row[0].strip("`") for row in ROWS} == statuses | {"not there", "pruned"}


@pytest.mark.parametrize("how", ["one", "many"])
@pytest.mark.parametrize(("state", "given", "then"), ROWS, ids=[row[0] for row in ROWS])
def test_the_table_is_true(
    queue: JobQueue, server_dsn: str, prefix: str, state: str, given: str, then: str, how: str
) -> None:
    had = bring(state.strip("`"), queue, Hands(queue, server_dsn, prefix))
    before = queue.get(had) if had else None
    if how == "one":
        number = queue.enqueue("other", {"second": True}, job_id=KEY, queue="other", run_at=None)
    else:
        [number] = queue.enqueue_many([NewJob("other", {"second": True}, job_id=KEY, queue="other")])
    job = queue.get(number)
    assert job is not None
    assert job.status == then.strip("`")
    assert (number == had) == (given == "its id")
    if given == "its id":
        assert job == before
    else:
        assert job.payload == {"second": True}
    assert sum(queue.counts().values()) == 1


@pytest.mark.parametrize("how", ["one", "delayed", "many", "on connections of their own"])
def test_of_many_at_one_instant_one_stores_the_job(queue: JobQueue, server_dsn: str, how: str) -> None:
    queue.enqueue("warm up")
    start = Barrier(8)

    def put(writer: int) -> list[int]:
        ids = []
        for n in range(5):
            start.wait(60)
            key = f"key-{n}"
            if how == "one":
                ids.append(queue.enqueue("k", writer, job_id=key))
            elif how == "delayed":
                ids.append(queue.enqueue("k", writer, job_id=key, run_at=timedelta(1)))
            elif how == "many":
                # Everybody in another order: nobody may be left in a ring of waiters.
                keys = [f"{key}-{(writer + i) % 8}" for i in range(8)]
                stored = queue.enqueue_many([NewJob("k", writer, job_id=each) for each in keys])
                ids.append(dict(zip(keys, stored, strict=True))[f"{key}-0"])
            else:
                with psycopg.connect(server_dsn) as conn:
                    ids.append(queue.enqueue("k", writer, job_id=key, connection=conn))
        return ids

    with ThreadPoolExecutor(8) as threads:
        given = list(threads.map(put, range(8)))
    assert all(ids == given[0] for ids in given)
    assert len(set(given[0])) == 5
    assert queue.counts()["pending"] == 1 + (40 if how == "many" else 5)


def test_twice_in_one_batch_is_one_job(queue: JobQueue) -> None:
    first, second, other, third = queue.enqueue_many(
        [NewJob("k", 1, job_id="a"), NewJob("k", 2, job_id="a"), ("k", 3), NewJob("k", 4, job_id="a")]
    )
    assert first == second == third != other
    job = queue.get(first)
    assert job is not None
    assert job.payload == 1
    assert queue.counts()["pending"] == 2


def test_twice_in_two_parts_of_one_batch_is_one_job(queue: JobQueue) -> None:
    jobs = [NewJob("k", i, job_id=f"key-{i % 1_500}") for i in range(3_000)]
    ids = queue.enqueue_many(jobs)
    assert ids[:1_500] == ids[1_500:]
    assert queue.counts()["pending"] == 1_500


class Ring:
    """Jobs of the same two thousand keys; on the first way each waits half-way until the other has stored its half."""

    def __init__(self, halves: tuple[int, int], half_way: Barrier) -> None:
        self.halves, self.half_way, self.ways = halves, half_way, 0

    def __iter__(self) -> Iterator[NewJob]:
        self.ways += 1
        return self._way(is_first=self.ways == 1)

    def _way(self, *, is_first: bool) -> Iterator[NewJob]:
        for half in self.halves:
            if is_first and half == self.halves[1]:
                self.half_way.wait(30)
            yield from (NewJob("k", half, job_id=f"key-{half}-{number}") for number in range(1_000))


@pytest.mark.parametrize("kind", [JobQueue, AsyncJobQueue])
def test_two_that_meet_in_a_deadlock_both_get_their_jobs(
    server_dsn: str, prefix: str, queue: JobQueue, kind: type[JobQueue | AsyncJobQueue]
) -> None:
    queue.enqueue("k")
    half_way = Barrier(2)
    config = CoordinationConfig(dsn=server_dsn, appname=prefix)

    def put(halves: tuple[int, int]) -> list[int]:
        jobs = Ring(halves, half_way)
        if kind is JobQueue:
            return queue.enqueue_many(jobs)

        async def put_there() -> list[int]:
            async with AsyncJobQueue(config) as there:
                return await there.enqueue_many(jobs)

        return asyncio.run(put_there())

    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(put, [(0, 1), (1, 0)])
    assert one == other[1_000:] + other[:1_000]
    assert queue.counts()["pending"] == 2_001


@pytest.mark.parametrize("who", ["an iterator", "a transaction of one's own"])
def test_what_cannot_be_begun_anew_is_told_of_the_deadlock(server_dsn: str, queue: JobQueue, who: str) -> None:
    queue.enqueue("k")
    half_way = Barrier(2)

    def put(halves: tuple[int, int]) -> Exception | None:
        jobs = Ring(halves, half_way)
        try:
            if who == "an iterator":
                queue.enqueue_many(iter(jobs))
            else:
                with psycopg.connect(server_dsn) as conn:
                    queue.enqueue_many(jobs, connection=conn)
        except (JobsyncError, psycopg.Error) as error:
            return error
        assert jobs.ways == 1
        return None

    with ThreadPoolExecutor(2) as threads:
        [error] = [error for error in threads.map(put, [(0, 1), (1, 0)]) if error is not None]
    assert isinstance(error if who != "an iterator" else error.__cause__, psycopg.errors.DeadlockDetected)
    assert queue.counts()["pending"] == 2_001
