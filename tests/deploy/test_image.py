"""The image as Docker builds and runs it: alone, by the Compose file, and as the pods of the manifests.

`make image-test` finds or makes the engine that this needs, and fails where it cannot.
"""

import json
import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from typing import Any
from urllib.request import urlopen

import pytest
import yaml  # type: ignore[import-untyped]

from tests.api.jobs import eventually
from tests.deploy.parts import DEPLOY, DRAIN, load_app, pod_of

COMPOSE = shlex.split(os.environ.get("JOBSYNC_TEST_COMPOSE", ""))
PROJECT = "jobsync-image-test"
IMAGE = "jobsync-worker:latest"
DSN = "postgresql://app:laptop@postgres/app"
FILES = (DEPLOY / "docker" / "compose.yaml", DEPLOY.parent / "tests" / "deploy" / "image" / "compose.yaml")

pytestmark = [
    pytest.mark.chaos, pytest.mark.slow,
    pytest.mark.skipif(not COMPOSE, reason="needs a Docker, which make image-test finds or makes"),
]  # fmt: skip


def said(*command: str) -> str:
    """Run a command; give what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def compose(*words: str) -> str:
    files = [word for file in FILES for word in ("--file", str(file))]
    return said(*COMPOSE, "--project-name", PROJECT, *files, *words)


def inspected(name: str) -> dict[str, Any]:
    (found,) = json.loads(said("docker", "inspect", name))
    assert isinstance(found, dict)
    return found


def containers_of(service: str) -> list[str]:
    return compose("ps", "--all", "--quiet", service).split()


def health_of(service: str) -> list[str]:
    return [inspected(each)["State"]["Health"]["Status"] for each in containers_of(service)]


def counts(name: str) -> dict[str, int]:
    found = json.loads(said("docker", "exec", name, "jobsync", "jobs", "counts", "--json"))
    return {key: value for key, value in found.items() if isinstance(value, int)}


@pytest.fixture(scope="module", autouse=True)
def fleet() -> Iterator[None]:
    """Build the image, and run what the Compose file says with it, until all of it is well."""
    compose("build", "worker")
    try:
        compose("up", "--detach", "--no-build")
        wanted = {"postgres": ["healthy"], "dashboard": ["healthy"], "worker": ["healthy"] * 3}
        eventually(lambda: {name: health_of(name) for name in wanted} == wanted, "all are healthy", limit_sec=120)
        yield
    finally:
        compose("down", "--volumes", "--timeout", "20")


@pytest.fixture
def desk() -> str:
    """Give the container from which the others are asked and the queue is filled."""
    return containers_of("dashboard")[0]


def test_the_tables_are_made_when_the_database_is_there_and_not_before() -> None:
    (migrate,) = containers_of("migrate")
    assert inspected(migrate)["State"]["ExitCode"] == 0
    assert inspected(migrate)["RestartCount"] == 0, "postgres was called healthy before it was"


def test_nobody_special_runs_it_and_can_write_nothing() -> None:
    for name in (*containers_of("worker"), *containers_of("dashboard")):
        status = dict(
            line.split(":\t", 1) for line in said("docker", "exec", name, "cat", "/proc/1/status").splitlines()
        )
        assert set(status["Uid"].split()) == {"10001"}
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
        assert status["NoNewPrivs"] == "1"
        assert inspected(name)["HostConfig"]["ReadonlyRootfs"]


def test_the_jobs_are_done_and_the_page_shows_the_fleet(desk: str) -> None:
    before = counts(desk)["done"]
    compose("exec", "--index", "1", "worker", "python", "worker.py", "60")
    eventually(lambda: counts(desk)["done"] >= before + 60, "all are done", limit_sec=120)
    with urlopen("http://127.0.0.1:8090/fleet.json", timeout=10) as answer:
        assert len(json.load(answer)["nodes"]) >= 3


def test_spans_are_there_for_whoever_asks_for_them(desk: str) -> None:
    said("docker", "exec", "--env", "SYNC_TRACING=true", desk, "python", "worker.py", "0")


def test_a_stop_lets_what_runs_end(desk: str) -> None:
    compose("exec", "--index", "1", "worker", "python", "worker.py", "2000")
    eventually(lambda: counts(desk)["processing"] > 0, "they work", limit_sec=60)
    began = time.monotonic()
    compose("stop", "worker")
    assert time.monotonic() - began < load_app().STOP_SEC, "they left, and were not killed"
    assert [inspected(each)["State"]["ExitCode"] for each in containers_of("worker")] == [0, 0, 0]
    left = counts(desk)
    assert left["pending"] > 0 == left["processing"] == left["retry"]
    said("docker", "exec", desk, "jobsync", "jobs", "cancel", "--all", "--kind", "digest", "--yes")
    compose("up", "--detach", "--no-build", "worker")


def pods() -> list[Any]:
    files = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    found = (pod for file in files for each in yaml.safe_load_all(file.read_text()) if (pod := pod_of(each)))
    return [pytest.param(pod, id=pod["containers"][0]["name"]) for pod in found]


def start(pod: dict[str, Any], name: str) -> None:
    """Start a pod's container as a kubelet has it started: its user, rights, memory, variables and arguments."""
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
    }  # fmt: skip
    memory = container["resources"]["limits"]["memory"].replace("Mi", "m")
    options = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--memory", memory]
    options += ["--user", str(pod["securityContext"]["runAsUser"]), "--network", f"{PROJECT}_default"]
    known = {"NODE_NAME": name, "SYNC_DSN": DSN}
    for variable in (each["name"] for each in container["env"] if not _is_optional(each)):
        options += ["--env", f"{variable}={known[variable]}"]
    said("docker", "run", "--detach", "--name", name, "--hostname", name, *options, IMAGE, *container["args"])


def _is_optional(variable: dict[str, Any]) -> bool:
    return bool(variable["valueFrom"].get("secretKeyRef", {}).get("optional"))


def probe(desk: str, container: dict[str, Any], name: str, path: str) -> bool:
    """Ask as a kubelet does: from outside, by the pod's address."""
    (port,) = (each["containerPort"] for each in container["ports"])
    (network,) = inspected(name)["NetworkSettings"]["Networks"].values()
    asking = f"import urllib.request as r; r.urlopen('http://{network['IPAddress']}:{port}{path}', timeout=2)"
    done = subprocess.run(["docker", "exec", desk, "python", "-c", asking], capture_output=True, check=False)
    return done.returncode == 0


@pytest.mark.parametrize("pod", pods())
def test_a_pod_s_life(pod: dict[str, Any], desk: str) -> None:
    (container,) = pod["containers"]
    name = f"myapp-{container['name']}-5d9-x7"
    start(pod, name)
    try:
        if pod.get("restartPolicy") == "Never":
            assert said("docker", "wait", name).strip() == "0"
            return
        paths = {container[each]["httpGet"]["path"] for each in container if each.endswith("Probe")}
        eventually(lambda: all(probe(desk, container, name, path) for path in paths), "probes pass", limit_sec=60)
        assert probe(desk, container, name, "/metrics")
        if "lifecycle" in container:
            assert "may be stopped" in said("docker", "exec", name, "sh", "-c", DRAIN)
        began = time.monotonic()
        said("docker", "stop", "--time", str(pod.get("terminationGracePeriodSeconds", 30)), name)
        state = inspected(name)["State"]
        assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
        assert time.monotonic() - began < pod.get("terminationGracePeriodSeconds", 30)
    finally:
        said("docker", "rm", "--force", name)
