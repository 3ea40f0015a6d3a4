"""What it costs a beat and a take to look for what people ask: each with the look, and with the look cut out.

Both kinds run in turns on one session, each on tables of its own. What is compared is the processor time of the
session's server process, which other programs on the machine change little; the clock stands beside it.
"""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import psycopg
from psycopg import Connection

from bench.context import Context
from bench.figures import Figure, command_for, rounded
from jobsync.api.cluster import migrate
from jobsync.core.messages import Beat, Identity
from jobsync.core.settings import Settings
from jobsync.postgres.leases import Leases
from jobsync.postgres.protocol import Protocol
from jobsync.postgres.statement import SQL_HOME, Statement, run

CALLS = 100
BEAT_LOOK = ("    select coalesce(array_agg(s.node)", "    -- Whoever is drained leads last of all.")
TAKE_LOOK = (
    "                   -- Who is cordoned or drained gets nothing.\n"
    "                   and not exists (select from sync_steering s where s.node = n.name and s.ended_at is null)"
)
NODE = """
update {p}meta set total_tokens = 10000, hash_function = 'double_sha256', plan_version = 1;
insert into {p}node (name, incarnation, bind, heartbeat_timeout_ms, row_lease_ms, backend_pid, postmaster_start)
select 'node-' || n, n, n, 3600000, 3600000, 1, now() from generate_series(1, 10) n;
insert into {p}target select 'node-' || n, int4multirange(int4range((n - 1) * 1000 - (n = 1)::int, n * 1000)), 1
from generate_series(1, 10) n;
"""
ASKED = """
insert into {p}steering (verb, node, asked_by, ended_at, ended_by)
select 'drain', 'gone-' || n, 'bench', now(), 'bench' from generate_series(1, 1000) n;
insert into {p}steering (verb, node, asked_by) values ('cordon', 'node-8', 'bench'), ('drain', 'node-9', 'bench');
analyze {p}steering;
"""


def steering(context: Context) -> list[Figure]:
    """Beats and takes, without the look, with it and nothing asked, with it and two nodes steered."""
    kinds = {"without the look": False, "with it": False, "with it, 2 nodes steered, 1,000 rows of the past": True}
    with psycopg.connect(context.dsn, autocommit=True) as conn:
        prefixes = {kind: _tables(context, conn, kind, asked=asked) for kind, asked in kinds.items()}
        makers: dict[str, Callable[[str], Statement]] = {"beat": _beat, "take": _take}
        return [figure for what, make in makers.items() for figure in _compared(context, conn, what, make, prefixes)]


def _tables(context: Context, conn: Connection, kind: str, *, asked: bool) -> str:
    prefix = context.new_prefix()
    migrate(Settings(dsn=context.dsn, appname=prefix))
    script = NODE + (ASKED if asked else "")
    conn.execute(script.format(p=prefix).encode())
    if kind == "without the look":
        for text in (_blind_beat(), _blind_take()):
            conn.execute(text.replace("sync_", prefix).encode())
    return prefix


def _blind_beat() -> str:
    text = (SQL_HOME / "functions" / "beat.sql").read_text()
    first, end = (text.index(mark) for mark in BEAT_LOOK)
    return f"{text[:first]}    drained := '{{}}'; closed := '{{}}'; frozen := false; plan_due := false;\n{text[end:]}"


def _blind_take() -> str:
    text = (SQL_HOME / "functions" / "job_take.sql").read_text()
    assert TAKE_LOOK in text, "job_take.sql looks for steering in other words: change bench/steering.py with it"
    return text.replace(TAKE_LOOK, "")


def _beat(prefix: str) -> Statement:
    asking = Protocol(prefix, host="bench", pid=1, environment=None)
    return asking.statement_for(Beat(Identity("node-3", 3, 3), applied_version=1, known_plan_version=1, check=False))


def _take(prefix: str) -> Statement:
    """Take where nothing waits: all that a take does before its first job."""
    return Leases(prefix, "w", lease_ms=60_000, max_crashes=1).take(3, "{1}", 1)


def _compared(
    context: Context, conn: Connection, what: str, make: Callable[[str], Statement], prefixes: dict[str, str]
) -> list[Figure]:
    repeats = context.repeats(60, 15)
    processor_us: dict[str, list[float]] = {kind: [] for kind in prefixes}
    wall_us: dict[str, list[float]] = {kind: [] for kind in prefixes}
    for _ in range(repeats):
        for kind, prefix in prefixes.items():
            statement = make(prefix)
            before_ns, began = _processor_ns(conn), time.perf_counter()
            for _ in range(CALLS):
                run(conn, statement)
            wall_us[kind].append((time.perf_counter() - began) * 1e6 / CALLS)
            processor_us[kind].append((_processor_ns(conn) - before_ns) / 1000 / CALLS)
    least = median(processor_us["without the look"])
    return [
        Figure(
            f"{what}, {kind}" if kind == "without the look" else f"&nbsp;&nbsp;{what}, {kind}",
            "-",
            f"{median(processor_us[kind]):.0f} us of the server's processor ({median(processor_us[kind]) - least:+.0f}"
            f"), {median(wall_us[kind]):.0f} us by the clock",
            repeats * CALLS,
            None,
            command_for("steering"),
            {"processor_us": rounded(processor_us[kind], 1), "wall_us": rounded(wall_us[kind], 1)},
        )
        for kind in prefixes
    ]


def _processor_ns(conn: Connection) -> int:
    """Read how long the session's server process, on this machine, has had a processor."""
    return int(Path(f"/proc/{conn.info.backend_pid}/schedstat").read_text().split()[0])
