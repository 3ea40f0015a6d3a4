"""Seeded faults: no invariant breaks under any of them, and each rule, once broken, is missed by a checker.

The second half is what gives the first its worth: every mutation is one rule of the protocol left out, by the
member (a subclass that bends what it hears or says) or by the database (`Rules`).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from jobsync.core import messages as m
from jobsync.core.member import Member
from jobsync.core.pool import RIGHT_TO_LEAD
from jobsync.core.tokens import TokenSet
from tests.core.checkers import Violated
from tests.core.world_database import Rules
from tests.core.world_faults import run_storm

BATCHES, SEEDS_A_BATCH = 10, 40
QUICK_BATCHES = 2


@pytest.mark.parametrize(
    "batch",
    [pytest.param(n, marks=[pytest.mark.slow] if n >= QUICK_BATCHES else []) for n in range(BATCHES)],
)
def test_no_invariant_breaks_and_all_comes_to_rest(batch: int) -> None:
    for seed in range(batch * SEEDS_A_BATCH, (batch + 1) * SEEDS_A_BATCH):
        try:
            run_storm(seed)
        except Violated as error:
            pytest.fail(f"seed {seed}: {error}")


def test_one_seed_gives_one_history() -> None:
    assert run_storm(7).asked == run_storm(7).asked


# --- teeth -----------------------------------------------------------------------------------


class CountsFromTheAck(Member):
    """The lease begins when the answer arrives."""

    def step(self, event: m.Event) -> list[m.Effect]:
        return super().step(replace(event, sent=event.at) if isinstance(event, m.Answered) else event)


class _Republishing(Member):
    """Bends what readers are told."""

    extra = TokenSet()
    standing: m.Standing | None = None

    def step(self, event: m.Event) -> list[m.Effect]:
        return [bent for effect in super().step(event) for bent in self.bend(effect)]

    def bend(self, effect: m.Effect) -> list[m.Effect]:
        if not isinstance(effect, m.Publish):
            return [effect]
        self.standing = effect.standing
        return [m.Publish(self.bent(effect.standing))]

    def bent(self, standing: m.Standing) -> m.Standing:
        return replace(standing, holding=replace(standing.holding, tokens=standing.holding.tokens | self.extra))


class BelievesBeforeTheGrant(_Republishing):
    """What is asked for is believed at once."""

    def bend(self, effect: m.Effect) -> list[m.Effect]:
        if isinstance(effect, m.Ask):
            asks = isinstance(effect.question, m.Grow) and self.standing is not None
            self.extra = (self.standing.target or TokenSet()) if asks and self.standing else TokenSet()
            return [effect] if self.standing is None else [m.Publish(self.bent(self.standing)), effect]
        return super().bend(effect)


class GivesUpTheRowFirst(_Republishing):
    """Tokens are believed in until the database has said that they are free."""

    def step(self, event: m.Event) -> list[m.Effect]:
        effects = super().step(event)
        if isinstance(event, m.Answered) and isinstance(event.question, m.Shrink):
            self.extra = TokenSet()
        return effects

    def bend(self, effect: m.Effect) -> list[m.Effect]:
        if isinstance(effect, m.Drain):
            self.extra |= effect.tokens
        if isinstance(effect, m.Ask) and isinstance(effect.question, m.Shrink) and self.standing is not None:
            return [m.Publish(self.bent(self.standing)), effect]
        return super().bend(effect)


class KeepsTheRightToLead(_Republishing):
    """What leads goes on believing while the right to lead is handed over."""

    def bend(self, effect: m.Effect) -> list[m.Effect]:
        if isinstance(effect, m.Drain) and effect.tokens == RIGHT_TO_LEAD and self.standing is not None:
            self.extra = RIGHT_TO_LEAD
            return [m.Publish(self.bent(self.standing)), effect]
        return super().bend(effect)


class PlansTwoLeaders(Member):
    """The plan wants every node to lead: one of them waits for it for ever."""

    def step(self, event: m.Event) -> list[m.Effect]:
        return [self.bend(effect) for effect in super().step(event)]

    def bend(self, effect: m.Effect) -> m.Effect:
        if isinstance(effect, m.Ask) and isinstance(effect.question, m.SavePlan):
            everybody = {node: tokens | RIGHT_TO_LEAD for node, tokens in effect.question.targets.items()}
            return replace(effect, question=replace(effect.question, targets=everybody))
        return effect


def hearing(bend: Callable[[Any], Any]) -> type[Member]:
    """Make a member that hears answers bent."""

    class Bent(Member):
        def step(self, event: m.Event) -> list[m.Effect]:
            return super().step(replace(event, answer=bend(event.answer)) if isinstance(event, m.Answered) else event)

    return Bent


def _leases_seen_as(row: float, session: float) -> Callable[[m.Answer], m.Answer]:
    def bend(answer: m.Answer) -> m.Answer:
        if not isinstance(answer, m.Sightings):
            return answer
        shorter = [
            replace(
                node,
                row_lease_ms=int(node.row_lease_ms * row),
                session_lease_ms=node.session_lease_ms and max(1, int(node.session_lease_ms * session)),
            )
            for node in answer.nodes
        ]
        return m.Sightings(tuple(shorter))

    return bend


class TakesEveryServerForTheSame(Member):
    """What a fail-over may have rolled back is believed as before."""

    def step(self, event: m.Event) -> list[m.Effect]:
        if isinstance(event, m.Connected):
            event = replace(event, hello=replace(event.hello, system_id="1", timeline="1"))
        return super().step(event)


MUTATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "the lease is counted from the ack": ("I1 I2", {"member": CountsFromTheAck}),
    "tokens are believed in before they are granted": ("I1 I2", {"member": BelievesBeforeTheGrant}),
    "the row is given up before the belief": (
        "I1 I2",
        {"member": GivesUpTheRowFirst, "unchecked": frozenset({"I10"})},
    ),
    "the right to lead is believed in while it is handed over": (
        "I1 I2",
        {"member": KeepsTheRightToLead, "unchecked": frozenset({"I10"})},
    ),
    "two are to lead": ("I9", {"member": PlansTwoLeaders}),
    "no bind number": ("I1 I2 I8", {"rules": Rules(compares_bind=False)}),
    "the end of a session is trusted": (
        "I1 I2",
        {"member": hearing(_leases_seen_as(1, 0)), "session_lease": True, "fail_over": False},
    ),
    "observers wait for less than the row lease": (
        "I1 I2",
        {"member": hearing(_leases_seen_as(0.5, 1)), "fail_over": False},
    ),
    "observers wait for less than the session lease": (
        "I1 I2",
        {"member": hearing(_leases_seen_as(1, 0.5)), "session_lease": True, "fail_over": False},
    ),
    "no incarnation": ("I1 I2", {"rules": Rules(compares_incarnation=False)}),
    "an expired belief is revived after a fail-over": (
        "I1",
        {"rules": Rules(counts_generations=False), "member": TakesEveryServerForTheSame, "fail_over": True},
    ),
    "no quarantine after a fail-over": (
        "I1",
        {"rules": Rules(quarantines=False), "fail_over": True, "session_lease": False},
    ),
    "a silent node is stripped without looking again": (
        "I1 I2",
        {"rules": Rules(compares_beats=False), "fail_over": False},
    ),
}
MOST_SEEDS = 600


@pytest.mark.slow  # tests/simulation leaves the same rules out, and more, on the real SQL.
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_checker_misses_the_rule(mutation: str) -> None:
    invariants, options = MUTATIONS[mutation]
    for seed in range(MOST_SEEDS):
        try:
            run_storm(seed, **options)
        except Violated as error:
            if str(error).split()[0].strip(":") in invariants.split():
                return
    pytest.fail(f"{MOST_SEEDS} seeds passed although {mutation}")
