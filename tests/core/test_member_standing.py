"""What readers see of a member, and what its application is told: at once, once, and nothing that is not so."""

from dataclasses import replace
from typing import Any

import pytest

from jobsync.core import messages as m
from jobsync.core.holding import Grant
from jobsync.core.messages import FactKind, Phase
from jobsync.core.settings import observer_wait_sec
from jobsync.core.tokens import TokenSet
from tests.core.driver import ALL, QUIET, Driver, unavailable

HALF = TokenSet.span(0, 5_000)
NONE = TokenSet()
HELD = m.Registration("held", None, None, None, None, 1, False)
ABSENT = m.Sighting(m.Identity("b", 5, 6), 1, 14_500, 600, True, False)


def holding(tokens: TokenSet = HALF, **settings: Any) -> Driver:
    driver = Driver(**settings)
    driver.hold(tokens)
    return driver


def asks(driver: Driver) -> type[m.Question] | None:
    """Tell what kind of question is under way."""
    return None if driver.asked is None else type(driver.asked.question)


def published(driver: Driver) -> bool:
    return any(isinstance(effect, m.Publish) for effect in driver.effects)


# --- what readers see --------------------------------------------------------------------------


def test_a_newcomer_is_nobody_until_it_is_registered() -> None:
    driver = Driver()
    driver.send(m.Started(driver.now()))
    assert driver.standing == replace(m.NOBODY, phase=Phase.NEW)
    driver.connect()
    assert (driver.standing.connected, driver.standing.incarnation, driver.standing.live) == (True, 0, 0)
    driver.answer(m.Registration("registered", 7, 8, None, None, 1, False))
    assert (driver.standing.incarnation, driver.standing.phase) == (7, Phase.LIVE)
    driver.breaks()
    assert not driver.standing.connected


def test_a_node_is_settled_once_it_has_some_of_its_share_or_is_known_to_have_none() -> None:
    driver = Driver()
    driver.register()
    assert not driver.standing.settled
    driver.want(HALF)
    driver.until(m.Grow)
    assert not driver.standing.settled
    driver.answer(m.Growth("granted", Grant(3, TokenSet.span(0, 10))))
    settled = [driver.standing.settled]
    driver = Driver()
    driver.register()
    driver.want(NONE)
    driver.idle(0.1)
    assert [*settled, driver.standing.settled] == [True, True]


def test_nothing_is_published_that_readers_have_already() -> None:
    driver = holding()
    driver.tick(0.01)
    driver.tick(0.01)
    assert not published(driver)


def test_who_is_fenced_is_in_no_plan_and_knows_no_leader() -> None:
    driver = holding()
    driver.until(m.Beat)
    driver.answer(m.NotCurrent())
    assert (driver.standing.target, driver.standing.leader, driver.standing.incarnation) == (None, None, 0)


def test_who_ends_believes_nothing() -> None:
    driver = holding()
    driver.breaks()
    driver.send(m.LeaveAsked(driver.now()))
    assert driver.standing.holding.tokens == HALF
    driver.tick(2.0)
    assert driver.finished == [m.Finish(None)]
    assert driver.standing.holding.tokens == NONE
    assert driver.standing.phase is Phase.LEFT


# --- what the application is told --------------------------------------------------------------


def test_each_change_names_the_plan_that_it_follows() -> None:
    driver = Driver()
    driver.reply = replace(QUIET, plan_version=4)
    driver.hold(HALF)
    driver.until(m.Beat)
    driver.answer(driver.reply)
    assert [change.version for change in driver.changes] == [4]
    driver.want(NONE)
    driver.idle(0.1)
    change = driver.drains[-1].change
    assert change is not None
    assert (change.version, change.removed, change.reason) == (5, HALF, "rebalance")


def test_a_change_before_any_plan_is_known_names_none() -> None:
    driver = holding(heartbeat_timeout_sec=20)
    driver.breaks()
    driver.connect()
    driver.until(m.Rebind)
    driver.answer(m.Rebound(9, 1, False))
    driver.tick(30)
    assert (driver.changes[-1].removed, driver.changes[-1].version) == (HALF, 0)


def test_who_was_told_that_it_has_no_share_is_not_told_again_when_members_come_or_go() -> None:
    driver = Driver()
    driver.register()
    driver.want(NONE)
    driver.idle(0.1)
    driver.reply = replace(driver.reply, roster="3")
    driver.idle(20)
    assert [change.reason for change in driver.changes] == [m.NOTHING_TO_OWN, "members changed"]


def test_who_had_tokens_and_has_none_is_told_of_their_removal_alone() -> None:
    driver = holding()
    driver.want(NONE)
    driver.idle(0.1)
    driver.send(m.Drained(driver.now(), driver.drains[-1].serial))
    driver.until(m.Shrink)
    driver.answer(m.Shrunk())
    driver.idle(20)
    assert [change.reason for change in driver.changes] == ["rebalance"]


def test_a_lease_that_runs_out_is_told_to_an_application_that_had_tokens_and_is_not_leaving() -> None:
    empty = Driver()
    empty.register()
    empty.tick(30)
    assert FactKind.LEASE_RAN_OUT in empty.kinds()
    assert empty.changes == []
    leaving = holding()
    leaving.send(m.LeaveAsked(leaving.now()))
    leaving.tick(30)
    assert FactKind.LEASE_RAN_OUT in leaving.kinds()
    assert [change.removed for change in leaving.changes] == [NONE]


def test_after_a_broken_invariant_the_row_is_read_before_anything_is_believed() -> None:
    driver = holding()
    driver.want(ALL)
    driver.until(m.Grow)
    driver.answer(m.Growth("granted", Grant(3, ALL - HALF)))
    assert FactKind.VIOLATION in driver.kinds()
    assert asks(driver) is m.ReadGrants


# --- registering -------------------------------------------------------------------------------


def test_a_new_registration_begins_with_a_beat_and_looks_after_nobody_before_it_is_told_to() -> None:
    driver = Driver()
    driver.register()
    assert asks(driver) is m.Beat
    for _ in range(20):
        driver.refuse(after_sec=0.0)
        assert asks(driver) is None
        driver.boot_sec = driver.wake_sec
        driver.tick()
        if asks(driver) is m.Ping:
            break
        assert asks(driver) is m.Beat
    assert asks(driver) is m.Ping  # The session lease is kept alive meanwhile.


def test_who_registers_anew_watches_the_others_anew() -> None:
    driver = Driver()
    driver.reply = replace(QUIET, elders=0)
    driver.hold(HALF)
    driver.scripted[m.Watch] = m.Sightings((ABSENT,))
    driver.idle(0.4)
    driver.send(m.Notified(driver.now(), m.Channel.PLAN))
    driver.until(m.Beat)
    driver.answer(m.NotCurrent())
    driver.boot_sec += 1.0
    driver.granted = ()
    driver.scripted[m.Grow] = m.Growth("nothing", None)
    driver.until(m.Register)
    driver.answer(m.Registration("registered", 7, 8, None, None, 1, False))
    registered_sec = driver.boot_sec
    driver.until(m.Fence)
    assert driver.boot_sec - registered_sec >= observer_wait_sec(0.6)


def test_who_was_fenced_and_waits_for_its_name_is_woken_by_the_next_look_alone() -> None:
    driver = holding()
    driver.until(m.Beat)
    driver.answer(m.NotCurrent())
    driver.until(m.Register)
    driver.answer(HELD)
    assert asks(driver) is m.WatchForEntry
    assert driver.wake_sec == pytest.approx(driver.boot_sec + 0.1)


# --- going -------------------------------------------------------------------------------------


def test_a_newcomer_that_waits_for_its_name_leaves_at_once() -> None:
    driver = Driver()
    driver.send(m.Started(driver.now()))
    driver.connect()
    driver.answer(HELD)
    driver.send(m.LeaveAsked(driver.now()))
    assert driver.finished == [m.Finish(None)]


def test_a_newcomer_that_is_to_leave_says_nothing_of_waiting() -> None:
    driver = Driver()
    driver.send(m.Started(driver.now()))
    driver.connect()
    driver.send(m.LeaveAsked(driver.now()))
    assert driver.finished == []  # What the database makes of the registration has to be known.
    driver.answer(HELD)
    assert driver.finished == [m.Finish(None)]
    assert driver.kinds() == []


def test_a_newcomer_whose_session_breaks_while_it_is_to_leave_is_gone_at_once() -> None:
    driver = Driver()
    driver.send(m.Started(driver.now()))
    driver.connect()
    driver.send(m.LeaveAsked(driver.now()))
    driver.breaks()
    assert driver.finished == [m.Finish(None)]


def test_who_is_asked_twice_to_leave_hands_over_all_the_same() -> None:
    driver = holding()
    for _ in range(2):
        driver.send(m.LeaveAsked(driver.now()))
    assert driver.finished == []
    driver.until(m.BeginLeave)


def test_who_leaves_as_soon_as_it_is_in_waits_for_no_successor() -> None:
    driver = Driver()
    driver.send(m.Started(driver.now()))
    driver.connect()
    driver.send(m.LeaveAsked(driver.now()))
    driver.answer(m.Registration("registered", 1, 2, None, None, 1, False))
    driver.until(m.BeginLeave)
    driver.answer(m.LeaveBegun(2))
    driver.until(m.Leave, within_sec=0.0)


# --- the longest waits -------------------------------------------------------------------------


def longest_wait(driver: Driver, kind: type[m.Question], tries: int = 14) -> float:
    """Refuse a question again and again; give the longest time until it was asked again."""
    waits = []
    for _ in range(tries):
        driver.until(kind)
        refused_sec = driver.boot_sec
        driver.refuse(after_sec=0.0)
        driver.until(kind)
        waits.append(driver.boot_sec - refused_sec)
    return max(waits)


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_a_database_that_is_away_is_tried_at_least_every_three_seconds(name: str) -> None:
    driver = Driver(name, heartbeat_timeout_sec=100, heartbeat_interval_sec=30, session_lease_sec=None)
    driver.hold(HALF)
    driver.breaks()
    waits = []
    for _ in range(14):
        driver.send(m.ConnectFailed(driver.now(), unavailable()))
        failed_sec = driver.boot_sec
        while m.OpenSession() not in driver.effects:
            driver.boot_sec = driver.wake_sec
            driver.tick()
        waits.append(driver.boot_sec - failed_sec)
    assert 1.5 < max(waits) <= 3.05


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_what_is_refused_on_a_sound_session_is_asked_again_within_one_and_a_half_seconds(name: str) -> None:
    driver = Driver(name, session_lease_sec=None)
    driver.hold(HALF)
    driver.breaks()
    driver.connect()
    assert 0.5 < longest_wait(driver, m.Rebind) <= 1.55
