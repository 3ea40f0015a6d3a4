"""Nodes that take no tokens: they live, watch, fence and may lead like any other, and are dealt nothing."""

from dataclasses import replace
from typing import Any

import pytest

from jobsync.core import messages as m
from jobsync.core.errors import ConfigMismatch, NodeNameInUse
from jobsync.core.messages import PlanInputs
from jobsync.core.planning import make_plan
from jobsync.core.pool import LEADERSHIP, RIGHT_TO_LEAD, pool_of
from jobsync.core.tokens import TokenSet
from tests.core.checkers import Violated
from tests.core.driver import Driver
from tests.core.world import Process, World
from tests.core.world_faults import run_storm

ALL, NOTHING = TokenSet.span(0, 24), TokenSet()
TEN = TokenSet.span(0, 10)


def fleet(names: str, **changes: Any) -> tuple[World, list[Process]]:
    """Start nodes one after the other and let them settle; a name that begins with w takes no tokens."""
    world = World()
    processes = []
    for name in names.split():
        processes.append(world.start(name, takes_tokens=not name.startswith("w"), **changes))
        world.run(0.05)
        world.settle()
    return world, processes


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


# --- fleets ----------------------------------------------------------------------------------


def test_a_fleet_of_workers_has_a_leader_and_nobody_holds_the_pool() -> None:
    world, workers = fleet("w1 w2 w3")
    assert {p.standing.leader for p in workers} == {"w1"}
    assert [p.believed_now() for p in workers] == [RIGHT_TO_LEAD, NOTHING, NOTHING]
    assert world.db.state.plan_version == 1


@pytest.mark.parametrize("names", ["w1 w2", "w1 a", "a w1"])
def test_a_killed_worker_is_fenced_within_the_session_lease(names: str) -> None:
    world, processes = fleet(names)
    dead = next(p for p in processes if p.name == "w1")
    world.end(dead)
    assert world.run_until(lambda: world.db.state.nodes["w1"].state == "fenced", within_sec=1)
    world.settle()


def test_a_worker_fences_a_killed_job() -> None:
    world, (a, _worker, b) = fleet("a w b")
    world.end(a)
    assert world.run_until(lambda: world.db.state.nodes["a"].state == "fenced", within_sec=1)
    world.settle()
    assert b.held_now() == ALL


def test_a_job_that_joins_workers_gets_all_tokens_at_once() -> None:
    world, (w1, w2) = fleet("w1 w2")
    a = world.start("a")
    world.run(0.1)
    assert a.held_now() == ALL
    world.run(2)
    assert a.standing.leader == "a"
    assert LEADERSHIP in a.believed_now()
    assert not any(change.added | change.removed for change in w1.changes + w2.changes)


def test_workers_that_come_and_go_move_no_token_and_call_no_callback() -> None:
    world, (a, b) = fleet("a b")
    held, told, version = (a.held_now(), b.held_now()), (len(a.changes), len(b.changes)), world.db.state.plan_version
    workers = [world.start(f"w{number}", takes_tokens=False) for number in range(3)]
    world.run(0.5)
    world.settle()
    world.leave(workers[0])
    world.end(workers[1])
    world.run(2)
    world.settle()
    assert (a.held_now(), b.held_now()) == held
    assert (len(a.changes), len(b.changes)) == told
    assert world.db.state.plan_version == version


def test_jobs_count_jobs_alone() -> None:
    world, (a, _w1, w2, _b) = fleet("a w1 w2 b")
    world.run(2)
    assert (a.standing.live, w2.standing.live) == (2, 2)


def test_a_job_leads_before_any_worker_however_old() -> None:
    world, (w, a, b) = fleet("w a b")
    world.run(2)
    assert {p.standing.leader for p in (w, a, b)} == {"a"}
    assert LEADERSHIP in a.believed_now()
    assert (len(a.held_now()), len(b.held_now())) == (12, 12)


def test_the_oldest_of_workers_alone_leads() -> None:
    world, (w1, w2) = fleet("w1 w2")
    assert {p.standing.leader for p in (w1, w2)} == {"w1"}
    assert LEADERSHIP in w1.believed_now()
    world.end(w1)
    assert world.run_until(lambda: LEADERSHIP in w2.believed_now(), within_sec=3)


def test_a_job_that_leaves_workers_behind_goes_at_once() -> None:
    world, (_w, a) = fleet("w a")
    world.leave(a)
    assert world.run_until(lambda: not a.alive, within_sec=0.3)
    world.settle()


def test_a_worker_that_leads_hands_the_right_to_lead_over() -> None:
    world, (w1, w2) = fleet("w1 w2")
    world.leave(w1)
    world.run(0.5)
    world.settle()
    assert LEADERSHIP in w2.believed_now()


def test_workers_too_must_agree_on_the_total_of_tokens() -> None:
    world, _ = fleet("a")
    w = world.start("w", takes_tokens=False, total_tokens=30)
    world.run(5)
    assert isinstance(w.error, ConfigMismatch)
    world, _ = fleet("w")
    a = world.start("a", total_tokens=30)
    world.run(5)
    assert isinstance(a.error, ConfigMismatch)


@pytest.mark.parametrize("takes_tokens", [True, False])
def test_a_twin_of_the_other_kind_is_refused(takes_tokens: bool) -> None:
    world = World()
    first = world.start("x", takes_tokens=takes_tokens)
    world.run(0.5)
    twin = world.start("x", takes_tokens=not takes_tokens)
    world.run(5)
    assert isinstance(twin.error, NodeNameInUse)
    world.settle()
    assert first.held_now() == (ALL if takes_tokens else NOTHING)


@pytest.mark.parametrize("names", ["a x", "x a", "x"])
@pytest.mark.parametrize("gently", [True, False])
@pytest.mark.parametrize("was_worker", [True, False])
def test_a_name_may_come_back_as_the_other_kind(names: str, gently: bool, was_worker: bool) -> None:
    world = World()
    started = {}
    for name in names.split():
        started[name] = world.start(name, takes_tokens=name == "a" or not was_worker)
        world.run(0.05)
        world.settle()
    if gently:
        world.leave(started["x"])
    else:
        world.end(started["x"])
    again = world.start("x", takes_tokens=was_worker)
    world.run(0.5)
    world.settle()
    held = {p.name: len(p.held_now()) for p in world.processes if p.alive}
    assert held["x"] == (0 if not was_worker else 24 // len(held))
    assert sum(held.values()) == (24 if was_worker or "a" in held else 0)
    assert again.alive


@pytest.mark.parametrize("batch", [0, 1, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3, 4))])
def test_no_storm_breaks_a_mixed_fleet(batch: int) -> None:
    for seed in range(1000 + batch * 30, 1000 + (batch + 1) * 30):
        try:
            run_storm(seed, tokenless=0.4)
        except Violated as error:
            pytest.fail(f"seed {seed}: {error}")
