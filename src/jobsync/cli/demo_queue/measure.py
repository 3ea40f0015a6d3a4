"""The work: what is measured of one file."""

import hashlib
from dataclasses import dataclass

from jobsync.cli.demo import stdlib


@dataclass(frozen=True, slots=True)
class Measure:
    """A file's SHA-256, its size, and what its syntax tree says."""

    sha256: str
    size_bytes: int
    lines: int
    functions: int


def measure(item: str) -> Measure:
    """Measure one file of the standard library."""
    source = (stdlib.library_dir() / item).read_bytes()
    counts = stdlib.count(source)
    return Measure(hashlib.sha256(source).hexdigest(), len(source), counts.lines, counts.functions)
