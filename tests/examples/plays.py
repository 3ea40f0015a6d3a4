"""Helpers: an example as a user starts it, in a process of its own, and what it leaves in the database."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg

ROOT = Path(__file__).parents[2]
LIMIT_SEC = 90.0


def start_play(name: str, dsn: str) -> "subprocess.Popen[str]":
    """Start `python examples/NAME/play.py` from somewhere else, on this server."""
    return _start([str(ROOT / "examples" / name / "play.py")], dsn)


def play(name: str, dsn: str) -> tuple[int, str]:
    """Play an example; give its exit status and all that it printed."""
    return _result(start_play(name, dsn))


def play_with_worker(name: str, dsn: str, worker: Path) -> tuple[int, str]:
    """Play an example with another worker in place of its own."""
    code = f"from examples.{name} import play; from pathlib import Path; import sys; "
    code += f"play.WORKER = Path({str(worker)!r}); sys.exit(play.main())"
    return _result(_start(["-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"], dsn))


def _start(arguments: list[str], dsn: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",
        env={**os.environ, "SYNC_DSN": dsn},
    )


def _result(process: "subprocess.Popen[str]") -> tuple[int, str]:
    with process:
        try:
            out, _ = process.communicate(timeout=LIMIT_SEC)
        except subprocess.TimeoutExpired:
            process.terminate()
            raise
    return process.returncode, out


def schemas(dsn: str, name: str) -> list[str]:
    """List the schemas of this example's plays."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        rows = conn.execute("select nspname from pg_namespace where starts_with(nspname, %s)", [f"example_{name}_"])
        return [schema for (schema,) in rows]


def broken(out: str) -> list[str]:
    """List the lines of the verdict that say that a promise was broken."""
    return [line for line in out.splitlines() if line.startswith("BAD")]
