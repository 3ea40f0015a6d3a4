"""Metrics: what is exposed is what happened, and what is drawn, alerted and documented is what is exposed."""

import json
import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from jobsync import ExtraMissing, Job, JobQueue, NotRunning, ProcessingWorker
from jobsync.api.fleet_view import open_reader
from jobsync.api.metrics.catalogue import FLEET, PROCESS, reference
from jobsync.api.metrics.fleet import FleetCollector
from jobsync.api.metrics.process import meters_of
from tests.api.jobs import eventually, settings
from tests.docs.pages import ROOT, marked

MONITORING = ROOT / "deploy" / "monitoring"
NAMES = {metric.name for metric in (*PROCESS, *FLEET)}
SERIES = re.compile(r"\bjobsync_\w+")


def values(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """Give every sample by its name and the values of its labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
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
            queue.enqueue("cancelled")
            eventually(lambda: values(registry).get(("jobsync_refused_writes_total", "w"), 0) == 1)


def test_metrics_are_served_beside_health(server_dsn: str, prefix: str) -> None:
    with Job("served", coordination_config=settings(server_dsn, prefix)) as job:
        server = job.serve_health(0, host="127.0.0.1", metrics=True)
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=20) as reply:
            text = reply.read().decode()
    assert 'jobsync_tokens_held{node="served"} 100.0' in text
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
        yield FleetCollector(lambda: view).page().decode()


def test_a_fleet_tells_all_that_is_promised(fleet_page: str) -> None:
    families = {family.name: family for family in text_string_to_metric_families(fleet_page)}
    assert set(families) == {metric.name for metric in FLEET}
    assert all(family.samples for family in families.values())
    found = {(s.name, *s.labels.values()): s.value for family in families.values() for s in family.samples}
    assert (found["jobsync_up",], found["jobsync_active_nodes",], found["jobsync_tokens_unowned",]) == (1, 2, 0)
    assert found["jobsync_token_balance", "a"] == found["jobsync_token_balance", "b"] == 1
    assert 0 <= found["jobsync_heartbeat_lag_seconds", "w"] < 20
    assert found["jobsync_rebalances_an_hour",] == 2
    assert 0 <= found["jobsync_seconds_since_leader_change",] < 120
    assert found["jobsync_queue_jobs", "unknown", "default", "waiting"] == 1
    assert found["jobsync_queue_paused", "elsewhere"] == 1


def test_a_fleet_that_cannot_be_asked_is_down_and_tells_nothing_else() -> None:
    lines = [line for line in FleetCollector(lambda: None).page().decode().splitlines() if not line.startswith("#")]
    assert lines == ["jobsync_up 0.0"]


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ExtraMissing, match=r"jobsync\[metrics\]"):
        Job("w", coordination_config=None).expose_metrics()


# --- what is made of them ------------------------------------------------------------------------


def real(series: str) -> str:
    """Give the metric that a series belongs to."""
    return re.sub(r"_(bucket|sum|count)$", "", series)


def test_the_reference_is_what_the_code_says() -> None:
    assert "\n".join(marked("reference/metrics.md", "metrics")) == reference()


def test_the_alerts_are_about_metrics_that_exist() -> None:
    rules = yaml.safe_load((MONITORING / "jobsync.rules.yml").read_text())["groups"][0]["rules"]
    for rule in rules:
        found = SERIES.findall(rule["expr"])
        assert found
        assert {real(series) for series in found} <= NAMES, rule["alert"]
    told = {rule["alert"]: rule["expr"] for rule in rules}
    # The thresholds of the operator's guide, which docs/operate/monitoring.md repeats.
    assert told["JobsyncHeartbeatLag"].endswith("> 10")
    assert told["JobsyncRebalances"].endswith("> 5")
    assert told["JobsyncLeaderChanged"].endswith("< 300")
    assert "> 0.5" in told["JobsyncTokenBalance"]
    assert "< 0.1" in told["JobsyncTokenBalance"]


def test_the_dashboard_draws_metrics_that_exist_and_labels_that_they_have() -> None:
    labels = {metric.name: set(metric.labels) for metric in (*PROCESS, *FLEET)}
    panels = json.loads((MONITORING / "grafana-jobsync.json").read_text())["panels"]
    drawn = set()
    for panel in panels:
        for target in panel["targets"]:
            found = {real(series) for series in SERIES.findall(target["expr"])}
            assert found <= NAMES, panel["title"]
            legend = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert legend <= set().union(*(labels[name] for name in found)), panel["title"]
            drawn |= found
    five = {
        "active_nodes",
        "token_balance",
        "heartbeat_lag_seconds",
        "rebalances_an_hour",
        "seconds_since_leader_change",
    }
    assert {f"jobsync_{name}" for name in five} <= drawn


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here: it comes with Debian's prometheus")
def test_promtool_accepts_the_rules_and_the_page(fleet_page: str) -> None:
    promtool = str(shutil.which("promtool"))
    subprocess.run([promtool, "check", "rules", str(MONITORING / "jobsync.rules.yml")], check=True)
    said = subprocess.run([promtool, "check", "metrics"], input=fleet_page, text=True, capture_output=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus here")
def test_a_real_prometheus_scrapes_a_node(server_dsn: str, prefix: str, tmp_path: Path) -> None:
    with Job("scraped", coordination_config=settings(server_dsn, prefix)) as job:
        server = job.serve_health(0, host="127.0.0.1", metrics=True)
        config = {
            "global": {"scrape_interval": "200ms"},
            "rule_files": [str(MONITORING / "jobsync.rules.yml")],
            "scrape_configs": [{"job_name": "jobsync", "static_configs": [{"targets": [f"127.0.0.1:{server.port}"]}]}],
        }
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
        port = free_port()
        process = subprocess.Popen(
            [
                str(shutil.which("prometheus")), f"--config.file={tmp_path}/prometheus.yml",
                f"--storage.tsdb.path={tmp_path}/data", f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            eventually(lambda: asked(port, "jobsync_tokens_held") == {"scraped": 100.0}, limit_sec=60)
        finally:
            process.terminate()
            process.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def asked(port: int, query: str) -> dict[str, float]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?query={query}", timeout=5) as reply:
            found = json.loads(reply.read())["data"]["result"]
    except OSError:
        return {}
    return {each["metric"]["node"]: float(each["value"][1]) for each in found}
