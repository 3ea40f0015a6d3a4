"""A job_id names one job: the table of the reference, walked state by state, and under races."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import psycopg
import pytest

from jobsync import CoordinationConfig, JobQueue, NewJob
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
