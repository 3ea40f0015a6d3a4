"""What the files of `deploy/` consist of."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml  # type: ignore[import-untyped]

DEPLOY = Path(__file__).parents[2] / "deploy"
DOCKERFILE = DEPLOY / "docker" / "Dockerfile"
WORKER = DEPLOY / "docker" / "worker.py"


def instruction(name: str) -> list[str]:
    """Give the words of an instruction of the Dockerfile: of the last, if there are several."""
    found = re.findall(rf"^{name} (.*)$", DOCKERFILE.read_text(), re.MULTILINE)[-1]
    words = json.loads(found) if found.startswith("[") else found.split()
    return [str(word) for word in words]


def load_app() -> ModuleType:
    """Import the worker of the image."""
    spec = importlib.util.spec_from_file_location("image_worker", WORKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pod_of(document: dict[str, Any]) -> dict[str, Any] | None:
    """Give the pod that an object of Kubernetes makes."""
    pod: dict[str, Any] | None = document["spec"].get("template", {}).get("spec") if "spec" in document else None
    return pod


def _drain() -> str:
    documents = yaml.safe_load_all((DEPLOY / "kubernetes" / "worker.yaml").read_text())
    (pod,) = (pod for document in documents if (pod := pod_of(document)))
    shell, flag, line = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert (shell, flag) == ("sh", "-c")
    return str(line)


DRAIN = _drain()
