"""Batches of `job.tasks()` that are claimed beside the bodies: quick where bodies are quick, and in nobody's way."""

import threading
from collections.abc import Callable, Iterator

import pytest

from jobsync import Job
from jobsync.api.batching import Batch, Claiming
from jobsync.api.loop_desk import LoopDesk
from tests.api.jobs import eventually, query, settings


@pytest.fixture
def job(server_dsn: str, prefix: str) -> Iterator[Job]:
    with Job("a", coordination_config=settings(server_dsn, prefix)) as job:
        yield job


@pytest.fixture
def job_in_run(server_dsn: str, prefix: str) -> Iterator[Job]:
    with Job("a", coordination_config=settings(server_dsn, prefix), run="r") as job:
        yield job


@pytest.fixture
def claimed(server_dsn: str, prefix: str) -> Callable[[], list[str]]:
    """List what is claimed and not done."""
    open_claims = f"select item from {prefix}claim where item not in (select item from {prefix}audit) order by item"
    return lambda: [row[0] for row in query(server_dsn, open_claims)]


def test_quick_bodies_find_the_next_batch_claimed(job: Job, claimed: Callable[[], list[str]]) -> None:
    seen = 0
    for task in job.tasks(range(400)):
        seen += 1
        if task.id == 62:  # The last of the first 63, which came in batches of 1, 2, 4, 8, 16 and 32.
            eventually(lambda: len(claimed()) > 1)
    assert seen == 400


def test_what_was_claimed_in_quicker_times_is_let_go_when_bodies_get_slow(
    job: Job, claimed: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobsync.api.tasks_loop.SLOW_BODY_SEC", 0.02)
    monkeypatch.setattr("jobsync.api.tasks_loop.HELD_MOST_SEC", 0.1)
    seen = []
    for task in job.tasks(range(200)):
        seen.append(task.id)
        if len(seen) == 100:
            threading.Event().wait(0.05)
        if len(seen) == 101:
            eventually(lambda: len(claimed()) < 10)
    assert seen == list(range(200))


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Hold back the answer to every claim that is made beside the bodies, for longer than a loop waits for it."""
    claim, answer = LoopDesk.claim_batch, threading.Event()

    def claim_late(desk: LoopDesk, batch: Batch, given_up: Callable[[], bool]) -> set[str]:
        claimed = claim(desk, batch, given_up)
        assert threading.current_thread().name != "jobsync-claim" or answer.wait(20)
        return claimed

    monkeypatch.setattr(LoopDesk, "claim_batch", claim_late)
    monkeypatch.setattr("jobsync.api.batching.ABANDON_SEC", 0.01)
    return answer


def let_go_as_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobsync.api.tasks_loop.SLOW_BODY_SEC", 0.0)
    monkeypatch.setattr("jobsync.api.tasks_loop.HELD_MOST_SEC", 0.0)


def let_go_as_uncertain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say once that it cannot be told what is held."""
    certain, answers = LoopDesk.holding_now, iter([None])
    monkeypatch.setattr(LoopDesk, "holding_now", lambda desk: next(answers, certain(desk)))


@pytest.mark.parametrize("let_go", [let_go_as_slow, let_go_as_uncertain])
@pytest.mark.parametrize("answered_after", [1, 5, 10])
def test_what_is_let_go_of_comes_before_what_is_still_being_claimed(
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
    answer: threading.Event,
    let_go: Callable[[pytest.MonkeyPatch], None],
    answered_after: int,
) -> None:
    seen, let_go_at = [], 200
    for task in (tasks := job.tasks(range(200))):
        seen.append(task.id)
        if let_go_at == 200 and tasks._coming is not None:
            let_go_at = len(seen)
            let_go(monkeypatch)
        if len(seen) == let_go_at + answered_after:
            answer.set()
    assert seen == list(range(200))
    assert let_go_at + answered_after < 200


def test_what_is_let_go_of_comes_before_an_id_that_is_refused(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, let_go = [], False
    with pytest.raises(TypeError):  # noqa: PT012
        for task in (tasks := job.tasks([*range(100), None])):  # type: ignore[list-item]
            seen.append(task.id)
            if not let_go and isinstance(tasks._coming, TypeError):
                let_go = True
                let_go_as_uncertain(monkeypatch)
    assert let_go
    assert seen == list(range(len(seen)))
    assert len(seen) >= 63


@pytest.mark.parametrize("run", [None, "r"])
def test_claims_that_come_late_are_not_released_under_a_later_loop(
    server_dsn: str, prefix: str, claimed: Callable[[], list[str]], answer: threading.Event, run: str | None
) -> None:
    with Job("a", coordination_config=settings(server_dsn, prefix), run=run) as job:
        for _ in (tasks := job.tasks(range(200))):
            if isinstance(coming := tasks._coming, Claiming):
                break
        assert isinstance(coming, Claiming)
        first, second, *_ = (text for _, text, _ in coming.batch)
        with job.tasks([first, second]) as later:
            assert next(later).text == first
            answer.set()
            coming.wait()
            job._ledger.flush()  # type: ignore[union-attr]
            assert set(claimed()) == {first}, "the rest is released"
    assert claimed() == []


def test_a_bad_id_is_refused_when_its_turn_comes(job: Job) -> None:
    seen = []
    with pytest.raises(TypeError):  # noqa: PT012
        for task in job.tasks([*range(100), None]):  # type: ignore[list-item]
            seen.append(task.id)
    assert seen[:63] == list(range(63))
    assert len(job.get_audit()) == len(seen)


def test_a_task_that_comes_twice_in_batches_claimed_ahead_is_done_once_in_a_run(job_in_run: Job) -> None:
    assert [task.id for task in job_in_run.tasks([*range(300), *range(300)])] == list(range(300))


def test_leaving_early_releases_what_was_claimed_ahead(job_in_run: Job, claimed: Callable[[], list[str]]) -> None:
    with job_in_run.tasks(range(1000)) as tasks:
        for task in tasks:
            if task.id == 300:
                break
    job_in_run.get_audit()
    assert claimed() == []
    assert len(job_in_run.get_audit()) == 300
