"""Every query of the cheat sheet, on a live fleet of three: it runs as it stands and tells the truth."""

from collections.abc import Callable
from typing import Any, TypeAlias

import psycopg
import pytest
from psycopg.rows import dict_row

from jobsync.core.hashing import double_sha256
from tests.api.jobs import eventually
from tests.sql.cluster import ABANDONED, DONE_IN_RUN, IN_HAND, NAMES, TASKS_TODAY, TOKENS, Cluster
from tests.sql.statements import SQL_DIR, named_statements

STATEMENTS = named_statements(SQL_DIR / "Cheatsheet.sql")
Rows: TypeAlias = list[dict[str, Any]]
Check: TypeAlias = Callable[[Rows, Cluster], object]

CLAIMED = len(DONE_IN_RUN) + len(IN_HAND) + 1 + len(TASKS_TODAY)


def column(rows: Rows, name: str) -> list[Any]:
    return [row[name] for row in rows]


def same(rows: Rows, **columns: list[Any]) -> bool:
    assert {name: column(rows, name) for name in columns} == columns
    return True


def counts_agree(rows: Rows, cluster: Cluster, count: str) -> bool:
    assert {row["node"]: row[count] for row in rows} == cluster.counts()
    return True


def owner_is_told(rows: Rows, cluster: Cluster) -> bool:
    token = double_sha256("invoice-4711", TOKENS)
    return same(rows, node=[cluster.owner_of("invoice-4711").node_name], token_id=[token])


def ranges_are_whole(rows: Rows, cluster: Cluster) -> bool:
    held = [token for row in rows for token in range(row["first_token"], row["last_token"] + 1)]
    assert held == list(range(TOKENS))
    job = cluster.jobs[0]
    mine = [row for row in rows if row["node"] == job.node_name]
    return all({row["first_token"], row["last_token"]} <= set(job.my_tokens) for row in mine)


def claims_are_counted(rows: Rows, count: str) -> bool:
    assert {row["node"] for row in rows} == {*NAMES, "worker-09"}
    return bool(sum(column(rows, count)) == CLAIMED)


def moves_lead_here(rows: Rows, cluster: Cluster) -> bool:
    return len(rows) > 0 and all(row["to_node"] in NAMES and row["tokens"].startswith("{[") for row in rows)


# An expired lock is swept by the leader, so one is made where it can be seen.
EXPIRE = "update sync_lock set expires_at = now() - interval '1 second' where task_id = 'old'"

JOB_COUNTS = {
    ("done-1", "done"): 1,
    ("done-2", "done"): 1,
    ("failed", "failed"): 1,
    ("cancelled", "cancelled"): 1,
    ("mail", "retry"): 1,
    ("mail", "pending"): 2,
    ("resize", "processing"): 1,
    ("resize", "pending"): 1,
    ("video", "processing"): 1,
    ("report", "pending"): 1,
}

# What is asked of nodes would change the fleet: it is asked in a transaction that is taken back.
STEER = """
insert into sync_steering (verb, node, reason, asked_by, ended_at, ended_by)
values ('cordon', 'worker-02', null, 'ops', now() + interval '5 min', 'somebody'),
       ('drain', 'worker-03', 'disk', 'ops', null, null);
update sync_target set tokens = tokens - '{[0,100)}' where node = 'worker-01'"""
BEFORE = dict.fromkeys(("steering", "steering-of-the-past", "tokens-on-their-way"), STEER)

# What each reading query must show of the fleet that `put_to_work` has made.
READS: dict[str, Check] = {
    "active-nodes": lambda rows, _: same(rows, name=list(NAMES)) and rows[0]["lag"].total_seconds() < 10,
    "active-node-count": lambda rows, _: same(rows, active_nodes=[3]),
    "leader": lambda rows, cluster: same(rows, leader=[cluster.jobs[2].status().leader]),
    "all-nodes": lambda rows, _: same(
        rows, name=["worker-09", *NAMES], state=["fenced", *["live"] * 3], fast_detection=[False, *[True] * 3]
    ),
    "silent-nodes": lambda rows, _: rows == [],
    "dead-nodes": lambda rows, _: same(rows, name=["worker-09"]),
    "nodes-behind-the-plan": lambda rows, _: rows == [],
    "fleet-settings": lambda rows, _: same(rows, total_tokens=[TOKENS], quarantined=[False]),
    "uncovered": lambda rows, _: (
        {(row["from_node"], row["to_node"]) for row in rows} >= {("worker-01", "worker-02"), ("worker-01", "worker-03")}
        and 0 <= rows[-1]["uncovered_for"].total_seconds() <= rows[0]["uncovered_for"].total_seconds() < 30
    ),
    "steering": lambda rows, _: same(rows, verb=["drain"], node=["worker-03"], asked_by=["ops"], ends_at=[None]),
    "steering-of-the-past": lambda rows, _: (
        same(rows, node=["worker-02"], ended_by=["somebody"]) and 200 < rows[0]["lasted"].total_seconds() <= 300
    ),
    "token-distribution": lambda rows, cluster: (
        counts_agree(rows, cluster, "tokens") and sum(column(rows, "pct")) == TOKENS
    ),
    "token-distribution-details": lambda rows, cluster: (
        counts_agree(rows, cluster, "token_count") and len(rows) == len(set(column(rows, "node"))) == 3
    ),
    "token-balance": lambda rows, cluster: same(
        rows, max_imbalance=[max(cluster.counts().values()) - min(cluster.counts().values())]
    ),
    "uneven-nodes": lambda rows, _: rows == [],
    "tokens-of-a-node": lambda rows, cluster: same(rows, tokens=[cluster.counts()["worker-01"]]),
    "unowned-tokens": lambda rows, _: same(rows, unowned=[0]),
    "token-ranges": ranges_are_whole,
    "tokens-on-their-way": lambda rows, cluster: (
        same(rows, node=["worker-01"])
        and sum(each.upper - each.lower for each in rows[0]["to_go"]) == cluster.counts()["worker-01"]
        and not rows[0]["to_come"]
    ),
    "owner-of-a-task": owner_is_told,
    "locks": lambda rows, _: same(rows, task_id=["model-1", "model-2", "model-3", "old", "kept"]),
    "lock-summary": lambda rows, _: sorted(column(rows, "status")) == ["EXPIRED", "active", "never", "never", "never"],
    "locks-with-owners": lambda rows, _: (
        {row["task_id"]: row["actual_node"] for row in rows if row["task_id"] in {"model-1", "model-3", "kept"}}
        == {"model-1": "worker-02", "model-3": "worker-01", "kept": "worker-03"}
    ),
    "locks-matching-nobody": lambda rows, _: same(rows, task_id=["model-2"]),
    "locks-on-their-second-choice": lambda rows, _: same(
        rows, task_id=["model-1"], actual_node=["worker-02"], position=[2]
    ),
    "orphaned-locks": lambda rows, _: same(rows, task_id=["model-1", "model-3"], created_by=["admin-01"] * 2),
    "claims-today": lambda rows, _: claims_are_counted(rows, "task_count"),
    "claims-by-node": lambda rows, _: claims_are_counted(rows, "claims"),
    "completion-today": lambda rows, _: same(
        rows, claimed_count=[CLAIMED], audited_count=[60], incomplete_count=[CLAIMED - 60]
    ),
    "runs": lambda rows, _: same(rows, claimed=[len(DONE_IN_RUN) + len(IN_HAND) + 1], done=[len(DONE_IN_RUN)]),
    "in-hand": lambda rows, _: sorted(column(rows, "item")) == sorted(IN_HAND),
    "incomplete-tasks": lambda rows, _: same(rows, item=[ABANDONED], node=["worker-09"]),
    "throughput": lambda rows, _: sum(column(rows, "done")) == len(DONE_IN_RUN),
    "who-did-it": lambda rows, cluster: same(
        rows, node=[cluster.owner_of("invoice-1").node_name], date=[cluster.today]
    ),
    "job-counts": lambda rows, _: {(row["kind"], row["status"]): row["jobs"] for row in rows} == JOB_COUNTS,
    "newest-jobs": lambda rows, _: (
        [row["id"] for row in rows] == list(range(sum(JOB_COUNTS.values()), 0, -1))
        and sum(row["status"] == "processing" for row in rows) == 2
    ),
    "oldest-waiting-jobs": lambda rows, _: (
        same(rows, id=[6, 7, 11]) and all(row["waits_for"].seconds > 500 for row in rows)
    ),
    "delayed-jobs": lambda rows, _: same(rows, id=[5, 10], status=["retry", "pending"], attempts=[1, 0]),
    "locked-jobs": lambda rows, _: same(rows, id=[9], kind=["video"], locked_by=["crew-1"], attempts=[1]),
    "stuck-jobs": lambda rows, _: same(rows, id=[8], locked_by=["crew-0"]) and rows[0]["ran_out_ago"].seconds > 3000,
    "failed-jobs": lambda rows, _: same(
        rows, id=[3], attempts=[1], crashes=[0], last_error=["Traceback\n  line\nValueError: no such file"]
    ),
    "errors-of-a-job": lambda rows, _: same(rows, attempt=[1], worker=["crew-1"], crashed=[False]),
    "commonest-errors": lambda rows, _: (
        {row["kind"]: (row["last_line"], row["times"]) for row in rows}
        == {"failed": ("ValueError: no such file", 1), "mail": ("TimeoutError: too slow", 1)}
    ),
    "job-throughput": lambda rows, _: same(rows, kind=["cancelled", "done-1", "done-2", "failed"], jobs=[1] * 4),
    "job-workers": lambda rows, _: same(rows, worker=["crew-1"], node=["worker-01"], jobs=[1]),
    "kinds-nobody-knows": lambda rows, _: same(rows, kind=["report"], jobs=[1]),
    "affinity-lines": lambda rows, _: same(rows, affinity=["customer-7"], waiting=[2], held_by=[5], status=["retry"]),
    "job-limits": lambda rows, _: same(rows, kind=["video"], at_once=[2], running=[1]),
    "paused-queues": lambda rows, _: same(rows, queue=["nightly"], paused_by=["an operator"]),
    "periodic-jobs": lambda rows, _: same(rows, name=["tidy"], last_status=[None]),
    "rebalances-last-hour": lambda rows, _: rows[0]["rebalance_count"] >= 3,
    "rebalance-history": lambda rows, _: rows[-1]["nodes_after"] == 1 and rows[-1]["tokens_moved"] == TOKENS,
    "leader-changes": lambda rows, _: rows == [],
    "moves-of-the-last-rebalance": moves_lead_here,
    "alerts": lambda rows, _: len(rows) == 5 and not any(column(rows[:3], "broken")),
    "sessions": lambda rows, _: same(rows, name=list(NAMES)) and all(column(rows, "state")),
    "who-holds-up-a-hand-over": lambda rows, _: rows == [],
    "server-identity": lambda rows, _: same(rows, generation=[1]) and rows[0]["system_id"].isdigit(),
    "sizes": lambda rows, _: {"sync_node", "sync_grant", "sync_lock"} <= set(column(rows, "table_name")),
}

# How many rows each change touches, after this was done to the fleet's past.
WRITES: dict[str, tuple[str, int]] = {
    "delete-orphaned-temporary-locks": ("", 1),  # model-3, for a week; model-1 is permanent, its creator left
    "delete-locks-of-a-node": ("", 2),
    "delete-expired-locks": (EXPIRE, 1),
    "request-a-nodes-removal": ("", 1),
    "run-failed-jobs-again": ("", 1),
    "take-back-expired-jobs": ("", 1),
    "cancel-waiting-jobs": ("", 1),
    "hurry-a-job": ("", 1),
    "delete-old-jobs": ("update sync_job_end set finished_at = now() - interval '4 days'", 3),
    "delete-old-claims": ("update sync_claim set created_on = now() - interval '8 days' where item = 'invoice-1'", 1),
    "delete-old-audits": ("update sync_audit set created_on = now() - interval '91 days' where item = 'invoice-1'", 1),
    "delete-old-rebalances": ("update sync_rebalance set triggered_at = now() - interval '31 days' where id = 1", 1),
    "delete-old-nodes": ("", 1),
    "delete-test-nodes": ("update sync_node set name = 'test-1' where name = 'worker-09'", 1),
}
VACUUMS = {"vacuum-nodes", "vacuum-grants", "vacuum-locks"}
APART = {"cut-a-node-off"}


def test_every_query_is_tested_and_every_test_has_its_query() -> None:
    assert READS.keys() | WRITES.keys() | VACUUMS | APART == STATEMENTS.keys()


@pytest.mark.parametrize("name", READS)
def test_a_query_shows_the_fleet_as_it_is(busy_cluster: Cluster, name: str) -> None:
    with busy_cluster.connect(row_factory=dict_row) as conn, conn.transaction(force_rollback=True):
        conn.execute(BEFORE.get(name, EXPIRE).encode())
        rows = conn.execute(STATEMENTS[name].encode()).fetchall()
    assert READS[name](rows, busy_cluster), rows


@pytest.mark.parametrize("name", WRITES)
def test_a_change_touches_what_it_should_and_no_more(busy_cluster: Cluster, name: str) -> None:
    before, touched = WRITES[name]
    with busy_cluster.connect() as conn, conn.transaction(force_rollback=True):
        if before:
            conn.execute(before.encode())
        assert conn.execute(STATEMENTS[name].encode()).rowcount == touched


@pytest.mark.parametrize("name", sorted(VACUUMS))
def test_tables_are_vacuumed_without_a_warning(busy_cluster: Cluster, name: str) -> None:
    told: list[str] = []
    with busy_cluster.connect() as conn:
        conn.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
        conn.execute(STATEMENTS[name].encode())
    assert told == []


def test_permanent_locks_of_a_node_that_left_are_spared(busy_cluster: Cluster) -> None:
    with busy_cluster.connect() as conn, conn.transaction(force_rollback=True):
        conn.execute(STATEMENTS["delete-orphaned-temporary-locks"].encode())
        left = conn.execute("select task_id from sync_lock order by task_id").fetchall()
    assert [task for (task,) in left] == ["kept", "model-1", "model-2", "old"]


def test_deleting_live_nodes_only_draws_notices(busy_cluster: Cluster) -> None:
    told: list[str] = []
    with busy_cluster.connect() as conn, conn.transaction(force_rollback=True):
        conn.add_notice_handler(lambda notice: told.append(notice.message_primary or ""))
        assert conn.execute("delete from sync_node where name like 'worker-0%'").rowcount == 1
    assert len(told) == 3
    assert len(busy_cluster.jobs[0].get_active_nodes()) == 3


def test_a_node_that_is_cut_off_comes_back(own_cluster: Cluster) -> None:
    third = own_cluster.jobs[2]
    with own_cluster.connect(row_factory=dict_row) as conn:
        before = conn.execute("select backend_pid from sync_node where name = 'worker-03'").fetchall()
        assert conn.execute(STATEMENTS["cut-a-node-off"].encode()).fetchall() == [{"name": "worker-03", "ended": True}]

        def is_back() -> bool:
            now = conn.execute("select backend_pid from sync_node where name = 'worker-03'").fetchall()
            return now != before and third.am_i_healthy() and len(third.my_tokens) > 30

        eventually(is_back, "the node has another session and its tokens")


def test_a_transaction_that_holds_up_a_hand_over_is_named(own_cluster: Cluster) -> None:
    job = own_cluster.jobs[0]
    task = job.get_my_task_ids(f"x-{number}" for number in range(50))[0]
    with own_cluster.connect(row_factory=dict_row) as conn, job.transaction(task) as mine:
        mine.execute("select from sync_grant for share")
        query = STATEMENTS["who-holds-up-a-hand-over"].encode()
        # A beat that is under way at the instant of the question holds its locks for a moment, and is named as well.
        eventually(
            lambda: column(conn.execute(query).fetchall(), "pid") == [mine.info.backend_pid],
            "it is named, and it alone",
        )


def test_alerts_break_when_a_node_is_missing(busy_cluster: Cluster) -> None:
    with busy_cluster.connect(row_factory=dict_row) as conn, conn.transaction(force_rollback=True):
        conn.execute("update sync_node set last_heartbeat = now() - interval '12 seconds' where name = 'worker-01'")
        silent = conn.execute(STATEMENTS["silent-nodes"].encode()).fetchall()
        alerts = conn.execute(STATEMENTS["alerts"].encode()).fetchall()
    assert column(silent, "name") == ["worker-01"]
    assert {row["rule"]: row["broken"] for row in alerts}["silent nodes"]


def test_a_query_of_the_sheet_that_is_wrong_is_noticed(busy_cluster: Cluster) -> None:
    with busy_cluster.connect(row_factory=dict_row) as conn:
        with pytest.raises(psycopg.errors.UndefinedTable):
            conn.execute(STATEMENTS["leader"].replace("sync_node", "sync_nodes").encode())
        rows = conn.execute(STATEMENTS["leader"].replace("order by created_on", "order by created_on desc").encode())
        with pytest.raises(AssertionError):
            READS["leader"](rows.fetchall(), busy_cluster)


# The diagnostics of the users' old table, with the view's name in its place.
OLD_DIAGNOSTICS = {
    "select * from sync_job where status in ('pending', 'retry') limit 10": [5, 6, 7, 10, 11],
    "select * from sync_job where locked_until > now()": [9],
    "select * from sync_job where locked_until < now() and status = 'processing'": [8],
    "select id, job_id, attempts, last_error from sync_job where status = 'failed' order by updated_at desc limit 10": [
        3
    ],
}


@pytest.mark.parametrize("query", OLD_DIAGNOSTICS)
def test_what_people_asked_of_their_own_table_is_answered_by_the_view(busy_cluster: Cluster, query: str) -> None:
    with busy_cluster.connect(row_factory=dict_row) as conn:
        rows = conn.execute(query.encode()).fetchall()
    assert sorted(column(rows, "id")) == OLD_DIAGNOSTICS[query]
