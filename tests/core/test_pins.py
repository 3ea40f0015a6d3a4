"""Pins: patterns match as SQL's LIKE does, and the first pattern that matches anybody decides."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobsync.core.errors import JobsyncError
from jobsync.core.pins import LikePattern, Pin, choose

NODES = ("gpu-1", "gpu-2", "cpu-1")
# Few characters, so that patterns and names often meet; among them those that mean something to LIKE or to re.
texts = st.text("ab%_\\.*\nA", max_size=8)
patterns = texts.filter(lambda text: (len(text) - len(text.rstrip("\\"))) % 2 == 0)


def like(pattern: str, name: str) -> bool:
    """The definition, word by word, by trying everything."""
    if not pattern:
        return not name
    first, rest = pattern[0], pattern[1:]
    if first == "%":
        return any(like(rest, name[skipped:]) for skipped in range(len(name) + 1))
    if first == "\\":
        first, rest = rest[0], rest[1:]
    elif first == "_":
        return bool(name) and like(rest, name[1:])
    return name[:1] == first and like(rest, name[1:])


@given(patterns, texts)
@example("%a%_%", "ba\n")
@example("a\\%", "a%")
@example("%ab%ab", "abab")
@example("%ab%ab", "aab")
def test_a_pattern_matches_what_the_definition_says(pattern: str, name: str) -> None:
    assert LikePattern(pattern).matches(name) == like(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("worker-1", "worker-1", True),
        ("worker-1", "worker-10", False),
        ("worker-1", "my-worker-1", False),
        ("worker-%", "worker-", True),
        ("worker-_", "worker-", False),
        ("worker-_", "worker-ü", True),
        ("Worker-%", "worker-1", False),
        ("%\n%", "two\nlines", True),
        ("two_lines", "two\nlines", True),
        ("100\\%", "100%", True),
        ("100\\%", "100 of them", False),
        ("a\\_b", "a_b", True),
        ("a\\_b", "axb", False),
        ("a\\\\b", "a\\b", True),
        ("a\\b", "ab", True),
        ("a.c", "abc", False),
        ("", "", True),
        ("", "a", False),
        ("%", "", True),
    ],
)
def test_like(pattern: str, name: str, matches: bool) -> None:
    assert LikePattern(pattern).matches(name) is matches


@pytest.mark.parametrize("pattern", ["\\", "worker\\", "a%\\", "a\\\\\\"])
def test_a_pattern_that_ends_with_a_lone_backslash_is_refused_by_name(pattern: str) -> None:
    with pytest.raises(ValueError, match="ends with a lone backslash") as refused:
        LikePattern(pattern)
    assert repr(pattern) in str(refused.value)
    assert isinstance(refused.value, JobsyncError)


def test_a_pattern_made_to_backtrack_is_matched_at_once() -> None:
    # Tried one by one, the places for thirty a's among two hundred are more than the seconds since the big bang.
    assert not LikePattern("%a" * 30 + "%b").matches("a" * 200)


def test_patterns_are_values() -> None:
    assert LikePattern("a%") == LikePattern("a%") != LikePattern("a_")
    assert repr(LikePattern("a%")) == "LikePattern(text='a%')"
    assert hash(Pin(3, ("a%",))) == hash(Pin(3, ("a%",)))


def test_the_first_pattern_that_matches_anybody_decides() -> None:
    assert choose(["tpu-%", "cpu-%", "gpu-%"], NODES) == (1, ("cpu-1",))


def test_all_matches_of_the_deciding_pattern_are_given_in_the_order_of_the_names() -> None:
    assert choose(["%-1", "gpu-2"], NODES) == (0, ("gpu-1", "cpu-1"))


def test_no_match_is_no_choice() -> None:
    assert choose(["tpu-%", "gpu"], NODES) is None
    assert choose([], NODES) is None
    assert choose(["%"], []) is None


def test_a_malformed_pattern_matches_nobody_and_leaves_the_choice_to_the_next() -> None:
    assert choose(["gpu-1\\", "cpu-%"], NODES) == (1, ("cpu-1",))
