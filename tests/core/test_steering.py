"""Cordoned and drained nodes, a frozen fleet: what the deal makes of them, and what the fleet does."""

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobsync.core.assignment import Deal, deal
from jobsync.core.messages import PlanInputs
from jobsync.core.pins import Pin
from jobsync.core.planning import make_plan
from jobsync.core.pool import RIGHT_TO_LEAD
from jobsync.core.steering import FREE, Steering, steered_deal
from jobsync.core.tokens import TokenSet

NAMES = ("a1", "a2", "b1", "b2", "c")
PATTERNS = ("a1", "a%", "b_", "c", "zz", "%")
THOROUGH = settings(max_examples=80)


@dataclass(frozen=True)
class Fleet:
    """What a steered deal is made from; some holders are gone, of whom some are certainly dead."""

    total: int
    nodes: tuple[str, ...]
    held: dict[str, TokenSet]
    pins: tuple[Pin, ...]
    steering: Steering
    fenced: frozenset[str]

    @property
    def takers(self) -> list[str]:
        return [node for node in self.nodes if self.steering.is_open(node)]

    def dealt(self) -> Deal:
        return steered_deal(self.total, self.nodes, self.held, self.pins, self.steering, self.fenced)


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    total = draw(st.integers(1, 20))
    nodes = tuple(draw(st.lists(st.sampled_from(NAMES), unique=True)))
    holders = draw(st.lists(st.sampled_from([None, *NAMES]), min_size=total, max_size=total))
    held = {name: TokenSet.of(t for t, holder in enumerate(holders) if holder == name) for name in NAMES}
    names = st.frozensets(st.sampled_from(NAMES), max_size=3)
    wishes = st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=2).map(tuple)
    pins = draw(
        st.lists(st.builds(Pin, st.integers(0, total - 1), wishes), max_size=5, unique_by=lambda pin: pin.token)
    )
    drained = draw(names)
    steering = Steering(draw(names) - drained, drained, draw(st.booleans()))
    return Fleet(total, nodes, held, tuple(pins), steering, draw(names) - set(nodes))


# --- the deal --------------------------------------------------------------------------------


@THOROUGH
@given(fleets())
def test_every_token_is_dealt_once_or_unplaced(fleet: Fleet) -> None:
    dealt = fleet.dealt()
    pieces = sorted(t for tokens in (*dealt.targets.values(), dealt.unplaced) for t in tokens)
    assert pieces == list(range(fleet.total))
    assert set(fleet.nodes) <= set(dealt.targets)


@THOROUGH
@given(fleets())
def test_nothing_is_unplaced_while_there_is_a_node_that_may_take_it(fleet: Fleet) -> None:
    if fleet.takers:
        assert not fleet.dealt().unplaced


@THOROUGH
@given(fleets())
def test_a_cordoned_node_gets_nothing_new(fleet: Fleet) -> None:
    dealt = fleet.dealt()
    for node in set(fleet.nodes) & fleet.steering.cordoned:
        assert dealt.targets[node] <= fleet.held[node]


@THOROUGH
@given(fleets())
def test_a_cordoned_node_keeps_what_no_pin_calls_away(fleet: Fleet) -> None:
    dealt = fleet.dealt()
    pinned = TokenSet.of(pin.token for pin in fleet.pins)
    for node in set(fleet.nodes) & fleet.steering.cordoned:
        assert fleet.held[node] - pinned <= dealt.targets[node]


@THOROUGH
@given(fleets())
def test_a_drained_node_keeps_nothing_where_somebody_may_take_it_and_else_everything(fleet: Fleet) -> None:
    dealt = fleet.dealt()
    for node in set(fleet.nodes) & fleet.steering.drained:
        expected = TokenSet() if fleet.takers else fleet.held[node]
        assert dealt.targets[node] == expected


@THOROUGH
@given(fleets())
def test_in_a_frozen_fleet_nobody_loses_anything_but_the_dead_and_the_drained(fleet: Fleet) -> None:
    fleet = replace(fleet, steering=replace(fleet.steering, frozen=True))
    dealt = fleet.dealt()
    for node, tokens in fleet.held.items():
        if node not in fleet.fenced and not (node in fleet.steering.drained and fleet.takers):
            assert tokens <= dealt.targets.get(node, TokenSet())


@THOROUGH
@given(fleets())
def test_places_are_kept_in_a_frozen_fleet_alone_and_never_for_the_dead(fleet: Fleet) -> None:
    places = set(fleet.dealt().targets) - set(fleet.nodes)
    assert not places or fleet.steering.frozen
    assert not places & fleet.fenced


@THOROUGH
@given(fleets())
def test_what_is_dealt_again_moves_nothing(fleet: Fleet) -> None:
    once = fleet.dealt()
    again = replace(fleet, held={name: once.targets.get(name, TokenSet()) for name in NAMES}).dealt()
    assert {name: tokens for name, tokens in again.targets.items() if tokens} == {
        name: tokens for name, tokens in once.targets.items() if tokens
    }


@THOROUGH
@given(fleets())
def test_the_others_share_evenly_what_is_theirs(fleet: Fleet) -> None:
    fleet = replace(fleet, pins=(), steering=replace(fleet.steering, frozen=False))
    counts = [len(fleet.dealt().targets[node]) for node in fleet.takers]
    assert not counts or max(counts) - min(counts) <= 1


@THOROUGH
@given(fleets())
def test_a_deal_that_nobody_steers_is_the_plain_one(fleet: Fleet) -> None:
    fleet = replace(fleet, steering=FREE)
    assert fleet.dealt() == deal(fleet.total, fleet.nodes, fleet.held, fleet.pins)


def test_a_pin_on_a_cordoned_holder_stays_and_one_that_prefers_another_goes() -> None:
    held = {"a": TokenSet.span(0, 5), "b": TokenSet.span(5, 10)}
    pins = [Pin(0, ("a",)), Pin(1, ("b", "a")), Pin(2, ("nobody",)), Pin(7, ("a",))]
    dealt = steered_deal(10, ("a", "b"), held, pins, Steering(cordoned=frozenset({"a"})))
    assert dealt.targets["a"] == TokenSet.of([0, 2, 3, 4])
    assert [pin.token for pin in dealt.unmatched] == [2, 7]


# --- the plan --------------------------------------------------------------------------------

ALL, LOW, HIGH = TokenSet.span(0, 10), TokenSet.span(0, 5), TokenSet.span(5, 10)
FROZEN = Steering(frozen=True)


def inputs(nodes: str, targets: dict[str, TokenSet], steering: Steering, *, fenced: str = "") -> PlanInputs:
    """A snapshot of ten tokens."""
    names = tuple(nodes.split())
    return PlanInputs(1, 1, 10, "", names, frozenset(fenced.split()), targets, (), steering=steering)


@pytest.mark.parametrize(
    ("nodes", "targets", "steering", "fenced", "reason", "moved"),
    [
        ("b a", {"a": LOW, "b": HIGH}, Steering(drained=frozenset("a"), changed=True), "", "drain", 5),
        ("a b", {"a": TokenSet(), "b": ALL}, Steering(changed=True), "", "resume", 5),
        ("a b", {"a": ALL}, FROZEN, "", "join", 0),
        ("a", {"a": LOW, "b": HIGH}, FROZEN, "", "locks", 0),
        ("a", {"a": LOW, "b": HIGH}, FROZEN, "b", "death", 5),
    ],
)
def test_a_plan_says_what_steered_it(
    nodes: str, targets: dict[str, TokenSet], steering: Steering, fenced: str, reason: str, moved: int
) -> None:
    plan = make_plan(inputs(nodes, targets, steering, fenced=fenced))
    assert (plan.reason, plan.tokens_moved) == (reason, moved)


@pytest.mark.parametrize(("takers", "is_kept"), [(("a",), False), ((), True)])
def test_a_freeze_keeps_no_place_for_a_drained_node_that_left_where_somebody_may_take_it(
    takers: tuple[str, ...], is_kept: bool
) -> None:
    dealt = steered_deal(10, takers, {"a": LOW, "b": HIGH}, (), Steering(drained=frozenset("b"), frozen=True))
    assert ("b" in dealt.targets) is is_kept


def test_a_freeze_keeps_the_place_of_whoever_left_and_not_his_right_to_lead() -> None:
    plan = make_plan(inputs("b", {"a": LOW | RIGHT_TO_LEAD, "b": HIGH}, FROZEN))
    assert plan.nodes == ("b", "a")
    assert plan.changed == {"a": LOW, "b": HIGH | RIGHT_TO_LEAD}


def test_a_pin_that_matches_nobody_is_told_once_whoever_holds_its_token() -> None:
    held = {"a": TokenSet.span(0, 5), "b": TokenSet.span(5, 10)}
    pins = [Pin(1, ("z%",)), Pin(7, ("z%",))]
    dealt = steered_deal(10, ["a", "b"], held, pins, Steering(cordoned=frozenset({"a"})))
    assert sorted(pin.token for pin in dealt.unmatched) == [1, 7]


def test_who_is_cordoned_and_drained_is_drained() -> None:
    held = {"a": TokenSet.span(0, 5), "b": TokenSet.span(5, 10)}
    both = Steering(cordoned=frozenset({"a"}), drained=frozenset({"a"}))
    assert steered_deal(10, ["a", "b"], held, [], both).targets["a"] == TokenSet()


def test_in_a_frozen_fleet_overlaps_go_to_the_first_and_no_place_is_kept_for_who_left_with_nothing() -> None:
    held = {"a": TokenSet.span(0, 6), "b": TokenSet.span(4, 8), "c": TokenSet.span(5, 10), "gone": TokenSet()}
    dealt = steered_deal(10, ["a", "b", "c"], held, [], Steering(frozen=True))
    assert dealt.targets == {"a": TokenSet.span(0, 6), "b": TokenSet.span(6, 8), "c": TokenSet.span(8, 10)}
