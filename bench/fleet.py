"""Real processes in a fleet: start them, let them enter, stop, kill and pause them, and read what they answered."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

from bench.intervals import Interval, Log, LogFile
from jobsync import TokenSet
from jobsync.core.pool import pool_of
from jobsync.postgres.schema import ensure_schema

LIMIT_SEC = 60.0
_HOW_SETTLED = """
select (select count(*) from sync_node where state <> 'fenced'), count(*), count(*) filter (where t.tokens = coalesce(
    (select range_agg(r) from sync_grant g, unnest(g.tokens) r where g.node = t.node), '{}'))
from sync_target t
"""
_ROOT = Path(__file__).parent.parent


def boot_sec() -> float:
    """Read the clock that all processes of the machine share."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def wall_minus_boot_sec() -> float:
    """Give what turns the server's timestamps into readings of the boot clock."""
    return time.clock_gettime(time.CLOCK_REALTIME) - boot_sec()


def wait_until(
    condition: Callable[[], bool], what: str, *, limit_sec: float = LIMIT_SEC, every_sec: float = 0.01
) -> None:
    """Wait for a condition; RuntimeError that says what did not happen."""
    end_sec = boot_sec() + limit_sec
    while not condition():
        if boot_sec() > end_sec:
            raise RuntimeError(f"after {limit_sec:g} s still not so: {what}")
        time.sleep(every_sec)


@dataclass(frozen=True, slots=True)
class Plan:
    """What every worker of a fleet is started with."""

    dsn: str
    prefix: str
    directory: Path
    settings: dict[str, Any]
    probe_sec: float | None = 0.001
    handle_signals: bool = False
    trusting: bool = False


class Worker:
    """One process with one job or several."""

    def __init__(self, plan: Plan, names: Sequence[str]) -> None:
        self.names = tuple(names)
        path = plan.directory / f"{plan.prefix}{names[0]}.log"
        self.log = LogFile(path)
        spec = {
            "dsn": plan.dsn, "prefix": plan.prefix, "names": list(names), "settings": plan.settings, "log": str(path),
            "probe_sec": plan.probe_sec, "handle_signals": plan.handle_signals, "trusting": plan.trusting,
        }  # fmt: skip
        with path.with_suffix(".err").open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.worker", json.dumps(spec)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, cwd=_ROOT, text=True,
            )  # fmt: skip
        self._errors = path.with_suffix(".err")
        self._events: dict[str, float] = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            self._events[told["event"]] = told["at"]

    @property
    def pid(self) -> int:
        """The process number."""
        return self._process.pid

    def wait_for(self, event: str) -> float:
        """Wait until the worker told of an event; give the instant at which it did."""
        wait_until(lambda: event in self._events or self._died(), f"{self.names[0]} {event}", every_sec=0.002)
        if event not in self._events:
            raise RuntimeError(f"worker {self.names[0]} died:\n{self._errors.read_text()[-2000:]}")
        return self._events[event]

    def _died(self) -> bool:
        return self._process.poll() is not None and "left" not in self._events

    def enter(self) -> None:
        """Let the jobs enter, once the process has imported what it needs."""
        self.wait_for("ready")
        self._tell("enter")

    def stop(self) -> float:
        """Call `stop()` in the process; give the instant."""
        at = boot_sec()
        self._tell("stop")
        return at

    def signal(self, number: int) -> float:
        """Send a signal; give the instant just before."""
        at = boot_sec()
        self._process.send_signal(number)
        return at

    def kill(self) -> float:
        """Send SIGKILL; give the instant just before."""
        at = self.signal(signal.SIGKILL)
        self._process.wait()
        return at

    def _tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def close(self) -> None:
        """End the process, gracefully where it lives."""
        if self._process.poll() is None:
            assert self._process.stdin is not None
            self._process.send_signal(signal.SIGCONT)
            self._tell("stop" if "entered" in self._events else "")
            self._process.stdin.close()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


class Fleet:
    """The workers of one prefix, and one connection that looks at them from outside."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.workers: list[Worker] = []
        self.gone: list[Worker] = []
        self._standby: list[Worker] = []
        self._count = 0
        self.conn = psycopg.connect(plan.dsn, autocommit=True)
        ensure_schema(self.conn, plan.prefix)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in [*self._standby, *self.workers]:
            if worker not in self.gone:
                worker.close()
        self.conn.close()

    # --- coming and going ----------------------------------------------------------------------

    def prepare(self, names: Sequence[str] | None = None) -> Worker:
        """Start a process that has not entered yet."""
        self._count += 1
        worker = Worker(self.plan, names or [f"n{self._count:03d}"])
        self._standby.append(worker)
        return worker

    def enter(self, worker: Worker | None = None) -> Worker:
        """Let a prepared process (the next one by default) enter; does not wait for it."""
        if worker is None:
            worker = self._standby[0] if self._standby else self.prepare()
        self._standby.remove(worker)
        self.workers.append(worker)
        worker.enter()
        return worker

    def fill(self, size: int) -> None:
        """Let processes enter until there are `size`, and wait until all is even."""
        while len(self.workers) + len(self._standby) < size:
            self.prepare()
        while len(self.workers) < size:
            self.enter()
        for worker in self.workers:
            worker.wait_for("entered")
        self.settle()

    def dismiss(self, worker: Worker) -> None:
        """Count a worker out: it was killed, or told to go."""
        self.workers.remove(worker)
        self.gone.append(worker)

    # --- looking -------------------------------------------------------------------------------

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the database; `sync_` stands for the fleet's prefix."""
        return self.conn.execute(query.replace("sync_", self.plan.prefix).encode()).fetchall()

    def is_settled(self) -> bool:
        """Tell whether each member is live, holds what the plan wants for it, and nobody else is left."""
        expected = sum(len(worker.names) for worker in self.workers)
        live, planned, fitting = self.rows(_HOW_SETTLED)[0]
        return bool(live == planned == fitting == expected)

    def settle(self) -> None:
        """Wait until it is so."""
        wait_until(self.is_settled, f"the fleet {self.plan.prefix} of {len(self.workers)} processes is settled")

    def leader(self) -> Worker:
        """Find the process of the oldest live node."""
        return self.by_age()[0]

    def by_age(self) -> list[Worker]:
        """List the processes, that of the oldest live node first."""
        names = [
            row[0] for row in self.rows("select name from sync_node where state = 'live' order by created_on, name")
        ]
        ordered: list[Worker] = []
        for name in names:
            ordered += [each for each in self.workers if name in each.names and each not in ordered]
        return ordered

    def held_by(self, workers: Sequence[Worker]) -> TokenSet:
        """Read what the nodes of some processes are granted."""
        names = [name for worker in workers for name in worker.names]
        query = f"select tokens::text from {self.plan.prefix}grant where node = any (%s)"
        rows = self.conn.execute(query.encode(), [names]).fetchall()
        # Whoever leads is granted the right to lead as well, which is no token of the pool.
        return pool_of(TokenSet.from_ranges([piece for (text,) in rows for piece in TokenSet.parse(text).ranges]))

    def pieces(self) -> tuple[int, int]:
        """Count the ranges in all grants, and the grants."""
        counts = "select count(r)::int, count(distinct g.epoch)::int from sync_grant g, unnest(g.tokens - '{[-1,0)}') r"
        return self.rows(counts)[0]

    # --- reading -------------------------------------------------------------------------------

    def intervals(self, workers: Sequence[Worker] | None = None) -> list[Interval]:
        """Read who said yes to what, by all processes ever or by some."""
        chosen = [*self.workers, *self.gone] if workers is None else workers
        return [interval for worker in chosen for interval in worker.log.read().intervals]

    def logs(self) -> list[Log]:
        """Read the logs of all processes ever in the fleet."""
        return [worker.log.read() for worker in [*self.workers, *self.gone]]

    def end_sessions_of(self, worker: Worker) -> None:
        """Have the server end the sessions of a process's nodes."""
        names = ", ".join(f"'{name}'" for name in worker.names)
        self.rows(f"select pg_terminate_backend(backend_pid) from sync_node where name in ({names})")
