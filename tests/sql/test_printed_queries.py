"""The queries that the guides print and that are not tested in tests/postgres/test_operator_sql.py, on live nodes."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from tests.sql.cluster import ABANDONED, IN_HAND, TASKS_TODAY, Cluster


def test_shares_in_per_cent_are_shown_by_node(busy_cluster: Cluster) -> None:
    query = (
        "SELECT node, COUNT(*) as tokens, ROUND(100.0 * COUNT(*) / SUM(COUNT(*)) OVER (), 1) as pct "
        "FROM sync_token GROUP BY node"
    )
    with busy_cluster.connect() as conn:
        rows = conn.execute(query).fetchall()
    assert {node: tokens for node, tokens, _ in rows} == busy_cluster.counts()
    assert all(pct == Decimal(tokens).quantize(Decimal("0.1")) for _, tokens, pct in rows)


def test_the_guides_own_search_for_incomplete_tasks_finds_them(busy_cluster: Cluster) -> None:
    # It knows no incarnations: what is in the hands of the living counts as incomplete once it is old enough.
    names = busy_cluster.jobs[0].tables
    query = (
        f"SELECT DISTINCT c.item FROM {names['Claim']} c LEFT JOIN {names['Audit']} a "
        "ON c.item = a.item AND a.date = %s WHERE a.item IS NULL AND c.created_on < %s"
    )
    with busy_cluster.connect() as conn:
        old = conn.execute(query.encode(), (busy_cluster.today, datetime.now(UTC) - timedelta(minutes=5))).fetchall()
        young = conn.execute(query.encode(), (busy_cluster.today, datetime.now(UTC) + timedelta(minutes=5))).fetchall()
    assert old == [(ABANDONED,)]
    assert {item for (item,) in young} == {ABANDONED, *IN_HAND, *TASKS_TODAY}


def test_active_nodes_and_leader_agree_with_the_library(busy_cluster: Cluster) -> None:
    active = "SELECT name FROM sync_node WHERE last_heartbeat > NOW() - INTERVAL '15 seconds' ORDER BY created_on"
    with busy_cluster.connect() as conn:
        names = [name for (name,) in conn.execute(active).fetchall()]
        leader = conn.execute(f"{active} LIMIT 1".encode()).fetchall()
    assert names == [node["name"] for node in busy_cluster.jobs[1].get_active_nodes()]
    assert leader == [(busy_cluster.jobs[1].status().leader,)]
