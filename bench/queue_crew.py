"""Worker processes for the benches of the queue, and the little SQL that tells when they are through."""

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

from bench.context import Context
from jobsync import CoordinationConfig, JobQueue

ROOT = Path(__file__).parent.parent
LOOK_SEC = 0.02
LIMIT_SEC = 180.0


def boot_sec() -> float:
    """Give the clock that all processes of the machine share."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Speaker:
    """A process that speaks JSON lines."""

    def __init__(self, command: list[str], *, cwd: Path = ROOT) -> None:
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=cwd)
        self.said: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                self.said.put(json.loads(line))

    def hear(self, what: str, limit_sec: float = 30.0) -> dict[str, Any]:
        """Wait for the next answer of a kind; others are passed over."""
        until_sec = boot_sec() + limit_sec
        while True:
            said = self.said.get(timeout=max(0.01, until_sec - boot_sec()))
            if what in said:
                return said

    def all_heard(self, what: str) -> list[dict[str, Any]]:
        """Give all answers of a kind so far; others are passed over."""
        heard = []
        while not self.said.empty():
            said = self.said.get()
            if what in said:
                heard.append(said)
        return heard

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        self.process.terminate()
        self.process.wait(60)
        self._reader.join(10)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        self._reader.join(10)


class Crew:
    """One prefix, its queue, and its workers."""

    def __init__(self, context: Context) -> None:
        self.prefix = context.new_prefix()
        self.dsn = context.dsn
        self.queue = JobQueue(CoordinationConfig(dsn=context.dsn, appname=self.prefix))
        self.queue.counts()  # makes the tables
        # By index: a look at an emptied table would read all that was deleted, a hundred times a second.
        self.conn = psycopg.connect(context.dsn, autocommit=True, options="-c enable_seqscan=off")
        self.workers: list[Speaker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.kill()
        self.queue.close()
        self.conn.close()

    def start(self, count: int = 1, concurrency: int = 1) -> list[Speaker]:
        """Start workers and wait until they work."""
        command = [sys.executable, "-m", "bench.queue_worker", self.dsn, self.prefix, str(concurrency)]
        started = [Speaker(command) for _ in range(count)]
        self.workers += started
        for worker in started:
            worker.hear("ready", 60)
        return started

    def until_begun(self, job: int) -> Speaker:
        """Wait until one of the workers says that it began a job; give that worker."""
        until_sec = boot_sec() + LIMIT_SEC
        while boot_sec() < until_sec:
            for worker in self.workers:
                if any(said["begun"] == job for said in worker.all_heard("begun")):
                    return worker
            time.sleep(LOOK_SEC)
        raise TimeoutError(f"job {job} was not begun")

    def dismiss(self) -> None:
        """Kill all workers."""
        for worker in self.workers:
            worker.kill()
        self.workers = []

    def stop(self) -> None:
        """Have all workers leave gracefully."""
        for worker in self.workers:
            worker.stop()
        self.workers = []

    def ask(self, sql: str) -> Any:
        """Read one value; `{p}` stands for the prefix."""
        row = self.conn.execute(sql.replace("{p}", self.prefix).encode()).fetchone()
        assert row is not None
        return row[0]

    def until(self, condition: Callable[[], bool], limit_sec: float = LIMIT_SEC) -> float:
        """Wait for a condition; give the time at which it was seen."""
        until_sec = boot_sec() + limit_sec
        while not condition():
            if boot_sec() > until_sec:
                raise TimeoutError("the queue did not come to rest in time")
            time.sleep(LOOK_SEC)
        return boot_sec()

    def is_empty(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self.ask(
            "select exists (select from {p}job_ready) or exists (select from {p}job_gated) "
            "or exists (select from {p}job_later) or exists (select from {p}job_lease)"
        )
