"""What a worker adds to a process: private memory (USS), from the kernel's own books.

In one fresh process: `import jobsync` (which imports the pool) and one plain psycopg connection open, no TLS; the
sum of the Private_ lines of smaps_rollup. Then the connection is closed, a `Job` is entered in a fleet of three, and
after the idle time the sum is taken again; then once more after ten thousand different ids were asked for, so
that the caches of answers are as full as they get.
"""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median

import psycopg

from bench.context import Context
from bench.figures import Figure, command_for, rounded
from jobsync.postgres.schema import ensure_schema

FLEET = 3
_ROOT = Path(__file__).parent.parent


def memory(context: Context) -> list[Figure]:
    """Measure fleets of three at both sizes."""
    return [*_memory(context, 10_000, asked_mb=1.0), *_memory(context, 1_000_000, asked_mb=2.0)]


def _memory(context: Context, total_tokens: int, *, asked_mb: float) -> list[Figure]:
    idle_sec = 60 if not context.quick else 10
    processes = []
    for _ in range(context.repeats(3, 1)):
        prefix = context.new_prefix()
        with psycopg.connect(context.dsn, autocommit=True) as conn:
            ensure_schema(conn, prefix)
        processes += [_start(context.dsn, prefix, f"n{number}", total_tokens, idle_sec) for number in range(FLEET)]
    told = [json.loads(process.communicate(timeout=idle_sec + 60)[0]) for process in processes]
    idle = [(each["idle"] - each["plain"]) / 1024 for each in told]
    full = [(each["asked"] - each["plain"]) / 1024 for each in told]
    plain = median(each["plain"] for each in told) / 1024
    details = {"idle_mb": rounded(idle), "caches_full_mb": rounded(full), "before_mb": round(plain, 2)}
    command, name = command_for("memory"), f"private memory added, {total_tokens:,} tokens"
    return [
        Figure(
            f"{name}, caches full",
            f"{asked_mb:g} MB",
            _said(full),
            len(full),
            median(full) <= asked_mb,
            command,
            details,
        ),
        Figure(f"  {idle_sec} s idle, no id asked for", "-", _said(idle), len(idle), None, command),
    ]


def _said(values: list[float]) -> str:
    return f"median {median(values):.2f} MB ({min(values):.2f} to {max(values):.2f})"


def _start(dsn: str, prefix: str, name: str, total_tokens: int, idle_sec: float) -> "subprocess.Popen[str]":
    arguments = [dsn, prefix, name, str(total_tokens), str(idle_sec), str(FLEET)]
    return subprocess.Popen(
        [sys.executable, "-m", "bench.memory_worker", *arguments], stdout=subprocess.PIPE, cwd=_ROOT, text=True
    )
