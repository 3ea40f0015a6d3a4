"""A process that works on tasks, and tells how long it took. Started by `bench.records`; answers in one JSON line."""

import json
import select
import sys
import time
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import psycopg
from psycopg import sql

from jobsync import CoordinationConfig, Job
from jobsync.postgres.schema import ensure_schema
from jobsync.runtime.ledger import Ledger

FIRST_DAY = date(2026, 1, 1)
WARM = 2_000


def _config(dsn: str, prefix: str) -> CoordinationConfig:
    return CoordinationConfig(dsn=dsn, appname=prefix)


def _today(dsn: str) -> date:
    with psycopg.connect(dsn) as conn:
        row = conn.execute("select current_date").fetchone()
    assert row is not None
    assert isinstance(row[0], date)
    return row[0]


def _rows(dsn: str, table: str, day: date) -> int:
    with psycopg.connect(dsn) as conn:
        count = sql.SQL("select count(*) from {} where date = %s").format(sql.Identifier(table))
        row = conn.execute(count, [day]).fetchone()
    assert row is not None
    return int(row[0])


def _flush(job: Job) -> None:
    ledger = job._ledger
    assert isinstance(ledger, Ledger)
    while not ledger.flush():
        time.sleep(0.01)


def tasks(dsn: str, prefix: str, count: int, repeats: int) -> dict[str, Any]:
    """Walk a list with and without a run; the clock stops when the last audit is committed."""
    ids, told = [f"task-{number}" for number in range(count)], {}
    today = _today(dsn)
    with psycopg.connect(dsn, autocommit=True) as conn:
        ensure_schema(conn, prefix)
    for kind in ("plain", "run"):
        rates, cpu = [], []
        for turn in range(repeats):
            # A date and a run that nobody has worked on, within the days for which there are partitions.
            day = today - timedelta(days=turn + 1)
            run = f"run-{turn}" if kind == "run" else None
            before = _rows(dsn, f"{prefix}audit", day), _rows(dsn, f"{prefix}claim", day)
            with Job("worker", coordination_config=_config(dsn, prefix), date=day, run=run) as job:
                for _ in job.tasks(range(WARM)):
                    pass
                _flush(job)
                began, cpu_began = time.perf_counter(), time.process_time()
                for _ in job.tasks(ids):
                    pass
                _flush(job)
                rates.append(count / (time.perf_counter() - began))
                cpu.append((time.process_time() - cpu_began) / count * 1e6)
            after = _rows(dsn, f"{prefix}audit", day), _rows(dsn, f"{prefix}claim", day)
            assert [new - old for new, old in zip(after, before, strict=True)] == [count + WARM, count + WARM]
        told[kind] = {"rates": rates, "client_cpu_us": cpu}
    return told


def add_task(dsn: str, prefix: str, count: int, repeats: int) -> dict[str, Any]:
    """Call `add_task` in a row, then `write_audit` once; claims are written meanwhile."""
    each, audit = [], []
    with Job("worker", coordination_config=_config(dsn, prefix)) as job:
        for turn in range(repeats):
            ids = [f"turn-{turn}-{number}" for number in range(count)]
            began = time.perf_counter()
            for task in ids:
                job.add_task(task)
            each.append((time.perf_counter() - began) / count * 1e6)
            began = time.perf_counter()
            job.write_audit()
            audit.append((time.perf_counter() - began) / count * 1e6)
            _flush(job)
    return {"add_task_us": each, "write_audit_us": audit}


def transaction(dsn: str, prefix: str, count: int, repeats: int) -> dict[str, Any]:
    """Write one row a task: in a bare transaction of psycopg, and under `job.transaction`."""
    table = sql.Identifier(f"{prefix}results")
    insert = sql.SQL("insert into {} values (%s)").format(table)
    bare, owned = [], []
    with psycopg.connect(dsn, autocommit=True) as conn, Job("worker", coordination_config=_config(dsn, prefix)) as job:
        conn.execute(sql.SQL("create table {} (item text)").format(table))
        for turn in range(repeats):
            began = time.perf_counter()
            for number in range(count):
                with conn.transaction():
                    conn.execute(insert, [str(number)])
            bare.append((time.perf_counter() - began) / count * 1000)
            began = time.perf_counter()
            for number in range(count):
                with job.transaction(f"{turn}-{number}") as own:
                    own.execute(insert, [str(number)])
            owned.append((time.perf_counter() - began) / count * 1000)
    return {"bare_ms": bare, "owned_ms": owned}


def hammer(dsn: str, prefix: str, count: int, repeats: int) -> dict[str, Any]:
    """Work at full rate until the input ends; tell when each claim was asked for and how long it took."""
    del repeats
    asked: list[tuple[float, float]] = []
    done = 0
    with Job("hammer", coordination_config=_config(dsn, prefix)) as job:
        ledger = job._ledger
        assert isinstance(ledger, Ledger)
        ledger.claim_now = _timed(ledger.claim_now, asked)  # type: ignore[method-assign]
        print("working", flush=True)
        while not select.select([sys.stdin], [], [], 0)[0]:
            for _ in job.tasks([f"{done}-{number}" for number in range(count)]):
                pass
            done += 1
    return {"asked": asked, "tasks": done * count}


def _timed(function: Callable[..., set[str]], asked: list[tuple[float, float]]) -> Callable[..., set[str]]:
    def timed(*given: Any) -> set[str]:
        began = time.perf_counter()
        answer = function(*given)
        asked.append((time.clock_gettime(time.CLOCK_BOOTTIME), (time.perf_counter() - began) * 1000))
        return answer

    return timed


WORK = {"tasks": tasks, "add-task": add_task, "transaction": transaction, "hammer": hammer}

if __name__ == "__main__":
    what, dsn, prefix, count, repeats = sys.argv[1:]
    print(json.dumps(WORK[what](dsn, prefix, int(count), int(repeats))))
