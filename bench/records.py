"""What claims, audits, locks and transactions cost, and whether throwing a day of them away is felt.

The work is done in a process of its own (`bench.records_worker`), on the same machine as the server, so both share its
cores. Everything that is counted is in the tables before the clock stops, with synchronous_commit on.
"""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg import sql

from bench.context import Context
from bench.figures import Figure, command_for, rounded, spread, worst
from jobsync import CoordinationConfig, Job
from jobsync.core import messages as m
from jobsync.postgres.protocol import Protocol
from jobsync.postgres.records import Records
from jobsync.postgres.schema import ensure_schema
from jobsync.postgres.statement import run

LOCKS = 10_000
_ROOT = Path(__file__).parent.parent


def _command(context: Context, what: str, prefix: str, count: int, repeats: int) -> list[str]:
    return [sys.executable, "-m", "bench.records_worker", what, context.dsn, prefix, str(count), str(repeats)]


def _told(context: Context, what: str, count: int, repeats: int) -> Any:
    command = _command(context, what, context.new_prefix(), count, repeats)
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=_ROOT, timeout=600).stdout)


def tasks(context: Context) -> list[Figure]:
    """Walk lists of fresh tasks with an empty body."""
    count, repeats = context.repeats(200_000, 40_000), context.repeats(5, 2)
    told = _told(context, "tasks", count, repeats)
    figures = []
    for kind, name in (("plain", "job.tasks(), no run"), ("run", "job.tasks(), in a run")):
        rates, cpu = told[kind]["rates"], told[kind]["client_cpu_us"]
        details = {"tasks_per_sec": rounded(rates, 0), "client_cpu_us": rounded(cpu, 1), "tasks": count}
        good = sorted(rates)[len(rates) // 2] >= 50_000
        figures.append(Figure(f"{name}: claimed, audited, on disk", "50,000 /s", spread(rates, "/s", digits=0),
                              repeats, good, command_for("tasks"), details))  # fmt: skip
        figures.append(Figure("  the client's processor time a task", "-", spread(cpu, "us"), repeats, None,
                              command_for("tasks")))  # fmt: skip
    return figures


def add_task(context: Context) -> list[Figure]:
    """Add tasks in a row, then mark them done."""
    count, repeats = context.repeats(50_000, 10_000), context.repeats(7, 3)
    told = _told(context, "add-task", count, repeats)
    each, audit = told["add_task_us"], told["write_audit_us"]
    details = {"add_task_us": rounded(each), "write_audit_us": rounded(audit)}
    good = sorted(each)[len(each) // 2] <= 20
    command = command_for("add-task")
    return [
        Figure("add_task, no run, amortised", "20 us", spread(each, "us"), repeats, good, command, details),
        Figure("  write_audit, a task", "-", spread(audit, "us"), repeats, None, command),
    ]


def transaction(context: Context) -> list[Figure]:
    """Compare one insert in a bare transaction with one in `job.transaction`."""
    count, repeats = context.repeats(500, 100), context.repeats(7, 3)
    told = _told(context, "transaction", count, repeats)
    added = [owned - bare for owned, bare in zip(told["owned_ms"], told["bare_ms"], strict=True)]
    details = {"bare_ms": rounded(told["bare_ms"]), "owned_ms": rounded(told["owned_ms"])}
    command = command_for("transaction")
    return [
        Figure("job.transaction(), one insert", "-", spread(told["owned_ms"], "ms", digits=2), repeats, None, command,
               details),
        Figure("  a bare transaction, one insert", "-", spread(told["bare_ms"], "ms", digits=2), repeats, None,
               command),
        Figure("  added by job.transaction()", "-", spread(added, "ms", digits=2), repeats, None, command),
    ]  # fmt: skip


# --- locks -----------------------------------------------------------------------------------------


def locks(context: Context) -> list[Figure]:
    """Register locks in a fleet of three, and wait until a plan has taken them into account."""
    repeats = context.repeats(7, 2)
    registered, planned, again = [], [], []
    with context.fleet(probe_sec=None) as fleet:
        fleet.fill(3)
        names = [worker.names[0] for worker in fleet.by_age()]
        with _observer(context, fleet.plan.prefix) as job:
            for turn in range(repeats):
                pins = [(f"lock-{turn}-{number}", [names[number % 3], "%"]) for number in range(LOCKS)]
                began = time.perf_counter()
                job.register_locks_bulk(pins)
                stored = time.perf_counter()
                _until_planned(context, fleet.plan.prefix)
                registered.append(stored - began)
                planned.append(time.perf_counter() - stored)
                began = time.perf_counter()
                job.register_locks_bulk(pins)
                again.append(time.perf_counter() - began)
                job.clear_all_locks()
                _until_planned(context, fleet.plan.prefix)
                fleet.settle()
    command = command_for("locks")
    details = {"registered_sec": rounded(registered), "planned_sec": rounded(planned), "again_sec": rounded(again)}
    middle = repeats // 2
    return [
        Figure("10,000 locks registered", "0.3 s", spread(registered, "s", digits=3), repeats,
               sorted(registered)[middle] <= 0.3, command, details),
        Figure("  from then until the deal heeds them", "0.2 s", spread(planned, "s", digits=3), repeats,
               sorted(planned)[middle] <= 0.2, command),
        Figure("  the same 10,000 registered again", "-", spread(again, "s", digits=3), repeats, None, command),
    ]  # fmt: skip


def _observer(context: Context, prefix: str) -> Job:
    config = CoordinationConfig(dsn=context.dsn, appname=prefix)
    return Job("observer", coordination_config=config, observer=True)


def _until_planned(context: Context, prefix: str) -> None:
    query = sql.SQL("select lock_version = planned_lock_version from {}").format(sql.Identifier(f"{prefix}meta"))
    with psycopg.connect(context.dsn, autocommit=True) as conn:
        for _ in range(20_000):
            row = conn.execute(query).fetchone()
            assert row is not None
            if row[0]:
                return
            time.sleep(0.001)
    raise TimeoutError("the leader did not plan")


# --- pruning ---------------------------------------------------------------------------------------


def prune(context: Context) -> list[Figure]:
    """Throw a day of old claims away while a node works at full rate, another claims, and a third beats."""
    rows = context.repeats(5_000_000, 500_000)
    prefix = context.new_prefix()
    with psycopg.connect(context.dsn, autocommit=True) as conn:
        ensure_schema(conn, prefix)
        _fill_old_day(conn, prefix, rows)
        command = _command(context, "hammer", prefix, 50_000, 1)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_ROOT, text=True) as hammer:
            assert hammer.stdout is not None
            hammer.stdout.readline()
            with _Probe(context, prefix) as probe:
                time.sleep(3)
                quiet = probe.until_now()
                time.sleep(context.repeats(20, 5))
                before = probe.until_now()
                took = _drop_days(conn, prefix)
                time.sleep(1)
                during = probe.until_now()
                claims = before[0] + quiet[0]
            told, _ = hammer.communicate("end\n", timeout=120)
    batches = [took_ms for _, took_ms in json.loads(told)["asked"]]
    figures = [Figure("a day pruned beside full rate", "-", f"{rows:,} claims gone in {sum(took):.2f} s, of which "
                      f"{len(took)} steps", len(took), None, command_for("prune"))]  # fmt: skip
    pairs = (("a small claim", claims, during[0]), ("a beat", before[1] + quiet[1], during[1]))
    for what, calm, busy in pairs:
        figures += [
            Figure(f"  {what}, before", "-", worst(calm, "ms"), len(calm), None, command_for("prune")),
            Figure(f"  {what}, while it goes", "-", worst(busy, "ms"), len(busy), None, command_for("prune")),
        ]
    figures.append(Figure("  a full batch of the worker, all along", "-", worst(batches, "ms"), len(batches), None,
                          command_for("prune")))  # fmt: skip
    return figures


def _fill_old_day(conn: psycopg.Connection[Any], prefix: str, rows: int) -> None:
    row = conn.execute("select current_date - 9").fetchone()
    assert row is not None
    run(conn, Records(prefix, "bench").make_day(row[0]))
    fill = sql.SQL(
        "insert into {} (node, item, date, incarnation, created_on) select 'gone', 'item-' || i, %s, 1, "
        "clock_timestamp() - interval '9 days' from generate_series(1, %s) i"
    ).format(sql.Identifier(f"{prefix}claim_by_date"))
    conn.execute(fill, [row[0], rows])
    conn.execute(sql.SQL("checkpoint"))


def _drop_days(conn: psycopg.Connection[Any], prefix: str) -> list[float]:
    table = sql.Identifier(f"{prefix}retention")
    conn.execute(sql.SQL("insert into {} values (true, 7, null) on conflict (singleton) do update set "
                         "claim_days = excluded.claim_days").format(table))  # fmt: skip
    took = []
    for _ in range(100):
        began = time.perf_counter()
        outcome = run(conn, Records(prefix, "bench").drop_day())[0][0]
        took.append(time.perf_counter() - began)
        if outcome == "nothing":
            return took
        time.sleep(0.05)
    raise TimeoutError("the day could not be dropped")


class _Probe:
    """A member without a process: every few milliseconds it beats on one session and claims a task on another."""

    def __init__(self, context: Context, prefix: str) -> None:
        self._dsn, self._prefix = context.dsn, prefix
        self._protocol = Protocol(prefix, host="bench", pid=0, environment=None)
        self._took: tuple[list[float], list[float]] = ([], [])
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            row = conn.execute(sql.SQL("select system_id, timeline from {}").format(
                sql.Identifier(f"{self._prefix}meta"))).fetchone()  # fmt: skip
            assert row is not None
            question = m.Register("probe", 10_000, "double_sha256", 60_000, 60_000, None, row[0], row[1])
            answer = self._protocol.answer_to(question, run(conn, self._protocol.statement_for(question)))
        assert isinstance(answer, m.Registration)
        assert answer.incarnation is not None
        assert answer.bind is not None
        self._me = m.Identity("probe", answer.incarnation, answer.bind)
        self._threads = [threading.Thread(target=work) for work in (self._claim, self._beat)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _claim(self) -> None:
        records, number = Records(self._prefix, "probe"), 0
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            today = conn.execute("select current_date").fetchone()
            assert today is not None
            while not self._ended.wait(0.002):
                number += 1
                items, began = [f"probe-{number}"], time.perf_counter()
                run(conn, records.claim(self._me.incarnation, today[0], None, items, [number % 10_000]))
                run(conn, records.audit({items[0]: 0}, today[0], None))
                self._took[0].append((time.perf_counter() - began) * 1000)

    def _beat(self) -> None:
        beat = self._protocol.statement_for(m.Beat(self._me, 0, 0, check=False))
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            while not self._ended.wait(0.002):
                began = time.perf_counter()
                run(conn, beat)
                self._took[1].append((time.perf_counter() - began) * 1000)

    def until_now(self) -> tuple[list[float], list[float]]:
        """Give what claims (with their audits) and beats took since the last look, in milliseconds."""
        taken = self._took
        self._took = ([], [])
        return taken
