"""When a member wants to be woken, and what it asks first: neither too late for what is due, nor for nothing."""

from dataclasses import replace
from typing import Any

import pytest

from jobsync.core import messages as m
from jobsync.core.departure import PATIENCE_OFFLINE_SEC, PATIENCE_SEC
from jobsync.core.leadership import PRUNE_MORE_SEC
from jobsync.core.settings import observer_wait_sec
from jobsync.core.tokens import TokenSet
from tests.core.driver import ALL, Driver, unavailable

HALF = TokenSet.span(0, 5_000)
DEAD = m.Sighting(m.Identity("b", 5, 6), 1, 14_500, 600, True, False)


def quiet(tokens: TokenSet = HALF, **settings: Any) -> Driver:
    """A member that holds tokens, without pings: its next beat comes in five seconds."""
    driver = Driver(session_lease_sec=None, **settings)
    driver.hold(tokens)
    driver.idle(0.1)
    assert driver.wake_sec > driver.boot_sec + 4
    return driver


def asks(driver: Driver) -> type[m.Question] | None:
    """Tell what kind of question is under way."""
    return None if driver.asked is None else type(driver.asked.question)


def opens(driver: Driver) -> bool:
    """Tell whether the last step opened a session."""
    return m.OpenSession() in driver.effects


# --- being woken -------------------------------------------------------------------------------


def test_a_leaving_node_is_woken_when_its_patience_with_successors_ends() -> None:
    driver = quiet()
    asked_sec = driver.boot_sec
    driver.send(m.LeaveAsked(driver.now()))
    driver.until(m.BeginLeave)
    driver.answer(m.LeaveBegun(2))
    assert driver.wake_sec == pytest.approx(asked_sec + PATIENCE_SEC)


def test_a_leaving_node_is_woken_when_its_patience_with_the_database_ends() -> None:
    driver = quiet()
    driver.breaks()
    asked_sec = driver.boot_sec
    driver.send(m.LeaveAsked(driver.now()))
    assert driver.wake_sec == pytest.approx(asked_sec + PATIENCE_OFFLINE_SEC)


def test_a_hand_over_wakes_at_its_bound_and_no_more_once_it_is_done() -> None:
    driver = quiet(ALL, handover_timeout_sec=2)
    driver.want(HALF)
    driver.idle(0.1)
    began_sec = driver.boot_sec - 0.1
    assert driver.wake_sec == pytest.approx(began_sec + 2, abs=0.05)
    driver.send(m.Drained(driver.now(), driver.drains[-1].serial))
    driver.until(m.Shrink)
    driver.answer(m.Shrunk())
    assert driver.wake_sec > began_sec + 3


def test_a_lost_database_is_tried_again_after_longer_and_longer_waits_and_not_while_it_is_tried() -> None:
    driver = quiet()
    driver.breaks()
    assert opens(driver)
    assert driver.wake_sec > driver.boot_sec + 1
    waits = []
    for _ in range(5):
        driver.tick(0.001)
        assert not opens(driver)
        failed_sec = driver.boot_sec
        driver.send(m.ConnectFailed(driver.now(), unavailable()))
        assert not opens(driver)
        waits.append(driver.wake_sec - failed_sec)
        driver.boot_sec = driver.wake_sec - 0.001
        driver.tick()
        assert not opens(driver)
        driver.boot_sec = failed_sec + waits[-1]
        driver.tick()
        assert opens(driver)
    assert waits[0] <= 0.075
    assert waits[4] >= 0.4


def test_after_a_session_stood_the_waits_for_the_next_begin_anew() -> None:
    driver = quiet()
    for sessions in range(2):
        driver.breaks()
        assert opens(driver), sessions
        driver.send(m.ConnectFailed(driver.now(), unavailable()))
        assert driver.wake_sec - driver.boot_sec <= 0.075
        for _ in range(4):
            driver.boot_sec = driver.wake_sec
            driver.tick()
            driver.send(m.ConnectFailed(driver.now(), unavailable()))
        driver.boot_sec = driver.wake_sec
        driver.tick()
        driver.connect()


def test_a_session_that_breaks_while_it_is_opened_is_opened_anew() -> None:
    driver = Driver()
    driver.send(m.Started(driver.now()))
    driver.breaks()
    assert opens(driver)


def test_a_newcomer_that_is_being_connected_waits_for_nothing_else() -> None:
    driver = Driver()
    driver.send(m.Started(driver.now()))
    assert driver.wake_sec == float("inf")


def test_a_grow_that_is_refused_wakes_at_its_next_try_and_what_others_hold_wakes_nobody() -> None:
    driver = quiet()
    driver.want(ALL)
    driver.until(m.Grow)
    driver.refuse()
    assert driver.wake_sec <= driver.boot_sec + 0.015
    driver.until(m.Grow)
    driver.answer(m.Growth("nothing", None))
    assert driver.wake_sec > driver.boot_sec + 4


def test_a_quarantine_wakes_at_its_very_end() -> None:
    driver = quiet()
    driver.reply = replace(driver.reply, quarantined=True)
    driver.breaks()
    driver.connect(timeline="2")
    driver.until(m.Rebind)
    driver.answer(m.Rebound(9, 2, quarantined=True))
    began_sec = driver.boot_sec
    assert m.FactKind.QUARANTINED in driver.kinds()
    driver.until(m.LiftQuarantine)
    assert driver.boot_sec - began_sec == pytest.approx(observer_wait_sec(14.5), abs=0.001)


def test_a_quarantine_lasts_a_whole_observers_wait_for_the_longest_lease_and_ends_by_itself() -> None:
    driver = quiet()
    driver.reply = replace(driver.reply, quarantined=True, longest_lease_ms=30_000)
    driver.until(m.Beat)
    driver.answer(driver.reply)
    began_sec = driver.boot_sec
    driver.until(m.LiftQuarantine)
    assert driver.boot_sec - began_sec == pytest.approx(observer_wait_sec(30), abs=0.001)
    driver.answer(m.QuarantineLifted())
    driver.reply = replace(driver.reply, quarantined=False)
    assert not any(isinstance(question, m.LiftQuarantine) for _, question in driver.idle(40))


def test_what_is_refused_wakes_at_its_next_try_and_is_asked_then() -> None:
    driver = quiet()
    driver.breaks()
    driver.connect()
    driver.until(m.Rebind)
    driver.refuse()
    assert driver.boot_sec < driver.wake_sec <= driver.boot_sec + 0.031
    driver.boot_sec = driver.wake_sec
    driver.tick()
    assert asks(driver) is m.Rebind
    assert driver.wake_sec > driver.boot_sec + 1


# --- waits and their ends ----------------------------------------------------------------------


def rereading(**settings: Any) -> Driver:
    """A member on a new session that is to read what it holds."""
    driver = Driver(**settings)
    driver.hold(HALF)
    driver.breaks()
    driver.connect()
    driver.rebind()
    driver.until(m.ReadGrants)
    return driver


def wait_for_the_next(driver: Driver, kind: type[m.Question]) -> float:
    """Refuse a question; give how long it is until it is asked again."""
    refused_sec = driver.boot_sec
    driver.refuse(after_sec=0.0)
    driver.until(kind)
    return driver.boot_sec - refused_sec


def test_beats_and_pings_that_are_answered_do_not_shorten_the_wait_for_what_is_refused() -> None:
    driver = rereading()
    assert max(wait_for_the_next(driver, m.ReadGrants) for _ in range(9)) > 0.4


def test_an_answer_to_what_was_refused_lets_the_waits_begin_anew() -> None:
    driver = rereading()
    for _ in range(7):
        wait_for_the_next(driver, m.ReadGrants)
    driver.answer(m.HeldGrants(driver.granted))
    driver.breaks()
    driver.connect()
    driver.until(m.Rebind)
    assert wait_for_the_next(driver, m.Rebind) < 0.04


def test_before_a_session_is_bound_nothing_else_is_asked_on_it_and_afterwards_leases_go_on() -> None:
    driver = quiet()
    driver.breaks()
    driver.connect()
    driver.until(m.Rebind)
    driver.boot_sec += 10  # A beat is overdue.
    driver.refuse()
    assert asks(driver) is None
    driver = rereading()
    driver.boot_sec += 0.3  # A ping is overdue.
    driver.refuse()
    assert asks(driver) in (m.Beat, m.Ping)


def test_a_fence_that_is_refused_holds_nothing_else_up() -> None:
    driver = Driver()
    driver.reply = replace(driver.reply, elders=0)
    driver.scripted[m.Watch] = m.Sightings((DEAD,))
    driver.hold(HALF)
    driver.until(m.Fence)
    driver.want(ALL)
    driver.refuse()
    assert driver.until(m.Grow, within_sec=0.04) is not None


def test_a_newcomers_fence_that_is_refused_is_asked_again_a_little_later() -> None:
    driver = Driver()
    driver.scripted[m.WatchForEntry] = m.Sightings((DEAD,))
    driver.send(m.Started(driver.now()))
    driver.connect()
    driver.until(m.Register)
    driver.answer(m.Registration("held", None, None, None, None, 1, False))
    driver.until(m.Fence)
    assert 0.04 < wait_for_the_next(driver, m.Fence) < 0.2
    driver.answer(m.FenceReply(done=True))
    assert driver.until(m.WatchForEntry, within_sec=0.0).name == "a"
    assert driver.wake_sec == pytest.approx(driver.boot_sec + 0.1)


# --- what comes first --------------------------------------------------------------------------


def test_a_beat_that_is_due_comes_before_what_rests_on_what_it_brings() -> None:
    driver = quiet()
    driver.want(ALL)
    driver.until(m.Grow)
    driver.answer(m.Growth("nothing", None))
    driver.send(m.Notified(driver.now(), m.Channel.FREE))
    driver.send(m.Notified(driver.now(), m.Channel.PLAN))
    assert asks(driver) is None
    driver.boot_sec = driver.wake_sec
    driver.tick()
    assert asks(driver) is m.Beat
    driver.until(m.Grow, within_sec=0.1)


def test_members_that_come_and_go_are_a_hint_for_the_leader_alone_and_for_whoever_leaves() -> None:
    driver = quiet()
    driver.send(m.Notified(driver.now(), m.Channel.PLAN, leader="z"))
    assert driver.wake_sec > driver.boot_sec + 1
    driver.send(m.LeaveAsked(driver.now()))
    driver.until(m.BeginLeave)
    driver.answer(m.LeaveBegun(2))
    driver.send(m.Notified(driver.now(), m.Channel.PLAN, leader="z"))
    driver.until(m.Beat, within_sec=0.01)
    for leader in ("a", ""):
        driver = quiet()
        driver.send(m.Notified(driver.now(), m.Channel.PLAN, leader=leader))
        driver.until(m.Beat, within_sec=0.01)


def leading(driver: Driver) -> Driver:
    driver.reply = replace(driver.reply, leader="a", plan_due=True)
    driver.scripted[m.ReadPlanInputs] = m.PlanInputs(1, 1, 10_000, "", ("a",), frozenset(), {}, ())
    driver.send(m.Notified(driver.now(), m.Channel.PLAN))
    return driver


def test_after_a_plan_was_saved_the_leader_beats_at_once_to_follow_it() -> None:
    driver = leading(quiet())
    driver.until(m.SavePlan)
    driver.answer(m.PlanSaved(2))
    driver.until(m.Beat, within_sec=0.0)


def test_what_was_read_for_a_plan_is_read_again_on_a_new_session() -> None:
    driver = leading(quiet())
    del driver.scripted[m.ReadPlanInputs]
    driver.until(m.ReadPlanInputs)
    driver.send(m.Notified(driver.now(), m.Channel.PLAN))
    driver.answer(m.PlanInputs(1, 1, 10_000, "", ("a",), frozenset(), {}, ()), after_sec=0.01)  # The beat comes first.
    driver.breaks()
    driver.connect()
    driver.rebind()
    driver.until(m.ReadPlanInputs, within_sec=1.0)


def test_old_rows_that_are_left_are_deleted_soon() -> None:
    driver = quiet(rebalance_check_interval_sec=2)
    driver.reply = replace(driver.reply, leader="a")
    driver.until(m.Prune)
    driver.answer(m.Pruned(more=True))
    began_sec = driver.boot_sec
    driver.until(m.Prune)
    assert driver.boot_sec - began_sec >= PRUNE_MORE_SEC


def test_who_left_is_gone() -> None:
    driver = quiet()
    driver.reply = replace(driver.reply, live=0)
    driver.send(m.LeaveAsked(driver.now()))
    driver.until(m.BeginLeave)
    driver.answer(m.LeaveBegun(0))
    assert driver.drains[-1].change is None
    driver.send(m.Drained(driver.now(), driver.drains[-1].serial))
    driver.until(m.Shrink)
    driver.answer(m.Shrunk())
    driver.until(m.Leave)
    driver.answer(m.Left())
    assert driver.finished == [m.Finish(None)]
    assert driver.standing.phase is m.Phase.LEFT
