"""Bodies in progress hold back the hand-over of their tokens, and of no others."""

from jobsync.core.tokens import TokenSet
from jobsync.runtime.hands import InHand, Latch


def test_a_handover_of_tokens_that_nobody_works_on_waits_for_nothing() -> None:
    calls: list[str] = []
    InHand().when_free(TokenSet.of([1, 2]), lambda: calls.append("free"))
    assert calls == ["free"]


def test_a_handover_waits_for_a_body_on_one_of_its_tokens() -> None:
    hands, calls = InHand(), list[str]()
    hands.take(2)
    hands.when_free(TokenSet.of([1, 2]), lambda: calls.append("free"))
    assert calls == []
    hands.put_back(2)
    assert calls == ["free"]


def test_a_body_on_another_token_holds_nothing_back() -> None:
    hands, calls = InHand(), list[str]()
    hands.take(7)
    hands.when_free(TokenSet.of([1, 2]), lambda: calls.append("free"))
    assert calls == ["free"]


def test_the_last_of_two_bodies_on_one_token_frees_it() -> None:
    hands, calls = InHand(), list[str]()
    hands.take(2)
    hands.take(2)
    hands.when_free(TokenSet.of([2]), lambda: calls.append("free"))
    hands.put_back(2)
    assert calls == []
    hands.put_back(2)
    assert calls == ["free"]


def test_a_handover_that_was_freed_is_told_once() -> None:
    hands, calls = InHand(), list[str]()
    hands.take(2)
    hands.when_free(TokenSet.of([2]), lambda: calls.append("free"))
    hands.put_back(2)
    hands.take(2)
    hands.put_back(2)
    assert calls == ["free"]


def test_two_handovers_wait_each_for_its_own_tokens() -> None:
    hands, calls = InHand(), list[str]()
    hands.take(1)
    hands.take(2)
    hands.when_free(TokenSet.of([1]), lambda: calls.append("one"))
    hands.when_free(TokenSet.of([2]), lambda: calls.append("two"))
    hands.put_back(2)
    assert calls == ["two"]
    hands.put_back(1)
    assert calls == ["two", "one"]


def test_what_is_freed_may_begin_another_body_at_once() -> None:
    hands = InHand()
    hands.take(1)
    hands.when_free(TokenSet.of([1]), lambda: hands.take(1))
    hands.put_back(1)
    calls: list[str] = []
    hands.when_free(TokenSet.of([1]), lambda: calls.append("free"))
    assert calls == []


def test_a_latch_fires_once_all_was_counted_down() -> None:
    calls: list[str] = []
    latch = Latch(2, lambda: calls.append("all"))
    latch.count_down()
    assert calls == []
    latch.count_down()
    assert calls == ["all"]
