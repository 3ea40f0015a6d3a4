"""The right to lead in the database: wanted for the oldest, granted to one, and seen as a token nowhere."""

from functools import partial

from jobsync.postgres.overview import list_nodes, read_cluster
from jobsync.postgres.statement import run, statement
from tests.postgres.support import Fleet, tokens


def test_a_plan_without_the_oldest_as_its_leader_is_due_for_another(fleet: Fleet) -> None:
    leader, _ = fleet.join("a"), fleet.join("b")
    fleet.save_plan(leader, fleet.inputs(), {"a": "0-49", "b": "lead 50-99"})
    assert fleet.beat(leader).plan_due
    fleet.save_plan(leader, fleet.inputs(), {"a": "lead 0-49", "b": "50-99"}, tokens_moved=0)
    assert not fleet.beat(leader).plan_due


def test_the_elder_who_was_fenced_and_came_back_leads_no_more(fleet: Fleet) -> None:
    elder, younger = fleet.join("a"), fleet.join("b")
    fleet.save_plan(elder, fleet.inputs(), {"a": "lead 0-49", "b": "50-99"})
    assert fleet.fence(elder, "A")
    fleet.join("a")
    assert fleet.beat(younger).plan_due


def test_a_plan_that_moves_the_right_to_lead_alone_has_a_new_number_and_no_history(fleet: Fleet) -> None:
    leader, other = fleet.join("a"), fleet.join("b")
    fleet.save_plan(leader, fleet.inputs(), {"a": "lead 0-49", "b": "50-99"})
    assert fleet.save_plan(leader, fleet.inputs(), {"a": "0-49", "b": "lead 50-99"}, tokens_moved=0, moves=()) == 2
    assert fleet.beat(other, known=1).target == tokens("lead 50-99")
    assert fleet.beat(leader, known=1).target == tokens("0-49")
    assert len(fleet.sql("select 1 from sync_rebalance")) == 1


def test_a_plan_that_keeps_the_leader_and_moves_nothing_has_no_new_number(fleet: Fleet) -> None:
    leader = fleet.join("a")
    fleet.save_plan(leader, fleet.inputs(), {"a": "lead 0-99"})
    assert fleet.save_plan(leader, fleet.inputs(), {"a": "lead 0-99"}, tokens_moved=0, moves=()) == 1


def test_the_right_to_lead_is_seen_in_no_view_count_or_span(fleet: Fleet) -> None:
    member = fleet.join("a")
    fleet.hold(member, "lead 0-9 20-29")
    assert fleet.sql("select count(*)::int, min(token_id) from sync_token") == [(20, 0)]
    assert [(row.name, row.tokens) for row in list_nodes(partial(run, fleet.conn), fleet.prefix)] == [("a", 20)]
    assert read_cluster(partial(run, fleet.conn), fleet.prefix).tokens_held == 20
    assert run(fleet.conn, statement("token_spans", fleet.prefix)) == [("a", 0, 10), ("a", 20, 30)]


def test_who_waits_for_the_right_to_lead_has_applied_the_plan(fleet: Fleet) -> None:
    old, new = fleet.join("a"), fleet.join("b")
    fleet.hold(old, "lead")
    fleet.save_plan(old, fleet.inputs(), {"a": "", "b": "lead 0-99"})
    assert fleet.grow(new).grant is not None
    assert fleet.sql("select applied_version from sync_node where name = 'b'") == [(1,)]


def test_the_right_to_lead_is_granted_to_one(fleet: Fleet) -> None:
    old, new = fleet.join("a"), fleet.join("b")
    first = fleet.hold(old, "lead")
    fleet.want(b="lead")
    assert fleet.grow(new).outcome == "nothing"
    fleet.shrink(old, "lead")
    grant = fleet.grow(new).grant
    assert grant is not None
    assert grant.tokens == tokens("lead")
    assert grant.epoch > first.epoch
