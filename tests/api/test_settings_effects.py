"""Each setting has an effect that can be seen: here with times so short, or so long, that the defaults would fail."""

from typing import Any

import psycopg
import pytest

from jobsync import Job
from jobsync.runtime.clock import boot_sec
from tests.api.jobs import TOKENS, eventually, query, settings, task_for_each_token
from tests.servers import PrivateServer

ALL_TASKS = task_for_each_token(TOKENS)
# With these nothing happens by itself while a test looks on.
SLOW = {
    "heartbeat_interval_sec": 50,
    "heartbeat_timeout_sec": 120,
    "rebalance_check_interval_sec": 50,
    "dead_node_check_interval_sec": 50,
    "token_refresh_initial_interval_sec": 50,
}


def one(dsn: str, prefix: str, text: str, *args: object) -> Any:
    """Ask for one value, with `sync_` in place of the prefix."""
    return query(dsn, text.replace("sync_", prefix), *args)[0][0]


def silent_twin(dsn: str, prefix: str) -> None:
    """Register a node 'silent' with the settings of node 'a'; it never beats and its session is gone."""
    changed = '{"name": "silent", "backend_pid": 0, "incarnation": -7, "bind": -7}'
    query(
        dsn,
        f"insert into {prefix}node select (json_populate_record(n, '{changed}')).* from {prefix}node n",
    )
    query(dsn, "select pg_notify(%s, '')", f"{prefix}plan")  # as every registration does


# --- beats ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in SLOW if name != "heartbeat_timeout_sec"])
def test_the_node_beats_at_the_shortest_of_its_intervals(server_dsn: str, prefix: str, name: str) -> None:
    with Job("a", coordination_config=settings(server_dsn, prefix, **{**SLOW, name: 0.2})):
        beats = one(server_dsn, prefix, "select beats from sync_node")
        eventually(lambda: one(server_dsn, prefix, "select beats from sync_node") >= beats + 5, limit_sec=8.0)


def test_long_intervals_leave_the_database_alone(server_dsn: str, prefix: str) -> None:
    with Job("a", coordination_config=settings(server_dsn, prefix, **SLOW)) as job:
        beats = one(server_dsn, prefix, "select beats from sync_node")
        job.wait(1.5)
        assert one(server_dsn, prefix, "select beats from sync_node") <= beats + 3  # news of the first plan


def test_a_node_that_cannot_beat_believes_in_its_tokens_until_the_heartbeat_timeout(
    server_dsn: str, prefix: str
) -> None:
    given = settings(server_dsn, prefix, heartbeat_interval_sec=0.3, heartbeat_timeout_sec=1.5, session_lease_sec=None)
    with Job("a", coordination_config=given) as a, psycopg.connect(server_dsn) as conn:
        conn.execute(f"select * from {prefix}node for update".encode())
        began_sec = boot_sec()
        eventually(lambda: not a.my_tokens, limit_sec=5.0)
        assert 0.9 < boot_sec() - began_sec < 2.5
        conn.rollback()
        eventually(lambda: len(a.my_tokens) == TOKENS)


# --- who is dead ---------------------------------------------------------------------------------


def test_with_a_session_lease_a_node_whose_session_is_gone_is_dead_long_before_its_heartbeat_is_old(
    server_dsn: str, prefix: str
) -> None:
    with Job("a", coordination_config=settings(server_dsn, prefix)) as a:
        silent_twin(server_dsn, prefix)
        eventually(lambda: a.get_dead_nodes() == ["silent"], limit_sec=5.0)


def test_without_a_session_lease_a_node_is_dead_when_its_heartbeat_is_old(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix, heartbeat_interval_sec=0.4, heartbeat_timeout_sec=2, session_lease_sec=None)
    fenced = "select state = 'fenced' from sync_node where name = 'silent'"
    with Job("a", coordination_config=given) as a:
        assert a.status().session_lease_ms is None
        began_sec = boot_sec()
        silent_twin(server_dsn, prefix)
        eventually(lambda: one(server_dsn, prefix, fenced), limit_sec=8.0)
        assert boot_sec() - began_sec > 1.8


# --- news that was missed ------------------------------------------------------------------------


def test_a_plan_whose_notification_was_missed_is_followed_after_the_refresh_interval(
    server_dsn: str, prefix: str
) -> None:
    given = settings(server_dsn, prefix, **{**SLOW, "token_refresh_initial_interval_sec": 0.3})
    with Job("a", coordination_config=given) as a:
        query(server_dsn, f"update {prefix}target set tokens = '{{[0,50)}}', plan_version = plan_version + 1")
        query(server_dsn, f"update {prefix}meta set plan_version = plan_version + 1")
        eventually(lambda: len(a.my_tokens) == 50, limit_sec=8.0)


def test_a_lock_that_expired_binds_until_the_leaders_next_check(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix, rebalance_check_interval_sec=0.3)
    with Job("a", coordination_config=given) as a:
        a.register_lock("x", "a", expires_in_days=0.5 / 86400)
        eventually(lambda: one(server_dsn, prefix, "select count(*) from sync_lock") == 0, limit_sec=8.0)


# --- the plan ------------------------------------------------------------------------------------


def test_locks_that_are_not_enabled_are_stored_and_bind_nothing(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix, locks_enabled=False)
    with Job("a", coordination_config=given) as a, Job("b", coordination_config=given) as b:
        a.register_locks_bulk([(task, "a") for task in ALL_TASKS])
        eventually(lambda: one(server_dsn, prefix, "select lock_version = planned_lock_version from sync_meta"))
        assert len(a.list_locks()) == TOKENS
        eventually(lambda: len(a.my_tokens) == len(b.my_tokens) == TOKENS // 2)


def test_a_leader_that_waits_too_long_for_the_plan_lock_says_so_and_plans_when_it_is_free(
    server_dsn: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    given = settings(server_dsn, prefix, leader_lock_timeout_sec=0.5, rebalance_check_interval_sec=0.5)
    planned = "select lock_version = planned_lock_version from sync_meta"
    with Job("a", coordination_config=given) as a, psycopg.connect(server_dsn, autocommit=True) as conn:
        conn.execute("select pg_advisory_lock(hashtext(%s))", (f"{prefix}plan",))
        a.register_lock("x", "a")
        eventually(lambda: "no plan could be written for 0.5 s" in caplog.text, limit_sec=8.0)
        assert not one(server_dsn, prefix, planned)
        conn.execute("select pg_advisory_unlock_all()")
        eventually(lambda: one(server_dsn, prefix, planned), limit_sec=8.0)


# --- health --------------------------------------------------------------------------------------


def test_a_node_is_unhealthy_while_the_last_reply_is_older_than_the_health_interval(
    private_server: PrivateServer,
) -> None:
    given = settings(
        private_server.dsn,
        "sync_",
        heartbeat_interval_sec=0.2,
        session_lease_sec=None,
        health_check_interval_sec=1,
    )
    with Job("a", coordination_config=given) as a:
        assert a.am_i_healthy()
        private_server.stop("immediate")
        eventually(lambda: not a.am_i_healthy(), limit_sec=6.0)
        assert len(a.my_tokens) == TOKENS  # the lease is certain for 14.5 s
        private_server.start()
        eventually(a.am_i_healthy)


# --- where ---------------------------------------------------------------------------------------


def test_the_nodes_own_session_goes_where_session_dsn_says(private_server: PrivateServer) -> None:
    query(private_server.dsn, "create role direct login superuser")
    direct = psycopg.conninfo.make_conninfo(private_server.dsn, user="direct")
    with Job("a", coordination_config=settings(private_server.dsn, "sync_", session_dsn=direct)) as a:
        a.set_claim("x")
        users = (
            "select usename from pg_stat_activity where pid {} (select backend_pid from sync_node) and query ~ 'sync_'"
        )
        assert query(private_server.dsn, users.format("in") + " and pid <> pg_backend_pid()") == [("direct",)]
        others = query(private_server.dsn, users.format("not in") + " and pid <> pg_backend_pid()")
        assert set(others) == {("postgres",)}


def test_fleets_with_different_prefixes_do_not_see_each_other(server_dsn: str, prefix: str) -> None:
    mine, theirs = settings(server_dsn, prefix), settings(server_dsn, f"{prefix}x_")
    with Job("a", coordination_config=mine) as a, Job("a", coordination_config=theirs) as namesake:
        assert len(a.my_tokens) == len(namesake.my_tokens) == TOKENS
        assert (a.tables["Node"], namesake.tables["Node"]) == (f"{prefix}node", f"{prefix}x_node")
        assert one(server_dsn, f"{prefix}x_", "select count(*) from sync_node") == 1


# --- retention -----------------------------------------------------------------------------------

OLD_ROWS = {
    "claim": "insert into sync_claim (node, item, date, incarnation, created_on) "
    "values ('gone', 'x', '2024-02-29', -7, now() - {age} * interval '1 day')",
    "audit": "insert into sync_audit (node, item, date, created_on) "
    "values ('gone', 'x', '2024-02-29', now() - {age} * interval '1 day')",
    "rebalance": "insert into sync_rebalance (triggered_at, trigger_reason, leader_node, nodes_before, nodes_after, "
    "tokens_moved, duration_ms, moves, plan_version) "
    "values (now() - {age} * interval '1 day', 'join', 'gone', 1, 1, 1, 1, '[]', 0)",
    "dead_node": "insert into sync_node (name, state, incarnation, bind, heartbeat_timeout_ms, row_lease_ms, "
    "backend_pid, postmaster_start, last_heartbeat) "
    "values ('gone', 'fenced', -7, -7, 15000, 14500, 0, now(), now() - {age} * interval '1 day')",
}
LEFT = {
    "claim": "select count(*) from sync_claim",
    "audit": "select count(*) from sync_audit",
    "rebalance": "select count(*) from sync_rebalance where leader_node = 'gone'",
    "dead_node": "select count(*) from sync_node where name = 'gone'",
}


@pytest.mark.parametrize("what", OLD_ROWS)
def test_the_leader_deletes_what_is_past_its_retention_and_keeps_the_rest(
    server_dsn: str, prefix: str, what: str
) -> None:
    given = settings(server_dsn, prefix, **{f"{what}_retention_days": 0.5, "rebalance_check_interval_sec": 0.2})
    with Job("admin", coordination_config=given, observer=True):
        for age in ("0.6", "0.4"):
            insert = (
                OLD_ROWS[what].format(age=age).replace("'x'", f"'{age}'").replace("'gone', 'f", f"'gone {age}', 'f")
            )
            query(server_dsn, insert.replace("sync_", prefix))
    left = LEFT[what].replace("name = 'gone'", "name like 'gone%%'")
    assert one(server_dsn, prefix, left.replace("%%", "%")) == 2
    with Job("a", coordination_config=given):
        eventually(lambda: one(server_dsn, prefix, left.replace("%%", "%")) == 1, limit_sec=8.0)


@pytest.mark.parametrize("what", OLD_ROWS)
def test_a_retention_of_none_keeps_for_ever(server_dsn: str, prefix: str, what: str) -> None:
    sentinel = "audit" if what == "claim" else "claim"  # deleted in the same bite, so it shows that a bite was taken
    days = {f"{what}_retention_days": None, f"{sentinel}_retention_days": 1}
    given = settings(server_dsn, prefix, rebalance_check_interval_sec=0.2, **days)
    with Job("admin", coordination_config=given, observer=True):
        for each in (what, sentinel):
            query(server_dsn, OLD_ROWS[each].format(age=30_000).replace("sync_", prefix))
    with Job("a", coordination_config=given):
        eventually(lambda: one(server_dsn, prefix, LEFT[sentinel]) == 0)
        assert one(server_dsn, prefix, LEFT[what]) == 1
