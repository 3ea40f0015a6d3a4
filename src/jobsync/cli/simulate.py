"""`jobsync simulate`: the command and its options; what it does stands in `simulating`, loaded when it is called."""

import os
from importlib import import_module
from typing import Annotated

import typer


def simulate(  # noqa: PLR0913 - one argument an option
    *,
    seed: Annotated[int | None, typer.Option(help="Replay one seed of faults, and print its trace.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Live through so many seeds of faults.")] = None,
    first: Annotated[int | None, typer.Option(help="The first of --seeds. [default: fresh ones]")] = None,
    processes: Annotated[int, typer.Option(min=1, max=256, help="Processes for --seeds.")] = os.cpu_count() or 1,
    nodes: Annotated[int, typer.Option(min=1, max=10_000, help="Plan a fleet: its nodes.")] = 10,
    tokens: Annotated[int, typer.Option(min=1, max=10_000_000, help="Plan a fleet: its tokens.")] = 10_000,
    churn: Annotated[float, typer.Option(min=0, help="Plan a fleet: nodes replaced an hour.")] = 10.0,
    minutes: Annotated[float, typer.Option(min=0.1, help="Plan a fleet: minutes of virtual time.")] = 10.0,
    round_trip_ms: Annotated[
        float, typer.Option(min=0.01, help="Plan a fleet: milliseconds to the database and back.")
    ] = 1.0,
    plan_seed: Annotated[int, typer.Option(help="Plan a fleet: another seed, another course of events.")] = 0,
) -> None:
    """Run the real nodes and the real SQL in virtual time, on a PostgreSQL of its own.

    With --seed or --seeds: under faults, every invariant of ownership judged; exit status 1 if one breaks. Without:
    how much would move, how long tokens would have no owner, what the database would be asked, in a healthy fleet.
    """
    work = import_module("jobsync.cli.simulating")
    if seed is not None:
        raise typer.Exit(work.simulate_one(seed))
    if seeds is not None:
        raise typer.Exit(work.simulate_many(seeds, first, processes=processes))
    work.plan_fleet(nodes, tokens, churn=churn, minutes=minutes, round_trip_ms=round_trip_ms, seed=plan_seed)
