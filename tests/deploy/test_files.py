"""The files of `deploy/` name only what the program has: commands, options, variables, ports, paths, times."""

import re
import shlex
import threading
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from typer.main import get_command

from jobsync import JobQueue, NewJob, ProcessingWorker
from jobsync.api.health_server import answer
from jobsync.cli.app import app
from jobsync.cli.shared import seconds_of
from jobsync.web.app import dashboard
from tests.api.jobs import eventually, query, settings
from tests.deploy.parts import DEPLOY, DOCKERFILE, DRAIN, WORKER, instruction, load_app, pod_of
from tests.servers import free_port

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
COMPOSE = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text())
ORCHESTRATORS = {"NODE_NAME", "JOBSYNC_PASSWORD"}  # Named by these files themselves, for the worker or for Compose.


def documents() -> list[dict[str, Any]]:
    return [each for file in MANIFESTS for each in yaml.safe_load_all(file.read_text()) if each]


def containers() -> Iterator[dict[str, Any]]:
    for document in documents():
        if (pod := pod_of(document)) is not None:
            yield from pod["containers"]


def unit_settings(unit: Path) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.MULTILINE))


def command_lines() -> list[list[str]]:
    """Give every command line of `jobsync` that the files would run, without the name of the program."""
    lines = [instruction("CMD"), *(each["args"] for each in containers())]
    lines += [service["command"] for name, service in COMPOSE["services"].items() if name != "postgres"]
    lines += [shlex.split(unit_settings(unit)["ExecStart"])[1:] for unit in UNITS]
    return [*lines, shlex.split(DRAIN)[2:]]


@pytest.mark.parametrize("line", command_lines(), ids=" ".join)
def test_every_command_and_option_exists(line: list[str]) -> None:
    name, *arguments = line
    get_command(app).commands[name].make_context(name, arguments)  # type: ignore[attr-defined]


def test_what_starts_is_this_program() -> None:
    assert instruction("ENTRYPOINT") == ["jobsync"]
    assert all(Path(shlex.split(unit_settings(unit)["ExecStart"])[0]).name == "jobsync" for unit in UNITS)
    assert shlex.split(DRAIN)[:2] == ["exec", "jobsync"]


def test_every_variable_is_one_that_is_read() -> None:
    sources = "".join(file.read_text() for file in (DEPLOY.parent / "src").rglob("*.py"))
    read = set(re.findall(r'"((?:SYNC|JOBSYNC)_[A-Z_]+)"', sources)) | ORCHESTRATORS
    for file in (*MANIFESTS, *UNITS, DOCKERFILE, DEPLOY / "docker" / "compose.yaml", WORKER):
        named = set(re.findall(r"\b((?:SYNC|JOBSYNC|NODE)_[A-Z_]+)\b", file.read_text()))
        assert named <= read, f"{file.name}: {named - read}"


def test_ports_are_those_that_are_listened_on() -> None:
    port = load_app().HEALTH_PORT
    assert instruction("EXPOSE") == [str(port)]
    assert f"C('127.0.0.1', {port}, timeout=2); c.request('GET', '/health/ready')" in DOCKERFILE.read_text()
    for container in containers():
        ports = {each["name"]: each["containerPort"] for each in container.get("ports", ())}
        arguments = dict(zip(container["args"], container["args"][1:], strict=False))
        expected = {"worker": {"health": port}, "dashboard": {"http": int(arguments.get("--port", 0))}, "migrate": {}}
        assert ports == expected[container["name"]]
    for service in (each for each in documents() if each["kind"] == "Service"):
        (named,) = service["spec"]["ports"]
        assert str(named["port"]) == service["metadata"]["annotations"]["prometheus.io/port"]


class Well:
    """Whoever is asked, and is well."""

    is_live = is_ready = True

    def as_dict(self) -> dict[str, Any]:
        return {}


def test_the_instances_of_a_unit_run_this_worker_each_on_a_port_of_its_own(
    monkeypatch: pytest.MonkeyPatch, server_dsn: str, prefix: str
) -> None:
    monkeypatch.setenv("SYNC_DSN", server_dsn)
    monkeypatch.setenv("SYNC_SQL_APPNAME", prefix)
    for unit in (unit for unit in UNITS if "@" in unit.stem):
        name, value = unit_settings(unit)["Environment"].split("=")
        words = shlex.split(unit_settings(unit)["ExecStart"])
        assert words[1:3] == instruction("CMD")[:2]
        ports, ids = [], []
        for port in (free_port(), free_port()):
            monkeypatch.setenv(name, value.replace("%i", str(port)))
            ids.append(words[words.index("--worker-id") + 1].replace("%i", str(port)))
            app = load_app()
            ports.append(app.HEALTH_PORT)
            assert isinstance(getattr(app, words[2].partition(":")[2])(), ProcessingWorker)
        assert (len(set(ports)), len(set(ids))) == (2, 2)


def test_paths_are_answered() -> None:
    page = {_path_of(route) for route in dashboard(None, auth=None, allowed_hosts=("*",)).routes}
    for container in containers():
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if probe not in container:
                continue
            path, port = container[probe]["httpGet"]["path"], container[probe]["httpGet"]["port"]
            assert port in {each["name"] for each in container["ports"]}
            if container["name"] == "worker":
                assert answer(Well(), path) == (200, {"status": "alive"} if path.endswith("live") else {})
            else:
                assert f"{Path(path).parent}/{{name}}" in page
                assert (DEPLOY.parent / "src/jobsync/web" / path.lstrip("/")).is_file()
    assert "/fleet.json" in page
    asked = COMPOSE["services"]["dashboard"]["healthcheck"]["test"][-1]
    assert "C('127.0.0.1', 8090, timeout=2); c.request('GET', '/fleet.json')" in asked


def _path_of(route: Any) -> str:
    return str(getattr(route, "path", ""))


def test_whoever_selects_pods_finds_them() -> None:
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for document in documents():
        by_kind.setdefault(document["kind"], []).append(document)
    deployments = by_kind["Deployment"]
    labels = {each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"] for each in deployments}
    selectors = [each["spec"]["selector"]["matchLabels"] for each in (*deployments, *by_kind["PodDisruptionBudget"])]
    selectors += [each["spec"]["selector"] for each in by_kind["Service"]]
    for wanted in selectors:
        assert sum(wanted.items() <= found.items() for found in labels.values()) == 1, wanted
    (scaled,) = by_kind["ScaledObject"]
    assert scaled["spec"]["scaleTargetRef"]["name"] in labels
    accounts = {each["metadata"]["name"] for each in by_kind["ServiceAccount"]}
    named = {pod.get("serviceAccountName") for each in documents() if (pod := pod_of(each))}
    assert named - {None} == accounts


def test_nobody_is_killed_before_a_worker_has_had_its_time() -> None:
    stop_sec = load_app().STOP_SEC
    (pod,) = (pod for each in documents() if (pod := pod_of(each)) and pod["containers"][0]["name"] == "worker")
    words = shlex.split(DRAIN)
    wait_sec, for_sec = (seconds_of(words[words.index(option) + 1]) for option in ("--wait", "--for"))
    assert pod["terminationGracePeriodSeconds"] > wait_sec + stop_sec
    assert for_sec >= pod["terminationGracePeriodSeconds"]
    assert seconds_of(COMPOSE["services"]["worker"]["stop_grace_period"]) > stop_sec
    assert all(float(unit_settings(unit)["TimeoutStopSec"]) > stop_sec for unit in UNITS)


def test_pods_run_as_nobody_special() -> None:
    """What the restricted one of Kubernetes' Pod Security Standards asks for, which refuses all others."""
    user = instruction("USER")[0]
    assert int(user) > 0
    for document in documents():
        if (pod := pod_of(document)) is None:
            continue
        assert pod["securityContext"]["runAsNonRoot"]
        assert str(pod["securityContext"]["runAsUser"]) == user
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            secret = [each for each in container["env"] if each["name"] == "SYNC_DSN"]
            assert [list(each["valueFrom"]) for each in secret] == [["secretKeyRef"]], "no password in a manifest"


def test_the_scaler_counts_what_waits(server_dsn: str, prefix: str) -> None:
    (scaled,) = (each for each in documents() if each["kind"] == "ScaledObject")
    (trigger,) = scaled["spec"]["triggers"]
    counted = trigger["metadata"]["query"].replace("sync_", prefix)
    assert float(trigger["metadata"]["targetQueryValue"]) > 0
    with JobQueue(settings(server_dsn, prefix)) as queue:
        for number in range(3):
            queue.enqueue("digest", {"text": str(number)})
        queue.enqueue("digest", {"text": "in line"}, affinity="one")
        queue.enqueue("digest", {"text": "later"}, run_at=timedelta(hours=1))
        assert query(server_dsn, counted) == [(4,)]


def test_a_scaler_of_long_jobs_counts_what_runs(server_dsn: str, prefix: str) -> None:
    (added,) = re.findall(r'"\+ (\(select .*\))"', (DEPLOY / "kubernetes" / "keda.yaml").read_text())
    counted = f"select {added}".replace("sync_", prefix)
    with JobQueue(settings(server_dsn, prefix)) as queue:
        worker = ProcessingWorker(settings(server_dsn, prefix), max_concurrent_jobs=2)
        go_on = threading.Event()
        worker.handles("wait")(lambda _: go_on.wait(60))
        queue.enqueue_many([NewJob("wait"), NewJob("wait")])
        with worker:
            eventually(lambda: query(server_dsn, counted) == [(2,)])
            go_on.set()


def test_a_database_that_is_away_keeps_no_pod_where_it_is() -> None:
    (budget,) = (each for each in documents() if each["kind"] == "PodDisruptionBudget")
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_the_image_is_built_from_what_it_is_given() -> None:
    allowed = set((DEPLOY / "docker" / "Dockerfile.dockerignore").read_text().split())
    copied = [line.split()[1:-1] for line in DOCKERFILE.read_text().splitlines() if re.match(r"COPY (?!--)", line)]
    root = DEPLOY.parent
    for name in (name for each in copied for name in each):
        assert f"!{name}" in allowed
        assert (root / name).exists()


def test_the_image_has_every_extra_that_a_worker_may_ask_for() -> None:
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
    elsewhere = {"all", "dev", "docs", "embedded", "examples"}
    for named in re.findall(r"\[([a-z,]+)\]\"", DOCKERFILE.read_text()):
        assert set(named.split(",")) == project["optional-dependencies"].keys() - elsewhere


def test_the_page_shows_every_file_that_it_opens() -> None:
    page = (DEPLOY.parent / "docs" / "operate" / "deployment.md").read_text()
    opened = re.findall(
        r'^\?\?\? abstract "(deploy/[^"]+)"\n\n    ```\{?\S+ title="[^"]+"\}?\n    (.*)\n    ```$', page, re.MULTILINE
    )
    assert len(opened) == page.count('abstract "deploy/') > 4
    assert [line for _, line in opened] == [f'--8<-- "{path}"' for path, _ in opened]
