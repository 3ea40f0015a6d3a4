"""What people ask of the fleet beside the deal: cordoned and drained nodes, a frozen fleet.

Model: steering takes tokens out of the deal, or nodes; what is left is dealt as ever.

* A cordoned node gets no new tokens. It keeps those that it has, apart from those whose pin now prefers another node.
* A drained node gets none and keeps none, as long as there is a node that may take them. Where there is none it keeps
  what it has: work goes on until somebody else can do it.
* In a frozen fleet everybody keeps what he has. The place of a node that left is kept for its return; only the tokens
  of the certainly dead, of drained nodes, and those that were nobody's are dealt. Locks bind these alone until the
  freeze ends.

Authoritative: the steering that stands in the leader's snapshot of the database. Not promised: that it is obeyed before
the leader has read it; and a plan, as ever, grants nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from jobsync.core.assignment import Deal, deal
from jobsync.core.pins import Pin, choose
from jobsync.core.tokens import TokenSet


@dataclass(frozen=True, slots=True)
class Steering:
    """What is in force; `changed` tells whether it is newer than the plan of today."""

    cordoned: frozenset[str] = frozenset()
    drained: frozenset[str] = frozenset()
    frozen: bool = False
    changed: bool = False

    def is_open(self, node: str) -> bool:
        """Whether a node may be given tokens."""
        return node not in self.cordoned and node not in self.drained


FREE = Steering()


def steered_deal(
    total_tokens: int,
    nodes: Sequence[str],
    held: Mapping[str, TokenSet],
    pins: Iterable[Pin],
    steering: Steering,
    fenced: frozenset[str] = frozenset(),
) -> Deal:
    """Deal as `deal` does, as far as steering allows. `fenced` are nodes that are certainly dead.

    The targets have an entry for each live node, and in a frozen fleet one for each node that left and whose place is
    kept. Tokens that nobody may be given are `unplaced`. What is dealt again under the same steering moves nothing.
    """
    takers = tuple(node for node in nodes if steering.is_open(node))
    staying = _staying(nodes, takers, held, steering, fenced)
    if not staying and len(takers) == len(nodes):
        return deal(total_tokens, nodes, held, pins)
    wanted = list(pins)
    kept = _disjoint({node: held.get(node, TokenSet()) & TokenSet.span(0, total_tokens) for node in staying})
    if not steering.frozen:
        kept = {node: tokens - _called_away(node, tokens, takers, wanted) for node, tokens in kept.items()}
    aside = _united(kept.values())
    dealt = deal(total_tokens, takers, held, [pin for pin in wanted if pin.token not in aside], aside=aside)
    targets = {node: TokenSet() for node in nodes} | kept
    targets |= {node: tokens | kept.get(node, TokenSet()) for node, tokens in dealt.targets.items()}
    unmatched = tuple(pin for pin in wanted if pin.token in aside and choose(pin.patterns, nodes) is None)
    return Deal(targets, dealt.unplaced, (*unmatched, *dealt.unmatched))


def _staying(
    nodes: Sequence[str],
    takers: tuple[str, ...],
    held: Mapping[str, TokenSet],
    steering: Steering,
    fenced: frozenset[str],
) -> list[str]:
    """Name the nodes whose tokens are not dealt, live ones first."""
    staying = [
        node
        for node in nodes
        if (steering.frozen and node not in steering.drained)
        or (node in steering.cordoned and node not in steering.drained)
        or (node in steering.drained and not takers)
    ]
    if steering.frozen:
        over = fenced | steering.drained if takers else fenced
        staying += [node for node, tokens in held.items() if tokens and node not in nodes and node not in over]
    return staying


def _called_away(node: str, tokens: TokenSet, takers: tuple[str, ...], pins: list[Pin]) -> TokenSet:
    """Find the tokens of a cordoned node whose pin prefers others."""
    leaving = []
    for pin in pins:
        if pin.token in tokens:
            choice = choose(pin.patterns, (*takers, node))
            if choice is not None and node not in choice[1]:
                leaving.append(pin.token)
    return TokenSet.of(leaving)


def _disjoint(holdings: dict[str, TokenSet]) -> dict[str, TokenSet]:
    """Let the first holder of a token be the only one: no plan of ours overlaps, but every input has an answer."""
    taken = TokenSet()
    for node, tokens in holdings.items():
        holdings[node] = tokens - taken
        taken |= tokens
    return holdings


def _united(sets: Iterable[TokenSet]) -> TokenSet:
    return TokenSet.from_ranges(piece for tokens in sets for piece in tokens.ranges)
