"""A fleet in calm weather: starting, joining, leaving, dying, and who takes over when."""

import pytest

from jobsync.core import messages as m
from jobsync.core.errors import ConfigMismatch, DatabaseUnavailable, NodeNameInUse
from jobsync.core.pool import LEADERSHIP, RIGHT_TO_LEAD
from jobsync.postgres.virtual_server import VirtualServer
from tests.simulation.fleets import ALL, HALF, THIRD, Fleet, Node

QUIET_BEATS = {"heartbeat_interval_sec": 5, "heartbeat_timeout_sec": 15, "dead_node_check_interval_sec": 10}


@pytest.fixture
def fleet(virtual: VirtualServer) -> Fleet:
    return Fleet(virtual)


@pytest.fixture
def pooled(virtual: VirtualServer) -> Fleet:
    """A fleet behind a pooler."""
    return Fleet(virtual, direct=False)


# --- coming ----------------------------------------------------------------------------------


def test_the_first_node_leads_and_takes_everything_within_a_tenth_of_a_second(fleet: Fleet) -> None:
    a = fleet.join("a")
    fleet.run(0.1)
    assert a.held() == ALL
    assert a.standing.leader == "a"


def test_a_node_that_joins_gets_its_half_and_nobody_loses_more(fleet: Fleet) -> None:
    a, b = fleet.join_all("a b")
    assert len(a.held()) == len(b.held()) == HALF
    assert sum(len(change.removed) for change in a.changes) == HALF


def test_ten_nodes_that_start_at_once_come_to_rest(fleet: Fleet) -> None:
    nodes = [fleet.join(f"n{number}") for number in range(10)]
    fleet.settle()
    assert sorted(len(node.held()) for node in nodes) == [2] * 6 + [3] * 4


def test_a_node_that_cannot_reach_the_database_at_first_says_so_and_ends(fleet: Fleet) -> None:
    fleet.server.down_until_sec = 60
    a = fleet.join("a")
    fleet.run(2)
    assert isinstance(a.error, DatabaseUnavailable)


# --- going -----------------------------------------------------------------------------------


def test_a_leaving_node_keeps_its_tokens_until_its_successors_are_named(fleet: Fleet) -> None:
    _a, b = fleet.join_all("a b")
    fleet.leave(b)
    assert fleet.comes_to_be(lambda: not b.held(), within_sec=2)
    assert fleet.plan().targets == {"a": ALL | RIGHT_TO_LEAD}


def test_tokens_of_a_leaving_node_have_a_new_owner_within_a_tenth_of_a_second(fleet: Fleet) -> None:
    a, b = fleet.join_all("a b")
    fleet.leave(b)
    assert fleet.comes_to_be(lambda: a.held() == ALL, within_sec=0.1)
    assert fleet.comes_to_be(lambda: not b.alive, within_sec=0.1)
    assert b.error is None
    assert fleet.state_of("b") == "gone"


def test_a_leaving_node_does_not_wait_for_successors_longer_than_a_second(fleet: Fleet) -> None:
    a, b = fleet.join_all("a b")
    a.process.pause()
    fleet.leave(b)
    assert fleet.comes_to_be(lambda: not b.alive, within_sec=1.2)


def test_the_last_node_leaves_at_once(fleet: Fleet) -> None:
    (a,) = fleet.join_all("a")
    fleet.leave(a)
    assert fleet.comes_to_be(lambda: not a.alive, within_sec=0.1)
    assert fleet.state_of("a") == "gone"


def test_no_callback_is_called_at_exit(fleet: Fleet) -> None:
    _a, b = fleet.join_all("a b")
    before = b.changes
    fleet.leave(b)
    fleet.run(1)
    assert b.changes == before


def test_a_node_leaves_without_the_database_after_two_seconds(fleet: Fleet) -> None:
    _a, b = fleet.join_all("a b")
    fleet.cut_off(b, 60)
    fleet.leave(b)
    assert not fleet.comes_to_be(lambda: not b.alive, within_sec=1.9)
    assert fleet.comes_to_be(lambda: not b.alive, within_sec=1.0)


# --- names and settings ----------------------------------------------------------------------


def test_a_twin_of_a_live_node_is_refused(fleet: Fleet) -> None:
    _a, b = fleet.join_all("a b")
    twin = fleet.join("b")
    fleet.run(2)
    assert isinstance(twin.error, NodeNameInUse)
    assert len(b.held()) == HALF


def test_a_name_whose_holder_is_absent_is_taken_over_within_a_second(fleet: Fleet) -> None:
    (a,) = fleet.join_all("a")
    fleet.kill(a)
    fleet.run(0.01)
    again = fleet.join("a")
    assert fleet.comes_to_be(lambda: again.held() == ALL, within_sec=1.0)


def test_a_name_whose_holder_is_silent_is_taken_over_after_its_row_lease(fleet: Fleet) -> None:
    (a,) = fleet.join_all("a")
    fleet.kill(a, session_lingers_sec=1000)
    again = fleet.join("a")
    assert not fleet.comes_to_be(lambda: bool(again.held()), within_sec=2.8)
    assert fleet.comes_to_be(lambda: again.held() == ALL, within_sec=0.4)


def test_other_total_tokens_than_those_of_a_live_fleet_are_refused(fleet: Fleet) -> None:
    fleet.join_all("a")
    b = fleet.join("b", total_tokens=25)
    fleet.run(2)
    assert isinstance(b.error, ConfigMismatch)
    assert "total_tokens=24" in str(b.error)


def test_other_total_tokens_are_taken_once_the_old_fleet_is_dead(fleet: Fleet) -> None:
    (a,) = fleet.join_all("a")
    fleet.kill(a, session_lingers_sec=1000)
    b = fleet.join("b", total_tokens=25)
    assert fleet.comes_to_be(lambda: len(b.held()) == 25, within_sec=4)


# --- the right to lead -----------------------------------------------------------------------


def who_leads(*nodes: Node) -> list[bool]:
    return [LEADERSHIP in node.believed() for node in nodes]


def test_the_oldest_leads_and_then_the_next(fleet: Fleet) -> None:
    nodes = fleet.join_all("a b c")
    assert who_leads(*nodes) == [True, False, False]
    fleet.leave(nodes[0])
    fleet.settle()
    assert who_leads(*nodes) == [False, True, False]
    fleet.kill(nodes[1])
    fleet.settle()
    assert who_leads(*nodes) == [False, False, True]


def test_the_elder_who_comes_back_is_the_youngest(fleet: Fleet) -> None:
    a, b = fleet.join_all("a b")
    a.process.pause()
    assert fleet.comes_to_be(lambda: LEADERSHIP in b.believed(), within_sec=10)
    a.process.resume()
    fleet.settle()
    assert who_leads(a, b) == [False, True]


# --- death -----------------------------------------------------------------------------------


def test_a_crashed_nodes_tokens_are_held_by_others_within_a_second(fleet: Fleet) -> None:
    a, b = fleet.join_all("a b")
    fleet.kill(b)
    assert not fleet.comes_to_be(lambda: a.held() == ALL, within_sec=0.75)
    assert fleet.comes_to_be(lambda: a.held() == ALL, within_sec=0.3)


def test_only_the_two_oldest_watch(fleet: Fleet) -> None:
    nodes = fleet.join_all("a b c d")
    before = {node.name: len(node.asked) for node in nodes}
    fleet.run(5)
    watching = [n.name for n in nodes if any(isinstance(q, m.Watch) for q in n.asked[before[n.name] :])]
    assert watching == ["a", "b"]


def test_when_leader_and_deputy_die_the_third_takes_duty_at_its_next_beat(fleet: Fleet) -> None:
    a, b, c = fleet.join_all("a b c")
    fleet.kill(a)
    fleet.kill(b)
    assert fleet.comes_to_be(lambda: c.held() == ALL, within_sec=0.9 + 0.9)


def test_a_lone_node_watches_nobody(fleet: Fleet) -> None:
    (a,) = fleet.join_all("a")
    fleet.run(1)
    before = len(a.asked)
    fleet.run(3)
    assert not any(isinstance(question, m.Watch) for question in a.asked[before:])


def test_behind_a_pooler_death_is_noticed_by_the_row_lease(pooled: Fleet) -> None:
    a, b = pooled.join_all("a b")
    pooled.kill(b)
    assert not pooled.comes_to_be(lambda: a.held() == ALL, within_sec=1.9)
    assert pooled.comes_to_be(lambda: a.held() == ALL, within_sec=2.5)


def test_behind_a_pooler_each_node_polls_every_second_and_never_pings(pooled: Fleet) -> None:
    (a,) = pooled.join_all("a", heartbeat_interval_sec=5, heartbeat_timeout_sec=15)
    before = len(a.asked)
    pooled.run(30)
    asked = a.asked[before:]
    assert not any(isinstance(question, m.Ping) for question in asked)
    assert 28 <= sum(isinstance(question, m.Beat) for question in asked) <= 32


def test_behind_a_pooler_a_node_warns_that_death_is_noticed_late(pooled: Fleet) -> None:
    (a,) = pooled.join_all("a")
    assert m.FactKind.SESSION_LEASE_OFF in a.kinds


# --- pauses ----------------------------------------------------------------------------------


def test_a_paused_node_answers_no_before_its_tokens_are_given_to_others(fleet: Fleet) -> None:
    a, b = fleet.join_all("a b")
    b.process.pause()
    assert fleet.comes_to_be(lambda: a.held() == ALL, within_sec=5)
    assert not b.held()


def test_a_node_that_was_paused_past_its_lease_drops_its_belief_and_comes_back(fleet: Fleet) -> None:
    a, b = fleet.join_all("a b")
    b.process.pause()
    fleet.run(6)
    assert a.held() == ALL
    b.process.resume()
    fleet.settle()
    assert len(b.held()) == HALF
    assert m.FactKind.FENCED_BY_OTHERS in b.kinds


def test_a_pause_shorter_than_the_row_lease_moves_nothing(fleet: Fleet) -> None:
    _a, b = fleet.join_all("a b")
    grants = fleet.grants()
    b.process.pause()
    fleet.run(2.0)
    assert not b.held()
    b.process.resume()
    fleet.run(0.1)
    assert len(b.held()) == HALF
    assert fleet.grants() == grants


@pytest.mark.parametrize("jump_sec", [-3600.0, 3600.0])
def test_a_wall_clock_that_jumps_costs_at_most_a_round_trip(fleet: Fleet, jump_sec: float) -> None:
    (a,) = fleet.join_all("a")
    a.process.clock.set_wall(jump_sec)
    fleet.run(1.0)
    assert a.held() == ALL
    assert m.FactKind.LEASE_RAN_OUT not in a.kinds


# --- sessions --------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["client", "server", "both"])
def test_a_broken_session_moves_nothing(fleet: Fleet, side: str) -> None:
    _a, b = fleet.join_all("a b")
    grants = fleet.grants()
    if side != "client":
        fleet.network.reset_server_side(b.process)
    if side != "server":
        fleet.network.break_client(b.process)
    fleet.run(3)
    assert fleet.grants() == grants
    assert len(b.held()) == HALF


def test_a_rebind_that_is_carried_out_late_does_not_take_the_row_from_the_session_in_use(fleet: Fleet) -> None:
    (a,), (b,) = fleet.join_all("a"), fleet.join_all("b", **QUIET_BEATS)
    assert fleet.comes_to_be(lambda: isinstance(b.asked[-1], m.Beat), within_sec=9)
    fleet.network.break_client(b.process)
    fleet.network.slow_sec = 0.3
    assert fleet.comes_to_be(lambda: isinstance(b.process.asked, m.Rebind), within_sec=1)
    fleet.network.slow_sec = 0.0
    fleet.network.break_client(b.process)
    fleet.run(8)
    fleet.settle()
    assert len(a.held()) == len(b.held()) == HALF
    assert sum(isinstance(question, m.Rebind) for question in b.asked) == 2


def test_a_server_that_restarts_moves_nothing(fleet: Fleet) -> None:
    nodes = fleet.join_all("a b c")
    grants = fleet.grants()
    fleet.server.restart(down_sec=0.0, crash=False)
    fleet.network.break_all()
    fleet.run(3)
    assert fleet.grants() == grants
    assert [len(node.held()) for node in nodes] == [THIRD] * 3


def test_after_a_fail_over_nothing_is_granted_for_a_whole_lease(fleet: Fleet) -> None:
    a, _b = fleet.join_all("a b")
    fleet.fail_over()
    fleet.run(0.1)
    c, since_sec = fleet.join("c"), fleet.agenda.now_sec
    assert not fleet.comes_to_be(lambda: bool(c.held()), within_sec=2.7)
    fleet.settle()
    assert fleet.agenda.now_sec - since_sec < 4
    assert len(a.held()) == THIRD


def test_after_a_fail_over_what_is_believed_and_granted_stays_believed(fleet: Fleet) -> None:
    a, b = fleet.join_all("a b")
    fleet.fail_over()
    fleet.run(0.3)
    assert [len(a.held()), len(b.held())] == [HALF, HALF]


# --- tokens on their way ---------------------------------------------------------------------


def test_a_hand_over_that_takes_too_long_is_finished_without_the_application(fleet: Fleet) -> None:
    (a,) = fleet.join_all("a")
    fleet.bodies_take_sec = 1000
    b = fleet.join("b")
    assert not fleet.comes_to_be(lambda: bool(b.held()), within_sec=0.45)
    assert fleet.comes_to_be(lambda: len(b.held()) == HALF, within_sec=0.3)
    assert m.FactKind.HANDOVER_OVERDUE in a.kinds


def test_a_drain_that_has_begun_completes_even_if_the_target_returns(fleet: Fleet) -> None:
    (a,) = fleet.join_all("a")
    (first_epoch,) = fleet.grants()
    fleet.bodies_take_sec = 0.3
    b = fleet.join("b")
    assert fleet.comes_to_be(lambda: len(a.held()) == HALF, within_sec=1)
    fleet.leave(b)
    fleet.run(1.5)
    assert a.held() == ALL
    assert min(fleet.grants()) == first_epoch
    assert len(fleet.grants()) == 2


def test_pinned_tokens_move_to_the_node_that_they_are_pinned_to(fleet: Fleet) -> None:
    a, b = fleet.join_all("a b")
    first = a.held().first
    assert first is not None
    fleet.pin(first, "b")
    fleet.settle()
    assert first in b.held()


def test_locks_that_are_disabled_are_ignored(fleet: Fleet) -> None:
    a, _b = fleet.join_all("a b", locks_enabled=False)
    first = a.held().first
    assert first is not None
    fleet.pin(first, "b")
    fleet.run(3)
    assert first in a.held()


# --- no busy loop ----------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["settled", "alone", "cut off", "waiting for a name", "quarantined", "leaving"])
def test_few_steps_are_taken_in_any_lasting_state(fleet: Fleet, state: str) -> None:
    a, b = fleet.join_all("a b")
    watched = b
    if state == "alone":
        fleet.leave(b)
        watched = a
    elif state == "cut off":
        fleet.cut_off(b, 60)
    elif state == "waiting for a name":
        fleet.kill(b, session_lingers_sec=1000)
        watched = fleet.join("b")
    elif state == "quarantined":
        fleet.fail_over()
    elif state == "leaving":
        a.process.pause()
        fleet.bodies_take_sec = 1000
        fleet.leave(b)
    fleet.run(0.2)
    before = watched.member.steps
    fleet.run(2)
    assert watched.member.steps - before <= 2 * 45
