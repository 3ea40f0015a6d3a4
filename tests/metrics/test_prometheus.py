"""A real Prometheus scrapes a fleet of processes and its dashboard, one of which is killed: what it then knows."""

import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml  # type: ignore[import-untyped]

from jobsync import JobQueue
from tests.api.jobs import eventually, settings
from tests.children import Child
from tests.metrics.test_monitoring import RULES, rules

LIMIT_SEC = 60.0
NODE = """
    import signal, sys, threading
    from jobsync import CoordinationConfig, Job, ProcessingWorker

    dsn, prefix, name = sys.argv[1:]
    config = CoordinationConfig(dsn=dsn, appname=prefix, total_tokens=100)
    with Job(name, coordination_config=config) as job:
        worker = ProcessingWorker(config, node=job, worker_id=name)

        @worker.handles("hold")
        def hold(running):
            if running.crashes == 0:
                print("holds", flush=True)
                threading.Event().wait()

        server = worker.serve_health(0, host="127.0.0.1", metrics=True)
        worker.start()
        print(server.port, flush=True)
        job.wait()
"""


class Prometheus:
    """One that runs, asked by its API; None where it does not answer yet."""

    def __init__(self, port: int) -> None:
        self._address = f"http://127.0.0.1:{port}/api/v1"

    def _asked(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(f"{self._address}/{path}", timeout=10) as reply:
                return json.loads(reply.read())["data"]
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return None

    def value(self, query: str) -> float | None:
        """Give the value of a query with one answer."""
        found = self._asked("query?" + urlencode({"query": query}))
        results = found["result"] if found else []
        assert len(results) <= 1, results
        return float(results[0]["value"][1]) if results else None

    def rules(self) -> dict[str, dict[str, Any]]:
        """Give the alerts by their names, as they stand."""
        found = self._asked("rules")
        return {rule["name"]: rule for group in (found or {"groups": []})["groups"] for rule in group["rules"]}

    def state(self, alert: str) -> str | None:
        """Say whether an alert is inactive, pending or firing."""
        return self.rules().get(alert, {}).get("state")


def started(line: list[str], dsn: str) -> Child:
    return Child(line, stdout=subprocess.PIPE, text=True, env={**os.environ, "SYNC_DSN": dsn})


def said(process: Child) -> str:
    """Give the next line that a process writes."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


@contextmanager
def prometheus(targets: list[str], where: Path) -> Iterator[Prometheus]:
    config = {
        "global": {"scrape_interval": "200ms", "evaluation_interval": "200ms"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "jobsync", "static_configs": [{"targets": targets}]}],
    }
    (where / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    line = [
        str(shutil.which("prometheus")), f"--config.file={where}/prometheus.yml", f"--storage.tsdb.path={where}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with Child(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        yield Prometheus(port)
        process.terminate()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus here")
def test_a_real_prometheus_learns_of_a_death_and_of_a_dashboard_that_is_gone(
    server_dsn: str, prefix: str, tmp_path: Path
) -> None:
    node = [sys.executable, "-c", textwrap.dedent(NODE), server_dsn, prefix]
    page = [sys.executable, "-m", "jobsync", "dashboard", "--appname", prefix, "--port", "0"]
    with ExitStack() as stack, JobQueue(settings(server_dsn, prefix)) as queue:
        first = stack.enter_context(started([*node, "a"], server_dsn))
        stack.callback(first.kill)
        ports = [said(first)]
        queue.enqueue("hold")
        assert said(first) == "holds"
        second = stack.enter_context(started([*node, "b"], server_dsn))
        stack.callback(second.kill)
        ports.append(said(second))
        dashboard = stack.enter_context(started(page, server_dsn))
        stack.callback(dashboard.kill)
        address = next(word for word in said(dashboard).split() if word.startswith("http://"))
        targets = [*(f"127.0.0.1:{port}" for port in ports), address.split("/")[2]]
        asked = stack.enter_context(prometheus(targets, tmp_path))

        def tells(value: float, name: str, **labels: str) -> None:
            given = ",".join(f'{label}="{text}"' for label, text in {"fleet": prefix, **labels}.items())
            eventually(lambda: asked.value(f"{name}{{{given}}}") == value, f"{name} {labels}", limit_sec=LIMIT_SEC)

        # Everything begins at 0 and is scraped so, or the death below would be no increase.
        tells(2, "jobsync_active_nodes")
        tells(1, "jobsync_up")
        tells(50, "jobsync_tokens_held", node="b")
        tells(0, "jobsync_fences_total", node="b", side="of others")
        tells(0, "jobsync_job_crashes_total", node="b")
        eventually(lambda: len(asked.rules()) == len(rules()), "all rules are loaded", limit_sec=LIMIT_SEC)
        eventually(lambda: {rule["health"] for rule in asked.rules().values()} == {"ok"}, limit_sec=LIMIT_SEC)
        assert asked.state("JobsyncFenced") == "inactive"

        first.kill()
        tells(1, "jobsync_active_nodes")
        tells(100, "jobsync_tokens_held", node="b")
        tells(0, "jobsync_tokens_unowned")
        tells(1, "jobsync_fences_total", node="b", side="of others")
        tells(1, "jobsync_job_crashes_total", node="b")
        tells(1, "jobsync_job_attempts_total", worker="b", kind="hold", outcome="returned")
        eventually(lambda: asked.state("JobsyncFenced") == "firing", limit_sec=LIMIT_SEC)
        assert asked.state("JobsyncUnwatched") == "inactive"

        dashboard.kill()
        # It waits for a minute, and fires then: the file of cases shows that.
        eventually(lambda: asked.state("JobsyncUnwatched") == "pending", limit_sec=LIMIT_SEC)
        assert {rule["health"] for rule in asked.rules().values()} == {"ok"}
