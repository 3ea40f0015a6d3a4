"""What `jobsync` exports: loaded at first use, and the same to people, programs and type checkers."""

import ast
import subprocess
import sys
from pathlib import Path

import jobsync


def test_every_exported_name_is_there_and_no_other() -> None:
    for name in jobsync.__all__:
        assert getattr(jobsync, name) is not None
    assert set(jobsync.__all__) <= set(dir(jobsync))
    assert not hasattr(jobsync, "Jop")


def test_type_checkers_are_told_the_same_homes() -> None:
    source = Path(str(jobsync.__file__)).read_text(encoding="utf-8")
    told = {
        name.name: node.module
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("jobsync.")
        for name in node.names
    }
    assert told == jobsync._HOME_OF
    assert set(told) == set(jobsync.__all__)


def test_the_package_alone_loads_no_driver() -> None:
    code = "import sys, jobsync; sys.exit('psycopg' in sys.modules or 'asyncio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
