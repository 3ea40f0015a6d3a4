"""The figures again on tables that a thousand joins and leaves have gone over.

First fast forward: members without processes come and go, 25 to 75 of them, through the real deal and the real
SQL (`bench.virtual`); the deal is timed as it happens. When 25 are left they vanish, their targets stay, and 25
real nodes, each in its own process, enter under the same names and are granted the same scattered shares. Joins,
stops and kills are then measured on that fleet, and again when all but two of its nodes have left and a third one
joins and leaves. A fleet of the larger size on fresh tables shows what is due to age and what to size.

What this does not keep is the number of grants: a real node takes its share as one grant, while virtual members had
one for each time that they were given something. Both numbers are said.
"""

import random
from dataclasses import replace
from statistics import median

from bench.context import Context
from bench.figures import Figure, command_for, rounded, spread
from bench.fleet import Fleet
from bench.moves import TOTAL, join_figure, kill_figure, kills, one_join, one_stop, stop_figures
from bench.virtual import Times, VirtualFleet

FEWEST, MOST = 25, 75
PROBE_SEC = 0.004  # 25 processes share the machine.


def aged(context: Context) -> list[Figure]:
    """Age the tables, then measure on them."""
    prefix = context.new_prefix()
    names, figures = _age(context, prefix, context.repeats(1000, 200))
    with context.fleet(prefix=prefix, probe_sec=PROBE_SEC, handle_signals=True) as fleet:
        _take_over(fleet, names)
        context.tally.count({"joins": len(names)})
        figures.append(_pieces(fleet, "what the real nodes took over"))
        figures += _measure(context, fleet, "aged")
        _shrink_to(context, fleet, 2)
        figures.append(_pieces(fleet, "what is left with two nodes"))
        figures += _measure(context, fleet, "aged")
        context.tally.add(fleet)
    with context.fleet(probe_sec=PROBE_SEC, handle_signals=True) as fleet:
        fleet.fill(len(names))
        context.tally.count({"joins": len(names)})
        figures += _measure(context, fleet, "for comparison, fresh tables", asked=False)
        context.tally.add(fleet)
    return figures


# --- growing old -------------------------------------------------------------------------------------


def _age(context: Context, prefix: str, events: int) -> tuple[list[str], list[Figure]]:
    chance = random.Random(14)
    fleet = VirtualFleet(context.dsn, prefix, TOTAL)
    try:
        for number in range(FEWEST):
            fleet.join(f"v{number:04d}")
        number, late = FEWEST, []
        for event in range(events):
            size = len(fleet.names)
            joins = size <= FEWEST or (size < MOST and chance.random() < 0.5)
            times = fleet.join(f"v{number:04d}") if joins else fleet.leave(chance.choice(fleet.names))
            number += joins
            if event >= events - 100:
                late.append(times)
        rows = fleet.conn.execute(f"select count(*) from {prefix}grant".encode()).fetchall()
        figures = _figures_of_age(fleet, events, late, rows[0][0])
        while len(fleet.names) > FEWEST:
            fleet.leave(chance.choice(fleet.names))
        names = fleet.names
        fleet.vanish()
        return names, figures
    finally:
        fleet.close()


def _figures_of_age(fleet: VirtualFleet, events: int, late: list[Times], grants: int) -> list[Figure]:
    command = command_for("aged")
    database = [times.database for times in late]
    steps = [step for times in late for step in (*times.shrinks, *times.grows)]
    said = f"{fleet.pieces:,} pieces in {grants:,} grants of {len(fleet.names)} members"
    details = {"read_ms": rounded([each.read for each in late]), "save_ms": rounded([each.save for each in late])}
    arithmetic = [times.deal for times in late]
    return [
        Figure(f"aged: after {events:,} joins and leaves", "-", said, events, None, command),
        Figure("aged: deal of a join or leave, database part", "20 ms", spread(database, "ms"), len(late),
               median(database) <= 20, command, details),
        Figure("  the deal itself, pure Python", "-", spread(arithmetic, "ms", digits=2), len(late), None, command),
        Figure("  one shrink or grow", "-", spread(steps, "ms", digits=2), len(steps), None, command),
    ]  # fmt: skip


def _take_over(fleet: Fleet, names: list[str]) -> None:
    """Let real nodes enter under names for which the plan has shares; nobody may plan before all are there."""
    lock = f"advisory_lock(hashtext('{fleet.plan.prefix}plan'))"
    for name in names:
        fleet.prepare([name]).wait_for("ready")
    fleet.conn.execute(f"select pg_{lock}".encode())
    try:
        for _ in names:
            fleet.enter()
        for worker in fleet.workers:
            worker.wait_for("entered")
        fleet.settle()
    finally:
        fleet.conn.execute(f"select pg_{lock.replace('lock', 'unlock', 1)}".encode())
    fleet.settle()


# --- measuring -----------------------------------------------------------------------------------------


def _measure(context: Context, fleet: Fleet, what: str, *, asked: bool = True) -> list[Figure]:
    """Measure joins and stops of one more node, then kills, in the fleet as large as it is."""
    n, each, size = context.repeats(20, 4), context.repeats(10, 2), len(fleet.workers)
    took, gaps = [], []
    for turn in range(n):
        milliseconds, worker = one_join(fleet)
        took.append(milliseconds)
        gaps.append(one_stop(fleet, worker, by_signal=turn % 2 == 1))
    leaders, followers = kills(fleet, size=size + 1, each=each)
    context.tally.count({"joins": n + 2 * each, "stops": n, "kills": 2 * each})
    nodes = f"{what}, {size + 1} nodes"
    figures = [
        join_figure(f"{nodes}: join", "aged", took, asked_ms=100),
        *stop_figures(f"{nodes}: stop, token without owner", "aged", gaps, asked_ms=100),
        kill_figure(f"{nodes}: SIGKILL to all owned again", "aged", leaders, followers, asked_sec=2.0),
    ]
    return figures if asked else [replace(figure, asked="-", holds=None) for figure in figures]


def _shrink_to(context: Context, fleet: Fleet, size: int) -> None:
    """Let the youngest leave, one after the other."""
    while len(fleet.workers) > size:
        leaver = fleet.by_age()[-1]
        leaver.stop()
        leaver.wait_for("left")
        fleet.dismiss(leaver)
        fleet.settle()
        context.tally.count({"stops": 1})


def _pieces(fleet: Fleet, what: str) -> Figure:
    pieces, grants = fleet.pieces()
    said = f"{pieces:,} pieces in {grants} grants, {len(fleet.workers)} real nodes"
    return Figure(f"aged: {what}", "-", said, pieces, None, command_for("aged"))
