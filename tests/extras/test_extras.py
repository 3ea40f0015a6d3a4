"""A bare install needs psycopg and no more; what needs an extra says which, where it is first used."""

import importlib.abc
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from jobsync import CoordinationConfig, ExtraMissing, Job, JobQueue
from tests.docs.pages import ROOT, cells, marked

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOWHERE = CoordinationConfig(dsn="host=127.0.0.1 port=1 dbname=none", tracing=False)


class Blocked(importlib.abc.MetaPathFinder):
    """Finds nothing of some packages, as if they were not installed."""

    def __init__(self, *roots: str) -> None:
        self._roots = roots

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        if name.partition(".")[0] in self._roots:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def metrics() -> None:
    Job("a", coordination_config=None).expose_metrics()


def served_metrics() -> None:
    Job("a", coordination_config=None).serve_health(0, host="127.0.0.1", metrics=True)


def traces() -> None:
    JobQueue(CoordinationConfig(dsn="host=127.0.0.1 port=1", tracing=True))


def page() -> None:
    from jobsync.web import dashboard  # noqa: PLC0415 - after the test has blocked what it needs

    dashboard(NOWHERE)


def periodic() -> None:
    JobQueue(NOWHERE).schedule("nightly", "0 3 * * *", "report")


def command() -> None:
    from jobsync.cli import main  # noqa: PLC0415

    main()


USES: dict[str, tuple[tuple[str, ...], Callable[[], Any], type[BaseException]]] = {
    "metrics": (("prometheus_client",), metrics, ExtraMissing),
    "metrics, served": (("prometheus_client",), served_metrics, ExtraMissing),
    "otel": (("opentelemetry",), traces, ExtraMissing),
    "web": (("starlette",), page, ExtraMissing),
    "web, templates": (("jinja2",), page, ExtraMissing),
    "periodic": (("cronsim",), periodic, ExtraMissing),
    "cli": (("typer", "rich"), command, SystemExit),
}


@contextmanager
def loaded_anew(*beginnings: str) -> Iterator[None]:
    """Let what is imported inside be loaded anew; afterwards all modules are those of before, for their parents too."""
    before = {name: module for name, module in sys.modules.items() if name.startswith(beginnings)}
    for name in before:
        del sys.modules[name]
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.startswith(beginnings)]:
            del sys.modules[name]
        sys.modules.update(before)
        for name, module in before.items():
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], child, module)


@pytest.mark.parametrize("use", USES)
def test_what_needs_an_extra_says_which(use: str, monkeypatch: pytest.MonkeyPatch) -> None:
    roots, call, kind = USES[use]
    extra = use.partition(",")[0]
    monkeypatch.setattr(sys, "meta_path", [Blocked(*roots), *sys.meta_path])
    anew = loaded_anew(*roots, "jobsync.cli", "jobsync.web")
    with anew, pytest.raises(kind, match=rf"pip install 'jobsync\[{extra}\]'"):
        call()
    assert extra in PROJECT["optional-dependencies"]


def test_every_extra_that_people_install_is_in_all() -> None:
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras["all"]
    named = set(everything.removeprefix("jobsync[").removesuffix("]").split(","))
    assert named == extras.keys() - {"all", "docs", "dev", "examples"}


def test_the_page_lists_the_extras() -> None:
    listed = {cells(row)[0].strip("`") for row in marked("reference/index.md", "extras")[2:]}
    assert listed == PROJECT["optional-dependencies"].keys() - {"docs", "dev", "examples"}


def loaded_by(code: str) -> set[str]:
    """Name the modules that some code loads, where nothing but psycopg is installed."""
    program = f"""
        import sys

        class Bare:
            @staticmethod
            def find_spec(name, path=None, target=None):
                root = name.partition(".")[0]
                ours = root.startswith(("psycopg", "_")) or root in ("jobsync", "typing_extensions")
                if not ours and root not in sys.stdlib_module_names:
                    raise ModuleNotFoundError("not in a bare install: " + name, name=name)

        before = set(sys.modules)
        sys.meta_path.insert(0, Bare)
        {code}
        print(*(set(sys.modules) - before), sep="\\n")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def ours(modules: set[str]) -> set[str]:
    return {name for name in modules if name.partition(".")[0] == "jobsync"}


def test_a_bare_install_has_every_name_and_psycopg_alone() -> None:
    assert PROJECT["dependencies"] == ["psycopg[binary,pool]>=3.2.3"]
    assert "psycopg" in loaded_by("from jobsync import *")


def test_importing_the_package_loads_nothing_of_it() -> None:
    assert ours(loaded_by("import jobsync")) == {"jobsync"}


def test_settings_and_values_do_without_the_driver() -> None:
    for name in ("CoordinationConfig", "NewJob", "Task", "TokenSet", "LeaseLost"):
        assert not any(each.startswith("psycopg") for each in loaded_by(f"from jobsync import {name}"))


NEEDLESS = (
    "http.server",
    "difflib",
    "jobsync.api.metrics",
    "jobsync.api.tracing",
    "jobsync.cli",
    "jobsync.core.log_catalogue",
    "jobsync.postgres.embedded",
    "jobsync.simulation",
    "jobsync.testing",
    "jobsync.web",
)
"""What only some programs need, and none at its start."""


@pytest.mark.parametrize(
    ("name", "most", "without"),
    [
        ("Job", 45, ("jobsync.core.messages", "jobsync.core.member", "psycopg", "asyncio", "jobsync.core.queue")),
        (
            "JobQueue",
            60,
            ("jobsync.runtime.worker", "jobsync.runtime.engine", "jobsync.api.job.", "jobsync.core.member"),
        ),
        ("AsyncJob", 115, ("jobsync.runtime.worker", "jobsync.core.queue")),
        ("ProcessingWorker", 130, ("jobsync.api.async_job",)),
    ],
)
def test_what_is_imported_is_what_is_needed(name: str, most: int, without: tuple[str, ...]) -> None:
    """No bound on seconds, which are another's on every machine: on modules."""
    modules = loaded_by(f"from jobsync import {name}")
    assert not [each for each in modules if each.startswith((*NEEDLESS, *without))]
    assert len(ours(modules)) <= most, sorted(ours(modules))


PROBES = {
    "": "from jobsync import Job; Job('a', coordination_config=None)",
    "metrics": "from jobsync import Job; Job('a', coordination_config=None).expose_metrics()",
    "otel": (
        "from jobsync import *; c = CoordinationConfig(enabled=False, tracing=True)\n"
        "with Job('a', coordination_config=c) as job: assert [t.id for t in job.tasks(['x'])] == ['x']"
    ),
    "periodic": "from jobsync.core.queue.periodic import *; from jobsync.api.queue_checks import *",
    "web": "from jobsync import *; from jobsync.web import dashboard; dashboard(CoordinationConfig(dsn='host=no'))",
    "cli": "import sys; from jobsync.cli import main; sys.argv = ['jobsync', '--help']; main()",
    "embedded": "from jobsync.postgres.binaries import find_binaries; print(find_binaries())",
    "all": "import jobsync.web.app, jobsync.cli.app, jobsync.api.tracing.process, jobsync.api.metrics.process",
}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel."""
    place = tmp_path_factory.mktemp("wheel")
    _run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(place), str(ROOT)])
    (found,) = place.glob("jobsync-*.whl")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("extra", PROBES)
def test_each_extra_is_enough_in_an_environment_of_its_own(extra: str, wheel: Path, tmp_path: Path) -> None:
    _run([sys.executable, "-m", "venv", str(tmp_path / "venv")])
    python = str(tmp_path / "venv" / "bin" / "python")
    _run([python, "-m", "pip", "install", "--quiet", f"{wheel}[{extra}]" if extra else str(wheel)])
    _run([python, "-c", PROBES[extra]], tmp_path)
    listed = _run([python, "-m", "pip", "list", "--format=freeze"])
    names = {line.partition("==")[0].lower() for line in listed.split()} - {"pip", "setuptools"}
    if not extra:
        assert names == {"jobsync", "psycopg", "psycopg-binary", "psycopg-pool", "typing-extensions"} or names == {
            "jobsync", "psycopg", "psycopg-binary", "psycopg-pool", "typing_extensions"
        }  # fmt: skip


def _run(command: list[str], place: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500, cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
