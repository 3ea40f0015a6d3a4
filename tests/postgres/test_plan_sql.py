"""The leader's plan in the database, and the beats that carry it."""

import pytest

from jobsync.core import messages as m
from jobsync.core.tokens import TokenSet
from tests.postgres.support import Fleet, Member, at_once, tokens

# --- reading ---------------------------------------------------------------------------------------


def test_the_deal_sees_live_nodes_oldest_first(fleet: Fleet) -> None:
    for name in ("z", "a", "m"):
        fleet.join(name)
    assert fleet.inputs().nodes == ("z", "a", "m")


def test_the_deal_leaves_out_who_is_fenced_or_leaving(fleet: Fleet) -> None:
    fleet.join("a")
    b, c = fleet.join("b"), fleet.join("c")
    fleet.fence(b, "A")
    fleet.ask(m.BeginLeave(c.who), c.conn)
    inputs = fleet.inputs()
    assert (inputs.nodes, inputs.fenced) == (("a",), frozenset({"b"}))


def test_the_deal_sees_the_targets_of_today(fleet: Fleet) -> None:
    fleet.want(a="0-9 20", b="")
    assert fleet.inputs().targets == {"a": tokens("0-9 20"), "b": TokenSet()}


def test_the_deal_sees_locks_in_the_order_of_registration(fleet: Fleet) -> None:
    fleet.lock("z", 3, ["b", "c%"])
    fleet.lock("a", 3, ["d"])
    assert fleet.inputs().locks == ((3, "z", ("b", "c%")), (3, "a", ("d",)))


def test_the_deal_does_not_see_expired_locks(fleet: Fleet) -> None:
    fleet.lock("over", 1, ends_in_sec=-1)
    fleet.lock("stands", 2, ends_in_sec=60)
    assert [task for _, task, _ in fleet.inputs().locks] == ["stands"]


def test_the_deal_sees_no_locks_where_they_are_switched_off(fleet: Fleet) -> None:
    fleet.lock("task", 1)
    assert fleet.inputs(locks_enabled=False).locks == ()


def test_names_and_patterns_of_any_text_come_through(fleet: Fleet) -> None:
    odd = 'é"\\{},𐍈\n%'
    fleet.join(odd)
    fleet.lock(odd, 1, [odd])
    inputs = fleet.inputs()
    assert (inputs.nodes, inputs.locks) == ((odd,), ((1, odd, (odd,)),))


# --- saving ----------------------------------------------------------------------------------------


def test_a_plan_that_moves_something_has_a_new_number(fleet: Fleet) -> None:
    leader = fleet.join("a")
    assert fleet.save_plan(leader, fleet.inputs(), {"a": "0-99"}) == 1
    assert fleet.inputs().targets == {"a": tokens("0-99")}


def test_a_plan_from_inputs_that_are_stale_is_refused(fleet: Fleet) -> None:
    leader, rival = fleet.join("a"), fleet.join("b")
    stale = fleet.inputs()
    fleet.save_plan(rival, fleet.inputs(), {"a": "0-49", "b": "50-99"})
    assert fleet.save_plan(leader, stale, {"a": "0-99"}) is None
    assert fleet.inputs().targets == {"a": tokens("0-49"), "b": tokens("50-99")}


def test_of_eight_plans_from_the_same_inputs_one_is_saved(fleet: Fleet) -> None:
    members = [fleet.join(f"node-{number}") for number in range(8)]
    inputs = fleet.inputs()

    def save(number: int) -> int | None:
        return fleet.save_plan(members[number], inputs, {members[number].name: "0-99"})

    assert sorted(at_once(8, save), key=str) == [1] + [None] * 7


def test_the_targets_of_who_is_not_in_the_plan_go(fleet: Fleet) -> None:
    leader = fleet.join("a")
    fleet.want(gone="0-9")
    fleet.save_plan(leader, fleet.inputs(), {"a": "0-9"})
    assert fleet.inputs().targets == {"a": tokens("0-9")}


def test_targets_that_the_plan_does_not_change_stay(fleet: Fleet) -> None:
    leader, _ = fleet.join("a"), fleet.join("b")
    fleet.want(a="0-9", b="10-19")
    fleet.save_plan(leader, fleet.inputs(), {"a": "0-5"})
    assert fleet.inputs().targets == {"a": tokens("0-5"), "b": tokens("10-19")}


def test_a_plan_that_moves_nothing_raises_no_version(fleet: Fleet) -> None:
    leader = fleet.join("a")
    assert fleet.save_plan(leader, fleet.inputs(), {"a": ""}) == 0
    assert fleet.inputs().targets == {"a": TokenSet()}


def test_a_plan_that_moves_nothing_leaves_no_history(fleet: Fleet) -> None:
    leader = fleet.join("a")
    fleet.save_plan(leader, fleet.inputs(), {"a": ""})
    assert fleet.sql("select 1 from sync_rebalance") == []


def test_a_plan_that_moves_something_leaves_one_row_of_history(fleet: Fleet) -> None:
    leader, _ = fleet.join("a"), fleet.join("b")
    fleet.save_plan(leader, fleet.inputs(), {"a": "0-49", "b": "50-99"}, reason="death", nodes_before=7)
    row = (
        "select trigger_reason, leader_node, nodes_before, nodes_after, tokens_moved, plan_version from sync_rebalance"
    )
    assert fleet.sql(row) == [("death", "a", 7, 2, 100, 1)]


def test_the_history_tells_what_went_from_whom_to_whom(fleet: Fleet) -> None:
    leader = fleet.join("a")
    moves = ((None, "a", tokens("0-4 7")), ("b", "a", tokens("8")), ("b", None, tokens("9")))
    fleet.save_plan(leader, fleet.inputs(), {"a": "0-8"}, moves=moves)
    assert fleet.value("select moves from sync_rebalance") == [
        {"from": None, "to": "a", "tokens": "{[0,5),[7,8)}"},
        {"from": "b", "to": "a", "tokens": "{[8,9)}"},
        {"from": "b", "to": None, "tokens": "{[9,10)}"},
    ]


def test_the_history_tells_how_long_it_took(fleet: Fleet) -> None:
    leader = fleet.join("a")
    fleet.save_plan(leader, fleet.inputs(), {"a": "0-9"})
    assert 0 <= fleet.value("select duration_ms from sync_rebalance") < 10_000


def test_a_plan_that_is_saved_wakes_everybody(fleet: Fleet) -> None:
    leader = fleet.join("a")
    fleet.sql("listen sync_plan")
    fleet.save_plan(leader, fleet.inputs(), {"a": "0-9"})
    assert next(fleet.conn.notifies(timeout=10, stop_after=1)).payload == ""


# --- locks and when a plan is due ------------------------------------------------------------------


def planned(fleet: Fleet) -> Member:
    """Give the only node of a fleet whose plan fits."""
    leader = fleet.join("a")
    fleet.save_plan(leader, fleet.inputs(), {"a": "lead 0-99"})
    assert not fleet.beat(leader, check=True).plan_due
    return leader


def test_a_fleet_without_a_plan_is_due_for_one(fleet: Fleet) -> None:
    assert fleet.beat(fleet.join("a")).plan_due


@pytest.mark.parametrize(
    "change",
    [
        "insert into sync_lock (task_id, token_id, node_patterns) values ('y', 2, '[\"b\"]')",
        "update sync_lock set node_patterns = '[\"b\"]'",
        "delete from sync_lock",
        "truncate sync_lock",
    ],
    ids=["insert", "update", "delete", "truncate"],
)
def test_any_change_of_locks_makes_a_plan_due(fleet: Fleet, change: str) -> None:
    fleet.lock("x", 1)
    leader = planned(fleet)
    fleet.sql(change)
    assert fleet.beat(leader).plan_due


def test_a_change_of_locks_tells_the_leader(fleet: Fleet) -> None:
    fleet.sql("listen sync_plan")
    fleet.lock("x", 1)
    assert list(fleet.conn.notifies(timeout=10, stop_after=1))


def test_a_lock_that_came_while_the_plan_was_made_makes_another_due(fleet: Fleet) -> None:
    leader = fleet.join("a")
    inputs = fleet.inputs()
    fleet.lock("x", 1)
    fleet.save_plan(leader, inputs, {"a": "lead 0-99"})
    assert fleet.beat(leader).plan_due


def test_a_join_makes_a_plan_due(fleet: Fleet) -> None:
    leader = planned(fleet)
    fleet.join("b")
    assert fleet.beat(leader).plan_due


@pytest.mark.parametrize("how", ["fenced", "leaving", "left"])
def test_a_departure_makes_a_plan_due(fleet: Fleet, how: str) -> None:
    leader, other = fleet.join("a"), fleet.join("b")
    fleet.save_plan(leader, fleet.inputs(), {"a": "lead 0-49", "b": "50-99"})
    match how:
        case "fenced":
            fleet.fence(other, "A")
        case "leaving":
            fleet.ask(m.BeginLeave(other.who), other.conn)
        case _:
            fleet.ask(m.Leave(other.who), other.conn)
    assert fleet.beat(leader).plan_due


def test_an_expired_lock_makes_a_plan_due_when_it_is_looked_for(fleet: Fleet) -> None:
    fleet.lock("x", 1, ends_in_sec=60)
    leader = planned(fleet)
    fleet.sql("alter table sync_lock disable trigger user")  # time passes without a change by anybody
    fleet.sql("update sync_lock set expires_at = '2020-01-01Z'")
    assert fleet.beat(leader, check=True).plan_due
    assert not fleet.beat(leader).plan_due


def test_a_plan_sweeps_the_locks_that_had_expired(fleet: Fleet) -> None:
    leader = fleet.join("a")
    fleet.lock("over", 1, ends_in_sec=-1)
    fleet.lock("stands", 2, ends_in_sec=60)
    fleet.lock("permanent", 3)
    fleet.save_plan(leader, fleet.inputs(), {"a": "lead 0-99"})
    assert fleet.sql("select task_id from sync_lock order by 1") == [("permanent",), ("stands",)]


def test_the_sweep_makes_no_further_plan_due(fleet: Fleet) -> None:
    leader = fleet.join("a")
    for number in range(3):
        fleet.lock(f"over-{number}", number, ends_in_sec=-1)
    fleet.save_plan(leader, fleet.inputs(), {"a": "lead 0-99"})
    assert not fleet.beat(leader, check=True).plan_due


def test_the_sweep_does_not_hide_a_lock_that_came_meanwhile(fleet: Fleet) -> None:
    leader = fleet.join("a")
    fleet.lock("over", 1, ends_in_sec=-1)
    inputs = fleet.inputs()
    fleet.lock("new", 2)
    fleet.save_plan(leader, inputs, {"a": "lead 0-99"})
    assert fleet.beat(leader, check=True).plan_due


def test_a_sweep_by_a_plan_that_came_too_late_leaves_a_plan_due(fleet: Fleet) -> None:
    leader = planned(fleet)
    stale = fleet.inputs()
    fleet.save_plan(leader, fleet.inputs(), {"a": "lead 0-98"})
    fleet.lock("over", 1, ends_in_sec=-1)
    late = m.PlanInputs(
        stale.plan_version,
        stale.lock_version,
        100,
        fleet.inputs().began_at,
        stale.nodes,
        stale.fenced,
        stale.targets,
        (),
    )
    assert fleet.save_plan(leader, late, {"a": "lead 0-99"}) is None
    assert fleet.beat(leader).plan_due


# --- the beat --------------------------------------------------------------------------------------


def test_a_beat_proves_life(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.sql("update sync_node set last_heartbeat = '2020-01-01Z'")
    before = fleet.beats("a")
    fleet.beat(node)
    assert fleet.beats("a") == before + 1
    assert fleet.value("select clock_timestamp() - last_heartbeat < interval '5 seconds' from sync_node")


def test_a_beat_brings_the_target_only_when_the_plan_is_another(fleet: Fleet) -> None:
    node = fleet.join("a")
    version = fleet.save_plan(node, fleet.inputs(), {"a": "0-9"})
    assert version is not None
    assert fleet.beat(node, known=0).target == tokens("0-9")
    assert fleet.beat(node, known=version).target is None


def test_a_beat_tells_a_node_without_a_target_from_one_with_an_empty_target(fleet: Fleet) -> None:
    node = fleet.join("a")
    assert not fleet.beat(node).planned
    fleet.want(a="")
    assert fleet.beat(node).planned


def test_a_beat_names_the_oldest_live_node_as_leader(fleet: Fleet) -> None:
    eldest, node = fleet.join("z"), fleet.join("a")
    assert fleet.beat(node).leader == "z"
    fleet.ask(m.BeginLeave(eldest.who), eldest.conn)
    assert fleet.beat(node).leader == "a"


def test_a_beat_counts_live_nodes(fleet: Fleet) -> None:
    a, b, c, d = (fleet.join(name) for name in "abcd")
    fleet.fence(b, "A")
    fleet.ask(m.BeginLeave(c.who), c.conn)
    assert fleet.beat(d).live == 2
    assert fleet.beat(a).live == 2


def test_a_beat_counts_elders_up_to_two(fleet: Fleet) -> None:
    members = [fleet.join(name) for name in "abcd"]
    assert [fleet.beat(member).elders for member in members] == [0, 1, 2, 2]


def test_an_elder_whose_session_is_gone_does_not_count(fleet: Fleet) -> None:
    members = [fleet.join(name) for name in "abcd"]
    fleet.kill(members[0].conn)
    assert [fleet.beat(member).elders for member in members[1:]] == [0, 1, 2]


def test_an_elder_without_a_session_lease_counts_while_its_heartbeat_is_young(fleet: Fleet) -> None:
    fleet.join("a", session_lease_ms=None)
    node = fleet.join("b")
    assert fleet.beat(node).elders == 1
    fleet.sql("update sync_node set last_heartbeat = last_heartbeat - interval '1 minute' where name = 'a'")
    assert fleet.beat(node).elders == 0


def test_the_longest_lease_of_the_fleet_is_told(fleet: Fleet) -> None:
    fleet.join("a", row_lease_ms=30_000)
    assert fleet.beat(fleet.join("b")).longest_lease_ms == 30_000


def test_the_roster_changes_whenever_a_member_comes_or_goes(fleet: Fleet) -> None:
    node = fleet.join("a")
    rosters = [fleet.beat(node).roster]
    b = fleet.join("b")
    rosters.append(fleet.beat(node).roster)
    fleet.ask(m.BeginLeave(b.who), b.conn)
    rosters.append(fleet.beat(node).roster)
    fleet.fence(b, "A")
    fleet.join("b")
    rosters.append(fleet.beat(node).roster)
    assert len(set(rosters)) == len(rosters)


def test_the_roster_stays_while_nobody_comes_or_goes(fleet: Fleet) -> None:
    a, b = fleet.join("a"), fleet.join("b")
    before = fleet.beat(a).roster
    fleet.beat(b)
    fleet.rebind(b)
    assert fleet.beat(a).roster == before


def test_a_beat_notes_the_plan_that_the_node_applied(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.beat(node, applied=7)
    fleet.beat(node, applied=3)
    assert fleet.value("select applied_version from sync_node") == 7


def test_a_beat_tells_of_a_quarantine(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.sql("update sync_meta set quarantined = true")
    assert fleet.beat(node).quarantined


# --- leaving ---------------------------------------------------------------------------------------


def test_who_begins_to_leave_learns_how_many_remain(fleet: Fleet) -> None:
    fleet.join("a")
    node = fleet.join("b")
    assert fleet.ask(m.BeginLeave(node.who), node.conn) == m.LeaveBegun(1)


def test_who_left_is_gone(fleet: Fleet) -> None:
    node = fleet.join("a")
    assert fleet.ask(m.Leave(node.who), node.conn) == m.Left()
    assert fleet.state("a") is None


def test_who_still_holds_tokens_has_not_left(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.hold(node, "0-9")
    assert fleet.ask(m.Leave(node.who), node.conn) == m.NotCurrent()
    assert fleet.held("a") == tokens("0-9")
