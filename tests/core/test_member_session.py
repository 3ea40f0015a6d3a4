"""A member's own life, step by step: what is said of its session, and what each registration begins anew."""

from dataclasses import replace
from typing import Any

import pytest

from jobsync.core import messages as m
from jobsync.core.errors import ConfigMismatch, NodeNameInUse
from jobsync.core.holding import Grant
from jobsync.core.messages import FactKind
from jobsync.core.observer import GRACE_AFTER_OWN_BREAK_SEC
from jobsync.core.tokens import TokenSet
from tests.core.driver import ALL, Driver

HALF = TokenSet.span(0, 5_000)
NONE = TokenSet()
ABSENT = m.Sighting(m.Identity("b", 5, 6), 1, 14_500, 600, True, False)
HELD = m.Registration("held", None, None, None, None, 1, False)


def holding(tokens: TokenSet = HALF, *, direct: bool = True, **settings: Any) -> Driver:
    driver = Driver(**settings)
    driver.hold(tokens, direct=direct)
    return driver


def newcomer(**settings: Any) -> Driver:
    """A member whose registration is under way."""
    driver = Driver(**settings)
    driver.send(m.Started(driver.now()))
    driver.connect()
    driver.until(m.Register)
    return driver


def fenced(driver: Driver) -> None:
    """Let the next answer say that the database knows it no more, and let it register as incarnation 7."""
    driver.until(m.Beat)
    driver.answer(m.NotCurrent())
    driver.until(m.Register)
    driver.answer(m.Registration("registered", 7, 8, None, None, 1, False))


# --- what is said of the session ---------------------------------------------------------------


def test_a_server_that_may_forget_commits_is_warned_of() -> None:
    driver = Driver()
    driver.send(m.Started(driver.now()))
    driver.send(m.Connected(driver.now(), m.Hello(True, "system", "1", durable=False, round_trip_sec=0.001)))
    assert [fact.level for fact in driver.facts if fact.kind is FactKind.NOT_DURABLE] == ["warning"]
    assert FactKind.NOT_DURABLE not in holding().kinds()


@pytest.mark.parametrize(
    ("asked_sec", "direct", "round_trip_sec", "said"),
    [
        (0.6, True, 0.001, []),
        (0.6, True, 0.08, [FactKind.SESSION_LEASE_RAISED]),
        (0.6, True, 2.0, [FactKind.SESSION_LEASE_OFF]),
        (0.6, False, 0.001, [FactKind.SESSION_LEASE_OFF]),
        (None, False, 0.001, []),
        (None, True, 2.0, []),
    ],
)
def test_a_session_lease_that_is_not_the_one_asked_for_is_said(
    asked_sec: float | None, direct: bool, round_trip_sec: float, said: list[FactKind]
) -> None:
    driver = Driver(session_lease_sec=asked_sec)
    driver.register(direct=direct, round_trip_sec=round_trip_sec)
    kinds = (FactKind.SESSION_LEASE_OFF, FactKind.SESSION_LEASE_RAISED)
    assert [kind for kind in driver.kinds() if kind in kinds] == said


def test_what_is_said_of_the_session_lease_is_said_once_and_not_of_the_way_back() -> None:
    driver = Driver()
    driver.register(round_trip_sec=0.08)
    for round_trip_sec in (0.08, 0.001):
        driver.breaks()
        driver.connect(round_trip_sec=round_trip_sec)
        driver.rebind()
    assert driver.kinds().count(FactKind.SESSION_LEASE_RAISED) == 1
    assert driver.standing.session_lease_ms == 600


def test_behind_a_pooler_the_session_lease_ends_with_the_old_session() -> None:
    driver = holding()
    driver.breaks()
    driver.connect(direct=False)
    assert driver.until(m.Rebind).session_lease_ms is None
    assert driver.standing.session_lease_ms == 600
    driver.answer(m.Rebound(9, 1, False))
    assert driver.standing.session_lease_ms is None


def test_readers_know_of_a_shorter_lease_before_the_database_does() -> None:
    driver = Driver()
    driver.register(round_trip_sec=0.08)
    driver.breaks()
    driver.connect(round_trip_sec=0.001)
    kinds = [type(effect) for effect in driver.effects]
    assert driver.standing.session_lease_ms == 600
    assert kinds.index(m.Publish) < kinds.index(m.Ask)
    published = [effect for effect in driver.effects[: kinds.index(m.Ask)] if isinstance(effect, m.Publish)]
    assert published[-1].standing.session_lease_ms == 600


# --- the row lease -----------------------------------------------------------------------------


def test_a_row_lease_ends_at_its_very_instant_and_once_and_the_row_is_read_before_anything_is_believed() -> None:
    driver = holding(direct=False)
    driver.until(m.Beat)
    driver.boot_sec = driver.standing.holding.boot_until_sec
    driver.tick()
    assert driver.changes[-1].removed == HALF
    for _ in range(3):
        driver.tick(0.01)
    assert driver.kinds().count(FactKind.LEASE_RAN_OUT) == 1
    driver.answer(driver.reply)
    driver.until(m.ReadGrants, within_sec=0.1)


def test_a_session_that_is_bound_anew_renews_the_row_lease_and_asks_for_the_plan_again() -> None:
    driver = holding(direct=False)
    driver.boot_sec += 3
    driver.breaks()
    driver.connect(direct=False)
    driver.until(m.Rebind)
    sent_sec = driver.boot_sec
    driver.answer(m.Rebound(9, 1, False), after_sec=0.5)
    assert driver.standing.holding.boot_until_sec == pytest.approx(sent_sec + 14.5)
    assert driver.until(m.Beat).known_plan_version == -1
    assert FactKind.REBOUND in driver.kinds()


def test_each_session_of_a_registration_has_a_number_of_its_own() -> None:
    driver = holding()
    for attempt in (1, 2):
        driver.breaks()
        driver.connect()
        assert driver.until(m.Rebind).attempt == attempt
        driver.rebind()
    fenced(driver)
    driver.breaks()
    driver.connect()
    assert driver.until(m.Rebind).attempt == 1


# --- a fail-over -------------------------------------------------------------------------------


def test_servers_that_were_met_are_counted() -> None:
    driver = holding()
    assert driver.standing.servers_met == 1
    driver.breaks()
    driver.connect()
    driver.rebind()
    assert driver.standing.servers_met == 1
    driver.breaks()
    driver.connect(timeline="2")
    driver.rebind(generation=2, quarantined=True)
    assert driver.standing.servers_met == 2


def test_after_a_fail_over_no_plan_is_known() -> None:
    driver = holding()
    assert driver.standing.target == HALF
    driver.breaks()
    driver.connect(timeline="2")
    driver.rebind(generation=2, quarantined=True)
    assert driver.standing.target is None


def test_who_is_fenced_while_it_mistrusts_a_standby_trusts_its_new_registration() -> None:
    driver = holding(direct=False)
    driver.breaks()
    driver.connect(direct=False, timeline="2")
    driver.rebind(generation=2, quarantined=True)
    driver.until(m.ReadGrants)
    driver.answer(m.NotCurrent())
    driver.until(m.Register)
    driver.answer(m.Registration("registered", 7, 8, None, None, 2, False))
    driver.boot_sec += 4
    driver.until(m.Grow)
    driver.answer(m.Growth("granted", Grant(9, HALF)))
    assert driver.believes() == HALF
    assert driver.standing.holding.boot_until_sec > driver.boot_sec + 14


@pytest.mark.parametrize("timeline", ["1", "2"], ids=["the same server", "another one"])
def test_no_absence_counts_right_after_the_own_session_broke(timeline: str) -> None:
    driver = Driver()
    driver.reply = replace(driver.reply, elders=0)
    driver.hold(HALF)
    driver.scripted[m.Watch] = m.Sightings((ABSENT,))
    driver.breaks()
    broke_sec = driver.boot_sec
    driver.connect(timeline=timeline)
    driver.rebind(generation=int(timeline))
    driver.until(m.Fence)
    assert driver.boot_sec - broke_sec == pytest.approx(GRACE_AFTER_OWN_BREAK_SEC, abs=0.2)


def test_no_absence_counts_right_after_the_session_of_a_newcomer_broke() -> None:
    driver = newcomer()
    driver.scripted[m.WatchForEntry] = m.Sightings((ABSENT,))
    driver.answer(HELD)
    driver.until(m.WatchForEntry)
    driver.breaks()
    broke_sec = driver.boot_sec
    driver.connect()
    driver.until(m.Fence)
    assert driver.boot_sec - broke_sec == pytest.approx(GRACE_AFTER_OWN_BREAK_SEC, abs=0.2)


# --- registering -------------------------------------------------------------------------------


def test_a_newcomer_says_once_that_it_waits_for_its_name_and_nothing_where_the_settings_differ() -> None:
    driver = newcomer()
    driver.answer(HELD)
    for _ in range(5):
        driver.until(m.WatchForEntry)
        driver.answer(m.Sightings((replace(ABSENT, absent=False),)))
    assert driver.kinds() == [FactKind.WAITING_FOR_NAME]
    driver = newcomer()
    driver.answer(m.Registration("mismatch", None, None, 500, "md5", 1, False))
    assert driver.kinds() == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [(HELD, NodeNameInUse), (m.Registration("mismatch", None, None, 500, "md5", 1, False), ConfigMismatch)],
)
def test_a_newcomer_is_refused_where_a_live_node_stands_in_its_way(
    answer: m.Registration, error: type[Exception]
) -> None:
    driver = newcomer()
    driver.answer(answer)
    for beats in (1, 2):
        driver.until(m.WatchForEntry)
        driver.answer(m.Sightings((replace(ABSENT, beats=beats, absent=False),)))
    assert isinstance(driver.finished[0].error, error)
    assert driver.standing.phase is m.Phase.FAILED


def test_who_is_to_leave_while_it_registers_leaves_as_soon_as_it_is_in() -> None:
    driver = newcomer()
    driver.send(m.LeaveAsked(driver.now()))
    driver.answer(m.Registration("registered", 1, 2, None, None, 1, False))
    assert driver.standing.phase is m.Phase.LEAVING
    driver.until(m.BeginLeave, within_sec=0.1)


def test_a_quarantine_is_said_with_the_registration() -> None:
    driver = newcomer()
    driver.answer(m.Registration("registered", 1, 2, None, None, 1, quarantined=True))
    assert FactKind.QUARANTINED in driver.kinds()


def test_who_registers_anew_is_new_in_every_way() -> None:
    driver = Driver(token_refresh_initial_interval_sec=1, token_refresh_steady_interval_sec=4, session_lease_sec=None)
    driver.hold(HALF)
    driver.idle(400)
    told = len(driver.changes)
    driver.reply = replace(driver.reply, roster="3")
    driver.until(m.Beat)
    driver.answer(m.NotCurrent())
    assert [change.removed for change in driver.changes[told:]] == [HALF]
    driver.granted = ()
    driver.until(m.Register)
    driver.answer(m.Registration("registered", 7, 8, None, None, 1, False))
    driver.until(m.Grow)
    assert len(driver.changes) == told + 1  # It did not see members come or go.
    driver.scripted[m.Grow] = m.Growth("nothing", None)
    beats = [at for at, question in driver.idle(5.5) if isinstance(question, m.Beat)]
    assert len(beats) >= 5


def test_a_leader_that_registers_anew_checks_a_whole_interval_later() -> None:
    driver = Driver(rebalance_check_interval_sec=20)
    driver.reply = replace(driver.reply, leader="a")
    driver.hold(HALF)
    driver.idle(90)
    driver.granted = ()
    fenced(driver)
    registered_sec = driver.boot_sec
    driver.scripted[m.Grow] = m.Growth("nothing", None)
    checks = [at for at, question in driver.idle(60) if isinstance(question, m.Beat) and question.check]
    assert checks[0] - registered_sec == pytest.approx(20, abs=5.1)
    assert checks[0] - registered_sec >= 20


def test_all_is_asked_for_again_after_a_fence() -> None:
    driver = holding(ALL)
    fenced(driver)
    assert driver.standing.holding.tokens == NONE
    driver.until(m.Grow, within_sec=0.1)
