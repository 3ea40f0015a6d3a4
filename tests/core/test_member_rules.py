"""One member, one rule a test: leases, belief, hand-over, repetition, intervals."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from jobsync.core import messages as m
from jobsync.core.holding import Grant
from jobsync.core.member import Member
from jobsync.core.settings import Settings
from jobsync.core.tokens import TokenSet
from tests.core.driver import ALL, Driver, unavailable

HALF = TokenSet.span(0, 5_000)
REST = ALL - HALF
NONE = TokenSet()


def holding(tokens: TokenSet = ALL, *, direct: bool = True, **settings: Any) -> Driver:
    """A member that holds tokens."""
    driver = Driver(**settings)
    driver.hold(tokens, direct=direct)
    return driver


def place(effects: list[m.Effect], kind: type[m.Effect]) -> int:
    """Give the place of the first effect of a kind."""
    return next(at for at, effect in enumerate(effects) if isinstance(effect, kind))


# --- leases ----------------------------------------------------------------------------------


def test_tokens_are_believed_in_once_the_grant_is_acknowledged() -> None:
    driver = Driver()
    driver.register()
    driver.reply = replace(driver.reply, target=HALF)
    driver.until(m.Grow)
    assert driver.believes() == NONE
    driver.answer(m.Growth("granted", Grant(3, HALF)))
    assert driver.believes() == HALF


def test_a_lease_counts_from_before_the_send() -> None:
    driver = holding(direct=False)
    driver.until(m.Beat)
    sent_sec = driver.sent.boot_sec
    driver.answer(driver.reply, after_sec=3.0)
    assert driver.standing.holding.boot_until_sec == pytest.approx(sent_sec + 14.5)


def test_a_late_tick_drops_the_belief_before_anything_else() -> None:
    driver = holding()
    driver.until(m.Ping)
    effects = driver.answer(m.Pong(), after_sec=20)
    published = effects[place(effects, m.Publish)]
    assert isinstance(published, m.Publish)
    assert published.standing.holding.tokens == NONE
    assert place(effects, m.Publish) < place(effects, m.Tell) < place(effects, m.Ask)


def test_without_the_database_all_tokens_are_removed_when_the_row_lease_ends() -> None:
    driver = holding()
    driver.breaks()
    driver.send(m.ConnectFailed(driver.now(), unavailable()))
    while driver.changes[-1].removed != ALL:
        assert driver.wake_sec < 115
        driver.boot_sec = driver.wake_sec
        if driver.tick() and any(isinstance(effect, m.OpenSession) for effect in driver.effects):
            driver.send(m.ConnectFailed(driver.now(), unavailable()))
    assert driver.boot_sec == pytest.approx(114.5, abs=0.1)


def test_tokens_that_ran_out_are_added_again_when_the_database_returns() -> None:
    driver = holding()
    driver.breaks()
    driver.tick(20)
    driver.connect()
    driver.rebind()
    driver.until(m.Beat)
    assert [change.added for change in driver.changes][-1] == ALL
    driver.idle(0.1)
    assert driver.believes() == ALL


def test_when_the_session_lease_runs_out_answers_are_no_and_nothing_moves() -> None:
    driver = holding()
    told = list(driver.changes)
    driver.until(m.Ping)
    driver.boot_sec += 0.7
    assert driver.believes() == NONE
    driver.tick()
    driver.answer(m.Pong())
    assert driver.believes() == NONE  # that reply was sent too long ago ...
    driver.until(m.Ping)
    driver.answer(m.Pong())
    assert driver.believes() == ALL  # ... and the next one is fresh
    assert driver.changes == told


def test_a_broken_session_leaves_the_belief_alone_until_its_lease_ends() -> None:
    driver = holding()
    driver.breaks()
    assert driver.believes() == ALL
    driver.boot_sec += 0.7
    assert driver.believes() == NONE
    driver.connect()
    driver.rebind()
    assert driver.believes() == ALL


def test_a_wall_clock_that_steps_forward_stops_the_answers_until_the_next_reply() -> None:
    driver = holding()
    driver.wall_offset_sec += 60
    assert driver.believes() == NONE
    driver.until(m.Beat)
    driver.answer(driver.reply)
    assert driver.believes() == ALL


def test_slow_round_trips_raise_the_session_lease() -> None:
    driver = Driver()
    driver.register(round_trip_sec=0.08)
    assert driver.standing.session_lease_ms == 2000
    assert m.FactKind.SESSION_LEASE_RAISED in driver.kinds()


def test_readers_keep_the_old_session_lease_until_the_database_knows_the_new_one() -> None:
    driver = holding()
    driver.breaks()
    driver.connect(round_trip_sec=0.08)
    question = driver.until(m.Rebind)
    assert (question.session_lease_ms, driver.standing.session_lease_ms) == (2000, 600)
    driver.answer(m.Rebound(9, 1, False))
    assert driver.standing.session_lease_ms == 2000


# --- outcomes unknown ------------------------------------------------------------------------


@pytest.mark.parametrize("applied", [True, False])
def test_after_a_grow_of_unknown_outcome_the_row_is_the_truth(applied: bool) -> None:
    driver = Driver()
    driver.register()
    driver.reply = replace(driver.reply, target=HALF)
    driver.until(m.Grow)
    driver.breaks()
    driver.granted = (Grant(3, HALF),) if applied else ()
    driver.connect()
    driver.rebind()
    if applied:
        driver.idle(1)
        assert driver.believes() == HALF
        assert driver.changes[-1].added == HALF
    else:
        driver.until(m.Grow, within_sec=1)


@pytest.mark.parametrize("applied", [True, False])
def test_after_a_shrink_of_unknown_outcome_the_row_is_the_truth(applied: bool) -> None:
    driver = holding()
    driver.want(HALF)
    driver.idle(0.1)
    driver.send(m.Drained(driver.now(), driver.drains[-1].serial))
    driver.until(m.Shrink)
    driver.breaks()
    driver.granted = (Grant(3, HALF if applied else ALL),)
    driver.connect()
    driver.rebind()
    if applied:
        asked = driver.idle(1)
        assert not any(isinstance(question, m.Shrink) for _, question in asked)
        assert driver.asked is None
    else:
        assert driver.until(m.Shrink, within_sec=1).tokens == REST
    assert driver.standing.holding.tokens == HALF


def test_a_fenced_node_drops_everything_and_registers_anew() -> None:
    driver = holding()
    driver.until(m.Beat)
    effects = driver.answer(m.NotCurrent())
    assert driver.standing.holding.tokens == NONE
    assert place(effects, m.Publish) < place(effects, m.Tell) < place(effects, m.Ask)
    assert driver.changes[-1].removed == ALL
    driver.until(m.Register)
    driver.answer(m.Registration("registered", 7, 8, None, None, 1, False))
    assert driver.until(m.Beat).me == m.Identity("a", 7, 8)


def test_an_epoch_that_did_not_grow_drops_everything() -> None:
    driver = holding(HALF)
    driver.want(ALL)
    driver.until(m.Grow)
    driver.answer(m.Growth("granted", Grant(3, REST)))
    assert driver.standing.holding.tokens == NONE
    assert m.FactKind.VIOLATION in driver.kinds()


# --- hand-over -------------------------------------------------------------------------------


def test_readers_stop_believing_before_the_application_is_asked_to_let_go() -> None:
    driver = holding()
    driver.want(HALF)
    driver.until(m.Beat)
    effects = driver.answer(driver.routine(m.Beat(m.Identity("a", 1, 2), 0, 0, False)) or m.Pong())
    published = effects[place(effects, m.Publish)]
    assert isinstance(published, m.Publish)
    assert published.standing.holding.tokens == HALF
    assert place(effects, m.Publish) < place(effects, m.Drain)


def test_the_database_is_told_only_when_the_application_has_let_go() -> None:
    driver = holding()
    driver.want(HALF)
    driver.idle(3)
    assert driver.asked is None
    driver.send(m.Drained(driver.now(), driver.drains[-1].serial))
    assert driver.until(m.Shrink, within_sec=0.1).tokens == REST


def test_the_database_is_told_at_the_bound_if_the_application_does_not_let_go() -> None:
    driver = holding(handover_timeout_sec=2)
    driver.want(HALF)
    began_sec = driver.boot_sec
    driver.until(m.Shrink)
    assert driver.boot_sec - began_sec == pytest.approx(2, abs=0.1)
    assert m.FactKind.HANDOVER_OVERDUE in driver.kinds()


def test_tokens_under_hand_over_are_not_asked_for_before_they_are_free() -> None:
    driver = holding()
    driver.want(HALF)
    driver.idle(0.1)
    driver.want(ALL)
    driver.idle(1)
    assert driver.asked is None
    driver.send(m.Drained(driver.now(), driver.drains[-1].serial))
    driver.until(m.Shrink)
    driver.answer(m.Shrunk())
    driver.until(m.Grow, within_sec=0.1)


# --- fail-over -------------------------------------------------------------------------------


def standby(driver: Driver, *granted: Grant) -> None:
    """Fail over to rows that grant something else."""
    driver.breaks()
    driver.connect(timeline="2")
    driver.reply = replace(driver.reply, quarantined=True)
    driver.granted = granted
    driver.rebind(generation=2, quarantined=True)


def test_what_a_standby_grants_beyond_the_belief_is_handed_back_unused() -> None:
    driver = holding(HALF)
    standby(driver, Grant(2, ALL))
    assert driver.until(m.Shrink, within_sec=0.1).tokens == REST
    assert driver.standing.holding.tokens == HALF


def test_what_a_standby_does_not_grant_is_believed_no_more() -> None:
    driver = holding()
    standby(driver, Grant(2, HALF))
    driver.until(m.Beat)
    assert driver.standing.holding.tokens == HALF
    assert driver.changes[-1].removed == REST


def test_an_expired_belief_is_not_revived_by_a_standby() -> None:
    driver = holding()
    driver.breaks()
    driver.boot_sec += 1.0
    driver.connect(timeline="2")
    driver.reply = replace(driver.reply, quarantined=True)
    driver.granted = (Grant(3, ALL),)
    driver.rebind(generation=2, quarantined=True)
    assert driver.until(m.Shrink, within_sec=0.1).tokens == ALL
    assert driver.standing.holding.tokens == NONE


def test_nothing_is_asked_for_in_quarantine_and_it_is_lifted_after_a_whole_lease() -> None:
    driver = holding(HALF)
    standby(driver, Grant(3, HALF))
    driver.want(ALL)
    began_sec = driver.boot_sec
    question = driver.until(m.LiftQuarantine)
    assert question.generation == 2
    assert driver.boot_sec - began_sec == pytest.approx(14.55, abs=0.1)
    driver.answer(m.QuarantineLifted())
    driver.reply = replace(driver.reply, quarantined=False)
    driver.until(m.Grow, within_sec=0.1)


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [m.Shrink, m.Grow, m.ReadPlanInputs])
def test_what_is_refused_is_asked_again_after_longer_and_longer_waits(kind: type[m.Question]) -> None:
    driver = Driver()
    if kind is m.Shrink:
        driver.hold()
        driver.want(HALF)
        driver.idle(0.1)
        driver.send(m.Drained(driver.now(), driver.drains[-1].serial))
    else:
        mine = kind is m.ReadPlanInputs
        driver.reply = replace(driver.reply, target=None if mine else HALF, leader="a" if mine else "z", plan_due=mine)
        driver.register()
    waits = []
    for _ in range(12):
        driver.until(kind)
        refused_sec = driver.boot_sec
        driver.refuse()
        driver.until(kind)
        waits.append(driver.boot_sec - refused_sec)
    assert waits[0] < 0.06
    assert 0.2 < max(waits) < 1.6
    assert waits[0] < waits[3] < waits[6]


def test_a_fence_that_is_refused_is_asked_again() -> None:
    driver = Driver()
    driver.reply = replace(driver.reply, elders=0)
    driver.register()
    dead = m.Sighting(m.Identity("b", 5, 6), 1, 14_500, 600, True, False)
    driver.scripted[m.Watch] = m.Sightings((dead,))
    first = driver.until(m.Fence)
    driver.refuse()
    assert driver.until(m.Fence, within_sec=0.3) == first == m.Fence(dead.who, 1, "B")


def test_a_plan_that_cannot_be_written_for_long_is_warned_of() -> None:
    driver = Driver(leader_lock_timeout_sec=3)
    driver.reply = replace(driver.reply, leader="a", plan_due=True, planned=False)
    driver.register()
    began_sec = driver.boot_sec
    while not any(fact.level == "warning" for fact in driver.facts):
        driver.until(m.ReadPlanInputs)
        driver.refuse()
    assert 3 < driver.boot_sec - began_sec < 5
    assert "plan lock" in driver.facts[-2].text + driver.facts[-1].text


# --- intervals -------------------------------------------------------------------------------


def gaps(driver: Driver, kind: type[m.Question], sec: float) -> list[float]:
    """Give the times between questions of a kind."""
    times = [at for at, question in driver.idle(sec) if isinstance(question, kind)]
    return [round(after - before, 2) for before, after in itertools.pairwise(times)]


@pytest.mark.parametrize(
    ("settings", "every_sec"),
    [
        ({}, 5),
        ({"heartbeat_interval_sec": 3}, 3),
        ({"token_refresh_initial_interval_sec": 2}, 2),
        ({"dead_node_check_interval_sec": 1}, 1),
    ],
)
def test_the_shortest_interval_sets_the_beat(settings: dict[str, Any], every_sec: float) -> None:
    driver = holding(**settings)
    assert set(gaps(driver, m.Beat, 60)[1:]) == {every_sec}


def test_after_five_minutes_the_steady_refresh_counts() -> None:
    driver = holding(token_refresh_initial_interval_sec=1, token_refresh_steady_interval_sec=4)
    assert set(gaps(driver, m.Beat, 200)[1:]) == {1}
    driver.idle(105)
    assert set(gaps(driver, m.Beat, 60)[1:]) == {4}


@pytest.mark.parametrize("every_sec", [2, 10])
def test_a_leader_checks_for_expired_locks_in_the_rebalance_interval(every_sec: int) -> None:
    driver = Driver(rebalance_check_interval_sec=every_sec)
    driver.reply = replace(driver.reply, leader="a")
    driver.hold()
    asked = driver.idle(60)
    checks = [at for at, question in asked if isinstance(question, m.Beat) and question.check]
    assert 60 / every_sec - 2 <= len(checks) <= 60 / every_sec


def test_a_follower_does_not_check() -> None:
    driver = holding()
    assert not any(question.check for _, question in driver.idle(90) if isinstance(question, m.Beat))


def test_a_session_is_pinged_thrice_a_lease() -> None:
    driver = holding()
    assert set(gaps(driver, m.Ping, 3)) <= {0.2, 0.4}


def test_only_the_leader_asks_for_the_inputs_of_a_plan() -> None:
    driver = Driver()
    driver.reply = replace(driver.reply, plan_due=True, target=HALF)
    driver.hold()
    assert not any(isinstance(question, m.ReadPlanInputs) for _, question in driver.idle(60))
    assert driver.asked is None


@pytest.mark.parametrize("enabled", [True, False])
def test_locks_are_read_as_the_settings_say(enabled: bool) -> None:
    driver = Driver(locks_enabled=enabled)
    driver.reply = replace(driver.reply, plan_due=True, leader="a", planned=False)
    driver.register()
    assert driver.until(m.ReadPlanInputs).locks_enabled is enabled


# --- the end ---------------------------------------------------------------------------------


def test_a_node_that_left_does_nothing_any_more() -> None:
    driver = Driver()
    driver.send(m.Started(driver.now()))
    driver.send(m.LeaveAsked(driver.now()))
    assert driver.finished == [m.Finish(None)]
    assert driver.tick(1) == []


def test_a_first_step_opens_a_session() -> None:
    driver = Driver()
    assert m.OpenSession() in driver.send(m.Started(driver.now()))
    assert Member("a", Settings()).name == "a"


def test_a_database_that_cannot_be_reached_at_first_is_an_error_and_the_end() -> None:
    driver = Driver()
    driver.send(m.Started(driver.now()))
    error = unavailable()
    driver.send(m.ConnectFailed(driver.now(), error))
    assert (driver.finished, driver.standing.phase) == ([m.Finish(error)], m.Phase.FAILED)
    assert driver.tick(1) == []
