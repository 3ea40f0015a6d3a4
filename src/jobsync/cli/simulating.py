"""What `jobsync simulate` does: faults by the seed, or a fleet planned. Nothing of the user's is touched.

Loaded when the command is called: it needs a PostgreSQL of its own, from the `embedded` extra or the machine.
"""

import gc
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice
from time import perf_counter
from typing import Self

from jobsync.cli.output import say
from jobsync.core.settings import Settings
from jobsync.simulation.home import own_server, own_virtual_server
from jobsync.simulation.many import Tally, run_many
from jobsync.simulation.planning import Fleet, Forecast, forecast
from jobsync.simulation.seeds import replay

PROGRESS_EVERY_SEC = 10.0


def simulate_one(seed: int) -> int:
    """Replay one seed with its trace; the exit status says whether every invariant held."""
    with own_virtual_server() as virtual:
        outcome = replay(virtual, seed)
    say("\n".join(outcome.trace))
    rest = f"at rest after {outcome.rest_sec:.2f} s"
    say(f"seed {seed}: {outcome.virtual_sec:.1f} s of virtual time, {outcome.violated or rest}")
    return 1 if outcome.violated else 0


def simulate_many(number: int, first: int | None, *, processes: int) -> int:
    """Run many seeds; without a first one, fresh ones. The exit status says whether every invariant held in all."""
    fresh = iter(lambda: secrets.randbelow(10**12), -1)
    seeds: Iterator[int] = islice(fresh if first is None else count(first), number)
    tally, began_sec = Tally(), perf_counter()
    said_sec = began_sec
    with own_server() as dsn:
        for outcome in run_many(dsn, seeds, processes=processes):
            tally.add(outcome)
            if outcome.violated:
                say(f"seed {outcome.seed}: {outcome.violated}\n  again: jobsync simulate --seed {outcome.seed}")
            if perf_counter() > said_sec + PROGRESS_EVERY_SEC:
                said_sec = perf_counter()
                say(f"{tally.seeds} of {number} seeds, {len(tally.violations)} violated", err=True)
    say("\n".join(_verdict(tally, perf_counter() - began_sec)))
    return 1 if tally.violations else 0


def _verdict(tally: Tally, took_sec: float) -> Iterator[str]:
    minutes = max(took_sec, 1e-9) / 60
    typical_sec, longest_sec = tally.rest_sec
    yield f"{tally.seeds} seeds, {len(tally.violations)} violated"
    yield f"virtual time    {tally.virtual_sec / 3600:.2f} h; {tally.node_sec / 3600:.2f} node-hours"
    yield f"faults          {tally.faults.total()}"
    for name, times in sorted(tally.faults.items()):
        yield f"  {name:<28} {times}"
    yield f"transactions    {tally.writes} of users, with a check of ownership"
    yield f"rest after      {typical_sec:.2f} s (median), {longest_sec:.2f} s (longest)"
    node_hours = tally.node_sec / 3600 / minutes
    yield f"speed           {tally.seeds / minutes:.0f} seeds and {node_hours:.2f} node-hours a minute"
    yield f"                {tally.statements / took_sec:.0f} statements a second"


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Let the garbage collector rest: a fleet's events make few cycles, and it would walk over all nodes for them."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class _Progress:
    """How far something is: on a terminal one line that changes, elsewhere a line now and then."""

    def __init__(self) -> None:
        self._rewrites = sys.stderr.isatty()
        self._every_sec = 0.5 if self._rewrites else PROGRESS_EVERY_SEC
        self._said_sec = perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._rewrites:
            say("\r\033[K", end="", err=True)

    def say(self, text: str) -> None:
        """Say so, unless something was said just now."""
        if perf_counter() < self._said_sec + self._every_sec:
            return
        self._said_sec = perf_counter()
        say(f"\r\033[K{text}" if self._rewrites else text, end="" if self._rewrites else "\n", err=True)


def plan_fleet(nodes: int, tokens: int, *, churn: float, minutes: float, round_trip_ms: float, seed: int) -> None:
    """Print what a fleet would do."""
    fleet = Fleet(
        nodes=nodes,
        settings=Settings(total_tokens=tokens),
        churn_per_hour=churn,
        minutes=minutes,
        trip_sec=round_trip_ms / 2000,
    )
    began_sec = perf_counter()
    with own_virtual_server() as virtual, _nothing_collected(), _Progress() as progress:
        found = forecast(virtual, fleet, seed=seed, say=progress.say)
    say("\n".join(_forecast_lines(fleet, found, perf_counter() - began_sec)))


def _forecast_lines(fleet: Fleet, found: Forecast, took_sec: float) -> Iterator[str]:
    tokens = fleet.settings.total_tokens
    sec = max(found.watched_sec, 1e-9)
    moved_an_hour = found.moved / sec * 3600 / tokens
    yield f"{fleet.nodes} nodes, {tokens} tokens, {sec / 60:.0f} minutes of virtual time"
    yield f"started         every token had its owner {found.settle_sec:.1f} s after all nodes were started at once"
    yield f"replaced        {found.left} left, {found.crashed} crashed, {found.joined} joined"
    yield f"moves           {found.moved} tokens in {found.plans} plans; {moved_an_hour:.3f} of all tokens an hour"
    yield f"coverage        {1 - found.gap_token_sec / (tokens * sec):.6%} of token time"
    yield f"                some token had no owner for {found.uncovered_sec:.2f} s in all"
    yield f"statements      {found.statements_per_sec:.1f} a second, and {found.pings / sec:.1f} pings"
    for name, times in found.statements.most_common():
        yield f"  {name:<18} {times / sec:.2f} a second"
    yield f"simulated in    {took_sec:.1f} s"
