"""What the leader would plan, by its own planner, from its own inputs."""

from collections.abc import Callable
from dataclasses import replace

from jobsync.api.fleet_values import DryRun, TokenMove
from jobsync.core.errors import InvalidArgument
from jobsync.core.messages import PlanInputs, ReadPlanInputs
from jobsync.core.planning import make_plan
from jobsync.core.pool import pool_of
from jobsync.core.settings import Settings
from jobsync.core.tokens import TokenSet
from jobsync.postgres.protocol import Protocol
from jobsync.postgres.statement import Row, Statement

Run = Callable[[Statement], list[Row]]


def read_inputs(run: Run, settings: Settings) -> PlanInputs:
    """Read what the leader would read. Raises InvalidArgument where no node has ever joined."""
    question = ReadPlanInputs(settings.locks_enabled)
    protocol = Protocol(settings.prefix, host="", pid=0, environment=None)
    (row,) = run(protocol.statement_for(question))
    if row[2] is None:
        raise InvalidArgument("no node has ever joined this fleet, so there is no plan yet: start a node")
    answer = protocol.answer_to(question, [row])
    assert isinstance(answer, PlanInputs)
    return answer


def dry_run(run: Run, settings: Settings, without: tuple[str, ...], joining: tuple[str, ...]) -> DryRun:
    """Plan as if these nodes left and those joined; see `Cluster.plan`."""
    inputs = read_inputs(run, settings)
    takers = tuple(node for node in inputs.nodes if node not in inputs.tokenless)
    for name in without:
        if name not in takers:
            raise InvalidArgument(f"node {name!r} is no live node that takes tokens: {_known(takers)}")
    for name in joining:
        if name in inputs.nodes:
            raise InvalidArgument(f"node {name!r} is live already: name one that is to join")
    nodes = tuple(node for node in inputs.nodes if node not in without) + joining
    plan = make_plan(replace(inputs, nodes=nodes))
    before = {node: pool_of(tokens) for node, tokens in inputs.targets.items()}
    after = {node: before.get(node, TokenSet()) for node in plan.nodes}
    after |= {node: pool_of(tokens) for node, tokens in plan.changed.items()}
    names = [node for node in dict.fromkeys((*inputs.nodes, *before, *plan.nodes)) if node not in inputs.tokenless]
    return DryRun(
        without=without,
        joining=joining,
        reason=plan.reason,
        total_tokens=inputs.total_tokens,
        tokens_moved=plan.tokens_moved,
        moves=tuple(TokenMove(source, to, len(tokens), tokens.ranges) for source, to, tokens in plan.moves),
        counts={name: (len(before.get(name, ())), len(after.get(name, ()))) for name in names},
        unplaced=inputs.total_tokens - sum(map(len, after.values())),
        unmatched_locks=plan.unmatched,
    )


def _known(names: tuple[str, ...]) -> str:
    return (
        f"live are {', '.join(map(repr, names[:20]))}{' ...' if len(names) > 20 else ''}" if names else "none is live"
    )
