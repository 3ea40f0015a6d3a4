"""Progress and release by hand: inside a handler, outside, and by who has lost the job."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from jobsync import CoordinationConfig, InvalidArgument, JobQueue, LeaseLost, StoredJob, UnknownKind
from jobsync.core.queue.running import RunningAttempt
from jobsync.runtime.running import RUNNING
from tests.queue.hands import WORKER, Hands


@pytest.fixture
def queue(server_dsn: str, prefix: str) -> Iterator[JobQueue]:
    with JobQueue(CoordinationConfig(dsn=server_dsn, appname=prefix)) as queue:
        yield queue


@pytest.fixture
def hands(queue: JobQueue, server_dsn: str, prefix: str) -> Hands:
    return Hands(queue, server_dsn, prefix)


def now(queue: JobQueue, job: StoredJob) -> StoredJob:
    read = queue.get(job.id)
    assert read is not None
    return read


@contextmanager
def handler_of(job: StoredJob) -> Iterator[None]:
    assert job.attempt is not None
    token = RUNNING.set(RunningAttempt(job.id, job.attempt, 1))
    yield
    RUNNING.reset(token)


def test_progress_is_seen(queue: JobQueue, hands: Hands) -> None:
    queue.enqueue("k")
    [job] = hands.take()
    queue.update_progress(job.id, 50, "half\0 way \ud800", attempt=job.attempt)
    read = now(queue, job)
    assert (read.progress, read.progress_message) == (50, "half\\x00 way \\ud800")
    with handler_of(job):
        queue.update_progress(job.id, 60)
    assert now(queue, job).progress == 60
    assert [lease.progress for lease in queue.get_active_leases()] == [60]


def test_outside_a_handler_the_attempt_must_be_named(queue: JobQueue, hands: Hands) -> None:
    queue.enqueue("k")
    queue.enqueue("k")
    job, other = hands.take()
    for _ in ("outside", "in the handler of another job"):
        with pytest.raises(LeaseLost, match="attempt="):
            queue.update_progress(job.id, 1)
        with pytest.raises(LeaseLost, match="attempt="):
            queue.release_lease(job.id, WORKER, "done")
        RUNNING.set(RunningAttempt(other.id, other.attempt or 0, 2))
    RUNNING.set(None)
    assert now(queue, job) == job


@pytest.mark.parametrize("status", ["done", "failed", "retry", "pending"])
def test_each_release_does_what_it_says(queue: JobQueue, hands: Hands, status: str) -> None:
    queue.enqueue("k")
    [job] = hands.take()
    result = {"a": [1]} if status == "done" else None
    error = "broken" if status in ("failed", "retry") else None
    queue.release_lease(job.id, WORKER, status, result=result, error=error, attempt=job.attempt)
    read = now(queue, job)
    assert (read.status, read.attempts) == (status, 0 if status == "pending" else 1)
    assert (read.result, read.last_error, read.locked_by) == (result, error, None)
    assert [(each.worker_id, each.crashed, each.error) for each in queue.errors(job.id)] == (
        [(WORKER, False, "broken")] if error else []
    )


def test_in_a_handler_a_release_takes_the_attempt_by_itself(queue: JobQueue, hands: Hands) -> None:
    queue.enqueue("k")
    [job] = hands.take()
    with handler_of(job):
        queue.release_lease(job.id, WORKER, "done")
        with pytest.raises(LeaseLost):
            queue.release_lease(job.id, WORKER, "failed")
        with pytest.raises(LeaseLost):
            queue.update_progress(job.id, 99)
    assert now(queue, job).status == "done"


def test_a_retry_beyond_the_last_attempt_fails(queue: JobQueue, hands: Hands) -> None:
    queue.enqueue("k", max_attempts=2)
    for expected in ("retry", "failed"):
        [job] = hands.take()
        queue.release_lease(job.id, WORKER, "retry", attempt=job.attempt)
        assert now(queue, job).status == expected
    assert hands.take() == []


def test_only_the_worker_that_holds_it_releases(queue: JobQueue, hands: Hands) -> None:
    queue.enqueue("k")
    [job] = hands.take()
    with pytest.raises(LeaseLost):
        queue.release_lease(job.id, "another", "done", attempt=job.attempt)
    assert now(queue, job) == job


def test_an_old_attempt_changes_nothing_of_the_new_one(queue: JobQueue, hands: Hands) -> None:
    queue.enqueue("k")
    [old] = hands.take()
    queue.release_lease(old.id, WORKER, "retry", attempt=old.attempt)
    [new] = hands.take()
    for late in ("done", "failed", "retry", "pending"):
        with pytest.raises(LeaseLost):
            queue.release_lease(old.id, WORKER, late, attempt=old.attempt)
    with pytest.raises(LeaseLost):
        queue.update_progress(old.id, 99, attempt=old.attempt)
    assert now(queue, new) == new


def test_a_cancelled_job_is_its_attempts_no_more(queue: JobQueue, hands: Hands) -> None:
    queue.enqueue("k")
    [job] = hands.take()
    assert queue.cancel(job.id)
    with pytest.raises(LeaseLost):
        queue.release_lease(job.id, WORKER, "done", attempt=job.attempt)
    assert now(queue, job).status == "cancelled"


def test_the_jobs_of_the_dead_are_taken_back(queue: JobQueue, hands: Hands) -> None:
    queue.enqueue_many([("k", i) for i in range(3)])
    jobs = hands.take()
    assert queue.reset_expired_leases() == 0
    assert [(lease.id, lease.worker_id, lease.attempts) for lease in queue.get_active_leases()] == [
        (job.id, WORKER, 1) for job in jobs
    ]
    hands.fence()
    assert queue.reset_expired_leases() == 3
    assert queue.get_active_leases() == []
    read = now(queue, jobs[0])
    assert (read.status, read.attempts, read.crashes) == ("retry", 1, 1)
    assert [each.crashed for each in queue.errors(read.id)] == [True]


@pytest.mark.parametrize(
    ("status", "given"),
    [
        ("cancelled", {}),
        ("processing", {}),
        ("", {}),
        (None, {}),
        ("failed", {"result": 1}),
        ("done", {"result": {1}}),
        ("done", {"error": 7}),
        ("done", {"attempt": True}),
        ("done", {"attempt": 0}),
    ],
)
def test_a_release_that_cannot_be_meant_is_refused(
    queue: JobQueue, hands: Hands, status: str, given: dict[str, object]
) -> None:
    queue.enqueue("k")
    [job] = hands.take()
    with pytest.raises(InvalidArgument):
        queue.release_lease(job.id, WORKER, status, **{"attempt": job.attempt, **given})  # type: ignore[arg-type]
    assert now(queue, job) == job


@pytest.mark.parametrize("progress", [-1, 101, 1.5, True, None, "50"])
def test_progress_is_a_whole_number_to_a_hundred(queue: JobQueue, progress: int) -> None:
    with pytest.raises(InvalidArgument):
        queue.update_progress(1, progress, attempt=1)


# --- all at once ---------------------------------------------------------------------------------


def in_every_state(queue: JobQueue, hands: Hands) -> dict[str, int]:
    """Give a job of each status, of kind `a` in queue `one`; and a pending one of kind `b` in queue `two`."""
    made = {}
    for status in ("done", "failed", "processing"):
        made[status] = queue.enqueue("a", queue="one")
        [job] = hands.take()
        if status != "processing":
            queue.release_lease(job.id, WORKER, status, attempt=job.attempt)
    made["retry"] = queue.enqueue("a", queue="one", run_at=timedelta(seconds=0))
    [job] = hands.take()
    queue.release_lease(job.id, WORKER, "retry", attempt=job.attempt)
    made["pending"] = queue.enqueue("a", queue="one", affinity="x")
    made["cancelled"] = queue.enqueue("a", queue="one", run_at=timedelta(1))
    queue.cancel(made["cancelled"])
    made["other"] = queue.enqueue("b", queue="two", run_at=timedelta(1))
    return made


def test_jobs_are_listed_by_status_kind_and_queue(queue: JobQueue, hands: Hands) -> None:
    made = in_every_state(queue, hands)
    for status in ("done", "failed", "processing", "retry", "cancelled"):
        assert [job.id for job in queue.list_jobs(status=status)] == [made[status]]
    assert [job.id for job in queue.list_jobs(status="pending")] == [made["other"], made["pending"]]
    assert [job.id for job in queue.list_jobs(status="pending", kind="a")] == [made["pending"]]
    assert [job.id for job in queue.list_jobs(queue="two")] == [made["other"]]
    everything = sorted(made.values(), reverse=True)
    assert [job.id for job in queue.list_jobs()] == everything
    page = queue.list_jobs(limit=3)
    rest = queue.list_jobs(before_id=page[-1].id)
    assert [job.id for job in page + rest] == everything
    assert queue.counts() == {
        "pending": 2, "processing": 1, "retry": 1, "done": 1, "failed": 1, "cancelled": 1,
    }  # fmt: skip


def test_all_that_has_not_ended_is_cancelled(queue: JobQueue, hands: Hands) -> None:
    in_every_state(queue, hands)
    assert queue.cancel_all(queue="two") == 1
    assert queue.cancel_all(kind="a", status="retry") == 1
    assert queue.cancel_all() == 2
    assert queue.cancel_all() == 0
    assert queue.counts()["cancelled"] == 5


def test_all_that_failed_is_run_again(queue: JobQueue, hands: Hands) -> None:
    made = in_every_state(queue, hands)
    assert queue.retry_all(kind="b") == 0
    assert queue.retry_all() == 1
    assert queue.retry_all() == 0
    assert queue.retry_all(status="cancelled", queue="one") == 1
    again = queue.get(made["failed"])
    assert again is not None
    assert (again.status, again.attempts) == ("pending", 0)


def test_thousands_are_cancelled_and_run_again(queue: JobQueue) -> None:
    queue.enqueue_many([("k", i) for i in range(4_500)])
    assert queue.cancel_all() == 4_500
    assert queue.retry_all(status="cancelled") == 4_500
    assert queue.counts()["pending"] == 4_500


def test_kinds_that_nobody_knows_are_told(queue: JobQueue, hands: Hands) -> None:
    queue.enqueue_many([("known", 1), ("unknown", 2), ("unknown", 3)])
    queue.enqueue("known", queue="elsewhere", run_at=timedelta(1))
    hands.call(
        "insert into sync_job_worker (incarnation, worker, node, queues, kinds) "
        """values (1, 'w', 'w', '["default"]', '["known"]') returning worker"""
    )
    assert queue.unknown_kinds() == [UnknownKind("default", "unknown", 2), UnknownKind("elsewhere", "known", 1)]
    hands.call("""update sync_job_worker set queues = '["default", "elsewhere"]', kinds = 'null' returning worker""")
    assert queue.unknown_kinds() == []
    hands.fence()
    assert len(queue.unknown_kinds()) == 3


@pytest.mark.parametrize(
    "call",
    [
        lambda q: q.get(0),
        lambda q: q.get("1"),
        lambda q: q.cancel(True),
        lambda q: q.retry(2**63),
        lambda q: q.errors(-1),
        lambda q: q.get_by_job_id(""),
        lambda q: q.get_by_job_id(7),
        lambda q: q.list_jobs(status="dead"),
        lambda q: q.list_jobs(limit=0),
        lambda q: q.list_jobs(limit=10**6),
        lambda q: q.list_jobs(before_id="x"),
        lambda q: q.counts(queue="\0"),
        lambda q: q.cancel_all(status="done"),
        lambda q: q.cancel_all(kind=""),
        lambda q: q.retry_all(status="pending"),
        lambda q: q.retry_all(status=None),
    ],
)
def test_questions_that_cannot_be_meant_are_refused(queue: JobQueue, call: object) -> None:
    with pytest.raises(InvalidArgument):
        call(queue)  # type: ignore[operator]


def test_a_job_that_ended_tells_who_took_it_and_when(queue: JobQueue, hands: Hands) -> None:
    """Whether its batch goes on or is over: done, failed for good, taken back from the dead, cancelled."""
    queue.enqueue_many([("k", None)] * 4)
    assert queue.list_jobs()[0].taken_by is None
    done, failed, cancelled, crashed = jobs = hands.take()
    assert {job.taken_by for job in jobs} == {WORKER} == {job.locked_by for job in jobs}
    queue.release_lease(done.id, WORKER, "done", attempt=done.attempt)
    queue.release_lease(failed.id, WORKER, "failed", error="no", attempt=failed.attempt)
    queue.cancel(cancelled.id)
    assert {now(queue, job).taken_at for job in jobs} == {job.taken_at for job in jobs}, "its batch goes on"
    hands.fence()
    assert queue.reset_expired_leases() == 1
    assert queue.get_active_leases() == []
    for job in jobs[:3]:
        ended = now(queue, job)
        assert (ended.taken_by, ended.taken_at, ended.attempt) == (WORKER, job.taken_at, job.attempt), ended.status
        assert ended.taken_at is not None
        assert ended.finished_at is not None
        assert ended.created_at < ended.taken_at < ended.finished_at
    assert [error.taken_at for job in (failed, crashed) for error in queue.errors(job.id)] == [
        failed.taken_at,
        crashed.taken_at,
    ]
    waits = now(queue, crashed)
    assert (waits.status, waits.taken_by, waits.taken_at) == ("retry", None, None)


def test_what_never_was_taken_tells_nobody(queue: JobQueue, hands: Hands) -> None:
    queue.cancel(queue.enqueue("k"))
    [job] = queue.list_jobs()
    assert (job.status, job.taken_by, job.taken_at) == ("cancelled", None, None)
