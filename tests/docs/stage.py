"""Where the Python of a page is played: all its blocks, in order, as one program against a real server.

What a page prints runs as it stands, but for three things: its settings name a server of ours and few tokens, the
user's own functions come from the test, and `job.wait()` returns once what the test waits for has come true.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Self

import psycopg

import jobsync
from jobsync import CoordinationConfig, Job, ProcessingWorker
from tests.api.jobs import eventually
from tests.docs.pages import blocks_of

WHERE = ("dsn", "session_dsn", "host", "port", "dbname", "user", "password", "appname")
FEW_TOKENS = 60
LIMIT_SEC = 20.0


@dataclass
class Stage:
    """A server, and the page that is played on it."""

    dsn: str
    names: dict[str, Any] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def settings(self, **given: Any) -> CoordinationConfig:
        """Take the settings of a page, on our server."""
        kept = {name: value for name, value in given.items() if name not in WHERE}
        return CoordinationConfig(**{"total_tokens": FEW_TOKENS, **kept, "dsn": self.dsn})

    def play(self, page: str, *, until: Callable[[], object] = lambda: True, **user: Any) -> dict[str, Any]:
        """Run the Python of a page with the user's functions; give the names that it leaves behind."""
        self.names.update(user, print=lambda *words: self.told.append(" ".join(map(str, words))))
        with shown_as(self.module(until)):
            for block in blocks_of(page):
                if block.language == "python" and block.title is None:
                    exec(compile(block.text, str(block), "exec"), self.names)
        return self.names

    def module(self, until: Callable[[], object]) -> ModuleType:
        """Give a module that stands in for jobsync while a page imports from it."""

        class PlayedJob(Job):
            """A job whose wait ends when the test has seen enough."""

            def wait(self, timeout: float | None = None) -> bool:
                if timeout is None:
                    eventually(until, "what the page is to bring about", limit_sec=LIMIT_SEC)
                    return True
                return bool(until()) or super().wait(min(timeout, 0.02))

        class PlayedWorker(ProcessingWorker):
            """A worker whose run ends when the test has seen enough."""

            def run(self) -> None:
                with self:
                    eventually(until, "what the page is to bring about", limit_sec=LIMIT_SEC)

        module = ModuleType("jobsync")
        module.__dict__.update({name: getattr(jobsync, name) for name in jobsync.__all__}, __path__=[])
        module.__dict__.update(Job=PlayedJob, ProcessingWorker=PlayedWorker, CoordinationConfig=self.settings)
        return module

    def rows(self, query: str, *args: object) -> list[tuple[Any, ...]]:
        """Ask the page's database."""
        with psycopg.connect(self.dsn, autocommit=True) as conn:
            cursor = conn.execute(query.encode(), args or None)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def rival(self, name: str = "rival-01") -> Iterator[Job]:
        """Let another node join, which takes half of the tokens."""
        with Job(name, coordination_config=self.settings()) as job:
            yield job


@contextmanager
def shown_as(module: ModuleType) -> Iterator[None]:
    """Let `import jobsync` give this module; what lies below it stays what it is."""
    real = sys.modules["jobsync"]
    module.__path__ = real.__path__
    sys.modules["jobsync"] = module
    try:
        yield
    finally:
        sys.modules["jobsync"] = real


class Rivalry:
    """A rival that joins when the page has its tokens and stays until the page is over.

    `over` is what a page waits for: the first node held something, and the rival holds a part of it now.
    """

    def __init__(self, stage: Stage, ready: Callable[[], object], name: str = "rival-01") -> None:
        self._stage, self._ready, self._name = stage, ready, name
        self._end = threading.Event()
        self._has_half = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        eventually(self._ready, "the page's node has begun", limit_sec=LIMIT_SEC)
        with self._stage.rival(self._name) as job:
            eventually(lambda: len(job.my_tokens) == FEW_TOKENS // 2, "the rival has its half")
            self._has_half.set()
            self._end.wait(LIMIT_SEC)

    def over(self) -> bool:
        return self._has_half.is_set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(60)


class Countdown:
    """True at the n-th question: lets a loop around `job.wait(timeout)` go round so many times."""

    def __init__(self, rounds: int) -> None:
        self._left = rounds

    def __call__(self) -> bool:
        self._left -= 1
        return self._left < 0
