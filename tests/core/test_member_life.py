"""A fleet in a calm world: starting, joining, leaving, dying, and who takes over when."""

from typing import Any

import pytest

from jobsync.core import messages as m
from jobsync.core.errors import ConfigMismatch, DatabaseUnavailable, NodeNameInUse
from jobsync.core.pool import RIGHT_TO_LEAD
from jobsync.core.tokens import TokenSet
from tests.core.world import Process, World

ALL = TokenSet.span(0, 24)


def fleet(*names: str, direct: bool = True, **changes: Any) -> tuple[World, list[Process]]:
    """Start nodes one after the other and let them settle."""
    world = World()
    world.direct = direct
    processes = []
    for name in names:
        processes.append(world.start(name, **changes))
        world.run(0.05)
        world.settle()
    return world, processes


def questions(world: World, name: str, since: float) -> list[m.Question]:
    """List what a node asked since an instant."""
    return [question for t, who, question in world.asked if who == name and t > since]


# --- coming ----------------------------------------------------------------------------------


def test_the_first_node_leads_and_takes_everything_within_a_tenth_of_a_second() -> None:
    world = World()
    a = world.start("a")
    world.run(0.1)
    assert a.held_now() == ALL
    assert a.standing.leader == "a"


def test_a_node_that_joins_gets_its_half_and_nobody_loses_more() -> None:
    world, (a,) = fleet("a")
    b = world.start("b")
    world.run(0.05)
    world.settle()
    assert len(a.held_now()) == len(b.held_now()) == 12
    assert sum(len(change.removed) for change in a.changes) == 12


def test_ten_nodes_that_start_at_once_come_to_rest() -> None:
    world = World()
    nodes = [world.start(f"n{number}") for number in range(10)]
    world.run(0.2)
    world.settle()
    assert sorted(len(node.held_now()) for node in nodes) == [2] * 6 + [3] * 4


def test_a_node_that_cannot_reach_the_database_at_first_says_so_and_ends() -> None:
    world = World()
    a = world.start("a", cut_until=60)
    world.run(2)
    assert isinstance(a.error, DatabaseUnavailable)


# --- going -----------------------------------------------------------------------------------


def test_a_leaving_node_keeps_its_tokens_until_its_successors_are_named() -> None:
    world, (_a, b) = fleet("a", "b")
    world.leave(b)
    world.run_until(lambda: not b.held_now(), within_sec=2)
    assert world.db.state.targets == {"a": ALL | RIGHT_TO_LEAD}


def test_tokens_of_a_leaving_node_have_a_new_owner_within_a_tenth_of_a_second() -> None:
    world, (a, b) = fleet("a", "b")
    world.leave(b)
    assert world.run_until(lambda: a.held_now() == ALL, within_sec=0.1)
    assert (b.alive, b.error) == (False, None)
    assert set(world.db.state.nodes) == {"a"}


def test_a_leaving_node_does_not_wait_for_successors_longer_than_a_second() -> None:
    world, (a, b) = fleet("a", "b")
    a.pause()
    world.leave(b)
    assert world.run_until(lambda: not b.alive, within_sec=1.2)


def test_the_last_node_leaves_at_once() -> None:
    world, (a,) = fleet("a")
    world.leave(a)
    assert world.run_until(lambda: not a.alive, within_sec=0.1)
    assert world.db.state.nodes == {}


def test_no_callback_is_called_at_exit() -> None:
    world, (_a, b) = fleet("a", "b")
    before = list(b.changes)
    world.leave(b)
    world.run(1)
    assert b.changes == before


def test_a_node_leaves_without_the_database_after_two_seconds() -> None:
    world, (_a, b) = fleet("a", "b")
    b.cut_until = world.t + 60
    world.leave(b)
    assert not world.run_until(lambda: not b.alive, within_sec=1.9)
    assert world.run_until(lambda: not b.alive, within_sec=1.0)


# --- names and settings ----------------------------------------------------------------------


def test_a_twin_of_a_live_node_is_refused() -> None:
    world, (_a, b) = fleet("a", "b")
    twin = world.start("b")
    world.run(2)
    assert isinstance(twin.error, NodeNameInUse)
    assert len(b.held_now()) == 12


def test_a_name_whose_holder_is_absent_is_taken_over_within_a_second() -> None:
    world, (a,) = fleet("a")
    world.end(a)
    world.run(0.01)
    again = world.start("a")
    assert world.run_until(lambda: again.held_now() == ALL, within_sec=1.0)


def test_a_name_whose_holder_is_silent_is_taken_over_after_its_row_lease() -> None:
    world, (a,) = fleet("a")
    world.end(a, session_lingers_sec=1000)
    again = world.start("a")
    assert not world.run_until(lambda: bool(again.held_now()), within_sec=2.8)
    assert world.run_until(lambda: again.held_now() == ALL, within_sec=0.4)


def test_other_total_tokens_than_those_of_a_live_fleet_are_refused() -> None:
    world, (_a,) = fleet("a")
    b = world.start("b", total_tokens=25)
    world.run(2)
    assert isinstance(b.error, ConfigMismatch)
    assert "total_tokens=24" in str(b.error)


def test_other_total_tokens_are_taken_once_the_old_fleet_is_dead() -> None:
    world, (a,) = fleet("a")
    world.end(a, session_lingers_sec=1000)
    b = world.start("b", total_tokens=25)
    assert world.run_until(lambda: len(b.held_now()) == 25, within_sec=4)


# --- death -----------------------------------------------------------------------------------


def test_a_crashed_nodes_tokens_are_held_by_others_within_a_second() -> None:
    world, (a, b) = fleet("a", "b")
    world.end(b)
    assert not world.run_until(lambda: a.held_now() == ALL, within_sec=0.75)
    assert world.run_until(lambda: a.held_now() == ALL, within_sec=0.3)


def test_only_the_two_oldest_watch() -> None:
    world, nodes = fleet("a", "b", "c", "d")
    since = world.t
    world.run(5)
    watching = [p.name for p in nodes if any(isinstance(q, m.Watch) for q in questions(world, p.name, since))]
    assert watching == ["a", "b"]


def test_when_leader_and_deputy_die_the_third_takes_duty_at_its_next_beat() -> None:
    world, (a, b, c) = fleet("a", "b", "c")
    world.end(a)
    world.end(b)
    assert world.run_until(lambda: c.held_now() == ALL, within_sec=0.9 + 0.9)


def test_a_lone_node_watches_nobody() -> None:
    world, (_a,) = fleet("a")
    world.run(1)
    since = world.t
    world.run(3)
    assert not any(isinstance(q, m.Watch) for q in questions(world, "a", since))


def test_behind_a_pooler_death_is_noticed_by_the_row_lease() -> None:
    world, (a, b) = fleet("a", "b", direct=False)
    world.end(b)
    assert not world.run_until(lambda: a.held_now() == ALL, within_sec=1.9)
    assert world.run_until(lambda: a.held_now() == ALL, within_sec=2.5)


def test_behind_a_pooler_each_node_polls_every_second_and_never_pings() -> None:
    world, (_a,) = fleet("a", direct=False, heartbeat_interval_sec=5, heartbeat_timeout_sec=15)
    since = world.t
    world.run(30)
    asked = questions(world, "a", since)
    assert not any(isinstance(q, m.Ping) for q in asked)
    assert 28 <= sum(isinstance(q, m.Beat) for q in asked) <= 32


def test_behind_a_pooler_a_node_warns_that_death_is_noticed_late() -> None:
    _world, (a,) = fleet("a", direct=False)
    assert m.FactKind.SESSION_LEASE_OFF in a.kinds()


# --- pauses ----------------------------------------------------------------------------------


def test_a_paused_node_answers_no_before_its_tokens_are_given_to_others() -> None:
    world, (a, b) = fleet("a", "b")
    b.pause()
    world.run_until(lambda: a.held_now() == ALL, within_sec=5)
    assert not b.held_now()


def test_a_node_that_was_paused_past_its_lease_drops_its_belief_and_comes_back() -> None:
    world, (a, b) = fleet("a", "b")
    b.pause()
    world.run(6)
    assert a.held_now() == ALL
    b.resume()
    world.run(0.1)
    world.settle()
    assert len(b.held_now()) == 12
    assert m.FactKind.FENCED_BY_OTHERS in b.kinds()


def test_a_pause_shorter_than_the_row_lease_moves_nothing() -> None:
    world, (_a, b) = fleet("a", "b")
    epochs = dict(world.db.state.grants)
    b.pause()
    world.run(2.0)
    assert not b.held_now()
    b.resume()
    world.run(0.1)
    assert len(b.held_now()) == 12
    assert world.db.state.grants == epochs


@pytest.mark.parametrize("jump_sec", [-3600.0, 3600.0])
def test_a_wall_clock_that_jumps_costs_at_most_a_round_trip(jump_sec: float) -> None:
    world, (a,) = fleet("a")
    a.wall_offset_sec += jump_sec
    world.run(1.0)
    assert a.held_now() == ALL
    assert m.FactKind.LEASE_RAN_OUT not in a.kinds()


# --- sessions --------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["client", "server", "both"])
def test_a_broken_session_moves_nothing(side: str) -> None:
    world, (_a, b) = fleet("a", "b")
    grants = dict(world.db.state.grants)
    if side != "client":
        world.break_server(b)
    if side != "server":
        world.break_client(b)
    world.run(3)
    assert world.db.state.grants == grants
    assert len(b.held_now()) == 12


def test_a_server_that_restarts_moves_nothing() -> None:
    world, (a, b, c) = fleet("a", "b", "c")
    grants = dict(world.db.state.grants)
    world.restart_server()
    world.run(3)
    assert world.db.state.grants == grants
    assert [len(p.held_now()) for p in (a, b, c)] == [8, 8, 8]


def test_after_a_fail_over_nothing_is_granted_for_a_whole_lease() -> None:
    world, (a, _b) = fleet("a", "b")
    standby = world.snapshot()
    world.fail_over(standby)
    world.run(0.1)
    c, since = world.start("c"), world.t
    assert not world.run_until(lambda: bool(c.held_now()), within_sec=2.8)
    world.settle()
    assert world.t - since < 4
    assert len(a.held_now()) == 8


def test_after_a_fail_over_what_is_believed_and_granted_stays_believed() -> None:
    world, (a, b) = fleet("a", "b")
    world.fail_over(world.snapshot())
    world.run(0.3)
    assert [len(a.held_now()), len(b.held_now())] == [12, 12]


# --- tokens on their way ---------------------------------------------------------------------


def test_a_hand_over_that_takes_too_long_is_finished_without_the_application() -> None:
    world, (a,) = fleet("a")
    a.holds_on_sec = 1000
    b = world.start("b")
    assert not world.run_until(lambda: bool(b.held_now()), within_sec=0.45)
    assert world.run_until(lambda: len(b.held_now()) == 12, within_sec=0.3)
    assert m.FactKind.HANDOVER_OVERDUE in a.kinds()


def test_a_drain_that_has_begun_completes_even_if_the_target_returns() -> None:
    world, (a,) = fleet("a")
    (first_epoch,) = world.db.state.grants
    a.holds_on_sec = 0.3
    b = world.start("b")
    world.run_until(lambda: len(a.held_now()) == 12, within_sec=1)
    world.leave(b)
    world.run(1.5)
    assert a.held_now() == ALL
    assert sorted(world.db.state.grants) > [first_epoch]
    assert len(world.db.state.grants) == 2


def test_pinned_tokens_move_to_the_node_that_they_are_pinned_to() -> None:
    world, (a, b) = fleet("a", "b")
    (moved,) = [token for token in a.held_now() if token == a.held_now().first]
    world.db.pin(moved, "task", "b")
    world.db.hints.append(m.Channel.PLAN)
    world.run(1.5)
    world.settle()
    assert moved in b.held_now()


def test_locks_that_are_disabled_are_ignored() -> None:
    world, (a, _b) = fleet("a", "b", locks_enabled=False)
    first = a.held_now().first
    assert first is not None
    world.db.pin(first, "task", "b")
    world.run(1.5)
    world.settle()
    assert first in a.held_now()


# --- no busy loop ----------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["settled", "alone", "cut off", "waiting for a name", "quarantined", "leaving"])
def test_few_steps_are_taken_in_any_lasting_state(state: str) -> None:
    world, (a, b) = fleet("a", "b")
    watched = b
    if state == "alone":
        world.leave(b)
        watched = a
    elif state == "cut off":
        b.cut_until = world.t + 60
    elif state == "waiting for a name":
        world.end(b, session_lingers_sec=1000)
        watched = world.start("b")
    elif state == "quarantined":
        world.fail_over(world.snapshot())
    elif state == "leaving":
        a.pause()
        b.holds_on_sec = 1000
        world.leave(b)
    world.run(0.2)
    steps, member = 0, watched.member

    class Counting:
        def step(self, event: m.Event) -> list[m.Effect]:
            nonlocal steps
            steps += 1
            return member.step(event)

    watched.member = Counting()
    world.run(2)
    assert steps <= 2 * 45
