"""Cordoned and drained workers: they take nothing more, finish what runs, and begin again when resumed."""

import threading

from tests.api.jobs import eventually, query
from tests.worker.support import await_status, hub_of, leases, queue, status, worker


def steer(dsn: str, prefix: str, verb: str, node: str) -> None:
    query(dsn, f"select {prefix}steer(%s, %s, null, 'test', null)", verb, node)


def resume(dsn: str, prefix: str, node: str) -> None:
    query(dsn, f"select * from {prefix}resume(%s, false, 'test')", node)


def test_a_cordoned_worker_finishes_what_it_has_and_takes_nothing_until_it_is_resumed(
    server_dsn: str, prefix: str
) -> None:
    goes_on = threading.Event()
    crew = worker(server_dsn, prefix, worker_id="w")
    crew.handles("wait")(lambda job: goes_on.wait(20))
    crew.handles("quick")(lambda job: None)
    with queue(server_dsn, prefix) as jobs, crew:
        running = jobs.enqueue("wait", None)
        eventually(lambda: status(jobs, running) == "processing")
        steer(server_dsn, prefix, "cordon", "w")
        eventually(lambda: hub_of(crew).steered == "cordon")
        goes_on.set()
        await_status(jobs, running, "done")
        later = jobs.enqueue("quick", None)
        gated = jobs.enqueue("quick", None, max_attempts=1)  # Taken one by one, by another function.
        looked = hub_of(crew)._care._looked_sec
        query(server_dsn, f"notify {prefix}job")
        eventually(lambda: hub_of(crew)._care._looked_sec > looked)
        assert (status(jobs, later), status(jobs, gated)) == ("pending", "pending")
        resume(server_dsn, prefix, "w")
        await_status(jobs, later, "done")
        await_status(jobs, gated, "done")


def test_the_database_itself_gives_a_cordoned_worker_nothing(server_dsn: str, prefix: str) -> None:
    crew = worker(server_dsn, prefix, worker_id="w")
    crew.handles("quick")(lambda job: None)
    with queue(server_dsn, prefix) as jobs, crew:
        steer(server_dsn, prefix, "cordon", "w")
        number = jobs.enqueue("quick", None)
        hub = hub_of(crew)
        take = f"select count(*) from {prefix}job_take('w', %s, array[1], 10, 60000)"
        assert query(server_dsn, take, hub.node.incarnation) == [(0,)]
        assert status(jobs, number) == "pending"


def test_a_drained_worker_gives_back_what_has_not_begun(server_dsn: str, prefix: str) -> None:
    goes_on = threading.Event()
    crew = worker(server_dsn, prefix, worker_id="w")
    crew.handles("wait")(lambda job: goes_on.wait(20))
    with queue(server_dsn, prefix) as jobs, crew:
        numbers = jobs.enqueue_many([("wait", None)] * 20)
        eventually(lambda: crew.get_status().active_jobs == 1)
        steer(server_dsn, prefix, "drain", "w")
        eventually(lambda: crew.get_status().fetched_jobs == 0)
        goes_on.set()
        eventually(lambda: leases(server_dsn, prefix) == 0)
        waiting = [number for number in numbers if status(jobs, number) == "pending"]
        assert waiting
        assert {status(jobs, number) for number in numbers} == {"pending", "done"}
        resume(server_dsn, prefix, "w")
        await_status(jobs, waiting[-1], "done")
