"""Health by duty: what is not ready says why, over HTTP too; and what a restart would not help stays live."""

import asyncio
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobsync import AsyncJob, Job, JobQueue, ProcessingWorker
from jobsync.api.health_server import HealthServer
from tests.api.jobs import eventually, settings
from tests.servers import PrivateServer


def ask(server: HealthServer, path: str = "/health/ready") -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=20) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_a_job_is_ready_while_it_is_entered(server_dsn: str, prefix: str) -> None:
    job = Job("w", coordination_config=settings(server_dsn, prefix))
    server = job.serve_health(0, host="127.0.0.1")
    assert ask(server)[0] == 503
    assert "not in the fleet" in ask(server)[1]["why"][0]
    assert ask(server, "/health/live") == (200, {"status": "alive"})
    with job:
        assert ask(server) == (200, {"status": "ready", "node": "w", "tokens": 100, "jobs": 0, "why": []})
        assert ask(server, "/else")[0] == 404
        assert job.health().is_ready
    with pytest.raises(urllib.error.URLError):
        ask(server)


def test_a_job_alone_is_ready_and_an_observer_is_not(server_dsn: str, prefix: str) -> None:
    with Job("alone", coordination_config=None) as alone:
        assert alone.health().is_ready
    with Job("looker", coordination_config=settings(server_dsn, prefix), observer=True) as looker:
        assert "only observes" in looker.health().why[0]


def test_a_lease_that_is_not_certain_is_told(private_server: PrivateServer, prefix: str) -> None:
    quick = settings(private_server.dsn, prefix, heartbeat_interval_sec=0.5, heartbeat_timeout_sec=1.6)
    with Job("w", coordination_config=quick) as job:
        server = job.serve_health(0, host="127.0.0.1")
        private_server.kill()
        eventually(lambda: ask(server)[0] == 503)
        status, body = ask(server)
        assert (status, body["status"], body["tokens"]) == (503, "not ready", 0)
        assert "lease is not certain" in body["why"][0]
        assert ask(server, "/health/live")[0] == 200  # A restart would not bring the database back.
        private_server.start()
        eventually(lambda: ask(server)[0] == 200, limit_sec=40)


def test_a_callback_that_hangs_is_told(server_dsn: str, prefix: str) -> None:
    release = threading.Event()
    quick = settings(server_dsn, prefix, handover_timeout_sec=0.3)
    try:
        with Job("w", coordination_config=quick, on_tokens_added=lambda _: release.wait(60)) as job:
            eventually(lambda: any("callback" in why for why in job.health().why))
            assert not job.am_i_healthy()
            release.set()
            eventually(job.am_i_healthy)
    finally:
        release.set()


def test_an_event_loop_that_is_blocked_is_told(server_dsn: str, prefix: str) -> None:
    found: list[tuple[int, dict[str, Any]]] = []

    async def main() -> None:
        quick = settings(server_dsn, prefix, handover_timeout_sec=0.6)
        async with AsyncJob("w", coordination_config=quick) as job:
            server = job.serve_health(0, host="127.0.0.1")

            def look() -> None:
                eventually(lambda: found.append(ask(server)) or found[-1][0] == 503)  # type: ignore[func-returns-value]

            watcher = threading.Thread(target=look)
            watcher.start()
            watcher.join(30)  # Blocks the loop, as a user's slow function would.
            await asyncio.to_thread(eventually, lambda: job.health().is_ready)

    asyncio.run(main())
    assert "event loop has not run" in found[-1][1]["why"][0]


@pytest.fixture
def slow_worker(server_dsn: str, prefix: str) -> Iterator[tuple[ProcessingWorker, Callable[[], None]]]:
    """Give a worker that has begun a job which lasts until the function is called."""
    config = settings(server_dsn, prefix)
    begun, release = threading.Event(), threading.Event()
    worker = ProcessingWorker(config, worker_id="busy")

    @worker.handles("slow")
    def slow(job: Any) -> None:
        begun.set()
        release.wait(60)

    with JobQueue(config) as queue:
        queue.enqueue("slow")
    with worker:
        assert begun.wait(20)
        yield worker, release.set
        release.set()


def test_a_worker_that_makes_no_progress_is_told(
    slow_worker: tuple[ProcessingWorker, Callable[[], None]], server_dsn: str, prefix: str
) -> None:
    worker, release = slow_worker
    server = worker.serve_health(0, host="127.0.0.1", stalled_after_seconds=0.2)
    eventually(lambda: ask(server)[0] == 503)
    assert "holds 1 jobs, and none of them began, ended or reported progress" in ask(server)[1]["why"][0]
    assert worker.health().is_ready  # Ten minutes are the default: jobs may take their time.
    assert ask(server, "/health/live")[0] == 200
    worker.update_progress(worker.get_status().active_job_ids[0], 50)
    assert ask(server)[0] == 200
    release()
    eventually(lambda: ask(server)[1]["jobs"] == 0)
    assert ask(server)[0] == 200


def test_a_worker_that_was_stopped_is_not_ready_and_a_broken_one_is_not_live(server_dsn: str, prefix: str) -> None:
    worker = ProcessingWorker(settings(server_dsn, prefix), worker_id="w")
    worker.handles("any")(lambda job: None)
    assert "has not started" in worker.health().why[0]
    worker.start()
    assert worker.health().is_ready
    hub = worker._hub
    assert hub is not None
    hub._step = None  # type: ignore[method-assign, assignment]
    hub.wake()
    with pytest.raises(TypeError):
        worker.wait(20)
    assert (worker.health().is_live, worker.health().is_ready) == (False, False)


def test_a_worker_whose_async_handler_blocks_the_loop_is_told(
    server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobsync.api.worker_health.LOOP_BLOCKED_SEC", 0.2)
    config = settings(server_dsn, prefix)
    worker = ProcessingWorker(config, worker_id="w")
    release = threading.Event()

    @worker.handles("rude")
    async def rude(job: Any) -> None:
        release.wait(60)

    with JobQueue(config) as queue, worker:
        queue.enqueue("rude")
        try:
            eventually(lambda: any("event loop" in why for why in worker.health().why))
        finally:
            release.set()
