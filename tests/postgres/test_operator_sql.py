"""The queries that the guides print for operators: each runs as printed, and means what it says there."""

from decimal import Decimal

import psycopg
import pytest
from psycopg import sql

from jobsync.postgres.records import Records
from jobsync.postgres.statement import run
from tests.postgres.support import Fleet, Member, notices_of

DISTRIBUTION = """
SELECT node, COUNT(*) as token_count, ROUND(100.0 * COUNT(*) / SUM(COUNT(*)) OVER (), 1) as pct,
       MIN(token_id) as min_token, MAX(token_id) as max_token, version
FROM sync_token GROUP BY node, version ORDER BY token_count DESC
"""
BALANCE = """
WITH stats AS (SELECT node, COUNT(*) as token_count FROM sync_token GROUP BY node)
SELECT MAX(token_count) - MIN(token_count) as max_imbalance, AVG(token_count) as avg_tokens,
       STDDEV(token_count) as stddev_tokens
FROM stats
"""
LOCKS = """
SELECT node_patterns::text as patterns, COUNT(*) as locked_token_count, reason, expires_at,
    CASE WHEN expires_at IS NULL THEN 'never' WHEN expires_at < NOW() THEN 'EXPIRED' ELSE 'active' END as status,
    STRING_AGG(DISTINCT created_by, ',') as registered_by
FROM sync_lock GROUP BY node_patterns, reason, expires_at ORDER BY locked_token_count DESC
"""
LOCKS_WITH_OWNERS = """
SELECT l.token_id, l.node_patterns::text as patterns, t.node as actual_node, l.reason, l.created_by, l.created_at
FROM sync_lock l JOIN sync_token t ON l.token_id = t.token_id ORDER BY l.token_id
"""
CLAIMED = """
SELECT node, COUNT(*) as task_count, MIN(created_on) as first_claim, MAX(created_on) as last_claim
FROM sync_claim WHERE created_on::date = CURRENT_DATE GROUP BY node ORDER BY task_count DESC
"""
COMPLETION = """
WITH claimed AS (
    SELECT COUNT(DISTINCT item) as claimed_count FROM sync_claim WHERE created_on::date = CURRENT_DATE
), audited AS (
    SELECT COUNT(DISTINCT item) as audited_count FROM sync_audit WHERE date = CURRENT_DATE
)
SELECT c.claimed_count, a.audited_count, c.claimed_count - a.audited_count as incomplete_count,
       ROUND(100.0 * a.audited_count / NULLIF(c.claimed_count, 0), 1) as completion_pct
FROM claimed c, audited a
"""
REBALANCES = "SELECT COUNT(*) as rebalance_count FROM sync_rebalance WHERE triggered_at > NOW() - INTERVAL '1 hour'"
ACTIVE = "SELECT COUNT(*) FROM sync_node WHERE last_heartbeat > NOW() - INTERVAL '15 seconds'"
ACTIVE_WITH_LAG = """
SELECT name, last_heartbeat, NOW() - last_heartbeat as lag
FROM sync_node WHERE last_heartbeat > NOW() - INTERVAL '15 seconds' ORDER BY created_on
"""
LEADER = """
SELECT name FROM sync_node WHERE last_heartbeat > NOW() - INTERVAL '15 seconds' ORDER BY created_on LIMIT 1
"""
ORPHANED_LOCKS = """
SELECT * FROM sync_lock l LEFT JOIN sync_node n ON l.created_by = n.name WHERE n.name IS NULL
"""


@pytest.fixture
def crew(fleet: Fleet) -> tuple[Member, Member]:
    """Give a fleet at work: two nodes with 60 and 40 tokens, locks, claims, audits, a history."""
    z, a = fleet.join("z"), fleet.join("a")
    fleet.save_plan(z, fleet.inputs(), {"z": "0-59", "a": "60-99"})
    for member in (z, a):
        fleet.grow(member)
    fleet.lock("x", 7, ["a", "z%"], created_by="z")
    fleet.lock("y", 8, ["a", "z%"], created_by="a")
    fleet.lock("old", 9, ["b"], created_by="gone", ends_in_sec=-1)
    day = fleet.value("select current_date")
    for member, token, items in ((z, 0, ["1", "2", "3"]), (a, 60, ["4"])):
        records = Records(fleet.prefix, member.name)
        run(member.conn, records.claim(member.who.incarnation, day, None, items, [token] * len(items)))
        run(member.conn, records.audit(dict.fromkeys(items[:1], member.who.incarnation), day, None))
    return z, a


pytestmark = pytest.mark.usefixtures("crew")


def test_the_distribution_shows_one_row_a_node(fleet: Fleet) -> None:
    shown = fleet.sql(DISTRIBUTION)
    assert shown == [("z", 60, Decimal("60.0"), 0, 59, 1), ("a", 40, Decimal("40.0"), 60, 99, 1)]


def test_a_node_with_tokens_of_several_epochs_is_still_one_row(fleet: Fleet, crew: tuple[Member, Member]) -> None:
    z, a = crew
    fleet.save_plan(z, fleet.inputs(), {"z": "0-49", "a": "50-99"})
    fleet.shrink(z, "50-59")
    fleet.grow(a)
    assert sorted((row[0], row[1], row[5]) for row in fleet.sql(DISTRIBUTION)) == [("a", 50, 2), ("z", 50, 2)]


def test_the_balance_is_the_difference_of_the_counts(fleet: Fleet) -> None:
    imbalance, average, deviation = fleet.sql(BALANCE)[0]
    assert (imbalance, average, round(deviation, 2)) == (20, 50, Decimal("14.14"))


def test_the_lock_overview_tells_patterns_status_and_creators(fleet: Fleet) -> None:
    shown = [(patterns, count, status, by) for patterns, count, _, _, status, by in fleet.sql(LOCKS)]
    assert shown == [('["a", "z%"]', 2, "never", "a,z"), ('["b"]', 1, "EXPIRED", "gone")]


def test_locks_are_shown_with_the_owners_of_their_tokens(fleet: Fleet) -> None:
    shown = [(row[0], row[2], row[4]) for row in fleet.sql(LOCKS_WITH_OWNERS)]
    assert shown == [(7, "z", "z"), (8, "z", "a"), (9, "z", "gone")]


def test_claims_of_today_are_counted_by_node(fleet: Fleet) -> None:
    assert [row[:2] for row in fleet.sql(CLAIMED)] == [("z", 3), ("a", 1)]


def test_the_count_of_claims_by_node_is_complete(fleet: Fleet) -> None:
    assert sorted(fleet.sql("SELECT node, COUNT(*) FROM sync_claim GROUP BY node")) == [("a", 1), ("z", 3)]


def test_the_completion_rate_compares_claims_and_audits(fleet: Fleet) -> None:
    assert fleet.sql(COMPLETION) == [(4, 2, 2, Decimal("50.0"))]


def test_rebalances_of_the_last_hour_are_counted(fleet: Fleet) -> None:
    assert fleet.value(REBALANCES) == 1


def test_active_nodes_are_counted(fleet: Fleet, crew: tuple[Member, Member]) -> None:
    assert fleet.value(ACTIVE) == 2
    fleet.fence(crew[1], "A")
    assert fleet.value(ACTIVE) == 1


def test_active_nodes_come_oldest_first_with_a_small_lag(fleet: Fleet) -> None:
    shown = fleet.sql(ACTIVE_WITH_LAG)
    assert [row[0] for row in shown] == ["z", "a"]
    assert all(row[2].total_seconds() < 10 for row in shown)


def test_the_leader_is_the_one_that_the_library_names(fleet: Fleet, crew: tuple[Member, Member]) -> None:
    assert fleet.value(LEADER) == fleet.beat(crew[1]).leader == "z"
    fleet.fence(crew[0], "A")
    assert fleet.value(LEADER) == fleet.beat(crew[1]).leader == "a"


def test_nodes_are_listed_by_age(fleet: Fleet) -> None:
    assert [row[0] for row in fleet.sql("SELECT * FROM sync_node ORDER BY created_on")] == ["z", "a"]


def test_the_first_columns_of_a_node_are_those_of_the_guides(fleet: Fleet) -> None:
    query = "select attname from pg_attribute where attrelid = 'sync_node'::regclass and attnum between 1 and 3"
    assert fleet.sql(query) == [("name",), ("created_on",), ("last_heartbeat",)]


def test_the_tokens_of_one_node_are_counted(fleet: Fleet) -> None:
    assert fleet.value("SELECT COUNT(*) FROM sync_token WHERE node = 'a'") == 40
    shown = fleet.sql("SELECT node, COUNT(*) as tokens FROM sync_token GROUP BY node")
    assert sorted(shown) == [("a", 40), ("z", 60)]


def test_locks_whose_creator_has_no_row_are_found(fleet: Fleet) -> None:
    assert len(fleet.sql(ORPHANED_LOCKS)) == 1


def test_locks_whose_creator_has_no_row_can_be_deleted(fleet: Fleet) -> None:
    fleet.sql("DELETE FROM sync_lock WHERE created_by NOT IN (SELECT name FROM sync_node)")
    assert fleet.sql("select task_id from sync_lock order by 1") == [("x",), ("y",)]


def test_old_history_can_be_deleted(fleet: Fleet) -> None:
    fleet.sql("update sync_rebalance set triggered_at = now() - interval '31 days'")
    fleet.sql("DELETE FROM sync_rebalance WHERE triggered_at < NOW() - INTERVAL '30 days'")
    assert fleet.value("select count(*) from sync_rebalance") == 0


def test_old_claims_can_be_deleted(fleet: Fleet) -> None:
    fleet.sql("update sync_claim set created_on = now() - interval '8 days' where node = 'z'")
    fleet.sql("DELETE FROM sync_claim WHERE created_on < NOW() - INTERVAL '7 days'")
    assert fleet.sql("select node from sync_claim") == [("a",)]


def test_nodes_that_died_long_ago_can_be_deleted(fleet: Fleet, crew: tuple[Member, Member]) -> None:
    fleet.fence(crew[1], "A")
    fleet.sql("update sync_node set last_heartbeat = now() - interval '8 days' where name = 'a'")
    fleet.sql("DELETE FROM sync_node WHERE last_heartbeat < NOW() - INTERVAL '7 days'")
    assert fleet.sql("select name from sync_node") == [("z",)]


def test_test_nodes_can_be_deleted_by_their_name(fleet: Fleet) -> None:
    fleet.join("test-1")
    fleet.sql("DELETE FROM sync_node WHERE name LIKE 'test-%'")
    assert fleet.state("test-1") is None


@pytest.mark.parametrize("table", ["sync_node", "sync_lock"])
def test_tables_can_be_vacuumed(fleet: Fleet, table: str) -> None:
    told = notices_of(fleet.conn)
    fleet.sql(f"VACUUM ANALYZE {table}")
    assert told == []


def test_vacuuming_the_token_view_only_warns(fleet: Fleet) -> None:
    told = notices_of(fleet.conn)
    fleet.sql("VACUUM ANALYZE sync_token")
    assert len(told) == 1
    assert fleet.spelt("sync_token") in told[0]


def test_every_time_that_people_see_has_a_time_zone(fleet: Fleet) -> None:
    query = sql.SQL(
        "select c.relname, a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid "
        "where starts_with(c.relname, {}) and a.atttypid = 'timestamp'::regtype"
    )
    assert fleet.conn.execute(query.format(sql.Literal(fleet.prefix))).fetchall() == []


def test_tokens_of_different_nodes_are_disjoint_by_constraint(fleet: Fleet, crew: tuple[Member, Member]) -> None:
    with pytest.raises(psycopg.errors.ExclusionViolation):
        fleet.sql("update sync_grant set tokens = tokens + '{[59,61)}'::int4multirange where node = 'z'")
