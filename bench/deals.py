"""How long it takes to deal tokens: the leader's two round trips, the arithmetic between, the grants after."""

from bench.context import Context
from bench.figures import Figure, command_for, rounded, spread
from bench.virtual import Times, VirtualFleet
from jobsync.core.pool import pool_of

NODES = 7


def deal(context: Context) -> list[Figure]:
    """Deal all tokens to seven nodes that hold nothing, again and again on fresh tables."""
    return [*_deal(context, 10_000, asked_ms=10), *_deal(context, 1_000_000, asked_ms=50)]


def _deal(context: Context, total_tokens: int, *, asked_ms: float) -> list[Figure]:
    runs = [_first_deal(context, total_tokens) for _ in range(context.repeats(20, 5))]
    database = [times.database for times in runs]
    arithmetic = [times.deal for times in runs]
    whole = [times.database + times.deal + sum(times.grows) for times in runs]
    details = {
        "read_ms": rounded([times.read for times in runs]), "save_ms": rounded([times.save for times in runs]),
        "deal_ms": rounded(arithmetic), "grows_ms": rounded([sum(times.grows) for times in runs]),
    }  # fmt: skip
    what, command = f"{total_tokens:,} tokens to {NODES} nodes", command_for("deal")
    met = sorted(database)[len(database) // 2] <= asked_ms
    return [
        Figure(
            f"deal {what}, database part", f"{asked_ms:g} ms", spread(database, "ms"), len(runs), met, command, details
        ),
        Figure("  the deal itself, pure Python", "-", spread(arithmetic, "ms", digits=2), len(runs), None, command),
        Figure(f"  all of it, the {NODES} grants included", "-", spread(whole, "ms"), len(runs), None, command),
    ]


def _first_deal(context: Context, total_tokens: int) -> Times:
    fleet = VirtualFleet(context.dsn, context.new_prefix(), total_tokens)
    try:
        for number in range(NODES):
            fleet.register(f"n{number}")
        times, targets = fleet.plan()
        fleet.follow(targets, times)
        assert sum(len(pool_of(held)) for held in fleet.held.values()) == total_tokens
        return times
    finally:
        fleet.close()
