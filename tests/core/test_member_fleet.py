"""A member among the others: what its beats say, what it hears from them, and when it looks after others."""

import itertools
from dataclasses import replace

import pytest

from jobsync.core import messages as m
from jobsync.core.messages import FactKind
from jobsync.core.pool import RIGHT_TO_LEAD
from jobsync.core.tokens import TokenSet
from tests.core.driver import ALL, QUIET, Driver

HALF = TokenSet.span(0, 5_000)
NONE = TokenSet()
DEAD = m.Sighting(m.Identity("b", 5, 6), 1, 14_500, 600, True, False)


def beats(driver: Driver) -> m.Beat:
    """Give the next beat, at once."""
    driver.send(m.Notified(driver.now(), m.Channel.PLAN))
    return driver.until(m.Beat, within_sec=0.1)


def watches(driver: Driver, sec: float) -> list[float]:
    return [at for at, question in driver.idle(sec) if isinstance(question, m.Watch)]


# --- what a beat says --------------------------------------------------------------------------


def test_a_beat_says_which_plan_is_known_and_which_is_carried_out() -> None:
    driver = Driver()
    driver.register()
    assert driver.until(m.Beat) == m.Beat(m.Identity("a", 1, 2), 0, -1, check=False)
    driver.answer(replace(QUIET, plan_version=4, target=HALF))
    driver.reply = replace(QUIET, plan_version=4)
    driver.until(m.Grow)
    driver.send(m.Notified(driver.now(), m.Channel.PLAN))
    driver.answer(m.Growth("nothing", None))
    assert beats(driver) == m.Beat(m.Identity("a", 1, 2), 0, 4, check=False)  # Known, and not carried out yet.


def test_a_plan_is_carried_out_once_all_that_was_to_be_given_up_is_given_up() -> None:
    driver = Driver()
    driver.hold(ALL)
    assert beats(driver).applied_version == 1
    driver.answer(driver.reply)
    driver.want(HALF)
    driver.idle(0.1)
    assert beats(driver).applied_version == 0
    driver.answer(driver.routine(m.Beat(m.Identity("a", 1, 2), 0, 2, check=False)) or m.Pong())
    driver.send(m.Drained(driver.now(), driver.drains[-1].serial))
    driver.until(m.Shrink)
    driver.answer(m.Shrunk())
    assert beats(driver).applied_version == 2


def test_the_hand_over_of_the_right_to_lead_leaves_a_plan_carried_out() -> None:
    driver = Driver()
    driver.hold(HALF | RIGHT_TO_LEAD)
    driver.want(HALF)
    driver.idle(0.1)
    assert driver.drains[-1].tokens == RIGHT_TO_LEAD
    assert beats(driver).applied_version == 2


def test_a_node_that_is_in_no_plan_knows_none() -> None:
    driver = Driver()
    driver.hold(HALF)
    assert driver.standing.plan_version == 1
    beats(driver)
    driver.answer(replace(QUIET, plan_version=5, planned=False))
    assert driver.standing.plan_version == 0
    assert beats(driver).known_plan_version == -1


def test_the_leader_alone_checks_and_a_whole_interval_after_the_last_check_was_sent() -> None:
    driver = Driver(rebalance_check_interval_sec=7, heartbeat_interval_sec=2)
    driver.reply = replace(QUIET, leader="a")
    driver.hold(HALF)
    checks = [at for at, question in driver.idle(60) if isinstance(question, m.Beat) and question.check]
    assert [round(after - before) for before, after in itertools.pairwise(checks)] == [8] * (len(checks) - 1)
    assert len(checks) >= 6


def test_behind_a_pooler_a_node_beats_every_second() -> None:
    driver = Driver()
    driver.hold(HALF, direct=False)
    times = [at for at, question in driver.idle(10) if isinstance(question, m.Beat)]
    assert len(times) in (9, 10)


# --- what it hears -----------------------------------------------------------------------------


def test_what_a_beat_tells_of_the_fleet_is_what_readers_see() -> None:
    driver = Driver()
    driver.hold(HALF)
    beats(driver)
    driver.answer(replace(QUIET, plan_version=6, live=4, leader="y", target=ALL))
    assert (driver.standing.live, driver.standing.leader) == (4, "y")
    assert (driver.standing.plan_version, driver.standing.target) == (6, ALL)


def test_the_application_is_told_when_members_come_or_go_and_only_then() -> None:
    driver = Driver()
    driver.hold(HALF)
    for roster, told in (("2", 0), ("3", 1), ("3", 1), ("4", 2)):
        driver.reply = replace(driver.reply, roster=roster)
        beats(driver)
        driver.answer(replace(driver.reply, target=None))
        assert [change.reason for change in driver.changes].count("members changed") == told


def test_a_node_without_a_share_is_told_so_once_and_not_before_the_plan_is_known() -> None:
    driver = Driver()
    driver.register()
    driver.idle(1.0)
    assert driver.changes == []
    driver.want(NONE)
    driver.idle(20.0)
    assert [change.reason for change in driver.changes] == [m.NOTHING_TO_OWN]


def test_a_quarantine_that_a_beat_tells_of_is_kept_and_one_that_it_ends_is_over() -> None:
    driver = Driver()
    driver.hold(HALF)
    driver.reply = replace(driver.reply, quarantined=True)
    driver.want(ALL)
    assert not any(isinstance(question, m.Grow) for _, question in driver.idle(5))
    assert driver.kinds().count(FactKind.QUARANTINED) == 1
    driver.reply = replace(driver.reply, quarantined=False)
    driver.until(m.Grow, within_sec=6)


# --- looking after others ----------------------------------------------------------------------


@pytest.mark.parametrize(("elders", "members", "on_duty"), [(0, 2, True), (1, 2, True), (2, 3, False), (0, 1, False)])
def test_the_two_oldest_look_after_the_others_if_there_are_any(elders: int, members: int, on_duty: bool) -> None:
    driver = Driver()
    driver.reply = replace(QUIET, elders=elders, members=members)
    driver.hold(HALF)
    assert bool(watches(driver, 3)) is on_duty


def test_others_are_looked_at_four_times_a_session_lease() -> None:
    driver = Driver(heartbeat_interval_sec=1)
    driver.reply = replace(QUIET, elders=0)
    driver.hold(HALF)
    times = watches(driver, 6)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert gaps == pytest.approx([0.15] * len(gaps), abs=0.005)


def test_who_comes_on_duty_looks_at_once() -> None:
    driver = Driver(session_lease_sec=None)
    driver.reply = replace(QUIET, elders=0)
    driver.hold(HALF)
    driver.until(m.Watch)
    driver.answer(m.Sightings(()))
    for elders in (2, 0):
        beats(driver)
        driver.reply = replace(driver.reply, elders=elders)
        driver.answer(replace(driver.reply, target=None))
    assert driver.asked is not None
    assert isinstance(driver.asked.question, m.Watch)


@pytest.mark.parametrize(
    ("sighting", "why"),
    [(DEAD, "session is gone"), (replace(DEAD, absent=False, row_lease_ms=1_000), "no heartbeat")],
)
def test_a_fence_is_told_with_its_reason_and_the_fleet_is_heard_anew(sighting: m.Sighting, why: str) -> None:
    driver = Driver()
    driver.reply = replace(QUIET, elders=0)
    driver.scripted[m.Watch] = m.Sightings((sighting,))
    driver.hold(HALF)
    driver.until(m.Fence)
    driver.scripted[m.Watch] = m.Sightings(())
    driver.answer(m.FenceReply(done=True))
    (told,) = [fact for fact in driver.facts if fact.kind is FactKind.FENCED_OTHER]
    assert why in told.text
    assert "'b' (incarnation 5)" in told.text
    driver.until(m.Beat, within_sec=0.0)


def test_a_fence_that_came_too_late_is_not_told_and_not_repeated() -> None:
    driver = Driver()
    driver.reply = replace(QUIET, elders=0)
    driver.scripted[m.Watch] = m.Sightings((DEAD,))
    driver.hold(HALF)
    driver.until(m.Fence)
    driver.scripted[m.Watch] = m.Sightings(())
    driver.answer(m.FenceReply(done=False))
    assert FactKind.FENCED_OTHER not in driver.kinds()
    assert not any(isinstance(question, m.Fence) for _, question in driver.idle(3))
    assert driver.asked is None


def test_a_newcomer_deletes_no_old_rows_before_its_first_check() -> None:
    driver = Driver(rebalance_check_interval_sec=20)
    driver.reply = replace(QUIET, leader="a")
    driver.hold(HALF)
    registered_sec = driver.boot_sec
    driver.until(m.Prune)
    assert driver.boot_sec - registered_sec >= 19


def test_others_that_live_and_beat_are_nothing_to_whoever_is_in() -> None:
    driver = Driver()
    driver.reply = replace(QUIET, elders=0)
    driver.hold(ALL)
    for beats in range(4):
        driver.scripted[m.Watch] = m.Sightings((replace(DEAD, beats=beats, absent=False),))
        driver.until(m.Watch)
        driver.idle(0.5)
    assert driver.finished == []
    assert driver.standing.phase is m.Phase.LIVE
