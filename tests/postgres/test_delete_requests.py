"""What operators do with DELETE while workers run: a request on the node table, harmless on the others."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from jobsync.core import messages as m
from jobsync.core.tokens import TokenSet
from tests.postgres.support import Fleet, Member, notices_of, tokens, wait_until


def silence(fleet: Fleet, name: str, interval: str = "8 days") -> None:
    """Make a node's last sign of life old, as people see it."""
    fleet.sql("update sync_node set last_heartbeat = now() - $2::interval where name = $1", name, interval)


def dead(fleet: Fleet, name: str) -> Member:
    """Give a node that held tokens when its session ended."""
    node = fleet.join(name)
    fleet.hold(node, "0-9")
    fleet.kill(node.conn)
    return node


# --- nodes -----------------------------------------------------------------------------------------


def test_a_node_that_holds_nothing_goes_at_once(fleet: Fleet) -> None:
    fleet.join("a")
    fleet.sql("delete from sync_node where name = 'a'")
    assert fleet.state("a") is None


def test_a_fenced_node_goes_at_once(fleet: Fleet) -> None:
    fleet.fence(dead(fleet, "a"), "B")
    fleet.sql("delete from sync_node where name = 'a'")
    assert fleet.state("a") is None


def test_a_node_whose_row_is_gone_learns_it_with_its_next_beat(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.sql("delete from sync_node")
    assert fleet.beat(node) == m.NotCurrent()


def test_a_live_node_that_holds_tokens_is_left_alone(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.hold(node, "0-9")
    before = fleet.sql("select * from sync_node")
    fleet.sql("delete from sync_node where name = 'a'")
    assert fleet.sql("select * from sync_node") == before
    assert fleet.held("a") == tokens("0-9")


def test_who_deletes_a_live_node_is_told_how_to_drain_it(fleet: Fleet) -> None:
    fleet.hold(fleet.join("worker-01"), "0-9")
    told = notices_of(fleet.conn)
    fleet.sql("delete from sync_node")
    assert len(told) == 1
    assert "jobsync drain worker-01" in told[0]


@pytest.mark.parametrize("sign", ["its session is gone", "its heartbeat is old"])
def test_a_dead_node_that_holds_tokens_stays_until_it_is_fenced(fleet: Fleet, sign: str) -> None:
    if sign == "its session is gone":
        node = dead(fleet, "a")
    else:
        node = fleet.join("a")
        fleet.hold(node, "0-9")
        silence(fleet, "a")
    fleet.sql("delete from sync_node where name = 'a'")
    assert fleet.held("a") == tokens("0-9")
    assert fleet.state("a") == "live"
    assert fleet.fence(node, "A")
    assert fleet.state("a") is None


def test_who_deletes_a_dead_node_is_told_when_it_goes(fleet: Fleet) -> None:
    dead(fleet, "a")
    told = notices_of(fleet.conn)
    fleet.sql("delete from sync_node")
    assert len(told) == 1
    assert "fenced" in told[0]


def test_without_a_request_the_row_of_the_fenced_stays(fleet: Fleet) -> None:
    fleet.fence(dead(fleet, "a"), "B")
    assert fleet.state("a") == "fenced"


def test_a_node_that_was_only_silent_lives_on_as_if_nobody_had_asked(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.hold(node, "0-9")
    silence(fleet, "a")
    fleet.sql("delete from sync_node")
    fleet.beat(node)
    fleet.fence(node, "A")
    assert fleet.state("a") == "fenced"


def test_a_deletion_that_is_rolled_back_was_no_request(fleet: Fleet) -> None:
    node = dead(fleet, "a")
    with fleet.conn.transaction(force_rollback=True):
        fleet.sql("delete from sync_node")
    fleet.fence(node, "B")
    assert fleet.state("a") == "fenced"


def test_a_node_without_a_session_lease_is_judged_by_its_heartbeat(fleet: Fleet) -> None:
    node = fleet.join("a", session_lease_ms=None)
    fleet.hold(node, "0-9")
    fleet.kill(node.conn)
    told = notices_of(fleet.conn)
    fleet.sql("delete from sync_node")
    assert "drain" in told[0]


def test_one_delete_takes_of_many_only_those_that_may_go(fleet: Fleet) -> None:
    live, empty = fleet.join("live"), fleet.join("empty")
    fleet.hold(live, "20-29")
    dead(fleet, "dead")
    fleet.sql("delete from sync_node")
    assert fleet.sql("select name from sync_node order by 1") == [("dead",), ("live",)]
    assert fleet.beat(empty) == m.NotCurrent()


def test_after_the_death_of_a_whole_fleet_nothing_is_stranded(fleet: Fleet) -> None:
    crew = [fleet.join(name) for name in "abc"]
    for number, member in enumerate(crew):
        fleet.hold(member, f"{number * 10}-{number * 10 + 9}")
    for member in crew:
        fleet.kill(member.conn)
    fleet.sql("delete from sync_node")
    newcomer = fleet.join("d")
    for member in crew:
        assert fleet.fence(member, "B", by=newcomer.conn)
    assert fleet.hold(newcomer, "0-99").tokens == tokens("0-99")
    assert fleet.sql("select name from sync_node") == [("d",)]


def test_after_the_death_of_a_whole_fleet_no_twin_of_the_dead_comes_in_before_the_fence(fleet: Fleet) -> None:
    node = dead(fleet, "a")
    fleet.sql("delete from sync_node")
    assert fleet.register("a").outcome == "held"
    fleet.fence(node, "B")
    assert fleet.register("a").outcome == "registered"


def test_a_node_row_cannot_be_taken_from_under_its_grants_by_truncation(fleet: Fleet) -> None:
    fleet.hold(fleet.join("a"), "0-9")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        fleet.sql("truncate sync_node")


def test_a_deletion_that_meets_a_growing_node_sees_what_it_took(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.want(a="0-9")
    admin = fleet.connect()
    told = notices_of(admin)
    with ThreadPoolExecutor(1) as pool:
        with node.conn.transaction():
            fleet.grow(node)
            deletion = pool.submit(fleet.sql, "delete from sync_node", conn=admin)
            wait_until(lambda: fleet.waits_for_lock(admin))
        deletion.result()
    assert fleet.held("a") == tokens("0-9")
    assert len(told) == 1


# --- the other tables ------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["sync_lock", "sync_claim", "sync_audit", "sync_rebalance"])
def test_rows_of_the_other_tables_may_go_while_a_node_works(fleet: Fleet, table: str) -> None:
    node = fleet.join("a")
    fleet.save_plan(node, fleet.inputs(), {"a": "0-9"})
    fleet.grow(node)
    fleet.lock("x", 1)
    fleet.sql(f"delete from {table}")
    assert fleet.held("a") == tokens("0-9")
    assert fleet.beat(node) != m.NotCurrent()


def test_tokens_are_no_table_to_delete_from(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.hold(node, "0-9")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        fleet.sql("delete from sync_token")
    assert fleet.held("a") != TokenSet()
