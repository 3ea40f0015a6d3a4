"""A stop in every instant of a job's way into its handler, and of the worker's own beginning and end."""

import threading
from typing import Any

import pytest

from jobsync import ProcessingWorker, RunningJob
from jobsync.runtime.worker.holdings import Holdings
from jobsync.runtime.worker.hub import Hub
from jobsync.runtime.worker.slots import Slots
from tests.api.jobs import eventually
from tests.worker.support import leases, queue, stored, worker

INSTANTS = {
    "given to its thread": (Slots, "_work"),
    "on its way to the loop": (Slots, "_begin_task"),
    "in its thread's hands": (Holdings, "is_certain"),
}


def hub_of(made: ProcessingWorker) -> Hub:
    """Give the hub of a worker that has started."""
    assert made._hub is not None
    return made._hub


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
