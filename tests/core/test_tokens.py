"""A `TokenSet` is a set of ints, in every expression; and it costs what its ranges cost."""

import copy
import gc
import pickle
import sys
import tracemalloc
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from operator import and_, ge, gt, le, lt, or_, sub, xor
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobsync.core.errors import JobsyncError
from jobsync.core.tokens import TokenSet

# Few numbers, so that ranges meet, touch, and overlap.
ints = st.sets(st.integers(-3, 25), max_size=20)
ranges = st.lists(st.tuples(st.integers(-3, 25), st.integers(-3, 25)), max_size=8)
ALGEBRA: list[Callable[[Any, Any], Any]] = [or_, and_, sub, xor]
COMPARISONS: list[Callable[[Any, Any], Any]] = [le, lt, ge, gt]
ASTRONOMICAL = 10**15


def odd(count: int) -> TokenSet:
    """As many ranges of one token each."""
    return TokenSet.from_ranges([(2 * number + 1, 2 * number + 2) for number in range(count)])


# --- it is a set of ints -----------------------------------------------------------------------


@given(ints)
def test_it_equals_any_set_of_the_same_ints_and_hashes_like_it(tokens: set[int]) -> None:
    made = TokenSet.of(tokens)
    assert made == tokens
    assert tokens == made
    assert made == frozenset(tokens)
    assert made == TokenSet.of(tokens)
    assert hash(made) == hash(frozenset(tokens))
    assert {frozenset(tokens): "found"}[made] == "found"  # type: ignore[index]


@given(ints, ints)
def test_sets_of_different_ints_differ(one: set[int], two: set[int]) -> None:
    assert (TokenSet.of(one) == TokenSet.of(two)) == (one == two)
    assert (TokenSet.of(one) == two) == (one == two)


@given(ints)
def test_it_holds_counts_and_yields_its_ints_ascending(tokens: set[int]) -> None:
    made = TokenSet.of(tokens)
    assert list(made) == sorted(tokens)
    assert len(made) == len(tokens)
    assert [number in made for number in range(-5, 30)] == [number in tokens for number in range(-5, 30)]
    assert bool(made) == bool(tokens)
    assert isinstance(made, AbstractSet)


@pytest.mark.parametrize("operation", ALGEBRA, ids=lambda operation: str(operation.__name__))
@given(one=ints, two=ints)
def test_algebra_gives_what_sets_give_whichever_kinds_meet(
    operation: Callable[[Any, Any], Any], one: set[int], two: set[int]
) -> None:
    expected = operation(one, two)
    for left in (one, frozenset(one), TokenSet.of(one)):
        for right in (two, frozenset(two), TokenSet.of(two)):
            if isinstance(left, TokenSet) or isinstance(right, TokenSet):
                result = operation(left, right)
                assert isinstance(result, TokenSet)
                assert result == TokenSet.of(expected)


@pytest.mark.parametrize("comparison", COMPARISONS, ids=lambda comparison: str(comparison.__name__))
@given(one=ints, two=ints)
@example(one={1, 2}, two={1, 2, 3})
@example(one={1, 2}, two={1, 2})
def test_comparisons_say_what_sets_say_whichever_kinds_meet(
    comparison: Callable[[Any, Any], Any], one: set[int], two: set[int]
) -> None:
    expected = comparison(one, two)
    assert comparison(TokenSet.of(one), TokenSet.of(two)) is expected
    assert comparison(TokenSet.of(one), two) is expected
    assert comparison(one, TokenSet.of(two)) is expected


@given(ints, ints, ints)
def test_the_named_methods_take_any_iterables_as_those_of_frozenset_do(
    one: set[int], two: set[int], three: set[int]
) -> None:
    made = TokenSet.of(one)
    for other in (list(two), TokenSet.of(two)):
        assert made.union(other, three) == one.union(two, three)
        assert made.intersection(other, three) == one.intersection(two, three)
        assert made.difference(other, three) == one.difference(two, three)
        assert made.symmetric_difference(other) == one.symmetric_difference(two)
        assert made.isdisjoint(other) == one.isdisjoint(two)
        assert made.issubset(other) == one.issubset(two)
        assert made.issuperset(other) == one.issuperset(two)


def test_with_none_the_named_methods_give_the_set_itself() -> None:
    made = TokenSet.span(3, 9)
    assert made.union() == made.intersection() == made.difference() == made == made.copy()


@pytest.mark.parametrize("stranger", ["3", None, 3.5, float("nan"), float("inf"), (3,), object(), 3j])
def test_what_is_no_int_is_not_in_it(stranger: object) -> None:
    assert stranger not in TokenSet.span(0, 10)


def test_what_equals_an_int_is_in_it_as_in_any_set() -> None:
    assert 3.0 in TokenSet.span(0, 10)
    assert True in TokenSet.span(0, 10)
    assert 2**80 not in TokenSet.span(0, 10)


@pytest.mark.parametrize("operation", [*ALGEBRA, le, lt, ge, gt], ids=lambda operation: str(operation.__name__))
def test_it_mixes_with_no_other_kind_of_thing(operation: Callable[[Any, Any], Any]) -> None:
    for stranger in ([3], "3", 3):
        with pytest.raises(TypeError):
            operation(TokenSet.span(0, 5), stranger)
        with pytest.raises(TypeError):
            operation(stranger, TokenSet.span(0, 5))


class Willing:
    """Something else that knows what to do with a set of tokens on its left."""

    def answers(self, _other: object) -> str:
        return "mine"

    __ror__ = __rand__ = __rxor__ = __rsub__ = answers


@pytest.mark.parametrize("operation", ALGEBRA, ids=lambda operation: str(operation.__name__))
def test_who_knows_better_is_asked(operation: Callable[[Any, Any], Any]) -> None:
    assert operation(TokenSet.span(0, 5), Willing()) == "mine"


def test_it_equals_no_other_kind_of_thing() -> None:
    assert TokenSet.span(0, 2) != [0, 1]
    assert TokenSet() != ()


# --- making one --------------------------------------------------------------------------------


@given(ranges)
def test_ranges_may_come_in_any_order_overlap_touch_or_be_empty(pieces: list[tuple[int, int]]) -> None:
    assert TokenSet.from_ranges(pieces) == {token for start, stop in pieces for token in range(start, stop)}


@given(ints)
def test_the_ranges_are_the_one_normal_form(tokens: set[int]) -> None:
    made = TokenSet.of(tokens)
    assert made == TokenSet.from_ranges(made.ranges)
    assert all(start < stop for start, stop in made.ranges)
    assert all(one[1] < two[0] for one, two in zip(made.ranges, made.ranges[1:], strict=False))
    assert made.pieces == len(made.ranges)
    assert (made.first, made.last) == ((min(tokens), max(tokens)) if tokens else (None, None))


@given(st.integers(-3, 9), st.integers(-3, 9))
def test_a_span_is_what_range_is(start: int, stop: int) -> None:
    assert TokenSet.span(start, stop) == set(range(start, stop))


def test_bools_become_the_ints_that_they_are() -> None:
    assert TokenSet.of([True, False]).text() == "{[0,2)}"


@pytest.mark.parametrize("strangers", [["3"], [3.0], [None]])
def test_what_is_no_int_is_refused(strangers: list[Any]) -> None:
    with pytest.raises(TypeError):
        TokenSet.of(strangers)


def test_making_one_of_one_gives_it_back() -> None:
    made = TokenSet.span(3, 9)
    assert TokenSet.of(made) is made


# --- PostgreSQL's text -------------------------------------------------------------------------


@given(ints)
def test_the_text_is_read_back(tokens: set[int]) -> None:
    assert TokenSet.parse(TokenSet.of(tokens).text()) == tokens


def test_the_text_is_what_postgresql_writes() -> None:
    assert TokenSet.of([7, 8, 0, 1, 2, 3, 4]).text() == "{[0,5),[7,9)}"
    assert TokenSet().text() == "{}"


@pytest.mark.parametrize(
    "text", ["{[0,5),[7,9)}", " { [ 0 , 5 ) , [ 7 , 9 ) } ", "{[7,9),[0,5)}", "{[0,3),[3,5),[1,4),[7,9),[6,6)}"]
)
def test_blanks_and_order_do_not_matter(text: str) -> None:
    assert TokenSet.parse(text) == {0, 1, 2, 3, 4, 7, 8}


@pytest.mark.parametrize("text", ["{}", "{ }", "empty", " empty "])
def test_there_are_two_texts_of_the_empty_set(text: str) -> None:
    assert TokenSet.parse(text) == TokenSet()


@pytest.mark.parametrize(
    "text",
    ["", "{", "}", "[0,5)", "{[0,5)", "{[0,5]}", "{(0,5)}", "{[0,)}", "{[5,0)}", "{[0,5),}", "{[0,5)[7,9)}", "{0,5}"],
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"range") as refused:
        TokenSet.parse(text)
    assert isinstance(refused.value, JobsyncError)


def test_a_text_that_is_refused_is_shown_up_to_60_characters() -> None:
    for length, shown in ((60, "x" * 60), (61, "x" * 57 + "...")):
        with pytest.raises(JobsyncError) as refused:
            TokenSet.parse("x" * length)
        assert str(refused.value).startswith(f"{shown!r} is not")


def test_a_long_text_is_refused_with_a_short_message() -> None:
    with pytest.raises(ValueError, match=r"\.\.\.") as refused:
        TokenSet.parse("{" + "[0,5)" * 10_000)
    assert len(str(refused.value)) < 200


# --- looking at it -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        (TokenSet(), "TokenSet()"),
        (TokenSet.of([7]), "TokenSet(1 token in 1 range: 7)"),
        (
            TokenSet.from_ranges([(0, 1250), (5000, 6250)]),
            "TokenSet(2500 tokens in 2 ranges: 0-1249, 5000-6249)",
        ),
        (odd(4), "TokenSet(4 tokens in 4 ranges: 1, 3, 5, 7)"),
        (odd(5), "TokenSet(5 tokens in 5 ranges: 1, 3, 5, ..., 9)"),
    ],
)
def test_it_shows_counts_and_a_few_ranges(made: TokenSet, shown: str) -> None:
    assert repr(made) == shown


def test_however_many_ranges_it_shows_a_line() -> None:
    assert len(repr(odd(10_000))) < 100


@given(ints)
def test_copies_and_pickles_are_equal(tokens: set[int]) -> None:
    made = TokenSet.of(tokens)
    assert copy.copy(made) is copy.deepcopy(made) is made
    assert pickle.loads(pickle.dumps(made)) == made


# --- costs -------------------------------------------------------------------------------------


def test_costs_do_not_grow_with_the_tokens() -> None:
    # A step for each of these tokens would take weeks.
    half, all_tokens = TokenSet.span(0, ASTRONOMICAL // 2), TokenSet.span(0, ASTRONOMICAL)
    other_half = all_tokens - half
    assert half | other_half == all_tokens
    assert half ^ all_tokens == other_half
    assert half & other_half == TokenSet()
    assert half.isdisjoint(other_half)
    assert half < all_tokens
    assert len(all_tokens) == ASTRONOMICAL
    assert pickle.loads(pickle.dumps(half)) == half


def test_a_million_tokens_in_a_few_ranges_are_a_few_hundred_bytes() -> None:
    few = TokenSet.from_ranges([(start, start + 200_000) for start in range(0, 1_250_000, 250_000)])
    assert len(few) == 1_000_000
    assert sys.getsizeof(few) + sys.getsizeof(few._edges) + sum(map(sys.getsizeof, few._edges)) < 800


def test_20_000_ranges_are_8_bytes_each() -> None:
    tracemalloc.start()
    try:
        made = odd(20_000)
        gc.collect()  # The interpreter keeps the tuples of the input for other uses; they are not the set's.
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert made.pieces == 20_000
    assert kept_bytes < 170_000


def test_many_ranges_of_small_numbers_take_4_bytes_an_edge() -> None:
    for numbers in (range(0, 3_000, 2), range(-(2**31), -(2**31) + 3_000, 2), range(2**31 - 3_002, 2**31 - 1, 2)):
        assert memoryview(TokenSet.of(numbers).edges).itemsize == 4  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "first",
    # At 2**31 numbers outgrow 4 bytes: within the set, or with its very first or last edge.
    [0, 2**31 - 1_500, 2**40, -(2**40), -(2**31) - 1_500, -(2**31) - 1, 2**31 - 2_999],
)
def test_many_ranges_of_large_numbers_are_a_set_of_ints_too(first: int) -> None:
    tokens = set(range(first, first + 3_000, 2))
    made = TokenSet.of(tokens)
    assert made == tokens
    assert made - {first} == tokens - {first}
    assert first + 1 not in made


def test_an_empty_range_is_no_range() -> None:
    for made in (TokenSet.span(5, 5), TokenSet.from_ranges([(5, 5)]), TokenSet.from_ranges([(7, 5), (5, 5)])):
        assert made == TokenSet()
        assert (made.pieces, made.ranges, tuple(made.edges)) == (0, (), ())


def test_the_edges_are_the_bounds_of_the_ranges_in_their_order() -> None:
    assert tuple(TokenSet.from_ranges([(5, 7), (0, 3)]).edges) == (0, 3, 5, 7)
