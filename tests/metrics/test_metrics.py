"""Metrics: what is exposed is what happened."""

import shutil
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from jobsync import ExtraMissing, Job, JobQueue, NotRunning, ProcessingWorker, RunningJob
from jobsync.api.fleet_view import open_reader
from jobsync.api.metrics.catalogue import FLEET
from jobsync.api.metrics.fleet import FleetCollector
from jobsync.api.metrics.process import meters_of
from tests.api.jobs import eventually, query, settings
from tests.api.leading import fence
from tests.children import Child


def values(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """Give every sample by its name and the values of its labels, that of the fleet aside."""
    return {
        (sample.name, *(value for label, value in sample.labels.items() if label != "fleet")): sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith(("_created", "_bucket"))
    }


def test_a_node_tells_what_it_holds_and_what_happened_to_it(server_dsn: str, prefix: str) -> None:
    registry = CollectorRegistry()
    config = settings(server_dsn, prefix, heartbeat_interval_sec=0.5, heartbeat_timeout_sec=3)
    first, second = Job("a", coordination_config=config), Job("b", coordination_config=config)
    for job in (first, second):
        job.expose_metrics(registry)
    with first:
        with second:
            eventually(lambda: values(registry)["jobsync_tokens_held", "a"] == 50)
            found = values(registry)
            assert found["jobsync_tokens_held", "b"] == found["jobsync_tokens_target", "b"] == 50
            assert found["jobsync_tokens_moved_total", "a", "in"] == 100
            eventually(lambda: values(registry)["jobsync_tokens_moved_total", "a", "out"] == 50)
            assert values(registry)["jobsync_handover_seconds_count", "a"] == 1
            assert 0 < values(registry)["jobsync_handover_seconds_sum", "a"] < 20
            assert 0 < found["jobsync_lease_margin_seconds", "a"] < 3
            assert (found["jobsync_healthy", "a"], found["jobsync_leads", "a"], found["jobsync_leads", "b"]) == (
                1,
                1,
                0,
            )
            eventually(lambda: values(registry)["jobsync_heartbeat_seconds_count", "b"] >= 1)
        eventually(lambda: values(registry)["jobsync_tokens_held", "a"] == 100)
        assert ("jobsync_tokens_held", "b") not in values(registry)


def test_a_worker_times_its_jobs_and_counts_how_they_ended(server_dsn: str, prefix: str) -> None:
    config, registry = settings(server_dsn, prefix), CollectorRegistry()
    worker = ProcessingWorker(config, worker_id="w", max_concurrent_jobs=2)

    @worker.handles("good")
    def good(job: Any) -> None:
        assert job.kind == "good"

    @worker.handles("bad")
    async def bad(job: Any) -> None:
        raise ValueError(job.kind)

    worker.expose_metrics(registry)
    with JobQueue(config) as queue, worker:
        queue.enqueue_many([("good", None)] * 3)
        queue.enqueue("bad", max_attempts=1)
        eventually(lambda: queue.counts()["done"] == 3 and queue.counts()["failed"] == 1)
        found = values(registry)
        assert found["jobsync_job_attempts_total", "w", "default", "good", "returned"] == 3
        assert found["jobsync_job_attempts_total", "w", "default", "bad", "raised"] == 1
        assert found["jobsync_job_seconds_count", "w", "default", "good"] == 3
        assert found["jobsync_worker_slots", "w"] == 2
        with pytest.raises(NotRunning, match="before"):
            worker.expose_metrics(registry)


def test_late_results_that_were_refused_are_counted(server_dsn: str, prefix: str) -> None:
    config, registry = settings(server_dsn, prefix), CollectorRegistry()
    worker = ProcessingWorker(config, worker_id="w", poll_interval_ms=100)
    worker.expose_metrics(registry)
    with JobQueue(config) as queue:

        @worker.handles("cancelled")
        def cancelled(job: Any) -> None:
            queue.cancel(job.id)

        with worker:
            assert values(registry)["jobsync_refused_writes_total", "w"] == 0
            queue.enqueue("cancelled")
            eventually(lambda: values(registry)["jobsync_refused_writes_total", "w"] == 1)


def test_counters_begin_at_zero_and_a_node_that_others_fence_counts_it(server_dsn: str, prefix: str) -> None:
    registry = CollectorRegistry()
    with Job("a", coordination_config=settings(server_dsn, prefix)) as job:
        job.expose_metrics(registry)
        found = values(registry)
        for name in ("jobsync_refused_writes_total", "jobsync_job_crashes_total", "jobsync_handover_seconds_count"):
            assert found[name, "a"] == 0, name
        for side in ("of others", "by others"):
            assert found["jobsync_fences_total", "a", side] == 0
        assert found["jobsync_tokens_moved_total", "a", "lost"] == found["jobsync_facts_total", "a", "violation"] == 0
        fence(server_dsn, prefix, "a")
        eventually(lambda: values(registry)["jobsync_fences_total", "a", "by others"] == 1)
        assert values(registry)["jobsync_tokens_moved_total", "a", "lost"] == 100
        assert values(registry)["jobsync_fences_total", "a", "of others"] == 0


DIES = """
    import os, signal, sys
    from jobsync import CoordinationConfig, ProcessingWorker

    config = CoordinationConfig(dsn=sys.argv[1], appname=sys.argv[2], total_tokens=100)
    worker = ProcessingWorker(config, worker_id="dead")
    worker.handles("deadly")(lambda job: os.kill(os.getpid(), signal.SIGKILL))
    worker.run()
"""


def test_who_takes_over_from_a_dead_worker_counts_the_fence_and_the_jobs(server_dsn: str, prefix: str) -> None:
    config, registry = settings(server_dsn, prefix), CollectorRegistry()
    worker = ProcessingWorker(config, worker_id="w")
    worker.handles("other")(lambda job: None)  # What the dead one held is taken back, and left to who knows it.
    worker.expose_metrics(registry)
    with JobQueue(config) as queue, worker:
        queue.enqueue("deadly")
        with Child([sys.executable, "-c", textwrap.dedent(DIES), server_dsn, prefix]) as dead:
            assert dead.wait(60) < 0
        eventually(lambda: values(registry)["jobsync_fences_total", "w", "of others"] == 1)
        eventually(lambda: values(registry)["jobsync_job_crashes_total", "w"] == 1)


def test_an_attempt_whose_job_went_to_another_is_counted_as_lost(server_dsn: str, prefix: str) -> None:
    registry = CollectorRegistry()
    worker = ProcessingWorker(settings(server_dsn, prefix), worker_id="w")
    worker.expose_metrics(registry)

    @worker.handles("x")
    def x(job: RunningJob) -> None:
        if job.crashes == 0:
            query(server_dsn, f"update {prefix}job_lease set locked_until = clock_timestamp()")
            query(server_dsn, f"select {prefix}job_recover()")
            eventually(lambda: job.lost)

    with JobQueue(settings(server_dsn, prefix)) as queue, worker:
        queue.enqueue("x")
        eventually(lambda: queue.counts()["done"] == 1)
        # The late end of the first attempt may be told after the end of the second.
        attempts = "jobsync_job_attempts_total", "w", "default", "x"
        eventually(lambda: values(registry).get((*attempts, "returned")) == 1)
        assert values(registry)[(*attempts, "lost")] == 1


def test_one_process_in_two_fleets_tells_them_apart(server_dsn: str, prefix: str) -> None:
    registry, other = CollectorRegistry(), f"{prefix}b_"
    with (
        Job("same", coordination_config=settings(server_dsn, prefix)) as one,
        Job("same", coordination_config=settings(server_dsn, other, total_tokens=7)) as two,
    ):
        for job in (one, two):
            job.expose_metrics(registry)
        for fleet, tokens in ((prefix, 100), (other, 7)):
            labels = {"fleet": fleet, "node": "same"}
            assert registry.get_sample_value("jobsync_tokens_held", labels) == tokens


def test_metrics_are_served_beside_health(server_dsn: str, prefix: str) -> None:
    with Job("served", coordination_config=settings(server_dsn, prefix)) as job:
        server = job.serve_health(0, host="127.0.0.1", metrics=True)
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=20) as reply:
            text = reply.read().decode()
    assert f'jobsync_tokens_held{{fleet="{prefix}",node="served"}} 100.0' in text
    assert meters_of() is meters_of()


@pytest.fixture
def fleet_page(server_dsn: str, prefix: str) -> Iterator[str]:
    """Give the metrics of a fleet with two nodes, a worker and jobs."""
    config = settings(server_dsn, prefix)
    worker = ProcessingWorker(config, worker_id="w")
    worker.handles("known")(lambda job: None)
    with Job("a", coordination_config=config), Job("b", coordination_config=config), JobQueue(config) as queue, worker:
        queue.enqueue("unknown")
        queue.pause("elsewhere")
        with open_reader(config) as reader:
            eventually(lambda: reader.read().tokens_moving == 0)
            view = reader.read()
        yield FleetCollector("red_", lambda: view).page().decode()


def test_a_fleet_tells_all_that_is_promised(fleet_page: str) -> None:
    families = {family.name: family for family in text_string_to_metric_families(fleet_page)}
    assert set(families) == {metric.name for metric in FLEET}
    assert all(family.samples for family in families.values())
    samples = [sample for family in families.values() for sample in family.samples]
    assert {sample.labels.pop("fleet") for sample in samples} == {"red_"}
    found = {(sample.name, *sample.labels.values()): sample.value for sample in samples}
    assert (found["jobsync_up",], found["jobsync_active_nodes",], found["jobsync_tokens_unowned",]) == (1, 2, 0)
    assert found["jobsync_token_balance", "a"] == found["jobsync_token_balance", "b"] == 1
    assert 0 <= found["jobsync_heartbeat_lag_seconds", "w"] < 20
    assert found["jobsync_rebalances_an_hour",] == 2
    assert 0 <= found["jobsync_seconds_since_leader_change",] < 120
    assert found["jobsync_queue_jobs", "unknown", "default", "waiting"] == 1
    assert found["jobsync_queue_paused", "elsewhere"] == 1


def test_a_fleet_that_cannot_be_asked_is_down_and_tells_nothing_else() -> None:
    page = FleetCollector("red_", lambda: None).page().decode()
    assert [line for line in page.splitlines() if not line.startswith("#")] == ['jobsync_up{fleet="red_"} 0.0']


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ExtraMissing, match=r"jobsync\[metrics\]"):
        Job("w", coordination_config=None).expose_metrics()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here: it comes with Debian's prometheus")
def test_promtool_accepts_the_page(fleet_page: str) -> None:
    promtool = str(shutil.which("promtool"))
    said = subprocess.run([promtool, "check", "metrics"], input=fleet_page, text=True, capture_output=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")
