"""A deal: pins first, then even, moving the fewest tokens, and tidy for life."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobsync.core.assignment import Deal, Move, deal, moves
from jobsync.core.pins import Pin
from jobsync.core.tokens import TokenSet
from tests.core.dumb_deal import dumb_deal, holder_of

THOROUGH = settings(max_examples=200)
ASTRONOMICAL = 10**15
NAMES = ("a1", "a2", "b1", "b2", "c", "d")
PATTERNS = ("a1", "a%", "b_", "_2", "c", "zz", "%", "\\d")


@dataclass(frozen=True)
class World:
    """What a deal is made from; some of the holders are gone, and in garbled worlds holdings overlap and overreach."""

    total: int
    nodes: list[str]
    held: dict[str, TokenSet]
    pins: list[Pin]

    def dealt(self) -> Deal:
        return deal(self.total, self.nodes, self.held, self.pins)


def pins_up_to(total: int) -> st.SearchStrategy[list[Pin]]:
    wishes = st.lists(st.sampled_from(PATTERNS), max_size=3).map(tuple)
    return st.lists(st.builds(Pin, st.integers(-1, total), wishes), max_size=8)


@st.composite
def orderly_worlds(draw: st.DrawFn) -> World:
    total = draw(st.integers(0, 24))
    nodes = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    holders = draw(st.lists(st.sampled_from([None, *NAMES]), min_size=total, max_size=total))
    if draw(st.booleans()):  # As after a life in order: a few long ranges instead of dust.
        holders = sorted(holders, key=lambda name: name or "")
    held = {name: TokenSet.of(t for t, holder in enumerate(holders) if holder == name) for name in NAMES}
    return World(total, nodes, held, draw(pins_up_to(total)))


@st.composite
def garbled_worlds(draw: st.DrawFn) -> World:
    total = draw(st.integers(-2, 30))
    nodes = draw(st.lists(st.sampled_from(NAMES)))
    anything = st.sets(st.integers(-4, 35), max_size=30).map(TokenSet.of)
    held = draw(st.dictionaries(st.sampled_from(NAMES), anything))
    return World(total, nodes, held, draw(pins_up_to(max(0, total))))


worlds = st.one_of(orderly_worlds(), garbled_worlds())
inhabited = worlds.filter(lambda world: bool(world.nodes))


def moved(before: Mapping[str, AbstractSet[int]], after: Mapping[str, TokenSet]) -> int:
    """Count the tokens that somebody has after, and did not have before."""
    return sum(len(tokens - before.get(name, frozenset())) for name, tokens in after.items())


def fleet(count: int) -> list[str]:
    return [f"worker-{number}" for number in range(count)]


def pieces(targets: Mapping[str, TokenSet]) -> int:
    return sum(tokens.pieces for tokens in targets.values())


# --- what every deal keeps ---------------------------------------------------------------------


@given(inhabited)
def test_every_token_goes_to_exactly_one_live_node(world: World) -> None:
    dealt = world.dealt()
    assert sorted(dealt.targets) == sorted(set(world.nodes))
    assert sorted(token for tokens in dealt.targets.values() for token in tokens) == list(range(world.total))
    assert dealt.unplaced == TokenSet()


@given(inhabited)
def test_counts_differ_by_one_at_most_pins_aside(world: World) -> None:
    nodes = list(dict.fromkeys(world.nodes))
    pinned = dumb_deal(world.total, nodes, world.held, world.pins).pinned
    counts = [len(tokens - pinned.keys()) for tokens in world.dealt().targets.values()]
    assert max(counts) - min(counts) <= 1


@given(inhabited)
@THOROUGH
def test_no_even_deal_moves_fewer_tokens(world: World) -> None:
    nodes = list(dict.fromkeys(world.nodes))
    dumb = dumb_deal(world.total, nodes, world.held, world.pins)
    owned = {name: {t for t in range(world.total) if holder_of(t, nodes, world.held) == name} for name in nodes}
    unpinned = {name: tokens - dumb.pinned.keys() for name, tokens in world.dealt().targets.items()}
    assert moved(owned, unpinned) == dumb.fewest_moved


@given(inhabited)
@THOROUGH
def test_pinned_tokens_go_where_a_deal_token_by_token_puts_them(world: World) -> None:
    dumb = dumb_deal(world.total, list(dict.fromkeys(world.nodes)), world.held, world.pins)
    dealt = world.dealt()
    assert {token: holder_of(token, dealt.targets, dealt.targets) for token in dumb.pinned} == dumb.pinned
    assert list(dealt.unmatched) == dumb.unmatched


@given(inhabited)
def test_a_deal_dealt_again_moves_nothing(world: World) -> None:
    once = world.dealt()
    again = deal(world.total, world.nodes, once.targets, world.pins)
    assert again == once
    assert moves(once.targets, again.targets) == ()


@given(worlds)
def test_a_deal_does_not_depend_on_the_order_in_which_things_are_listed(world: World) -> None:
    one_a_token = list({pin.token: pin for pin in world.pins}.values())
    backwards = dict(reversed(world.held.items()))
    assert deal(world.total, world.nodes, backwards, one_a_token[::-1]) == deal(
        world.total, world.nodes, world.held, one_a_token
    )


@given(garbled_worlds())
def test_without_nodes_all_tokens_are_unplaced_and_all_pins_unmatched(world: World) -> None:
    dealt = deal(world.total, [], world.held, world.pins)
    assert dealt.targets == {}
    assert dealt.unplaced == set(range(world.total))
    assert {pin.token for pin in dealt.unmatched} == {p.token for p in world.pins if 0 <= p.token < world.total}


# --- who moves ---------------------------------------------------------------------------------


def test_the_first_deal_gives_each_node_one_range_by_seniority() -> None:
    dealt = deal(10, ["b", "a", "c"], {})
    assert [dealt.targets[name].text() for name in ("b", "a", "c")] == ["{[0,4)}", "{[4,7)}", "{[7,10)}"]


def test_one_seventh_moves_when_one_of_seven_leaves() -> None:
    before = deal(10_000, fleet(7), {}).targets
    after = deal(10_000, fleet(6), before).targets
    assert moved(before, after) == len(before["worker-6"]) == 1_428


def test_one_eighth_moves_when_one_joins_seven() -> None:
    before = deal(10_000, fleet(7), {}).targets
    after = deal(10_000, fleet(8), before).targets
    assert moved(before, after) == len(after["worker-7"]) == 1_250


def test_a_node_that_keeps_its_name_keeps_its_tokens_while_others_come_and_go() -> None:
    before = deal(10_000, fleet(7), {}).targets
    assert deal(10_000, fleet(6), before).targets["worker-0"] > before["worker-0"]
    assert deal(10_000, fleet(8), before).targets["worker-0"] < before["worker-0"]


def test_nothing_moves_where_the_uneven_one_is_held_by_others_than_the_most_senior() -> None:
    held = {"a": TokenSet.span(0, 3), "b": TokenSet.span(3, 7), "c": TokenSet.span(7, 10)}
    assert deal(10, ["a", "b", "c"], held).targets == held


def test_of_two_that_hold_one_too_many_one_gives_it_where_only_one_may_keep_it() -> None:
    held = {"a": TokenSet.span(0, 3), "b": TokenSet.span(3, 6), "c": TokenSet.span(6, 7)}
    assert sorted(map(len, deal(7, ["a", "b", "c"], held).targets.values())) == [2, 2, 3]


def test_more_nodes_than_tokens_leave_some_without_any() -> None:
    held = {"c": TokenSet.of([1])}
    assert [len(deal(2, ["a", "b", "c"], held).targets[name]) for name in ("a", "b", "c")] == [1, 0, 1]


def test_where_holdings_overlap_the_more_senior_holder_counts() -> None:
    held = {"young": TokenSet.span(0, 6), "old": TokenSet.span(3, 9)}
    dealt = deal(12, ["old", "young"], held)
    assert dealt.targets["old"] == TokenSet.span(3, 9)


def test_no_token_is_nobodys_where_some_are_held_by_nobody() -> None:
    dealt = deal(10, ["a", "b"], {"a": TokenSet.span(2, 8)})
    assert sorted(token for tokens in dealt.targets.values() for token in tokens) == list(range(10))


# --- pins --------------------------------------------------------------------------------------


def test_a_pinned_token_falls_back_from_pattern_to_pattern() -> None:
    pins = [Pin(5, ("gpu-1", "gpu-%", "%"))]
    for nodes, owner in [
        (["cpu-1", "gpu-1", "gpu-2"], "gpu-1"),
        (["cpu-1", "gpu-2"], "gpu-2"),
        (["cpu-1", "cpu-2"], "cpu-1"),
    ]:
        assert 5 in deal(10, nodes, {}, pins).targets[owner]


def test_a_pinned_token_stays_with_a_holder_that_matches() -> None:
    held = {"gpu-1": TokenSet.span(0, 5), "gpu-2": TokenSet.span(5, 10)}
    assert 7 in deal(10, ["gpu-1", "gpu-2"], held, [Pin(7, ("gpu-%",))]).targets["gpu-2"]


def test_a_pinned_token_moves_back_as_soon_as_a_better_pattern_matches() -> None:
    pins = [Pin(0, ("gpu-%", "%"))]
    before = deal(10, ["cpu-1"], {}, pins).targets
    assert 0 in deal(10, ["cpu-1", "gpu-1"], before, pins).targets["gpu-1"]


def test_pinned_tokens_are_spread_over_the_nodes_that_match() -> None:
    pins = [Pin(token, ("gpu-%",)) for token in range(9)]
    dealt = deal(10, ["cpu", "gpu-1", "gpu-2", "gpu-3"], {"cpu": TokenSet.span(0, 10)}, pins)
    assert Counter(len(dealt.targets[f"gpu-{number}"] & set(range(9))) for number in (1, 2, 3)) == {3: 3}


def test_pins_count_in_nobodys_share() -> None:
    pins = [Pin(token, ("a",)) for token in range(10)]
    dealt = deal(30, ["a", "b"], {}, pins)
    assert (len(dealt.targets["a"]), len(dealt.targets["b"])) == (20, 10)


def test_the_first_of_two_pins_of_one_token_counts() -> None:
    dealt = deal(10, ["a", "b"], {}, [Pin(3, ("b",)), Pin(3, ("a",))])
    assert 3 in dealt.targets["b"]


def test_a_pin_that_matches_nobody_is_reported_and_its_token_dealt_like_others() -> None:
    dealt = deal(10, ["a", "b"], {}, [Pin(3, ("gpu-%",)), Pin(99, ("gpu-%",))])
    assert dealt.unmatched == (Pin(3, ("gpu-%",)),)
    assert [len(dealt.targets[name]) for name in ("a", "b")] == [5, 5]


def test_a_malformed_pattern_matches_nobody_and_stops_no_deal() -> None:
    assert deal(10, ["a"], {}, [Pin(3, ("a\\",))]).unmatched == (Pin(3, ("a\\",)),)


# --- few ranges --------------------------------------------------------------------------------


def test_a_replacement_takes_over_the_ranges_of_the_one_it_replaces() -> None:
    nodes = fleet(50)
    before = aged_targets(nodes)
    newcomers = ["new-1", "new-2", "new-3"]
    after = deal(10_000, [*nodes[3:], *newcomers], before).targets
    assert {after[name] for name in newcomers} == {before[name] for name in nodes[:3]}
    assert all(after[name] == before[name] for name in nodes[3:])


def test_a_replacement_comes_before_those_that_have_ranges_of_their_own() -> None:
    held = {"old": TokenSet.span(0, 5), "gone": TokenSet.from_ranges([(10, 15), (20, 25)])}
    assert deal(30, ["old", "new"], held).targets["new"] > held["gone"]


def test_what_is_free_goes_to_the_owners_of_the_ranges_beside_it() -> None:
    held = {"a": TokenSet.span(0, 10), "gone": TokenSet.span(10, 20), "b": TokenSet.span(20, 30)}
    after = deal(30, ["a", "b"], held).targets
    assert after == {"a": TokenSet.span(0, 15), "b": TokenSet.span(15, 30)}


def test_a_gap_in_a_range_is_closed_by_its_owner() -> None:
    held = {
        "a": TokenSet.from_ranges([(0, 4), (6, 8)]),
        "gone": TokenSet.from_ranges([(4, 6), (12, 14)]),
        "b": TokenSet.from_ranges([(8, 12), (14, 16)]),
    }
    assert deal(16, ["a", "b"], held).targets == {"a": TokenSet.span(0, 8), "b": TokenSet.span(8, 16)}


def test_short_gaps_are_closed_before_long_ones_are_cut() -> None:
    held = {"a": TokenSet.from_ranges([(6, 12), (20, 24)]), "b": TokenSet.span(12, 20)}
    after = deal(27, ["a", "b"], held).targets
    assert after == {"a": TokenSet.from_ranges([(6, 12), (20, 27)]), "b": TokenSet.from_ranges([(0, 6), (12, 20)])}


def test_what_must_be_given_is_cut_off_beside_the_one_that_needs_it() -> None:
    held = {"a": TokenSet.span(0, 14), "b": TokenSet.span(14, 20), "c": TokenSet.span(20, 30)}
    assert deal(30, ["a", "b", "c"], held).targets["b"] == TokenSet.span(10, 20)


# Long and short ranges of `a`, none beside another, between ranges of `b`, which has its share.
SCATTERED = {
    "a": TokenSet.from_ranges([(0, 11), (13, 17), (20, 22), (25, 28)]),
    "b": TokenSet.from_ranges([(11, 13), (17, 20), (22, 25), (28, 30)]),
}


def test_an_overloaded_node_gives_its_smallest_ranges_whole() -> None:
    held = {
        **SCATTERED,
        "c": TokenSet.span(32, 42),
        "b": SCATTERED["b"] | TokenSet.span(30, 32) | TokenSet.span(42, 45),
    }
    after = deal(45, ["a", "b", "c"], held).targets  # `a` has 20, and each gets 15
    assert held["a"] - after["a"] == TokenSet.from_ranges([(20, 22), (25, 28)])


def test_an_overloaded_node_cuts_one_range_for_the_rest() -> None:
    after = deal(30, ["a", "b", "c"], SCATTERED).targets
    assert after["a"].pieces == 1
    assert after["b"] == SCATTERED["b"]


def test_small_neighbouring_ranges_of_several_nodes_become_one_range_of_a_newcomer() -> None:
    # `a`, `b` and `c` have 12 each and owe 3 each to `d`: there are ranges of 3 beside each other, and others alone.
    held = {
        "a": TokenSet.from_ranges([(0, 6), (12, 15), (27, 30)]),
        "b": TokenSet.from_ranges([(6, 12), (15, 18), (24, 27)]),
        "c": TokenSet.from_ranges([(18, 24), (30, 36)]),
    }
    after = deal(36, ["a", "b", "c", "d"], held).targets
    assert after["d"] == TokenSet.span(12, 21)


def test_what_must_be_cut_is_cut_beside_what_is_open_before_lone_ranges_go() -> None:
    held = {
        "a": TokenSet.from_ranges([(0, 10), (16, 18)]),
        "b": TokenSet.from_ranges([(12, 16), (18, 24)]),
        "c": TokenSet.span(10, 12),
    }
    after = deal(24, ["a", "b", "c"], held).targets
    assert held["a"] - after["a"] == TokenSet.span(6, 10)


# Two nodes owe 2 tokens each, to `d`, which lies beyond `c`.
FAR = {"c": TokenSet.from_ranges([(24, 34)]), "d": TokenSet.span(34, 40)}


def test_two_that_must_cut_cut_on_both_sides_of_their_border() -> None:
    after = deal(40, list("abcd"), {"a": TokenSet.span(0, 12), "b": TokenSet.span(12, 24), **FAR}).targets
    assert after["d"] == TokenSet.from_ranges([(10, 14), (34, 40)])


def test_lone_ranges_that_fit_go_before_anything_is_cut() -> None:
    held = {
        "a": TokenSet.from_ranges([(0, 10), (22, 24)]),
        "b": TokenSet.from_ranges([(10, 20), (26, 28)]),
        "c": TokenSet.from_ranges([(20, 22), (24, 26), (28, 34)]),
        "d": TokenSet.span(34, 40),
    }
    after = deal(40, list("abcd"), held).targets
    assert (after["a"], after["b"]) == (TokenSet.span(0, 10), TokenSet.span(10, 20))


def test_the_smallest_range_that_will_do_is_cut() -> None:
    held = {
        "a": TokenSet.from_ranges([(0, 10), (12, 15), (17, 21)]),
        "b": TokenSet.from_ranges([(10, 12), (15, 17), (21, 32)]),
        "c": TokenSet.span(32, 45),
    }
    after = deal(45, ["a", "b", "c"], held).targets
    assert held["a"] - after["a"] == TokenSet.of([12, 13])


def test_a_gap_is_cut_only_where_a_node_has_its_due() -> None:
    # Gaps of 12, 10 and 8 between the walls, for two nodes that need 15 each.
    held = {"w": TokenSet.from_ranges([(12, 19), (29, 37)])}
    after = deal(45, ["w", "x", "y"], held).targets
    assert after["x"] == TokenSet.from_ranges([(0, 12), (19, 22)])
    assert after["y"] == TokenSet.from_ranges([(22, 29), (37, 45)])


@given(orderly_worlds())
def test_no_node_cuts_more_than_one_of_its_ranges(world: World) -> None:
    after = deal(world.total, world.nodes, world.held).targets
    for name, tokens in after.items():
        ranges = [TokenSet.span(*piece) for piece in world.held[name].ranges]
        assert sum(0 < len(piece & tokens) < len(piece) for piece in ranges) <= 1


def test_what_the_nodes_do_not_divide_goes_to_a_neighbour_too() -> None:
    held = {"a": TokenSet.span(0, 5), "b": TokenSet.span(5, 10), "c": TokenSet.span(10, 15)}
    assert deal(16, ["a", "b", "c"], held).targets["c"] == TokenSet.span(10, 16)


def test_one_token_more_comes_from_a_node_that_must_give_anyway() -> None:
    held = {"a": TokenSet.span(0, 11), "b": TokenSet.span(11, 25), "c": TokenSet.span(26, 32)}
    after = deal(32, ["a", "b", "c"], held, [Pin(25, ("c",))]).targets
    assert after["a"] == held["a"]


def test_newcomers_share_few_ranges_where_much_is_free() -> None:
    held = {"gone": TokenSet.from_ranges([(start, start + 10) for start in range(0, 1_000, 20)])}
    held["a"] = TokenSet.span(0, 1_000) - held["gone"]
    after = deal(1_000, ["a", "new-1", "new-2"], held).targets
    assert after["new-1"].pieces + after["new-2"].pieces <= 50 + 1


def churn(seed: int, *, events: int, total: int = 10_000) -> Iterator[dict[str, TokenSet]]:
    """Join and leave at random, 25 to 75 nodes, starting with 50: the targets after each event."""
    chance = random.Random(seed)
    nodes = fleet(50)
    targets = deal(total, nodes, {}).targets
    for event in range(events):
        if len(nodes) == 25 or (len(nodes) < 75 and chance.random() < 0.5):
            nodes.append(f"late-{event}")
        else:
            nodes.pop(chance.randrange(len(nodes)))
        targets = deal(total, nodes, targets).targets
        yield targets


def aged_targets(nodes: list[str]) -> dict[str, TokenSet]:
    """Targets after a life of joins and leaves, renamed to the given nodes."""
    *_, targets = churn(seed=4, events=100)
    return deal(10_000, nodes, dict(zip(nodes, targets.values(), strict=False))).targets


def test_ranges_stay_few_for_life() -> None:
    # Counts settle near n²/3 (see strips.py): some 1,365 for 64 nodes, as there are at the end. A dealer that takes
    # tokens from the end of whoever has too many comes to 8,783 under the same events.
    counts = [(pieces(targets), len(targets)) for targets in churn(seed=2, events=1_000)]
    assert counts[99][0] < 800
    assert counts[299][0] < 800
    assert max(counts) < (1_500, 75)
    assert sum(count / nodes**2 for count, nodes in counts) / len(counts) < 0.36


def test_ranges_stay_few_with_a_million_tokens_too() -> None:
    counts = [(pieces(targets), len(targets)) for targets in churn(seed=2, events=300, total=1_000_000)]
    assert max(counts) < (1_300, 75)
    assert sum(count / nodes**2 for count, nodes in counts) / len(counts) < 0.42


def test_a_rolling_restart_under_new_names_fragments_nothing() -> None:
    nodes = fleet(50)
    targets = deal(10_000, nodes, {}).targets
    for restart in range(100):
        oldest = nodes.pop(0)
        targets = deal(10_000, nodes, targets).targets
        assert oldest not in targets
        nodes.append(f"new-{restart}")
        targets = deal(10_000, nodes, targets).targets
    assert pieces(targets) < 150


def test_costs_do_not_grow_with_the_tokens() -> None:
    # A step for each of these tokens would take weeks.
    before = deal(ASTRONOMICAL, fleet(50), {}, [Pin(ASTRONOMICAL // 2, ("worker-7",))]).targets
    after = deal(ASTRONOMICAL, fleet(49), before).targets
    assert pieces(before) <= 52
    assert pieces(after) <= 150
    assert sum(len(move.tokens) for move in moves(before, after)) >= len(before["worker-49"])


# --- moves -------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([None, "a", "b", "c"]), max_size=20), st.data())
def test_moves_say_of_each_token_whose_it_was_and_whose_it_is(before: list[str | None], data: st.DataObject) -> None:
    size = len(before)
    after = data.draw(st.lists(st.sampled_from([None, "b", "c", "d"]), min_size=size, max_size=size))
    listed = {
        token: (move.source, move.target)
        for move in moves(by_holder(before), by_holder(after))
        for token in move.tokens
    }
    pairs = enumerate(zip(before, after, strict=True))
    assert listed == {token: pair for token, pair in pairs if pair[0] != pair[1]}


def by_holder(holders: list[str | None]) -> dict[str, TokenSet]:
    names = {holder for holder in holders if holder is not None}
    return {name: TokenSet.of(t for t, holder in enumerate(holders) if holder == name) for name in sorted(names)}


def test_there_is_one_move_for_each_pair_of_nodes_by_lowest_token() -> None:
    before = {"a": TokenSet.span(0, 10), "b": TokenSet.span(10, 20)}
    after = {"b": TokenSet.from_ranges([(2, 4), (6, 8), (10, 15)]), "a": TokenSet.of([0, 1, 4, 5, 8, 9, 18])}
    assert moves(before, after) == (
        Move("a", "b", TokenSet.from_ranges([(2, 4), (6, 8)])),
        Move("b", None, TokenSet.of([15, 16, 17, 19])),
        Move("b", "a", TokenSet.of([18])),
    )


def test_where_holdings_overlap_a_token_moves_from_the_first_that_lists_it() -> None:
    before = {"a": TokenSet.span(0, 4), "b": TokenSet.span(2, 6)}
    assert moves(before, {"c": TokenSet.span(0, 6)}) == (
        Move("a", "c", TokenSet.span(0, 4)),
        Move("b", "c", TokenSet.span(4, 6)),
    )


@pytest.mark.parametrize("same", [{}, {"a": TokenSet()}, {"a": TokenSet.span(0, 5)}])
def test_nothing_moves_between_equal_assignments(same: dict[str, TokenSet]) -> None:
    assert moves(same, same) == ()
