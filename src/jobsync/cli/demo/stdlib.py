"""The demo's input, found on any machine: the modules of Python's own standard library.

Test suites and installed packages are left out. A file's id is its path below the library's directory, so every
process of the fleet calls it the same.
"""

import ast
import sysconfig
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

LEFT_OUT = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"})


@dataclass(frozen=True, slots=True)
class Counts:
    """What is counted in one file."""

    lines: int
    functions: int
    imports: int


def library_dir() -> Path:
    """Give the directory of the standard library."""
    return Path(sysconfig.get_path("stdlib"))


def module_files(limit: int | None = None) -> list[str]:
    """List the modules' files below the library's directory, in order; at most `limit` of them."""
    root = library_dir()
    found = (path.relative_to(root) for path in sorted(root.rglob("*.py")))
    return [path.as_posix() for path in islice((path for path in found if LEFT_OUT.isdisjoint(path.parts)), limit)]


def count(source: bytes) -> Counts:
    """Parse one file and count its lines, functions (methods too) and imported names.

    A file that is no Python of this version has its lines counted alone.
    """
    lines = source.count(b"\n") + (not source.endswith(b"\n") and bool(source))
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):
        return Counts(lines, 0, 0)
    functions = sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes)
    imports = sum(len(node.names) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom))
    return Counts(lines, functions, imports)
