"""Lint the files of `deploy/`: `make lint-deploy`. Exit status 0 if every linter that is here has nothing to say.

* YAML: yamllint.
* Kubernetes: kubernetes-validate, strictly, from the oldest to the newest version that is meant. It has no schemas of
  KEDA's objects: tests/deploy looks at those.
* Compose: the models of the Compose specification, which refuse every key that they do not know.
* Docker: hadolint, where there is a wheel of it for this machine.
* systemd: `systemd-analyze verify`, where there is one; and that a unit of several instances starts what the image
  starts, each with a name and a port of its own.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import compose_pydantic
import yaml

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
KUBERNETES = ("1.29", "1.33", "1.37")
OUR_OWN = ("keda.yaml",)
# The unit names a program of the machine that it is meant for.
ELSEWHERE = "is not executable: No such file or directory"


def complaints() -> Iterator[str]:
    """Give what the linters say, a text each."""
    yield from _said(BIN / "yamllint", "--strict", "-c", HERE / "yamllint.yaml", HERE)
    manifests = sorted(file for file in (HERE / "kubernetes").glob("*.yaml") if file.name not in OUR_OWN)
    for version in KUBERNETES:
        yield from _said(BIN / "kubernetes-validate", "--quiet", "--strict", "-k", version, *manifests)
    yield from _compose(HERE / "docker" / "compose.yaml")
    if (hadolint := BIN / "hadolint").exists():
        yield from _said(hadolint, HERE / "docker" / "Dockerfile")
    else:
        sys.stderr.write("lint-deploy: there is no hadolint for this machine: the Dockerfile was not looked at\n")
    image = (HERE / "docker" / "Dockerfile").read_text()
    for unit in sorted((HERE / "systemd").glob("*@.service")):
        yield from (f"{unit.name}: {what}" for what in _instances(unit.read_text(), image))
    if systemd := shutil.which("systemd-analyze"):
        for unit in sorted((HERE / "systemd").glob("*.service")):
            said = _said(systemd, "verify", "--man=no", unit)
            lines = [line for text in said for line in text.splitlines() if not line.endswith(ELSEWHERE)]
            yield from lines
    else:
        sys.stderr.write("lint-deploy: there is no systemd-analyze here: the unit was not looked at\n")


def _said(*command: str | Path) -> Iterator[str]:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    text = (done.stdout + done.stderr).strip()
    if done.returncode:
        yield text or f"{command[0]} ended with exit status {done.returncode}"


def _instances(unit: str, image: str) -> Iterator[str]:
    """Say where two instances of a unit would want the same thing, or run another worker than the image does."""
    arguments = re.findall(r"^ExecStart=\S+ (.*)$", unit, re.MULTILINE)
    for line in arguments:
        words = line.split()
        target = json.loads(re.findall(r"^CMD (.*)$", image, re.MULTILINE)[-1])[:2]
        if words[:2] != target:
            yield f"it starts {' '.join(words[:2])}, and the image {' '.join(target)}"
        if "%i" not in dict(pairwise(words)).get("--worker-id", ""):
            yield "its --worker-id is without %i: two instances would want one name"
    if not arguments:
        yield "it has no ExecStart"
    if not re.search(r"^Environment=HEALTH_PORT=\S*%i", unit, re.MULTILINE):
        yield "its HEALTH_PORT is without %i: two instances would want one port"


def _compose(file: Path) -> Iterator[str]:
    given = yaml.safe_load(file.read_text())
    known = {name: value for name, value in given.items() if not name.startswith("x-")}
    try:
        compose_pydantic.ComposeSpecification.model_validate(known)
    except ValueError as error:
        yield f"{file.name}: {error}"


if __name__ == "__main__":
    found = list(complaints())
    for text in found:
        sys.stderr.write(f"{text}\n")
    sys.exit(1 if found else 0)
