"""Entering the fleet under a name, and continuing there on another session."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from jobsync.core import messages as m
from jobsync.core.hashing import HASH_FUNCTIONS
from jobsync.core.tokens import TokenSet
from jobsync.postgres.session import is_session_over
from tests.postgres.support import Fleet, Member, at_once, tokens, wait_until


def test_the_first_node_of_a_fleet_is_registered(fleet: Fleet) -> None:
    assert fleet.register("a").outcome == "registered"


def test_the_first_node_fixes_what_the_cluster_agrees_on(fleet: Fleet) -> None:
    fleet.join("a", total_tokens=77, hash_function="md5")
    assert fleet.sql("select total_tokens, hash_function from sync_meta") == [(77, "md5")]


def test_the_row_says_which_session_was_bound(fleet: Fleet) -> None:
    node = fleet.join("a")
    bound = "select backend_pid from sync_node where name = 'a' and postmaster_start = pg_postmaster_start_time()"
    assert fleet.value(bound) == node.conn.info.backend_pid


def test_the_row_says_where_the_node_runs(fleet: Fleet) -> None:
    fleet.join("a")
    assert fleet.sql("select host, pid, environment from sync_node") == [("here", 1, None)]


def test_a_name_that_is_held_is_not_given_again(fleet: Fleet) -> None:
    fleet.join("a")
    assert fleet.register("a").outcome == "held"


def test_who_asks_for_a_held_name_changes_nothing(fleet: Fleet) -> None:
    fleet.join("a")
    before = fleet.sql("select * from sync_node")
    fleet.register("a", heartbeat_timeout_ms=99_000)
    assert fleet.sql("select * from sync_node") == before


def test_the_name_of_a_node_that_is_leaving_is_still_held(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.ask(m.BeginLeave(node.who), node.conn)
    assert fleet.register("a").outcome == "held"


def test_the_name_of_a_node_that_left_is_free(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.ask(m.Leave(node.who), node.conn)
    assert fleet.register("a").outcome == "registered"


def test_a_fenced_name_is_taken_over_by_a_new_incarnation(fleet: Fleet) -> None:
    old = fleet.join("a")
    fleet.fence(old, "A")
    new = fleet.join("a")
    assert new.who.incarnation > old.who.incarnation
    assert new.who.bind > old.who.bind


def test_a_name_that_is_taken_over_is_young_again(fleet: Fleet) -> None:
    old = fleet.join("a")
    other = fleet.join("b")
    fleet.fence(old, "A")
    fleet.join("a")
    assert [row[0] for row in fleet.sql("select name from sync_node order by created_on")] == [other.name, "a"]


def test_what_was_asked_of_the_dead_does_not_haunt_its_successor(fleet: Fleet) -> None:
    fleet.fence(fleet.join("a"), "A")
    fleet.sql("update sync_node set delete_requested = true, applied_version = 9")
    fleet.join("a")
    assert fleet.sql("select delete_requested, applied_version, state from sync_node") == [(False, 0, "live")]


def test_registering_tells_the_leader(fleet: Fleet) -> None:
    fleet.sql("listen sync_plan")
    fleet.join("a")
    notified = next(fleet.conn.notifies(timeout=10, stop_after=1))
    assert notified.channel == fleet.spelt("sync_plan")


# --- what the whole cluster must agree on ----------------------------------------------------------


@pytest.mark.parametrize("other", [{"total_tokens": 101}, {"hash_function": "md5"}])
def test_other_settings_than_those_of_the_living_are_a_mismatch(fleet: Fleet, other: dict[str, Any]) -> None:
    fleet.join("a")
    answer = fleet.register("b", **other)
    assert (answer.outcome, answer.total_tokens, answer.hash_function) == ("mismatch", 100, "double_sha256")


def test_a_mismatch_leaves_no_row(fleet: Fleet) -> None:
    fleet.join("a")
    fleet.register("b", total_tokens=101)
    assert fleet.state("b") is None


def test_with_nobody_alive_new_settings_are_taken(fleet: Fleet) -> None:
    fleet.fence(fleet.join("a"), "A")
    fleet.join("b", total_tokens=101, hash_function="md5")
    assert fleet.sql("select total_tokens, hash_function from sync_meta") == [(101, "md5")]


def test_new_settings_forget_the_targets_of_the_old(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.hold(node, "0-99")
    fleet.fence(node, "A")
    fleet.join("a", total_tokens=10)
    assert fleet.sql("select 1 from sync_target") == []


def test_new_settings_compute_the_tokens_of_the_locks_anew(fleet: Fleet) -> None:
    fleet.lock("täsk", 5)
    fleet.join("a", total_tokens=997, hash_function="md5")
    assert fleet.value("select token_id from sync_lock") == HASH_FUNCTIONS["md5"]("täsk", 997)


def test_a_node_on_its_way_out_still_holds_its_settings(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.ask(m.BeginLeave(node.who), node.conn)
    assert fleet.register("b", total_tokens=101).outcome == "mismatch"


def test_of_two_first_nodes_with_different_settings_the_later_is_told(fleet: Fleet) -> None:
    early, late = fleet.connect(), fleet.connect()
    with ThreadPoolExecutor(1) as pool:
        with early.transaction():
            fleet.join("a", early, total_tokens=50)
            answer = pool.submit(fleet.register, "b", late, total_tokens=60)
            wait_until(lambda: fleet.waits_for_lock(late))
        assert answer.result().outcome == "mismatch"


def test_a_fleet_that_starts_all_at_once_is_let_in_without_a_conflict(fleet: Fleet) -> None:
    sessions = [fleet.connect() for _ in range(8)]
    answers = at_once(8, lambda number: fleet.register(f"node-{number}", sessions[number]))
    assert {answer.outcome for answer in answers} == {"registered"}


@pytest.mark.parametrize("number_of_tokens", [100, 60])
def test_two_first_nodes_that_look_at_the_same_instant_do_not_deadlock(fleet: Fleet, number_of_tokens: int) -> None:
    # A reader's lock on the row that both must change holds them up until both have looked at it.
    reader, one, two = fleet.connect(), fleet.connect(), fleet.connect()
    with ThreadPoolExecutor(2) as pool:
        with reader.transaction():
            fleet.sql("select from sync_meta for key share", conn=reader)
            first = pool.submit(fleet.register, "a", one)
            wait_until(lambda: fleet.waits_for_lock(one))
            second = pool.submit(fleet.register, "b", two, total_tokens=number_of_tokens)
            wait_until(lambda: fleet.waits_for_lock(two))
        expected = ["registered", "registered" if number_of_tokens == 100 else "mismatch"]
        assert [first.result().outcome, second.result().outcome] == expected


# --- another session -------------------------------------------------------------------------------


def test_rebinding_keeps_the_incarnation_and_gives_a_new_bind(fleet: Fleet) -> None:
    node = fleet.join("a")
    again = fleet.rebind(node)
    assert again.who.incarnation == node.who.incarnation
    assert again.who.bind > node.who.bind


def test_rebinding_binds_the_session_that_asks(fleet: Fleet) -> None:
    again = fleet.rebind(fleet.join("a"))
    assert fleet.value("select backend_pid from sync_node") == again.conn.info.backend_pid


def test_rebinding_is_a_sign_of_life(fleet: Fleet) -> None:
    node = fleet.join("a")
    before = fleet.beats("a")
    fleet.rebind(node)
    assert fleet.beats("a") > before


def test_a_fenced_incarnation_cannot_rebind(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.fence(node, "A")
    assert fleet.ask(fleet.rebinding(node.who, 1)) == m.NotCurrent()


def test_a_rebind_that_is_carried_out_late_does_not_take_the_row_back(fleet: Fleet) -> None:
    node = fleet.join("a")
    current = fleet.ask(fleet.rebinding(node.who, 2))
    assert fleet.ask(fleet.rebinding(node.who, 1)) == m.NotCurrent()
    assert fleet.sql("select bind from sync_node")[0][0] == current.bind


# --- another server --------------------------------------------------------------------------------


def test_the_first_server_is_no_fail_over(fleet: Fleet) -> None:
    assert fleet.register("a").quarantined is False


@pytest.mark.parametrize("changed", ["system_id", "timeline"])
def test_another_server_or_timeline_begins_a_quarantine(fleet: Fleet, changed: str) -> None:
    before = fleet.register("a")
    fleet.fail_over(changed)
    after = fleet.register("b")
    assert after.quarantined
    assert after.generation != before.generation


def test_numbers_given_out_in_lost_commits_are_not_given_again(fleet: Fleet) -> None:
    """Neither an epoch nor the number of a job, which its user may have kept."""
    fleet.register("a")
    before = fleet.sql("select nextval('sync_epoch'), nextval('sync_job_number')")[0]
    fleet.fail_over()
    fleet.register("b")
    after = fleet.sql("select nextval('sync_epoch'), nextval('sync_job_number')")[0]
    assert all(new - old >= 1_000_000 for old, new in zip(before, after, strict=True))


def test_a_rebind_on_another_timeline_begins_a_quarantine(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.fail_over()
    assert fleet.ask(fleet.rebinding(node.who, 1)).quarantined


def test_a_session_bound_on_another_server_has_a_number_that_no_lost_commit_gave_out(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.fail_over()
    assert fleet.rebind(node).who.bind > node.who.bind + 1_000_000


def test_the_quarantine_is_one_for_all_who_see_the_new_server(fleet: Fleet) -> None:
    fleet.join("a")
    fleet.fail_over()
    generations = {fleet.register(name).generation for name in ("b", "c", "d")}
    assert len(generations) == 1


def test_a_quarantine_is_lifted_for_its_own_generation(fleet: Fleet) -> None:
    fleet.join("a")
    fleet.fail_over()
    generation = fleet.register("b").generation
    assert generation is not None
    fleet.ask(m.LiftQuarantine(generation))
    assert fleet.value("select quarantined from sync_meta") is False


def test_a_quarantine_is_not_lifted_for_an_older_generation(fleet: Fleet) -> None:
    fleet.join("a")
    fleet.fail_over()
    generation = fleet.register("b").generation
    assert generation is not None
    fleet.ask(m.LiftQuarantine(generation - 1))
    assert fleet.value("select quarantined from sync_meta") is True


def test_lifting_the_quarantine_wakes_those_who_wait_for_tokens(fleet: Fleet) -> None:
    fleet.join("a")
    fleet.fail_over()
    generation = fleet.register("b").generation
    assert generation is not None
    fleet.sql("listen sync_plan")
    fleet.ask(m.LiftQuarantine(generation))
    assert wait_until(lambda: list(fleet.conn.notifies(timeout=0.1, stop_after=1)))


# --- another server under a session that stands -------------------------------------------------------

Ask = Callable[[Member, m.Server], m.Question]
MEANT: dict[str, Ask] = {
    "beat": lambda node, server: m.Beat(node.who, 0, -1, check=False, server=server),
    "grow": lambda node, server: m.Grow(node.who, server),
    "read": lambda node, server: m.ReadGrants(node.name, node.who.incarnation, server),
    "rebind": lambda node, server: m.Rebind(
        node.name, node.who.incarnation, 9, None, server.system_id, server.timeline
    ),
}


@pytest.mark.parametrize("meant", MEANT)
@pytest.mark.parametrize("changed", ["system_id", "timeline"])
def test_what_a_pooler_carries_to_another_server_is_not_done_there(fleet: Fleet, meant: str, changed: str) -> None:
    node = fleet.join("a")
    fleet.want(a="0-9")
    before = fleet.sql("select bind, beats from sync_node")
    with pytest.raises(psycopg.Error, match="another than when the session began") as refused:
        fleet.ask(MEANT[meant](node, replace(fleet.server, **{changed: "another"})))
    assert is_session_over(refused.value), "the node connects anew"
    assert fleet.sql("select bind, beats from sync_node") == before
    assert fleet.held("a") == TokenSet()


@pytest.mark.parametrize("meant", MEANT)
def test_what_is_meant_for_this_server_is_done(fleet: Fleet, meant: str) -> None:
    node = fleet.join("a")
    fleet.want(a="0-9")
    beats = fleet.beats("a")
    answer = fleet.ask(MEANT[meant](node, fleet.server))
    match meant:
        case "grow":
            assert fleet.held("a") == tokens("0-9")
        case "read":
            assert answer == m.HeldGrants(())
        case _:
            assert fleet.beats("a") == beats + 1
