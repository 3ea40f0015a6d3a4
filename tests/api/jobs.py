"""What tests of `Job` share: small quick settings, bounded waiting, a recorder of callbacks.

Nothing here sleeps for a guessed time: `eventually` asks until it is so, and fails after its limit.
"""

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg

from jobsync import CoordinationConfig, Job
from jobsync.core.hashing import HASH_FUNCTIONS
from jobsync.runtime.clock import boot_sec

LIMIT_SEC = 20.0
TOKENS = 100


def settings(dsn: str, prefix: str, **given: Any) -> CoordinationConfig:
    """Give the defaults with 100 tokens, so that a look at all of them costs nothing."""
    return CoordinationConfig(**{"dsn": dsn, "appname": prefix, "total_tokens": TOKENS, **given})


def eventually(condition: Callable[[], object], what: str = "", *, limit_sec: float = LIMIT_SEC) -> None:
    """Wait until the condition holds; fail when it still does not after the limit."""
    until_sec = boot_sec() + limit_sec
    while not condition():
        assert boot_sec() < until_sec, f"not within {limit_sec:g} s: {what or condition}"
        time.sleep(0.003)


def query(dsn: str, text: str, *args: object) -> list[tuple[Any, ...]]:
    """Run one statement and give its rows, if it has any."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        cursor = conn.execute(text.encode(), args or None)
        return cursor.fetchall() if cursor.description else []


def task_for_each_token(total_tokens: int, hash_function: str = "double_sha256") -> list[str]:
    """Find one task id for each token, in the order of the tokens."""
    token_of = HASH_FUNCTIONS[hash_function]
    found: dict[int, str] = {}
    number = 0
    while len(found) < total_tokens:
        found.setdefault(token_of(f"task-{number}", total_tokens), f"task-{number}")
        number += 1
    return [found[token] for token in range(total_tokens)]


def owned_by(job: Job, total_tokens: int = TOKENS) -> str:
    """Find a task that the job owns now."""
    return next(each for each in task_for_each_token(total_tokens) if job.can_claim_task(each))


@dataclass
class Recorder:
    """Takes note of every callback: what, which tokens, when it began, when it returned."""

    calls: list[tuple[str, frozenset[int]]] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)

    def added(self, tokens: set[int]) -> None:
        self.threads.add(threading.current_thread().name)
        self.calls.append(("added", frozenset(tokens)))

    def removed(self, tokens: set[int]) -> None:
        self.threads.add(threading.current_thread().name)
        self.calls.append(("removed", frozenset(tokens)))

    def rebalanced(self) -> None:
        self.threads.add(threading.current_thread().name)
        self.calls.append(("rebalance", frozenset()))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.calls]

    @property
    def all_callbacks(self) -> dict[str, Callable[..., object]]:
        return {
            "on_tokens_added": self.added,
            "on_tokens_removed": self.removed,
            "on_rebalance": self.rebalanced,
        }


@contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[threading.Thread]:
    """Run work beside the body, and see that it ends without an error."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(60)
    assert not thread.is_alive(), "the work beside the body does not end"
    if errors:
        raise errors[0]


def run_script(text: str, *args: str) -> "subprocess.Popen[str]":
    """Start a program of one's own; its output is read by `communicate`."""
    return subprocess.Popen(
        [sys.executable, "-u", "-c", textwrap.dedent(text), *args], stdout=subprocess.PIPE, text=True
    )
