"""Nodes that take no tokens: they live, watch, fence and may lead like any other, and are dealt nothing."""

from dataclasses import replace
from typing import Any

import pytest

from jobsync.core import messages as m
from jobsync.core.messages import PlanInputs
from jobsync.core.planning import make_plan
from jobsync.core.pool import LEADERSHIP, RIGHT_TO_LEAD, pool_of
from jobsync.core.tokens import TokenSet
from tests.core.driver import Driver

ALL, NOTHING = TokenSet.span(0, 24), TokenSet()
TEN = TokenSet.span(0, 10)


def inputs(nodes: str, targets: dict[str, TokenSet], **given: Any) -> PlanInputs:
    """A snapshot of ten tokens; a name that begins with w takes none, in the fleet and in the plan of today."""
    names = tuple(nodes.split())
    kinds = {
        "tokenless": frozenset(name for name in names if name.startswith("w")),
        "planned_tokenless": frozenset(name for name in targets if name.startswith("w")),
    }
    values = {"fenced": frozenset(), "locks": (), **kinds, **given}
    return PlanInputs(1, 1, 10, "", names, targets=targets, **values)


# --- the plan --------------------------------------------------------------------------------


def test_the_pool_is_dealt_to_those_who_take_tokens_and_the_oldest_of_all_leads() -> None:
    plan = make_plan(inputs("w1 a b w2", {}))
    assert {name: pool_of(target) for name, target in plan.changed.items() if name[0] == "w"} == {
        "w1": NOTHING,
        "w2": NOTHING,
    }
    assert len(plan.changed["a"]) == len(plan.changed["b"]) == 5
    assert [name for name, target in plan.changed.items() if LEADERSHIP in target] == ["w1"]
    assert (plan.reason, plan.nodes_before, plan.takers) == ("start", 0, ("a", "b"))


def test_a_worker_that_joins_moves_nothing() -> None:
    plan = make_plan(inputs("a w", {"a": TEN | RIGHT_TO_LEAD}))
    assert (plan.changed, plan.tokens_moved, plan.moves) == ({"w": NOTHING}, 0, ())


def test_a_worker_that_went_changes_no_other_target() -> None:
    plan = make_plan(inputs("a", {"a": TEN | RIGHT_TO_LEAD, "w": NOTHING}, fenced=frozenset({"w"})))
    assert (plan.changed, plan.tokens_moved) == ({}, 0)


def test_among_workers_alone_the_pool_is_nobodys_and_the_history_says_so() -> None:
    plan = make_plan(inputs("w", {"a": TEN | RIGHT_TO_LEAD, "w": NOTHING}))
    assert plan.changed == {"w": RIGHT_TO_LEAD}
    assert plan.moves == (("a", None, TEN),)
    assert (plan.reason, plan.nodes_before, plan.takers) == ("leave", 1, ())


def test_among_workers_alone_no_lock_is_told_to_match_nobody() -> None:
    assert make_plan(inputs("w", {}, locks=((3, "invoice", ("a",)),))).unmatched == ()


def test_a_lock_never_brings_a_token_to_a_worker() -> None:
    plan = make_plan(inputs("a w", {}, locks=((3, "invoice", ("w",)),)))
    assert plan.unmatched == ("invoice",)
    assert pool_of(plan.changed["w"]) == NOTHING


def test_the_history_counts_and_names_only_causes_among_those_who_take_tokens() -> None:
    targets = {"a": TEN | RIGHT_TO_LEAD, "w1": NOTHING}
    plan = make_plan(inputs("a b w2", targets, fenced=frozenset({"w1"})))
    assert (plan.reason, plan.nodes_before, plan.takers) == ("join", 1, ("a", "b"))


@pytest.mark.parametrize("before", [frozenset(), frozenset({"x"})])
def test_a_target_made_for_the_other_kind_is_written_again(before: frozenset[str]) -> None:
    now = frozenset({"x"}) - before
    targets = {"a": TEN | RIGHT_TO_LEAD, "x": NOTHING}
    plan = make_plan(inputs("a x", targets, tokenless=now, planned_tokenless=before))
    assert "x" in plan.changed
    assert bool(plan.changed["x"]) is (not now)


# --- one member ------------------------------------------------------------------------------


def worker(**settings: Any) -> Driver:
    """Drive a member that takes no tokens."""
    return Driver(takes_tokens=False, **settings)


def test_it_says_so_when_it_registers() -> None:
    for driver, takes_tokens in ((worker(), False), (Driver(), True)):
        driver.send(m.Started(driver.now()))
        driver.connect()
        assert driver.until(m.Register).takes_tokens is takes_tokens


def test_it_says_so_again_after_it_was_fenced() -> None:
    driver = worker()
    driver.register()
    driver.until(m.Beat)
    driver.answer(m.NotCurrent())
    assert driver.until(m.Register).takes_tokens is False


def test_it_is_settled_once_it_is_live_and_waits_for_no_plan() -> None:
    driver = worker()
    driver.send(m.Started(driver.now()))
    before = driver.standing
    driver.register()
    assert (before.settled, driver.standing.settled, driver.standing.target) == (False, True, None)


def test_nothing_is_told_to_its_application() -> None:
    driver = worker()
    driver.register()
    driver.reply = replace(driver.reply, target=NOTHING)
    driver.idle(10)
    assert driver.standing.target == NOTHING
    assert driver.changes == []


def test_its_lease_is_certain_though_it_holds_nothing() -> None:
    driver = worker()
    driver.register()
    driver.idle(1)
    assert driver.standing.holding.certain_at(driver.now())
    driver.boot_sec += 0.7
    assert not driver.standing.holding.certain_at(driver.now())


def test_it_leaves_at_once_since_no_successor_is_needed() -> None:
    driver = worker()
    driver.register()
    driver.idle(1)
    driver.send(m.LeaveAsked(driver.now()))
    driver.until(m.BeginLeave)
    asked_sec = driver.boot_sec
    driver.answer(m.LeaveBegun(2))
    driver.until(m.Leave)
    assert driver.boot_sec - asked_sec < 0.1


# --- hearing of jobs -------------------------------------------------------------------------


def hears(driver: Driver) -> bool:
    return driver.standing.hears_jobs


def asks_in_half_a_minute(driver: Driver) -> list[m.Question]:
    """List the questions about jobs that come up while the database is quiet."""
    driver.scripted[m.HearJobs] = m.JobsHeard()
    return [question for _, question in driver.idle(30) if isinstance(question, m.HearJobs)]


def want_jobs(driver: Driver, *, wanted: bool = True) -> None:
    """Want, and be let hear."""
    driver.send(m.JobsWanted(driver.now(), wanted))
    assert driver.until(m.HearJobs).wanted is wanted
    driver.answer(m.JobsHeard())


def test_nobody_who_was_not_asked_hears_of_jobs() -> None:
    driver = worker()
    driver.register()
    assert not asks_in_half_a_minute(driver)
    assert not hears(driver)


def test_whoever_runs_already_can_be_asked_and_told_to_cease() -> None:
    driver = Driver()
    driver.hold()
    want_jobs(driver)
    assert hears(driver)
    want_jobs(driver, wanted=False)
    assert not hears(driver)
    assert not asks_in_half_a_minute(driver)


def test_what_was_wanted_before_the_session_stood_is_asked_when_it_does() -> None:
    driver = worker()
    driver.send(m.JobsWanted(driver.now(), True))
    driver.register()
    driver.until(m.HearJobs)
    assert not hears(driver)
    driver.answer(m.JobsHeard())
    assert hears(driver)


def test_a_new_session_hears_only_after_it_was_asked_anew() -> None:
    driver = worker()
    driver.register()
    want_jobs(driver)
    driver.breaks()
    assert not hears(driver)
    driver.connect()
    driver.rebind()
    assert not hears(driver)
    driver.until(m.HearJobs)
    driver.answer(m.JobsHeard())
    assert hears(driver)


def test_behind_a_pooler_nobody_is_asked() -> None:
    driver = worker()
    driver.send(m.JobsWanted(driver.now(), True))
    driver.register(direct=False)
    assert not asks_in_half_a_minute(driver)


def test_whoever_is_fenced_hears_again_when_it_is_back_on_the_same_session() -> None:
    driver = worker()
    driver.register()
    want_jobs(driver)
    driver.until(m.Beat)
    driver.answer(m.NotCurrent())
    assert not hears(driver)
    driver.until(m.Register)
    driver.answer(m.Registration("registered", 5, 6, None, None, 1, False))
    assert hears(driver)


def test_a_refusal_is_asked_again_later_and_not_at_once() -> None:
    driver = worker()
    driver.register()
    driver.send(m.JobsWanted(driver.now(), True))
    driver.until(m.HearJobs)
    driver.refuse()
    began_sec = driver.boot_sec
    driver.until(m.HearJobs)
    assert 0.005 < driver.boot_sec - began_sec < 2
