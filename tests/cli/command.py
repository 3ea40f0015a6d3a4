"""Helpers: the command as a user calls it, in a process of its own, and conditions to wait for."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.children import Child

LIMIT_SEC = 60.0


def clean_environment() -> dict[str, str]:
    """Give the environment without any setting of jobsync in it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SYNC_")}


def start(*arguments: str, cwd: Path | None = None) -> Child:
    """Start `python -m jobsync ...`."""
    return Child(
        [sys.executable, "-m", "jobsync", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=clean_environment(),
    )


def call(*arguments: str, cwd: Path | None = None) -> tuple[int, str, str]:
    """Run the command; give its exit status, its output, and its errors."""
    with start(*arguments, cwd=cwd) as process:
        out, err = process.communicate(timeout=LIMIT_SEC)
        return process.returncode, out, err


def wait_for(condition: Callable[[], object], limit_sec: float = LIMIT_SEC) -> None:
    """Wait until a condition holds, at most so long."""
    until_sec = time.monotonic() + limit_sec
    while not condition():
        assert time.monotonic() < until_sec, "the condition never held"
        threading.Event().wait(0.02)
