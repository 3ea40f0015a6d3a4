"""What `jobsync` exports: loaded at first use, and the same to people, programs and type checkers."""

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import jobsync
import jobsync.postgres
import jobsync.runtime


def test_every_exported_name_is_there_and_no_other() -> None:
    for name in jobsync.__all__:
        assert getattr(jobsync, name) is not None
    assert set(jobsync.__all__) <= set(dir(jobsync))
    assert not hasattr(jobsync, "Jop")


@pytest.mark.parametrize("package", [jobsync, jobsync.postgres, jobsync.runtime], ids=lambda it: it.__name__)
def test_type_checkers_are_told_the_same_homes(package: ModuleType) -> None:
    source = Path(str(package.__file__)).read_text(encoding="utf-8")
    told = {
        (name.name, str(node.module))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module != "jobsync.core.first_use"
        for name in node.names
        if str(node.module).startswith("jobsync.")
    }
    homes: dict[str, str] = vars(package)["_HOMES"]
    assert told == {(name, home) for home, names in homes.items() for name in names.split()}
    assert sorted(package.__all__) == sorted(name for name, _ in told)
    assert all(getattr(package, name) is not None for name in package.__all__)


def test_the_package_alone_loads_no_driver() -> None:
    code = "import sys, jobsync; sys.exit('psycopg' in sys.modules or 'asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
