"""Taking tokens from the dead: each condition of rules A and B, under the lock, and never a wait."""

from collections.abc import Callable, Iterator
from time import perf_counter

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import LockNotAvailable

from jobsync.core import messages as m
from jobsync.core.tokens import TokenSet
from tests.postgres.support import Fleet, Member, tokens

ACTIVE = "select count(*) from sync_node where last_heartbeat > now() - interval '15 seconds'"
LEADER = "select name from sync_node where last_heartbeat > now() - interval '15 seconds' order by created_on limit 1"

# --- rule A: the same number of beats for a whole lease ---------------------------------------------


def test_a_node_whose_beats_stand_still_is_fenced(fleet: Fleet) -> None:
    node = fleet.join("a")
    assert fleet.fence(node, "A")
    assert fleet.state("a") == "fenced"


def test_a_node_that_beat_in_between_is_not_fenced(fleet: Fleet) -> None:
    node = fleet.join("a")
    seen = fleet.beats("a")
    fleet.beat(node)
    assert not fleet.fence(node, "A", seen)
    assert fleet.state("a") == "live"


def test_a_node_that_rebound_in_between_is_not_fenced(fleet: Fleet) -> None:
    node = fleet.join("a")
    seen = fleet.beats("a")
    fleet.rebind(node)
    assert not fleet.fence(node, "A", seen)


def test_a_node_that_began_to_leave_in_between_is_not_fenced(fleet: Fleet) -> None:
    node = fleet.join("a")
    seen = fleet.beats("a")
    fleet.ask(m.BeginLeave(node.who), node.conn)
    assert not fleet.fence(node, "A", seen)


def test_a_silent_node_on_its_way_out_is_fenced(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.ask(m.BeginLeave(node.who), node.conn)
    assert fleet.fence(node, "A")


# --- rule B: the bound session absent for a whole session lease --------------------------------------


def test_a_node_whose_session_is_gone_is_fenced(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.kill(node.conn)
    assert fleet.fence(node, "B")


def test_a_node_whose_session_stands_is_not_fenced(fleet: Fleet) -> None:
    node = fleet.join("a")
    assert not fleet.fence(node, "B")


def test_a_node_that_has_another_session_by_now_is_not_fenced(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.kill(node.conn)
    fleet.rebind(node)
    assert not fleet.fence(node, "B")


def test_an_absent_session_proves_nothing_of_a_node_without_a_session_lease(fleet: Fleet) -> None:
    node = fleet.join("a", session_lease_ms=None)
    fleet.kill(node.conn)
    assert not fleet.fence(node, "B")


def test_an_absent_session_of_another_postmaster_proves_nothing(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.kill(node.conn)
    fleet.sql("update sync_node set postmaster_start = postmaster_start - interval '1 second'")
    assert not fleet.fence(node, "B")


def test_a_session_that_only_inherited_the_process_number_does_not_count(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.sql("update sync_node set backend_start = backend_start - interval '1 second'")
    assert fleet.fence(node, "B")


# --- what both rules ask ---------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["A", "B"])
@pytest.mark.parametrize("stale", ["incarnation", "bind"])
def test_who_saw_an_older_incarnation_or_bind_fences_nobody(fleet: Fleet, rule: str, stale: str) -> None:
    node = fleet.join("a")
    fleet.kill(node.conn)
    older = {
        "incarnation": (node.who.incarnation - 1, node.who.bind),
        "bind": (node.who.incarnation, node.who.bind - 1),
    }
    seen = Member(node.conn, m.Identity("a", *older[stale]))
    assert not fleet.fence(seen, rule)


@pytest.mark.parametrize("rule", ["C", "", None])
def test_an_unknown_rule_fences_nobody(fleet: Fleet, rule: str | None) -> None:
    node = fleet.join("a")
    call = "select sync_fence('a', $1::bigint, $2::bigint, 0, $3::text, null)"
    with pytest.raises(psycopg.errors.RaiseException):
        fleet.sql(call, node.who.incarnation, node.who.bind, rule)
    assert fleet.state("a") == "live"


@pytest.mark.parametrize("unknown", ["incarnation", "bind", "beats"])
def test_a_fence_by_hand_that_leaves_something_open_fences_nobody(fleet: Fleet, unknown: str) -> None:
    node = fleet.join("a")
    given = {"incarnation": node.who.incarnation, "bind": node.who.bind, "beats": fleet.beats("a")} | {unknown: None}
    call = "select sync_fence('a', $1::bigint, $2::bigint, $3::bigint, 'A', null)"
    assert fleet.value(call, *given.values()) is False


def test_nobody_is_fenced_twice(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.fence(node, "A")
    assert not fleet.fence(node, "A")


def test_a_node_that_is_not_there_is_not_fenced(fleet: Fleet) -> None:
    nobody = Member(fleet.conn, m.Identity("nobody", 1, 1))
    assert not fleet.fence(nobody, "A", 0)


# --- what a fence does -----------------------------------------------------------------------------


def test_the_tokens_of_the_fenced_are_free(fleet: Fleet) -> None:
    a, b = fleet.join("a"), fleet.join("b")
    fleet.hold(a, "0-9")
    fleet.hold(a, "0-19")
    fleet.fence(a, "A")
    assert fleet.held("a") == TokenSet()
    assert fleet.hold(b, "0-19").tokens == tokens("0-19")


def test_the_tokens_of_others_are_left_alone(fleet: Fleet) -> None:
    a, b = fleet.join("a"), fleet.join("b")
    fleet.hold(a, "0-9")
    fleet.hold(b, "10-19")
    fleet.fence(a, "A")
    assert fleet.held("b") == tokens("10-19")


def test_a_fence_wakes_the_leader(fleet: Fleet) -> None:
    node, _ = fleet.join("a"), fleet.join("b")
    fleet.sql("listen sync_plan")
    fleet.fence(node, "A")
    hint = next(fleet.conn.notifies(timeout=10, stop_after=1))
    assert (hint.channel, hint.payload) == (fleet.spelt("sync_plan"), "b")


def test_a_fence_wakes_those_who_wait_for_the_tokens(fleet: Fleet) -> None:
    node, _ = fleet.join("a"), fleet.join("b")
    fleet.hold(node, "0-9")
    fleet.want(b="5-9")
    fleet.sql("select sync_listen('b')")
    fleet.sql("unlisten sync_plan")
    fleet.fence(node, "A")
    hint = next(fleet.conn.notifies(timeout=10, stop_after=1))
    assert hint.channel == fleet.value("select sync_free_channel('b')")


def test_people_who_count_active_nodes_see_the_fence_at_once(fleet: Fleet) -> None:
    a, _ = fleet.join("a"), fleet.join("b")
    fleet.fence(a, "A")
    assert fleet.value(ACTIVE) == 1


def test_people_who_look_for_the_leader_see_the_fence_at_once(fleet: Fleet) -> None:
    a, _ = fleet.join("a"), fleet.join("b")
    assert fleet.value(LEADER) == "a"
    fleet.fence(a, "A")
    assert fleet.value(LEADER) == "b"


@pytest.mark.parametrize("timeout_ms", [3_000, 15_000, 60_000])
def test_the_heartbeat_of_the_fenced_lies_behind_every_timeout(fleet: Fleet, timeout_ms: int) -> None:
    node = fleet.join("a", heartbeat_timeout_ms=timeout_ms)
    fleet.fence(node, "A")
    lag_ms = fleet.value("select extract(epoch from clock_timestamp() - last_heartbeat) * 1000 from sync_node")
    assert lag_ms > max(timeout_ms, 15_000)


def test_a_fence_never_makes_a_heartbeat_younger(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.sql("update sync_node set last_heartbeat = '2020-01-01Z'")
    fleet.fence(node, "A")
    assert fleet.value("select last_heartbeat = '2020-01-01Z' from sync_node")


# --- never a wait ----------------------------------------------------------------------------------


def hold_node_row(fleet: Fleet, node: Member, user: psycopg.Connection[object]) -> None:
    fleet.sql("select from sync_node where name = 'a' for key share", conn=user)


def hold_grant(fleet: Fleet, node: Member, user: psycopg.Connection[object]) -> None:
    assert fleet.still_owner(node, fleet.hold(node, "0-9"), 5, user)


@pytest.mark.parametrize("hold", [hold_node_row, hold_grant])
def test_a_fence_fails_at_once_where_it_would_wait(
    fleet: Fleet, hold: Callable[[Fleet, Member, psycopg.Connection[object]], None]
) -> None:
    node = fleet.join("a")
    user, watcher = fleet.connect(), fleet.connect()
    spent_sec = []
    user.autocommit = False
    hold(fleet, node, user)
    for _ in range(5):
        began_sec = perf_counter()
        with pytest.raises(LockNotAvailable):
            fleet.fence(node, "A", by=watcher)
        spent_sec.append(perf_counter() - began_sec)
    user.commit()
    assert min(spent_sec) < 0.1
    assert fleet.fence(node, "A", by=watcher)


def test_a_fence_that_failed_has_taken_nothing(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.hold(node, "0-9")
    second = fleet.hold(node, "0-19")
    user = fleet.connect()
    with user.transaction():
        fleet.still_owner(node, second, 15, user)
        with pytest.raises(LockNotAvailable):
            fleet.fence(node, "A")
    assert fleet.held("a") == tokens("0-19")
    assert fleet.state("a") == "live"


def test_a_beat_waits_for_a_fence_and_then_finds_itself_fenced(fleet: Fleet) -> None:
    node, watcher = fleet.join("a"), fleet.connect()
    with watcher.transaction():
        fleet.fence(node, "A", by=watcher)
        with pytest.raises(LockNotAvailable):
            fleet.beat(node)
    assert fleet.beat(node) == m.NotCurrent()


# --- an observer of another role, who cannot see when a session began ---------------------------------


@pytest.fixture
def stranger(fleet: Fleet) -> Iterator[psycopg.Connection[object]]:
    """Give a session of a role that may use the tables and knows nothing of other roles' sessions."""
    role = sql.Identifier(f"{fleet.prefix}stranger")
    fleet.conn.execute(sql.SQL("create role {} login").format(role))
    for (table,) in fleet.sql("select relname from pg_class where relname like $1", fleet.prefix + "%"):
        kind = fleet.value("select relkind::text from pg_class where relname = $1", table)
        if kind in {"r", "v"}:
            fleet.conn.execute(sql.SQL("grant all on {} to {}").format(sql.Identifier(table), role))
    with fleet.connect() as conn:
        conn.execute(sql.SQL("set session authorization {}").format(role))
        yield conn
    fleet.conn.execute(sql.SQL("drop owned by {0}; drop role {0}").format(role))


def test_a_session_that_the_observer_cannot_see_into_counts_as_present(
    fleet: Fleet, stranger: psycopg.Connection[object]
) -> None:
    node = fleet.join("a")
    assert not fleet.fence(node, "B", by=stranger)


def test_the_beginning_of_the_session_was_hidden_indeed(fleet: Fleet, stranger: psycopg.Connection[object]) -> None:
    query = "select backend_start from pg_stat_get_activity($1::integer)"
    assert fleet.sql(query, fleet.join("a").conn.info.backend_pid, conn=stranger) == [(None,)]


def test_a_session_that_is_gone_is_seen_to_be_gone_by_any_role(
    fleet: Fleet, stranger: psycopg.Connection[object]
) -> None:
    node = fleet.join("a")
    fleet.kill(node.conn)
    assert fleet.fence(node, "B", by=stranger)


# --- what observers read ---------------------------------------------------------------------------


def test_observers_see_all_others_that_are_not_fenced(fleet: Fleet) -> None:
    a, b, c = (fleet.join(name) for name in "abc")
    fleet.fence(c, "A")
    sightings = fleet.ask(m.Watch(a.name)).nodes
    assert sightings == (m.Sighting(b.who, fleet.beats("b"), 14_500, 600, absent=False, leaving=False),)


def test_observers_see_that_a_killed_session_is_absent(fleet: Fleet) -> None:
    fleet.kill(fleet.join("a").conn)
    assert [sighting.absent for sighting in fleet.ask(m.Watch("b")).nodes] == [True]


def test_a_node_without_a_session_lease_is_never_called_absent(fleet: Fleet) -> None:
    fleet.kill(fleet.join("a", session_lease_ms=None).conn)
    assert [sighting.absent for sighting in fleet.ask(m.Watch("b")).nodes] == [False]


def test_a_session_of_another_postmaster_is_never_called_absent(fleet: Fleet) -> None:
    fleet.kill(fleet.join("a").conn)
    fleet.sql("update sync_node set postmaster_start = postmaster_start - interval '1 second'")
    assert [sighting.absent for sighting in fleet.ask(m.Watch("b")).nodes] == [False]


def test_observers_see_who_is_on_its_way_out(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.ask(m.BeginLeave(node.who), node.conn)
    assert [sighting.leaving for sighting in fleet.ask(m.Watch("b")).nodes] == [True]


@pytest.mark.parametrize(("name", "seen"), [("a", ["a"]), (None, ["a", "b"]), ("c", [])])
def test_a_newcomer_sees_the_holder_of_one_name_or_everybody(fleet: Fleet, name: str | None, seen: list[str]) -> None:
    fleet.join("a")
    fleet.join("b")
    assert sorted(sighting.who.name for sighting in fleet.ask(m.WatchForEntry(name)).nodes) == seen


def test_a_newcomer_sees_that_the_holder_of_its_name_is_absent(fleet: Fleet) -> None:
    fleet.kill(fleet.join("a").conn)
    assert [sighting.absent for sighting in fleet.ask(m.WatchForEntry("a")).nodes] == [True]
