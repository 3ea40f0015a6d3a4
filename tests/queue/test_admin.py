"""`JobQueue` steered: pauses, limits, periodic jobs, pruning; what is refused, and what stands in the tables."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from jobsync import AsyncJobQueue, CoordinationConfig, InvalidArgument, Job, JobQueue
from jobsync.core.queue.steering import Limit
from tests.api.jobs import query


@pytest.fixture
def config(server_dsn: str, prefix: str) -> CoordinationConfig:
    return CoordinationConfig(dsn=server_dsn, appname=prefix)


@pytest.fixture
def queue(config: CoordinationConfig) -> Iterator[JobQueue]:
    with JobQueue(config) as queue:
        yield queue


@pytest.fixture
def take(config: CoordinationConfig, server_dsn: str, prefix: str) -> Iterator[Callable[[], list[int]]]:
    """Take whatever may be taken, as the worker of a live node does."""
    with Job("taker", coordination_config=config):

        def take() -> list[int]:
            who = f"(select incarnation from {prefix}node)"
            lanes = f"array(select lane from {prefix}job_lane)"
            rows = query(server_dsn, f"select id from {prefix}job_take('w', {who}, {lanes}, 100, 60000)")
            rows += query(
                server_dsn, f"select id from {prefix}job_take_gated('w', {who}, null, {lanes}, 100, 60000, true, 0, 3)"
            )
            return sorted(number for (number,) in rows)

        yield take


# --- pauses --------------------------------------------------------------------------------------


def test_nothing_is_taken_of_a_paused_queue(queue: JobQueue, take: Callable[[], list[int]]) -> None:
    paused = queue.enqueue("k", queue="mail")
    gated = queue.enqueue("k", queue="mail", max_attempts=1)
    free = queue.enqueue("k")
    queue.pause("mail", by="anna, ticket 7")
    assert take() == [free]
    assert queue.paused() == ["mail"]
    (pause,) = queue.pauses()
    assert (pause.queue, pause.paused_by) == ("mail", "anna, ticket 7")
    assert queue.resume("mail") is True
    assert take() == [paused, gated]
    assert queue.resume("mail") is False
    assert queue.paused() == []


def test_who_paused_first_stays_and_a_role_stands_for_who_says_nothing(queue: JobQueue) -> None:
    queue.pause()
    first = queue.pauses()
    queue.pause(by="later")
    assert queue.pauses() == first
    assert first[0].queue == "default"
    assert first[0].paused_by


def test_resuming_wakes_who_listens(queue: JobQueue, server_dsn: str, prefix: str) -> None:
    queue.pause()
    with psycopg.connect(server_dsn, autocommit=True) as hearing:
        hearing.execute(f"listen {prefix}job".encode())
        queue.resume()
        assert next(hearing.notifies(timeout=10), None) is not None


# --- limits --------------------------------------------------------------------------------------


def test_limits_are_set_shown_and_lifted(queue: JobQueue, take: Callable[[], list[int]]) -> None:
    queue.set_limit("resize", at_once=2)
    queue.set_limit("mail", at_once=5, per_key=1)
    assert queue.limits() == {"mail": Limit(5, 1), "resize": Limit(2, None)}
    queue.enqueue_many([("resize", None)] * 5)
    assert len(take()) == 2
    queue.set_limit("resize")
    assert queue.limits() == {"mail": Limit(5, 1)}
    assert len(take()) == 3


# --- periodic jobs -------------------------------------------------------------------------------


def test_schedules_are_set_shown_and_forgotten(queue: JobQueue) -> None:
    queue.schedule(
        "report", " 0  2 * * 1-5 ", "send", {"to": ["a"]}, queue="nightly", priority=3, timezone="Asia/Tokyo"
    )
    queue.schedule("another", "*/5 * * * *", "tick")
    another, report = queue.schedules()
    assert (report.name, report.cron, report.timezone) == ("report", "0 2 * * 1-5", "Asia/Tokyo")
    assert (report.queue, report.kind, report.payload, report.priority) == ("nightly", "send", {"to": ["a"]}, 3)
    assert report.last_due.utcoffset() is not None
    assert another.payload is None
    queue.schedule("another", "*/5 * * * *", "tick")
    assert queue.schedules()[0] == another
    assert [queue.unschedule("another"), queue.unschedule("another")] == [True, False]
    assert [each.name for each in queue.schedules()] == ["report"]


# --- pruning -------------------------------------------------------------------------------------


def test_pruning_deletes_what_ended_long_ago(queue: JobQueue, server_dsn: str, prefix: str) -> None:
    old, young, waiting = queue.enqueue_many([("k", 1), ("k", 2), ("k", 3)])
    queue.cancel(old)
    queue.cancel(young)
    query(server_dsn, f"update {prefix}job_end set finished_at = now() - interval '8 days' where id = {old}")
    assert queue.prune() == 1
    assert queue.get(old) is None
    assert queue.prune() == 0
    assert queue.prune(older_than_days=0) == 1
    assert queue.get(waiting) is not None


def test_many_are_pruned_in_bites(queue: JobQueue) -> None:
    queue.enqueue_many([("k", None)] * 4500)
    assert queue.cancel_all() == 4500
    assert queue.prune(0) == 4500


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "given", "named"),
    [
        ("pause", {"queue": ""}, "queue"),
        ("pause", {"queue": "a\0"}, "queue"),
        ("pause", {"by": ""}, "by"),
        ("resume", {"queue": None}, "queue"),
        ("set_limit", {"kind": "", "at_once": 1}, "kind"),
        ("set_limit", {"kind": "a\tb", "at_once": 1}, "kind"),
        ("set_limit", {"kind": "k", "at_once": 0}, "at_once"),
        ("set_limit", {"kind": "k", "at_once": True}, "at_once"),
        ("set_limit", {"kind": "k", "per_key": -1}, "per_key"),
        ("set_limit", {"kind": "k", "per_key": 10**6}, "per_key"),
        ("schedule", {"name": "", "cron": "* * * * *", "kind": "k"}, "name"),
        ("schedule", {"name": "x" * 401, "cron": "* * * * *", "kind": "k"}, "name"),
        ("schedule", {"name": "n", "cron": "* * * *", "kind": "k"}, "cron"),
        ("schedule", {"name": "n", "cron": "* * * * *", "kind": ""}, "kind"),
        ("schedule", {"name": "n", "cron": "* * * * *", "kind": "k", "payload": {1}}, "payload"),
        ("schedule", {"name": "n", "cron": "* * * * *", "kind": "k", "timezone": "Mars/Olympus"}, "timezone"),
        ("schedule", {"name": "n", "cron": "* * * * *", "kind": "k", "priority": "high"}, "priority"),
        ("unschedule", {"name": None}, "name"),
        ("prune", {"older_than_days": -1}, "older_than_days"),
        ("prune", {"older_than_days": float("nan")}, "older_than_days"),
        ("prune", {"older_than_days": "7"}, "older_than_days"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(
    method: str, given: dict[str, Any], named: str
) -> None:
    unreachable = CoordinationConfig(dsn="host=127.0.0.1 port=1")
    with JobQueue(unreachable) as queue, pytest.raises(InvalidArgument, match=named):
        getattr(queue, method)(**given)


def test_asyncio_steers_as_well(config: CoordinationConfig) -> None:
    async def main() -> None:
        async with AsyncJobQueue(config) as queue:
            await queue.pause(by="me")
            assert await queue.paused() == ["default"]
            assert await queue.resume()
            await queue.set_limit("k", at_once=1)
            assert await queue.limits() == {"k": Limit(1, None)}
            await queue.schedule("n", "* * * * *", "k")
            assert [each.name for each in await queue.schedules()] == ["n"]
            assert await queue.unschedule("n")
            assert await queue.cancel(await queue.enqueue("k"))
            assert await queue.prune(0) == 1

    asyncio.run(main())
