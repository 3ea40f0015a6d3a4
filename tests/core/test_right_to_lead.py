"""The right to lead: granted and fenced like a token, and told to nobody as one."""

from dataclasses import replace

from jobsync.core import messages as m
from jobsync.core.holding import Grant
from jobsync.core.messages import FactKind
from jobsync.core.pool import LEADERSHIP, RIGHT_TO_LEAD, pool_of
from jobsync.core.tokens import TokenSet
from tests.core.driver import ALL, Driver

LOW = TokenSet.span(0, 10)


def leads(driver: Driver) -> bool:
    holding = driver.standing.holding
    return holding.certain_at(driver.now()) and holding.leads_under is not None


def test_the_pool_is_the_same_set_where_nothing_is_left_out() -> None:
    assert pool_of(LOW) is LOW
    assert pool_of(LOW | RIGHT_TO_LEAD) == LOW
    assert pool_of(RIGHT_TO_LEAD) == TokenSet()


def test_a_grant_with_the_right_to_lead_is_told_without_it() -> None:
    driver = Driver()
    driver.hold(ALL | RIGHT_TO_LEAD)
    assert leads(driver)
    assert driver.believes() == ALL
    assert [change.added for change in driver.changes] == [ALL]
    assert FactKind.LEADS in driver.kinds()


def test_a_grant_of_the_right_to_lead_alone_calls_no_callback() -> None:
    driver = Driver()
    driver.hold(ALL)
    told = len(driver.changes)
    driver.want(ALL | RIGHT_TO_LEAD)
    driver.until(m.Grow)
    driver.answer(m.Growth("granted", Grant(9, RIGHT_TO_LEAD)))
    assert leads(driver)
    assert driver.standing.holding.fence_of(LEADERSHIP) == driver.standing.holding.leads_under
    assert len(driver.changes) == told


def test_the_right_to_lead_is_handed_over_apart_and_without_a_callback() -> None:
    driver = Driver()
    driver.hold(ALL | RIGHT_TO_LEAD)
    driver.want(LOW)
    driver.idle(0.1)
    assert not leads(driver)
    pool, lead = driver.drains
    assert (pool.tokens, lead.tokens) == (ALL - LOW, RIGHT_TO_LEAD)
    assert pool.change is not None
    assert pool.change.removed == ALL - LOW
    assert lead.change is None


def test_tokens_do_not_wait_for_what_leads() -> None:
    driver = Driver()
    driver.hold(ALL | RIGHT_TO_LEAD)
    driver.want(LOW)
    driver.idle(0.1)
    driver.send(m.Drained(driver.now(), driver.drains[0].serial))
    assert driver.until(m.Shrink).tokens == ALL - LOW


def test_the_hand_over_of_the_right_to_lead_waits_for_the_body_and_is_bounded() -> None:
    driver = Driver(handover_timeout_sec=2)
    driver.hold(ALL | RIGHT_TO_LEAD)
    began_sec = driver.boot_sec
    driver.want(ALL)
    assert driver.until(m.Shrink).tokens == RIGHT_TO_LEAD
    assert 2 <= driver.boot_sec - began_sec < 2.5
    assert "right to lead" in next(f.text for f in driver.facts if f.kind is FactKind.HANDOVER_OVERDUE)


def test_a_leader_without_a_token_of_the_pool_has_nothing_to_own() -> None:
    driver = Driver()
    driver.register()
    driver.reply = replace(driver.reply, target=RIGHT_TO_LEAD)
    driver.until(m.Grow)
    assert [change.reason for change in driver.changes] == [m.NOTHING_TO_OWN]
    assert driver.standing.settled
    assert driver.standing.target == TokenSet()


def test_with_the_lease_the_right_to_lead_ends_by_itself() -> None:
    driver = Driver()
    driver.hold(ALL | RIGHT_TO_LEAD)
    driver.boot_sec += 0.7  # longer than the session lease, as a stopped process sees it
    assert not leads(driver)


def test_whoever_is_fenced_leads_no_more_and_is_told_of_the_pool() -> None:
    driver = Driver()
    driver.hold(ALL | RIGHT_TO_LEAD)
    driver.until(m.Beat)
    driver.answer(m.NotCurrent())
    assert driver.standing.holding.leads_under is None
    assert driver.changes[-1].removed == ALL
