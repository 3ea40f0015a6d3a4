"""The same measures once more, by other means and without a queue: what the verdict compares with.

`python -m jobsync.cli.demo_queue.control LIMIT FILE` reads one file after the other and writes what it found as JSON.
It runs beside the workers, and gives way to them.
"""

import ast
import hashlib
import json
import os
import sys
from pathlib import Path

from jobsync.cli.demo import stdlib
from jobsync.cli.demo_queue.measure import Measure
from jobsync.cli.processes import watch_lifeline


class _Functions(ast.NodeVisitor):
    """Counts the functions of a tree."""

    def __init__(self) -> None:
        self.found = 0

    def generic_visit(self, node: ast.AST) -> None:
        self.found += isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        super().generic_visit(node)


def control(path: Path) -> Measure:
    """Measure one file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        lines = sum(1 for _ in file)
    return Measure(digest, path.stat().st_size, lines, _functions(path))


def _functions(path: Path) -> int:
    visitor = _Functions()
    try:
        visitor.visit(ast.parse(path.read_bytes()))
    except (SyntaxError, ValueError):
        return 0
    return visitor.found


def write(limit: int, target: Path) -> None:
    """Measure so many files; the target appears when it is complete."""
    root = stdlib.library_dir()
    found = {item: control(root / item) for item in stdlib.module_files(limit)}
    unfinished = target.with_suffix(".part")
    unfinished.write_text(
        json.dumps({item: [m.sha256, m.size_bytes, m.lines, m.functions] for item, m in found.items()})
    )
    unfinished.rename(target)


def read(source: Path) -> dict[str, Measure]:
    """Read what `write` has written."""
    return {item: Measure(*values) for item, values in json.loads(source.read_text()).items()}


if __name__ == "__main__":
    os.nice(10)
    watch_lifeline()
    write(int(sys.argv[1]), Path(sys.argv[2]))
