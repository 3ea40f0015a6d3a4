"""From one snapshot of the fleet to the plan that the leader writes.

The plan is a wish: it says who should own what, and grants nothing. A stale leader, or two leaders at once, can
therefore only waste work, never double ownership. Among several locks whose tasks hash to one token the first
registered decides.

The right to lead is wanted for the oldest live node that takes tokens, or else the oldest of all. It is dealt apart
from the pool: it counts in nobody's share and in no move.

What people steer (`steering.py`) is heeded here and nowhere else: who is cordoned or drained, a freeze of the fleet.

A tokenless node is dealt nothing of the pool: its target is empty, but for the right to lead. Where nobody else lives,
nobody is to hold the pool. What a plan says of nodes (how many there were, why it was made) leaves the tokenless out.
"""

from dataclasses import dataclass

from jobsync.core.assignment import moves
from jobsync.core.messages import PlanInputs
from jobsync.core.pins import Pin
from jobsync.core.pool import RIGHT_TO_LEAD, pool_of
from jobsync.core.steering import steered_deal
from jobsync.core.tokens import TokenSet


@dataclass(frozen=True, slots=True)
class Plan:
    """What to write: the targets that change, and what the history will say of it."""

    nodes: tuple[str, ...]
    takers: tuple[str, ...]
    changed: dict[str, TokenSet]
    reason: str
    nodes_before: int
    tokens_moved: int
    moves: tuple[tuple[str | None, str | None, TokenSet], ...]
    unmatched: tuple[str, ...]
    conflicts: tuple[str, ...]


def make_plan(inputs: PlanInputs) -> Plan:
    """Deal all tokens to the live nodes that take some: pins first, then even, moving as few as possible.

    The first of the nodes leads: they come in that order.
    """
    takers = tuple(node for node in inputs.nodes if node not in inputs.tokenless)
    pins, conflicts = _pins_of(inputs)
    shares = {node: pool_of(tokens) for node, tokens in inputs.targets.items()}
    dead = inputs.fenced | inputs.tokenless  # Of one that came back without tokens no place is kept either.
    dealt = steered_deal(inputs.total_tokens, takers, shares, list(pins.values()), inputs.steering, dead)
    places = tuple(node for node in dealt.targets if node not in takers)  # Kept by a freeze for those who left.
    nodes = (*inputs.nodes, *places)
    targets = {node: dealt.targets.get(node, TokenSet()) for node in nodes}
    targets |= {node: targets[node] | RIGHT_TO_LEAD for node in inputs.nodes[:1]}
    changed = {node: tokens for node, tokens in targets.items() if _is_new(node, tokens, inputs)}
    moved = tuple((move.source, move.target, move.tokens) for move in moves(shares, dealt.targets))
    task_of = {pin.token: task for task, pin in pins.items()}
    return Plan(
        nodes=nodes,
        takers=takers,
        changed=changed,
        reason=_reason(inputs, (*takers, *places), targets),
        nodes_before=len(inputs.targets.keys() - inputs.planned_tokenless),
        tokens_moved=sum(len(tokens) for _, _, tokens in moved),
        moves=moved,
        unmatched=tuple(task_of[pin.token] for pin in dealt.unmatched) if takers else (),
        conflicts=conflicts,
    )


def _is_new(node: str, tokens: TokenSet, inputs: PlanInputs) -> bool:
    """Tell whether a target is to be written: as other tokens, or for the other kind of node."""
    return inputs.targets.get(node) != tokens or (node in inputs.tokenless) != (node in inputs.planned_tokenless)


def _pins_of(inputs: PlanInputs) -> tuple[dict[str, Pin], tuple[str, ...]]:
    """Give one pin a token, by task, and a sentence for each lock that another one overrules."""
    first: dict[int, str] = {}
    pins: dict[str, Pin] = {}
    conflicts = []
    for token, task, patterns in inputs.locks:
        earlier = first.setdefault(token, task)
        if earlier == task:
            pins[task] = Pin(token, patterns)
        elif pins[earlier].patterns != patterns:
            conflicts.append(
                f"tasks {earlier!r} and {task!r} share token {token} but are locked to {list(pins[earlier].patterns)} "
                f"and {list(patterns)}: the lock registered first decides"
            )
    return pins, tuple(conflicts)


def _reason(inputs: PlanInputs, takers: tuple[str, ...], targets: dict[str, TokenSet]) -> str:
    before = [name for name in inputs.targets if name not in inputs.planned_tokenless]
    if not before:
        return "start"
    causes = []
    gone = [name for name in before if name not in takers]
    if any(name in inputs.fenced for name in gone):
        causes.append("death")
    if any(name not in inputs.fenced for name in gone):
        causes.append("leave")
    if any(name not in before for name in takers):
        causes.append("join")
    drained = inputs.steering.drained.intersection(before, takers)
    if any(pool_of(inputs.targets[name]) and not pool_of(targets[name]) for name in drained):
        causes.append("drain")
    return ", ".join(causes) or ("resume" if inputs.steering.changed else "locks")
