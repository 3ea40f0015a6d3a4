"""Parts of the product with a rule left out: members that are bent, functions that stand in the place of others."""

from dataclasses import replace
from typing import Any

from jobsync.core import messages as m
from jobsync.core import steering
from jobsync.core.belief import Belief, Giving
from jobsync.core.member import Member
from jobsync.core.observer import Observer, Suspect
from jobsync.core.pool import RIGHT_TO_LEAD
from jobsync.core.tokens import TokenSet

ALL_TOKENS = TokenSet.span(0, 1 << 20)

# --- members that are bent -------------------------------------------------------------------


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

    kept = ALL_TOKENS

    def step(self, event: m.Event) -> list[m.Effect]:
        effects = super().step(event)
        if isinstance(event, m.Answered) and isinstance(event.question, m.Shrink):
            self.extra = TokenSet()
        return effects

    def bend(self, effect: m.Effect) -> list[m.Effect]:
        if isinstance(effect, m.Drain):
            self.extra |= effect.tokens & self.kept
        if isinstance(effect, m.Ask) and isinstance(effect.question, m.Shrink) and self.standing is not None:
            return [m.Publish(self.bent(self.standing)), effect]
        return super().bend(effect)


class LeadsUntilTheRowIsGivenUp(GivesUpTheRowFirst):
    """What leads goes on believing that it does while the right to lead is handed over."""

    kept = RIGHT_TO_LEAD


class TrustsTheRowAlone(_Republishing):
    """A session lease is told to the database and not kept."""

    def bent(self, standing: m.Standing) -> m.Standing:
        row = self._belief.row
        if row is None:
            return standing
        return replace(standing, holding=replace(standing.holding, boot_until_sec=row.boot_until_sec))


class PlansTwoLeaders(Member):
    """The plan wants every node to lead: one of them waits for it for ever."""

    def step(self, event: m.Event) -> list[m.Effect]:
        return [self.bend(effect) for effect in super().step(event)]

    def bend(self, effect: m.Effect) -> m.Effect:
        if isinstance(effect, m.Ask) and isinstance(effect.question, m.SavePlan):
            everybody = {node: tokens | RIGHT_TO_LEAD for node, tokens in effect.question.targets.items()}
            return replace(effect, question=replace(effect.question, targets=everybody))
        return effect


class LetsTheDrainedLead(Member):
    """Who leads is drained, although somebody else could lead."""

    def step(self, event: m.Event) -> list[m.Effect]:
        if isinstance(event, m.Answered) and isinstance(event.answer, m.PlanInputs):
            inputs = event.answer
            nodes = sorted(inputs.nodes, key=lambda node: node not in inputs.steering.drained)
            event = replace(event, answer=replace(inputs, nodes=tuple(nodes)))
        return super().step(event)


def seeing_leases(*, row: float = 1, session: float = 1) -> type[Member]:
    """Make a member that takes the leases of others for shorter than they are."""

    class Impatient(Member):
        def step(self, event: m.Event) -> list[m.Effect]:
            if isinstance(event, m.Answered) and isinstance(event.answer, m.Sightings):
                nodes = tuple(
                    replace(
                        node,
                        row_lease_ms=int(node.row_lease_ms * row),
                        session_lease_ms=node.session_lease_ms and max(1, int(node.session_lease_ms * session)),
                    )
                    for node in event.answer.nodes
                )
                event = replace(event, answer=m.Sightings(nodes))
            return super().step(event)

    return Impatient


# --- functions of the core that are replaced -------------------------------------------------


def suspects_everybody(self: Observer, now_sec: float) -> list[Suspect]:
    """Leave it to the database whom its clock takes for dead."""
    return [Suspect(who, watched.beats, "A") for who, watched in self._watched.items()]


def gives_without_end(self: Belief, tokens: TokenSet, now_sec: float) -> Giving:
    """Begin a hand-over that is never done."""
    giving = give(self, tokens, now_sec)
    giving.since_sec = 1e12
    return giving


def waits_on_from_another_server(self: Member, generation: int | None) -> bool:
    """Remember whose rows these are, and not that a wait that began elsewhere proves nothing here."""
    since_sec = self._quarantined_since_sec
    changed = note_server(self, generation)
    self._quarantined_since_sec = since_sec
    return changed


note_server = Member._note_server
give = Belief.give
staying = steering._staying


def keeps_none_of_the_cordoned(nodes: Any, takers: Any, held: Any, asked: steering.Steering, dead: Any) -> list[str]:
    """Deal what the cordoned have."""
    return staying(nodes, takers, held, replace(asked, cordoned=frozenset()), dead)


def knows_no_freeze(nodes: Any, takers: Any, held: Any, asked: steering.Steering, dead: Any) -> list[str]:
    """Deal as if nobody had frozen the fleet."""
    return staying(nodes, takers, held, replace(asked, frozen=False), dead)


def keeps_no_place(nodes: Any, takers: Any, held: Any, asked: steering.Steering, dead: Any) -> list[str]:
    """Deal in a frozen fleet what those had who left."""
    return [node for node in staying(nodes, takers, held, asked, dead) if node in nodes]


def keeps_the_places_of_the_dead(nodes: Any, takers: Any, held: Any, asked: steering.Steering, _: Any) -> list[str]:
    """Keep the places of the fenced."""
    return staying(nodes, takers, held, asked, frozenset())
