"""A stop in every instant of a job's way into its handler, and of the worker's own beginning and end."""

import threading
from typing import Any

import psycopg
import pytest

from jobsync import Job, NodeNameInUse, RunningJob
from jobsync.runtime.node import Node
from jobsync.runtime.worker.holdings import Holdings
from jobsync.runtime.worker.slots import Slots
from tests.api.jobs import eventually, query, run_script, settings
from tests.worker.support import hub_of, leases, queue, stored, worker

INSTANTS = {
    "given to its thread": (Slots, "_work"),
    "on its way to the loop": (Slots, "_begin_task"),
    "in its thread's hands": (Holdings, "is_certain"),
}


class Held:
    """Holds whoever calls a method, other than the hub, from the time it is armed until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, method: str) -> None:
        self.armed, self.came, self.go = threading.Event(), threading.Event(), threading.Event()
        real = getattr(owner, method)

        def held(*args: Any) -> Any:
            if self.armed.is_set() and not threading.current_thread().name.startswith("jobsync-worker"):
                self.came.set()
                assert self.go.wait(60)
            return real(*args)

        monkeypatch.setattr(owner, method, held)


@pytest.mark.parametrize("where", INSTANTS)
@pytest.mark.parametrize("patience_sec", [30.0, 0.0])
def test_a_stop_sees_a_job_that_is_about_to_begin(
    server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch, where: str, patience_sec: float
) -> None:
    """Within the patience it ends as it would have; without any it is released uncharged, once it is in sight."""
    held = Held(monkeypatch, *INSTANTS[where])
    made = worker(server_dsn, prefix)
    is_second = "hands" in where
    first_may_end, ran = threading.Event(), list[int]()

    async def awaited(job: RunningJob) -> None:
        ran.append(job.id)

    def called(job: RunningJob) -> None:
        ran.append(job.id)
        if is_second and len(ran) == 1:
            assert first_may_end.wait(60)
            held.armed.set()

    made.handles("x")(awaited if "loop" in where else called)
    with queue(server_dsn, prefix) as jobs:
        if not is_second:
            held.armed.set()
        numbers = jobs.enqueue_many([("x", None)] * (1 + is_second))
        made.start()
        if is_second:
            eventually(lambda: ran, "the first one runs")
            first_may_end.set()
        assert held.came.wait(20)
        hub = hub_of(made)
        hub.stop(patience_sec)
        in_sight = where != "in its thread's hands"
        if patience_sec or not in_sight:
            assert not hub.has_ended.wait(0.3), "it is waited for"
        held.go.set()
        assert hub.has_ended.wait(20)
        made.stop()
        job = stored(jobs, numbers[-1])
        assert (job.crashes, leases(server_dsn, prefix)) == (0, 0)
        if patience_sec:
            assert (job.status, job.attempts, ran) == ("done", 1, numbers)
        else:
            assert (job.status, job.attempts) in {("pending", 0), ("done", 1)}


def test_a_stopping_worker_rests_while_a_handler_ends(
    server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was due and is not done any more is not waited for: the steps are counted, not the time."""
    go, began, steps = threading.Event(), threading.Event(), list[float]()
    made = worker(server_dsn, prefix, max_concurrent_jobs=2)
    made.handles("x")(lambda job: began.set() or (go.wait(60) and None))  # type: ignore[func-returns-value]
    with queue(server_dsn, prefix) as jobs:
        jobs.enqueue("x")
        made.start()
        assert began.wait(20)
        hub = hub_of(made)
        hub.stop(60)
        eventually(lambda: hub.slots.reserve, "it has taken note")
        hub.gate.heard()
        hub.gate._not_before_sec = hub._care._prune_due_sec = 1.0
        step = hub._step

        def counted(now_sec: float) -> None:
            steps.append(now_sec)
            step(now_sec)

        monkeypatch.setattr(hub, "_step", counted)
        hub.wake()
        assert not hub.has_ended.wait(0.5)
        assert 0 < len(steps) < 50
        go.set()
        assert made.stop()


def test_a_job_that_leaves_stops_its_workers_first(server_dsn: str, prefix: str) -> None:
    """What runs may end, what was fetched goes back, nothing is charged, and nothing runs twice."""
    began, go, ran = threading.Event(), threading.Event(), list[int]()
    job = Job("one", coordination_config=settings(server_dsn, prefix))
    ours = worker(server_dsn, prefix, node=job, worker_id="ours")
    theirs = worker(server_dsn, prefix, worker_id="theirs")

    @ours.handles("x")
    def slow(job: RunningJob) -> None:
        ran.append(job.id)
        began.set()
        go.wait(60)

    theirs.handles("x")(lambda job: ran.append(job.id))
    with queue(server_dsn, prefix) as jobs, job:
        numbers = jobs.enqueue_many([("x", None)] * 4)
        ours.start()
        assert began.wait(20)
        leaving = threading.Thread(target=job.__exit__, args=(None, None, None))
        leaving.start()
        with theirs:
            eventually(lambda: jobs.counts()["done"] == 3, "the others have what was fetched")
            assert leaving.is_alive()
            go.set()
            leaving.join(20)
            assert not leaving.is_alive()
            assert not ours.get_status().is_running
            eventually(lambda: jobs.counts()["done"] == 4, "all are done")
        assert sorted(ran) == numbers
        assert {(each.attempts, each.crashes) for each in jobs.list_jobs()} == {(1, 0)}


def test_a_stop_while_it_starts_is_not_lost(server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    joining, go = threading.Event(), threading.Event()
    made = worker(server_dsn, prefix)
    made.handles("x")(lambda job: None)
    join = made._joined_node

    def join_slowly() -> Node:
        joining.set()
        assert go.wait(60)
        return join()

    monkeypatch.setattr(made, "_joined_node", join_slowly)
    running = threading.Thread(target=made.run, daemon=True)
    running.start()
    assert joining.wait(20)
    stopping = threading.Thread(target=made.stop, daemon=True)
    stopping.start()
    eventually(lambda: made._stop_asked_sec is not None or not stopping.is_alive(), "it was asked")
    go.set()
    running.join(20)
    assert not running.is_alive()


def test_one_node_has_one_worker_of_a_name(server_dsn: str, prefix: str) -> None:
    with Job("one", coordination_config=settings(server_dsn, prefix)) as job:
        first, second = (worker(server_dsn, prefix, node=job, worker_id="same") for _ in range(2))
        for each in (first, second):
            each.handles("x")(lambda job: None)
        with first, pytest.raises(NodeNameInUse, match="same"):
            second.start()
        with second:
            assert second.get_status().is_running


SIGNAL_IN_START = """
    import os, signal, sys
    from jobsync import CoordinationConfig, ProcessingWorker
    from jobsync.runtime.worker.hub import Hub
    from tests.api.jobs import eventually

    made = ProcessingWorker(CoordinationConfig(dsn=sys.argv[1], appname=sys.argv[2]), handle_signals=True)
    made.handles("x")(lambda job: None)
    start = Hub.start

    def start_and_be_told(hub):
        start(hub)
        os.kill(os.getpid(), signal.SIGTERM)
        eventually(lambda: made._stop_asked_sec is not None)

    if sys.argv[3] == "at its end":
        Hub.start = start_and_be_told
    made.run()
    print("over", made.get_status().is_running)
"""


def test_a_signal_at_the_end_of_the_start_is_heard(server_dsn: str, prefix: str) -> None:
    with run_script(SIGNAL_IN_START, server_dsn, prefix, "at its end") as process:
        assert process.communicate(timeout=60)[0] == "over False\n"
    assert process.returncode == 0
    assert query(server_dsn, f"select count(*) from {prefix}node") == [(0,)]


def test_a_signal_while_the_node_waits_to_be_let_in_ends_the_wait(server_dsn: str, prefix: str) -> None:
    with queue(server_dsn, prefix) as jobs:
        jobs.counts()
    waiting = f"select count(*) from pg_locks where not granted and relation = '{prefix}node'::regclass"
    with psycopg.connect(server_dsn) as conn, run_script(SIGNAL_IN_START, server_dsn, prefix, "within") as process:
        conn.execute(f"lock table {prefix}node in access exclusive mode".encode())
        eventually(lambda: query(server_dsn, waiting) != [(0,)], "it waits to be let in")
        process.terminate()
        assert process.communicate(timeout=40)[0] == "over False\n"
    assert process.returncode == 0
