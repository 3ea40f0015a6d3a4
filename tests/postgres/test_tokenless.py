"""Nodes that take no tokens, in the database: their kind in the row and in the plan, and who is counted."""

from functools import partial

import psycopg
import pytest

from jobsync.core import messages as m
from jobsync.core.planning import make_plan
from jobsync.core.tokens import TokenSet
from jobsync.postgres.overview import list_nodes, read_cluster
from jobsync.postgres.statement import run
from tests.postgres.support import Fleet, Member, tokens


def plan(fleet: Fleet, leader: Member) -> int | None:
    """Deal as the leader does."""
    inputs = fleet.inputs()
    made = make_plan(inputs)
    question = m.SavePlan(
        me=leader.who,
        plan_version=inputs.plan_version,
        lock_version=inputs.lock_version,
        nodes=made.nodes,
        targets=made.changed,
        reason=made.reason,
        nodes_before=made.nodes_before,
        tokens_moved=made.tokens_moved,
        moves=made.moves,
        began_at=inputs.began_at,
        tokenless=inputs.tokenless,
    )
    version: int | None = fleet.ask(question, leader.conn).version
    return version


def worker(fleet: Fleet, name: str) -> Member:
    return fleet.join(name, takes_tokens=False)


def test_the_row_and_the_inputs_of_a_plan_say_who_takes_none(fleet: Fleet) -> None:
    fleet.join("a")
    worker(fleet, "w")
    assert fleet.sql("select name, takes_tokens from sync_node order by name") == [("a", True), ("w", False)]
    inputs = fleet.inputs()
    assert (inputs.nodes, inputs.tokenless) == (("a", "w"), frozenset({"w"}))


def test_the_plan_keeps_for_which_kind_of_node_a_target_was_made(fleet: Fleet) -> None:
    leader = fleet.join("a")
    worker(fleet, "w")
    plan(fleet, leader)
    inputs = fleet.inputs()
    assert inputs.targets == {"a": tokens("lead 0-99"), "w": TokenSet()}
    assert inputs.planned_tokenless == frozenset({"w"})
    assert not fleet.beat(leader).plan_due


def test_the_plan_counts_only_who_takes_tokens_in_its_history(fleet: Fleet) -> None:
    leader = worker(fleet, "w1")
    fleet.join("a")
    worker(fleet, "w2")
    plan(fleet, leader)
    fleet.join("b")
    plan(fleet, leader)
    rows = fleet.sql("select trigger_reason, leader_node, nodes_before, nodes_after from sync_rebalance order by id")
    assert rows == [("start", "w1", 0, 1), ("join", "w1", 1, 2)]


def test_a_worker_that_joins_or_goes_raises_no_version_and_leaves_no_history(fleet: Fleet) -> None:
    leader = fleet.join("a")
    plan(fleet, leader)
    w = worker(fleet, "w")
    assert fleet.beat(leader).plan_due
    assert plan(fleet, leader) == 1
    assert fleet.fence(w, "A")
    assert fleet.beat(leader).plan_due
    assert plan(fleet, leader) == 1
    assert not fleet.beat(leader).plan_due
    assert len(fleet.sql("select 1 from sync_rebalance")) == 1


def test_the_pool_that_the_last_job_leaves_to_workers_is_seen_in_the_history(fleet: Fleet) -> None:
    leader, job = worker(fleet, "w"), fleet.join("a")
    plan(fleet, leader)
    fleet.fence(job, "A")
    plan(fleet, leader)
    row = "select nodes_before, nodes_after, tokens_moved, moves from sync_rebalance order by id desc limit 1"
    assert fleet.sql(row) == [(1, 0, 100, [{"from": "a", "to": None, "tokens": "{[0,100)}"}])]


@pytest.mark.parametrize("takes_tokens", [True, False])
def test_a_name_that_came_back_as_the_other_kind_makes_a_plan_due(fleet: Fleet, takes_tokens: bool) -> None:
    leader = fleet.join("a")
    x = fleet.join("x", takes_tokens=not takes_tokens)
    plan(fleet, leader)
    fleet.fence(x, "A")
    again = fleet.join("x", takes_tokens=takes_tokens)
    reply = fleet.beat(again, known=-1)
    assert (reply.planned, reply.target, reply.plan_due) == (False, None, True)
    plan(fleet, leader)
    reply = fleet.beat(again, known=-1)
    assert (reply.planned, bool(reply.target), reply.plan_due) == (True, takes_tokens, False)


def test_a_worker_takes_nothing_of_what_was_wanted_for_a_job_of_its_name(fleet: Fleet) -> None:
    job = fleet.join("x")
    fleet.hold(job, "0-9")
    fleet.fence(job, "A")
    assert fleet.grow(worker(fleet, "x")).outcome == "nothing"


def test_who_is_live_counts_only_who_takes_tokens(fleet: Fleet) -> None:
    a, w = fleet.join("a"), worker(fleet, "w")
    fleet.join("b")
    for known in (0, -1):
        assert [fleet.beat(node, known=known).live for node in (a, w)] == [2, 2]
    assert fleet.beat(w).members == 3
    assert fleet.ask(m.BeginLeave(a.who), a.conn).live == 1


def test_the_roster_changes_with_jobs_and_not_with_workers(fleet: Fleet) -> None:
    a = fleet.join("a")
    alone = fleet.beat(a).roster
    w = worker(fleet, "w")
    assert fleet.beat(a).roster == alone
    fleet.fence(w, "A")
    assert fleet.beat(a).roster == alone
    fleet.join("b")
    assert fleet.beat(a).roster != alone


def test_a_worker_counts_as_an_elder_who_watches(fleet: Fleet) -> None:
    worker(fleet, "w1")
    worker(fleet, "w2")
    assert fleet.beat(fleet.join("a")).elders == 2


def test_who_takes_tokens_leads_before_any_worker_however_old(fleet: Fleet) -> None:
    w = worker(fleet, "w")
    assert fleet.beat(w).leader == "w"
    assert fleet.beat(fleet.join("a")).leader == "a"


def test_a_worker_too_must_agree_on_the_total_of_tokens(fleet: Fleet) -> None:
    fleet.join("a")
    assert fleet.register("w", total_tokens=7, takes_tokens=False).outcome == "mismatch"


def test_people_are_shown_who_takes_none(fleet: Fleet) -> None:
    leader = fleet.join("a")
    worker(fleet, "w")
    plan(fleet, leader)
    fleet.grow(leader)
    rows = list_nodes(partial(run, fleet.conn), fleet.prefix)
    assert [(row.name, row.takes_tokens, row.tokens) for row in rows] == [("a", True, 100), ("w", False, 0)]
    assert read_cluster(partial(run, fleet.conn), fleet.prefix).tokens_held == 100


# --- hearing of jobs ---------------------------------------------------------------------------------


def heard(fleet: Fleet, listener: psycopg.Connection[object]) -> list[str]:
    """Give the channels on which a session was notified so far, after a round trip that brings all of it."""
    fleet.sql("select 1", conn=listener)
    return [notify.channel for notify in listener.notifies(timeout=0)]


@pytest.fixture
def listener(fleet: Fleet) -> psycopg.Connection[object]:
    conn = fleet.connect()
    fleet.ask(m.HearJobs(wanted=True), conn)
    return conn


def test_a_fence_an_exit_and_its_announcement_are_heard_of(fleet: Fleet, listener: psycopg.Connection[object]) -> None:
    channel = fleet.spelt("sync_job")
    a, b = fleet.join("a"), fleet.join("b")
    assert heard(fleet, listener) == []
    fleet.fence(a, "A")
    assert heard(fleet, listener) == [channel]
    fleet.ask(m.BeginLeave(b.who), b.conn)
    assert heard(fleet, listener) == [channel]
    fleet.ask(m.Leave(b.who), b.conn)
    assert heard(fleet, listener) == [channel]


def test_a_fence_that_was_not_carried_out_is_not_heard_of(fleet: Fleet, listener: psycopg.Connection[object]) -> None:
    a = fleet.join("a")
    assert not fleet.fence(a, "A", beats=99)
    assert heard(fleet, listener) == []


def test_whoever_ceases_to_listen_hears_nothing(fleet: Fleet, listener: psycopg.Connection[object]) -> None:
    a = fleet.join("a")
    fleet.ask(m.HearJobs(wanted=False), listener)
    fleet.fence(a, "A")
    assert heard(fleet, listener) == []


def test_a_node_that_listens_to_its_plan_does_not_hear_of_jobs(fleet: Fleet) -> None:
    a, b = fleet.join("a"), fleet.join("b")
    fleet.sql("select sync_listen('b')", conn=b.conn)
    fleet.fence(a, "A")
    assert heard(fleet, b.conn) == [fleet.spelt("sync_plan")]
