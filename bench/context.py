"""What all benches share: the server, prefixes that nobody used, and the logs of all fleets so far."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from bench.fleet import Fleet, Plan
from bench.intervals import Overlap, overlaps
from jobsync.postgres.embedded import acquire

DSN_VARIABLE = "JOBSYNC_BENCH_DSN"


@dataclass(slots=True)
class Tally:
    """How often processes were asked what they own, what happened meanwhile, and what was owned twice."""

    samples: int = 0
    disagreements: int = 0
    events: dict[str, int] = field(default_factory=dict)
    found: list[Overlap] = field(default_factory=list)

    def add(self, fleet: Fleet, events: dict[str, int] | None = None) -> None:
        """Count a fleet's logs in."""
        logs = fleet.logs()
        self.samples += sum(log.samples for log in logs)
        self.disagreements += sum(log.disagreements for log in logs)
        self.found += overlaps(interval for log in logs for interval in log.intervals)
        self.count(events or {})

    def count(self, events: dict[str, int]) -> None:
        """Count what happened."""
        for what, count in events.items():
            self.events[what] = self.events.get(what, 0) + count


@dataclass(slots=True)
class Context:
    """One run of the bench."""

    dsn: str
    directory: Path
    quick: bool
    counts_statements: bool
    tally: Tally = field(default_factory=Tally)
    _prefixes: int = 0

    def repeats(self, full: int, quick: int) -> int:
        """Choose how often to repeat."""
        return quick if self.quick else full

    def new_prefix(self) -> str:
        """Give a prefix for tables that no fleet had before."""
        self._prefixes += 1
        return f"jsbench{self._prefixes}_"

    def fleet(
        self,
        *,
        probe_sec: float | None = 0.001,
        handle_signals: bool = False,
        trusting: bool = False,
        prefix: str | None = None,
        **settings: Any,
    ) -> Fleet:
        """Make a fleet of its own prefix, with jobsync's defaults but for `settings`."""
        plan = Plan(
            self.dsn, prefix or self.new_prefix(), self.directory, settings, probe_sec, handle_signals, trusting
        )
        return Fleet(plan)


@contextmanager
def open_context(dsn: str | None, *, quick: bool) -> Iterator[Context]:
    """Bring a server up, or use the one that is named, and clear everything away in the end."""
    directory = Path(tempfile.mkdtemp(prefix="jobsync-bench-"))
    directory.chmod(0o711)
    logs = directory / "logs"
    logs.mkdir()
    try:
        if dsn is not None:
            yield Context(_with_fresh_database(dsn), logs, quick, _can_count(dsn))
        else:
            with _private_server(directory / "server") as own:
                yield Context(own, logs, quick, counts_statements=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _private_server(directory: Path) -> Iterator[str]:
    """Start an embedded server that counts statements; for the rest it runs with its defaults, durable."""
    with acquire(directory) as server, psycopg.connect(server.dsn, autocommit=True) as conn:
        conn.execute("alter system set shared_preload_libraries = 'pg_stat_statements'")
    # The setting is read at a start, and the last one to let go stops the server.
    while (directory / "pgdata" / "postmaster.pid").exists():
        time.sleep(0.05)
    with acquire(directory) as server:
        with psycopg.connect(server.dsn, autocommit=True) as conn:
            conn.execute("create extension pg_stat_statements")
        yield server.dsn
    for _ in range(200):
        if not (directory / "pgdata" / "postmaster.pid").exists():
            break
        time.sleep(0.05)


def _with_fresh_database(dsn: str) -> str:
    """Drop what an earlier run left on the server that was named."""
    with psycopg.connect(dsn, autocommit=True) as conn:
        rows = conn.execute(
            "select format('drop %s if exists %I cascade', case relkind when 'v' then 'view' when 'S' then 'sequence' "
            "else 'table' end, relname) from pg_class "
            "where relname ~ '^jsbench[0-9]+_' and relkind in ('r', 'p', 'v', 'S')"
        ).fetchall()
        for (drop,) in rows:
            conn.execute(drop)
    return dsn


def _can_count(dsn: str) -> bool:
    with psycopg.connect(dsn, autocommit=True) as conn:
        try:
            conn.execute("create extension if not exists pg_stat_statements")
            conn.execute("select count(*) from pg_stat_statements")
        except psycopg.Error:
            return False
    return True
