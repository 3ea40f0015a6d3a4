"""Periodic jobs with real workers: enqueued and run once each, by whichever worker is there to do it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from jobsync import CoordinationConfig, InvalidArgument, Job, JobQueue, ProcessingWorker, RunningJob
from tests.api.jobs import eventually, query

MakeWorker = Callable[..., ProcessingWorker]


@pytest.fixture
def config(server_dsn: str, prefix: str) -> CoordinationConfig:
    return CoordinationConfig(dsn=server_dsn, appname=prefix)


@pytest.fixture
def queue(config: CoordinationConfig) -> Iterator[JobQueue]:
    with JobQueue(config) as queue:
        yield queue


@pytest.fixture
def missed(server_dsn: str, prefix: str) -> Callable[[], None]:
    """Let every periodic job have missed its last due times, three years of them."""

    def miss() -> None:
        query(server_dsn, f"update {prefix}job_periodic set last_due = now() - interval '3 years'")

    return miss


def ids_of(queue: JobQueue) -> list[str | None]:
    return [job.job_id for job in queue.list_jobs()]


def test_a_decorated_function_runs_when_it_is_due(
    queue: JobQueue, config: CoordinationConfig, missed: Callable[[], None]
) -> None:
    ran: list[tuple[str | None, object]] = []

    def make() -> ProcessingWorker:
        worker = ProcessingWorker(config)

        @worker.periodic("0 0 1 1 *", payload={"to": "all"})
        def yearly_report(job: RunningJob) -> None:
            ran.append((job.job_id, job.payload))

        return worker

    with make():
        (schedule,) = queue.schedules()
        assert (schedule.name, schedule.kind, schedule.cron) == ("yearly_report", "yearly_report", "0 0 1 1 *")
        assert queue.counts()["pending"] == 0
    missed()
    with make():
        eventually(lambda: ran, "the report")
    with make(), make():
        assert queue.schedules()[0].last_id == queue.list_jobs()[0].id
    assert len(ran) == len(ids_of(queue)) == 1
    name, payload = ran[0]
    assert payload == {"to": "all"}
    assert name is not None
    assert name.startswith("yearly_report@")
    assert name.endswith("-01-01T00:00:00Z")


def test_of_many_workers_one_enqueues(queue: JobQueue, config: CoordinationConfig, missed: Callable[[], None]) -> None:
    for number in range(10):
        queue.schedule(f"p{number}", "0 0 1 1 *", "tick")
    missed()
    with ExitStack() as stack:
        for _ in range(3):
            worker = ProcessingWorker(config)
            worker.handles("tick")(lambda job: None)
            stack.enter_context(worker)
        eventually(lambda: queue.counts()["done"] == 10, "all of them")
    assert len(ids_of(queue)) == len(set(ids_of(queue))) == 10


def test_a_worker_beside_a_leader_that_is_none_enqueues(
    queue: JobQueue, config: CoordinationConfig, missed: Callable[[], None]
) -> None:
    with Job("older", coordination_config=config) as job:
        eventually(job.am_i_leader, "the job leads")
        queue.schedule("p", "0 0 1 1 *", "tick")
        missed()
        worker = ProcessingWorker(config)
        worker.handles("tick")(lambda job: None)
        with worker:
            eventually(lambda: queue.counts()["done"] == 1, "it")


def test_what_is_unscheduled_comes_no_more(
    queue: JobQueue, config: CoordinationConfig, missed: Callable[[], None]
) -> None:
    queue.schedule("p", "0 0 1 1 *", "tick")
    queue.schedule("q", "0 0 1 1 *", "tick")
    missed()
    queue.unschedule("p")
    worker = ProcessingWorker(config)
    worker.handles("tick")(lambda job: None)
    with worker:
        eventually(lambda: queue.counts()["done"] == 1, "the other")
    assert [str(each).partition("@")[0] for each in ids_of(queue)] == ["q"]


def test_what_cannot_be_meant_is_refused(config: CoordinationConfig) -> None:
    worker = ProcessingWorker(config)
    with pytest.raises(InvalidArgument, match="cron"):
        worker.periodic("every day")
    with pytest.raises(InvalidArgument, match="timezone"):
        worker.periodic("* * * * *", timezone="Mars/Olympus")
    with pytest.raises(InvalidArgument, match="payload"):
        worker.periodic("* * * * *", name="n", payload={1})(lambda job: None)
    worker.periodic("* * * * *", name="n")(lambda job: None)
    with pytest.raises(InvalidArgument, match="has a handler"):
        worker.periodic("* * * * *", name="n")(lambda job: None)
    stranger = ProcessingWorker(config)
    stranger.periodic("* * * * *", name="n", queue="mail")(lambda job: None)
    with pytest.raises(InvalidArgument, match="'mail'"):
        stranger.start()
