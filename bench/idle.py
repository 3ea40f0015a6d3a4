"""What an idle fleet costs the server: statements, counted by the server itself.

`pg_stat_statements` counts each top-level statement that a session executes: a call of one of the protocol's
functions is one. A bare Sync is no statement and is not counted. The two watchers' reads are known by their text.
Where a server without that extension was named, all transactions of the database are counted instead
(`pg_stat_database`), autovacuum's and other people's included; that is an upper bound, so the line judges nothing.
"""

import time
from dataclasses import dataclass

from bench.context import Context
from bench.figures import Figure, command_for
from bench.fleet import Fleet, boot_sec, wait_until

WORKERS = 4


@dataclass(frozen=True, slots=True)
class Count:
    """Statements within a window of seconds."""

    watches: int
    others: int
    seconds: float
    by_text: dict[str, int]
    transactions: int

    @property
    def others_a_second(self) -> float:
        """All but the watchers' reads."""
        return self.others / self.seconds

    @property
    def watches_a_second(self) -> float:
        """The watchers' reads."""
        return self.watches / self.seconds


def count_statements(fleet: Fleet, seconds: float, *, by_statement: bool) -> Count:
    """Let a fleet idle, and count what its sessions execute."""
    before, transactions_before = _snapshot(fleet, by_statement=by_statement)
    began = boot_sec()
    time.sleep(seconds)
    lasted = boot_sec() - began
    after, transactions_after = _snapshot(fleet, by_statement=by_statement)
    transactions = transactions_after - transactions_before
    grown = {text: calls - before.get(text, 0) for text, calls in after.items() if calls > before.get(text, 0)}
    grown = {text: calls for text, calls in grown.items() if "pg_stat" not in text[:120] or "session_seen" in text}
    watches = sum(calls for text, calls in grown.items() if "session_seen" in text)
    if not by_statement:
        watches = round(2 * lasted / 0.15)
        grown = {"transactions": transactions}
        return Count(watches, transactions - watches, lasted, grown, transactions)
    return Count(watches, sum(grown.values()) - watches, lasted, grown, transactions)


def _snapshot(fleet: Fleet, *, by_statement: bool) -> tuple[dict[str, int], int]:
    transactions = fleet.conn.execute(
        "select (xact_commit + xact_rollback)::int from pg_stat_database where datname = current_database()"
    ).fetchone()
    assert transactions is not None
    if not by_statement:
        return {}, transactions[0]
    rows = fleet.conn.execute(
        "select left(s.query, 600), sum(s.calls)::int from pg_stat_statements s join pg_database d on d.oid = s.dbid "
        "where d.datname = current_database() and s.toplevel group by 1"
    ).fetchall()
    return dict(rows), transactions[0]


def idle(context: Context) -> list[Figure]:
    """Four workers at their defaults, each in its own process, do nothing for two minutes."""
    seconds = 120.0 if not context.quick else 30.0
    with context.fleet(probe_sec=None) as fleet:
        fleet.fill(WORKERS)
        time.sleep(6)  # The first beats after an entry belong to the entry.
        count = count_statements(fleet, seconds, by_statement=context.counts_statements)
    a_minute = count.others / WORKERS * 60 / count.seconds
    details = _details(count)
    how = f"{a_minute:.1f} in {count.seconds:.0f} s, {WORKERS} workers{_how(context)}"
    watching = f"{count.watches_a_second:.1f}"
    command, watches = command_for("idle"), count.watches_a_second
    name = "statements a minute a worker, idle, defaults"
    return [
        Figure(name, "12.5", how, count.others, _judged(context, a_minute <= 12.5), command, details),
        Figure(
            "the watchers' reads a second, whole cluster",
            "14",
            watching,
            count.watches,
            _judged(context, watches <= 14),
            command,
        ),
    ]


def fifty(context: Context) -> list[Figure]:
    """Fifty nodes of one machine, in ten processes, do nothing for a minute."""
    seconds = 60.0 if not context.quick else 20.0
    with context.fleet(probe_sec=None) as fleet:
        for process in range(10):
            fleet.prepare([f"p{process}x{number}" for number in range(5)])
        fleet.fill(10)
        time.sleep(6)
        nodes = fleet.rows("select count(*)::int from sync_node where state = 'live'")[0][0]
        count = count_statements(fleet, seconds, by_statement=context.counts_statements)
        wait_until(fleet.is_settled, "fifty nodes are still settled")
    without, together = count.others_a_second, count.others_a_second + count.watches_a_second
    met = without <= 12 and together <= 26
    reached = f"{without:.1f} / {together:.1f} a second in {count.seconds:.0f} s{_how(context)}"
    name = "50 nodes idle: statements a second, without / with the watchers"
    return [Figure(name, "12 / 26", reached, nodes, _judged(context, met), command_for("fifty"), _details(count))]


def _how(context: Context) -> str:
    return "" if context.counts_statements else " (not judged: all transactions, less the watchers' as reckoned)"


def _judged(context: Context, met: bool) -> bool | None:
    return met if context.counts_statements else None


def _details(count: Count) -> dict[str, object]:
    calls = {" ".join(text.split())[:100]: number for text, number in count.by_text.items()}
    return {"seconds": round(count.seconds, 1), "calls": calls, "transactions of the database": count.transactions}
