"""From a snapshot to a plan: what changes, why, and which locks are odd."""

from dataclasses import replace

import pytest

from jobsync.core.messages import PlanInputs
from jobsync.core.planning import make_plan
from jobsync.core.pool import LEADERSHIP, RIGHT_TO_LEAD, pool_of
from jobsync.core.steering import Steering
from jobsync.core.tokens import TokenSet

ALL, LOW, HIGH = TokenSet.span(0, 10), TokenSet.span(0, 5), TokenSet.span(5, 10)


def inputs(
    nodes: tuple[str, ...],
    targets: dict[str, TokenSet],
    *,
    fenced: frozenset[str] = frozenset(),
    locks: tuple[tuple[int, str, tuple[str, ...]], ...] = (),
) -> PlanInputs:
    """A snapshot of a fleet with ten tokens."""
    return PlanInputs(1, 1, 10, "", nodes, fenced, targets, locks)


def test_a_plan_that_fits_changes_nothing() -> None:
    plan = make_plan(inputs(("a", "b"), {"a": LOW | RIGHT_TO_LEAD, "b": HIGH}))
    assert (plan.changed, plan.tokens_moved, plan.moves) == ({}, 0, ())


def test_only_targets_that_change_are_written() -> None:
    plan = make_plan(inputs(("a", "b", "c"), {"a": LOW, "b": TokenSet.span(5, 7), "c": TokenSet.span(7, 8)}))
    assert set(plan.changed) <= {"a", "b", "c"}
    assert all(plan.changed[node] for node in plan.changed)
    assert sum(len(tokens) for _, _, tokens in plan.moves) == plan.tokens_moved


def test_the_tokens_of_the_gone_go_to_the_living() -> None:
    plan = make_plan(inputs(("a",), {"a": LOW, "b": HIGH}, fenced=frozenset({"b"})))
    assert plan.changed == {"a": ALL | RIGHT_TO_LEAD}
    assert plan.moves == (("b", "a", HIGH),)
    assert (plan.nodes_before, plan.reason) == (2, "death")


@pytest.mark.parametrize(
    ("nodes", "targets", "fenced", "reason"),
    [
        (("a",), {}, (), "start"),
        (("a", "b"), {"a": ALL}, (), "join"),
        (("a",), {"a": LOW, "b": HIGH}, (), "leave"),
        (("a",), {"a": LOW, "b": HIGH}, ("b",), "death"),
        (("a", "c"), {"a": LOW, "b": HIGH}, ("b",), "death, join"),
        (("a", "b"), {"a": LOW, "b": HIGH}, (), "locks"),
    ],
)
def test_a_plan_says_why_it_was_made(
    nodes: tuple[str, ...], targets: dict[str, TokenSet], fenced: tuple[str, ...], reason: str
) -> None:
    assert make_plan(inputs(nodes, targets, fenced=frozenset(fenced))).reason == reason


def test_a_pin_without_a_match_is_told_by_its_task() -> None:
    plan = make_plan(inputs(("a", "b"), {}, locks=((3, "invoice", ("z%",)), (4, "report", ("b",)))))
    assert plan.unmatched == ("invoice",)
    assert 4 in plan.changed["b"]


def test_of_two_locks_on_one_token_the_first_registered_decides_and_the_other_is_told() -> None:
    plan = make_plan(inputs(("a", "b"), {}, locks=((3, "first", ("b",)), (3, "second", ("a",)))))
    assert 3 in plan.changed["b"]
    (told,) = plan.conflicts
    assert "'first'" in told
    assert "'second'" in told


def test_two_locks_on_one_token_that_agree_are_no_conflict() -> None:
    plan = make_plan(inputs(("a", "b"), {}, locks=((3, "first", ("b",)), (3, "second", ("b",)))))
    assert plan.conflicts == ()


def test_the_oldest_leads_alone_and_for_nothing() -> None:
    plan = make_plan(inputs(("a", "b"), {"a": LOW, "b": HIGH | RIGHT_TO_LEAD}))
    assert plan.changed == {"a": LOW | RIGHT_TO_LEAD, "b": HIGH}
    assert (plan.tokens_moved, plan.moves) == (0, ())


def test_the_right_to_lead_weighs_nothing_in_the_deal() -> None:
    names = tuple("abcdefghijkl")  # more nodes than tokens
    plan = make_plan(inputs(names, {}))
    assert [len(pool_of(plan.changed[name])) for name in names] == [1] * 10 + [0] * 2
    assert [name for name in names if LEADERSHIP in plan.changed[name]] == ["a"]
    assert plan.tokens_moved == 10


def test_the_successor_of_the_gone_leader_is_the_next_oldest() -> None:
    plan = make_plan(
        inputs(("b", "c"), {"a": LOW | RIGHT_TO_LEAD, "b": TokenSet.span(5, 7), "c": TokenSet.span(7, 10)})
    )
    assert plan.changed["b"] >= RIGHT_TO_LEAD
    assert LEADERSHIP not in plan.changed.get("c", TokenSet())
    assert all(LEADERSHIP not in tokens for _, _, tokens in plan.moves)


def test_nobody_alive_leaves_nobody_planned() -> None:
    plan = make_plan(inputs((), {"a": ALL}, fenced=frozenset({"a"})))
    assert plan.changed == {}


@pytest.mark.parametrize(
    ("held", "drained", "reason"),
    [
        ({"a": LOW, "b": HIGH}, {"b"}, "drain"),
        ({"a": ALL, "b": TokenSet()}, {"b"}, "resume"),
        ({"a": LOW, "b": HIGH}, {"a", "b"}, "resume"),
    ],
    ids=["it has tokens to give", "it had none", "nobody is left to take them"],
)
def test_a_drain_is_the_reason_only_where_it_takes_tokens_away(
    held: dict[str, TokenSet], drained: set[str], reason: str
) -> None:
    steering = Steering(drained=frozenset(drained), changed=True)
    plan = make_plan(replace(inputs(("a", "b"), held), steering=steering))
    assert plan.reason == reason
