"""A member's hand-overs, step by step: what is said of them, what they wait for, and that they end."""

from dataclasses import replace
from typing import Any

import pytest

from jobsync.core import messages as m
from jobsync.core.departure import PATIENCE_SEC
from jobsync.core.holding import Grant
from jobsync.core.messages import Fact, FactKind
from jobsync.core.pool import RIGHT_TO_LEAD
from jobsync.core.tokens import TokenSet
from tests.core.driver import ALL, Driver

HALF = TokenSet.span(0, 5_000)
QUARTER = TokenSet.span(0, 2_500)
NONE = TokenSet()


def holding(tokens: TokenSet = ALL, *, takes_tokens: bool = True, **settings: Any) -> Driver:
    driver = Driver(takes_tokens=takes_tokens, session_lease_sec=None, **settings)
    driver.hold(tokens)
    driver.until(m.Beat)
    driver.answer(replace(driver.reply, target=None))
    return driver


def lets_go(driver: Driver, number: int = -1) -> None:
    driver.send(m.Drained(driver.now(), driver.drains[number].serial))


def told(driver: Driver, kind: FactKind) -> list[Fact]:
    return [fact for fact in driver.facts if fact.kind is kind]


# --- giving up ---------------------------------------------------------------------------------


def test_how_long_a_hand_over_took_counts_from_its_own_beginning() -> None:
    driver = holding(handover_timeout_sec=8)
    for target, sec in ((HALF, 1.0), (QUARTER, 0.5)):
        driver.want(target)
        driver.idle(sec)
    for number, tokens in ((1, HALF - QUARTER), (0, ALL - HALF)):
        lets_go(driver, number)
        assert driver.until(m.Shrink).tokens == tokens
        driver.answer(m.Shrunk())
    second, first = told(driver, FactKind.GAVE_UP)
    assert (first.count, second.count) == (5_000, 2_500)
    assert first.took_sec == pytest.approx(1.5, abs=0.02)
    assert second.took_sec == pytest.approx(0.5, abs=0.02)


def test_hand_overs_that_end_together_took_as_long_as_the_first() -> None:
    driver = holding(handover_timeout_sec=8)
    for target, sec in ((HALF, 1.0), (QUARTER, 0.5)):
        driver.want(target)
        driver.idle(sec)
    driver.breaks()
    lets_go(driver, 0)
    lets_go(driver, 1)
    driver.connect()
    driver.rebind()
    assert driver.until(m.Shrink).tokens == ALL - QUARTER
    driver.answer(m.Shrunk())
    (only,) = told(driver, FactKind.GAVE_UP)
    assert only.took_sec == pytest.approx(1.5, abs=0.02)


def test_the_right_to_lead_and_tokens_are_told_apart() -> None:
    driver = holding(HALF | RIGHT_TO_LEAD)
    driver.want(HALF)
    driver.idle(0.1)
    lets_go(driver)
    driver.until(m.Shrink)
    driver.answer(m.Shrunk())
    assert (len(told(driver, FactKind.LEADS_NO_MORE)), told(driver, FactKind.GAVE_UP)) == (1, [])
    driver.want(QUARTER)
    driver.idle(0.1)
    lets_go(driver)
    driver.until(m.Shrink)
    driver.answer(m.Shrunk())
    assert (len(told(driver, FactKind.LEADS_NO_MORE)), len(told(driver, FactKind.GAVE_UP))) == (1, 1)


def test_after_a_shrink_that_was_carried_out_the_waits_begin_anew() -> None:
    driver = holding()
    driver.want(HALF)
    driver.idle(0.1)
    lets_go(driver)
    for _ in range(6):
        driver.until(m.Shrink)
        driver.refuse()
    driver.until(m.Shrink)
    driver.answer(m.Shrunk())
    driver.want(QUARTER)
    driver.idle(0.1)
    lets_go(driver)
    driver.until(m.Shrink)
    driver.refuse()
    driver.until(m.Shrink, within_sec=0.031)


def test_after_a_grow_that_was_answered_the_waits_begin_anew() -> None:
    driver = holding(HALF)
    driver.want(ALL)
    for _ in range(6):
        driver.until(m.Grow)
        driver.refuse()
    driver.until(m.Grow)
    driver.answer(m.Growth("nothing", None))
    driver.send(m.Notified(driver.now(), m.Channel.FREE))
    driver.until(m.Grow, within_sec=0.01)
    driver.refuse()
    driver.until(m.Grow, within_sec=0.016)


def test_nothing_is_given_up_for_a_plan_before_the_row_was_read() -> None:
    driver = holding(HALF)
    driver.breaks()
    driver.connect()
    driver.rebind()
    driver.until(m.ReadGrants)
    driver.refuse(after_sec=0.0)
    driver.reply = replace(driver.reply, plan_version=9, target=QUARTER)
    driver.until(m.Beat, within_sec=0.0)
    driver.answer(driver.reply)
    assert driver.drains == []


def test_a_grow_that_finds_this_node_fenced_or_a_quarantine_is_believed() -> None:
    driver = holding(HALF)
    driver.want(ALL)
    driver.until(m.Grow)
    driver.answer(m.Growth("fenced", None))
    driver.until(m.Beat, within_sec=0.0)
    driver = holding(HALF)
    driver.want(ALL)
    driver.until(m.Grow)
    driver.answer(m.Growth("quarantined", None))
    assert FactKind.QUARANTINED in driver.kinds()


def test_a_grant_that_repeats_what_is_held_is_a_broken_invariant_under_any_epoch() -> None:
    driver = holding(HALF)
    driver.want(ALL)
    driver.until(m.Grow)
    driver.answer(m.Growth("granted", Grant(9, ALL - QUARTER)))
    assert FactKind.VIOLATION in driver.kinds()
    assert driver.standing.holding.tokens == NONE


def test_what_a_new_session_finds_is_told_if_it_differs_and_not_to_who_is_leaving() -> None:
    driver = holding(HALF)
    driver.scripted[m.Grow] = m.Growth("nothing", None)
    for granted, reasons in ((HALF, []), (QUARTER, ["session restored"])):
        changes = len(driver.changes)
        driver.breaks()
        driver.connect()
        driver.rebind()
        driver.granted = (Grant(3, granted),)
        driver.idle(0.1)
        assert [change.reason for change in driver.changes[changes:]] == reasons
    changes = len(driver.changes)
    leaving(driver)
    driver.breaks()
    driver.connect()
    driver.rebind()
    driver.granted = (Grant(3, TokenSet.span(0, 10)),)
    driver.until(m.ReadGrants)
    driver.answer(m.HeldGrants(driver.granted))
    assert len(driver.changes) == changes


def test_a_quarantine_wakes_nobody_for_what_it_does_not_grant() -> None:
    driver = holding(HALF)
    driver.reply = replace(driver.reply, quarantined=True)
    driver.want(ALL)
    driver.idle(0.5)
    assert driver.wake_sec > driver.boot_sec + 4


def test_a_grant_is_told_with_its_count_and_the_right_to_lead_apart() -> None:
    driver = holding(HALF)
    driver.want(ALL | RIGHT_TO_LEAD)
    driver.until(m.Grow)
    driver.answer(m.Growth("granted", Grant(8, RIGHT_TO_LEAD)))
    assert len(told(driver, FactKind.LEADS)) == 1
    assert len(told(driver, FactKind.GRANTED)) == 1  # The first, of what is held since the beginning.
    driver.send(m.Notified(driver.now(), m.Channel.FREE))
    driver.until(m.Grow)
    driver.answer(m.Growth("granted", Grant(9, ALL - HALF)))
    assert [fact.count for fact in told(driver, FactKind.GRANTED)] == [5_000, 5_000]
    assert len(told(driver, FactKind.LEADS)) == 1


def grants(driver: Driver, epoch: int, tokens: TokenSet) -> float:
    """Grant what is asked for; give how long it is said to have taken."""
    driver.until(m.Grow, within_sec=0.1)
    driver.answer(m.Growth("granted", Grant(epoch, tokens)), after_sec=0.0)
    took_sec = told(driver, FactKind.GRANTED)[-1].took_sec
    assert took_sec is not None
    return took_sec


def test_how_long_a_grant_took_counts_from_when_the_plan_brought_the_wish() -> None:
    driver = holding(QUARTER)
    driver.want(HALF)
    driver.until(m.Grow)
    driver.answer(m.Growth("nothing", None))
    driver.idle(1.0)
    driver.send(m.Notified(driver.now(), m.Channel.FREE))
    assert grants(driver, 8, HALF - QUARTER) == pytest.approx(1.0, abs=0.05)
    driver.boot_sec += 3.0
    driver.want(ALL)  # The very next beat brings another wish.
    assert grants(driver, 9, ALL - HALF) == pytest.approx(0.0, abs=0.05)
    driver.want(HALF)
    driver.idle(0.1)
    lets_go(driver)
    driver.until(m.Shrink)
    driver.answer(m.Shrunk())
    driver.idle(6.0)
    driver.want(ALL)
    assert grants(driver, 10, ALL - HALF) == pytest.approx(0.0, abs=0.05)


# --- leaving -----------------------------------------------------------------------------------


def leaving(driver: Driver, *, live: int = 2) -> float:
    """Ask a member to leave, and let the row say so; give when it was asked."""
    asked_sec = driver.boot_sec
    driver.send(m.LeaveAsked(driver.now()))
    driver.until(m.BeginLeave)
    driver.answer(m.LeaveBegun(live))
    return asked_sec


def test_a_hand_over_at_exit_goes_on_though_a_later_plan_names_this_node_again() -> None:
    driver = holding(HALF)
    driver.reply = replace(driver.reply, planned=False, plan_version=2, target=None)
    driver.until(m.Beat)
    driver.answer(driver.reply)
    began_sec = leaving(driver)
    assert driver.drains[-1].tokens == HALF
    driver.reply = replace(driver.reply, planned=True, plan_version=3)
    driver.send(m.Notified(driver.now(), m.Channel.PLAN))
    driver.until(m.Beat)
    driver.answer(driver.reply)
    lets_go(driver)
    driver.until(m.Shrink, within_sec=0.0)
    assert driver.boot_sec - began_sec < PATIENCE_SEC / 2


@pytest.mark.parametrize(
    ("takes_tokens", "tokens", "waits"),
    [(False, RIGHT_TO_LEAD, True), (False, NONE, False), (True, NONE, True), (True, HALF, True)],
    ids=["it only leads", "it has and takes none", "it may take some", "it has some"],
)
def test_a_leaving_node_waits_for_successors_unless_there_is_nothing_to_take(
    takes_tokens: bool, tokens: TokenSet, waits: bool
) -> None:
    driver = Driver(takes_tokens=takes_tokens, session_lease_sec=None)
    driver.register()
    driver.reply = replace(driver.reply, target=tokens)
    if tokens:
        driver.until(m.Grow)
        driver.granted = (Grant(3, tokens),)
        driver.answer(m.Growth("granted", driver.granted[0]))
    driver.idle(0.1)
    asked_sec = leaving(driver)
    assert (driver.drains == [] and driver.asked is None) is waits
    if waits:
        assert driver.wake_sec == pytest.approx(asked_sec + PATIENCE_SEC)


def test_a_leaving_node_is_not_woken_by_tokens_that_are_free() -> None:
    driver = holding(HALF)
    driver.want(ALL)
    driver.until(m.Grow)
    driver.answer(m.Growth("nothing", None))
    asked_sec = leaving(driver)
    driver.send(m.Notified(driver.now(), m.Channel.FREE))
    assert driver.wake_sec == pytest.approx(asked_sec + PATIENCE_SEC)


def test_a_leaving_node_that_is_fenced_has_left() -> None:
    driver = holding(HALF)
    leaving(driver)
    driver.until(m.Beat)
    driver.answer(m.NotCurrent())
    assert (driver.finished, driver.standing.phase) == ([m.Finish(None)], m.Phase.LEFT)
    assert driver.tick(1) == []
