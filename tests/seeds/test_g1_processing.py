"""The first usage guide: patterns of processing, and health."""

# ruff: noqa: DTZ005 - naive times, as the guide has them

from collections.abc import Callable
from datetime import datetime, timedelta
from threading import Thread
from types import ModuleType
from typing import Any

import pytest

from jobsync import Job, Task
from tests.api.jobs import eventually, query
from tests.seeds.support import TOKENS, Flask, db, jsonify, time

ALL_TASKS = list(range(250))


def count(dsn: str, table: str) -> int:
    found = query(dsn, f"select count(*) from {table}")[0][0]
    assert isinstance(found, int)
    return found


# --- Task Processing Patterns ---------------------------------------------------------------------


def test_the_basic_loop(config: ModuleType, server_dsn: str, prefix: str) -> None:
    results: dict[int, int] = {}
    with Job(node_name="worker-01", config=config, wait_on_enter=120) as job:
        for task_id in ALL_TASKS:
            task = Task(task_id)
            if job.can_claim_task(task):
                job.add_task(task)
                results[task_id] = task_id * task_id
        job.write_audit()
    assert sorted(results) == ALL_TASKS
    assert count(server_dsn, f"{prefix}audit") == len(ALL_TASKS)


def get_incomplete_tasks(job: Job) -> list[Task]:
    sql = f"""
        SELECT DISTINCT claims.item
          FROM {job._tables["Claim"]} claims
          LEFT JOIN {job._tables["Audit"]} audits ON claims.item = audits.item AND audits.date = %s
         WHERE audits.item IS NULL AND claims.created_on < %s
    """
    cutoff = datetime.now() - timedelta(minutes=5)
    incomplete = db.select(job._cn, sql, job.date, cutoff)
    return [Task(row["item"]) for row in incomplete.to_dict("records")]


def test_recovery_of_incomplete_tasks(config: ModuleType, server_dsn: str, prefix: str) -> None:
    with Job(node_name="worker-00", config=config) as gone:
        for item in ("left-1", "left-2", "done"):
            gone.add_task(Task(item))
    with Job(node_name="worker-00", config=config) as gone:
        gone.add_task("done")
        gone.write_audit()
    query(server_dsn, f"update {prefix}claim set created_on = created_on - interval '6 minutes'")
    processed: list[object] = []
    with Job(node_name="worker-01", config=config, wait_on_enter=120) as job:
        incomplete_tasks = get_incomplete_tasks(job)
        assert sorted(str(task.id) for task in incomplete_tasks) == ["left-1", "left-2"]
        assert sorted(str(task.id) for task in job.get_incomplete_tasks()) == ["left-1", "left-2"]
        for task in incomplete_tasks:
            if job.can_claim_task(task):
                job.add_task(task)
                processed.append(task.id)
        for task_id in ("new-1",):
            task = Task(task_id)
            if job.can_claim_task(task):
                job.add_task(task)
                processed.append(task_id)
        job.write_audit()
        assert get_incomplete_tasks(job) == []
    assert sorted(map(str, processed)) == ["left-1", "left-2", "new-1"]


def test_idempotent_processing_on_the_jobs_own_connection(config: ModuleType, server_dsn: str, prefix: str) -> None:
    query(server_dsn, f"create table {prefix}results (task_id int primary key, result int, completed_at timestamptz)")
    computed: list[int] = []

    def process_task_idempotent(task_id: int, cn: Any) -> None:
        if db.select_scalar(cn, f"SELECT COUNT(*) FROM {prefix}results WHERE task_id = %s", task_id) > 0:
            return
        with cn.transaction():
            computed.append(task_id)
            sql = f"INSERT INTO {prefix}results VALUES (%s, %s, %s) ON CONFLICT (task_id) DO NOTHING"
            db.execute(cn, sql, task_id, task_id * 2, datetime.now())

    for _ in range(2):
        with Job(node_name="worker-01", config=config, wait_on_enter=120) as job:
            for task_id in range(20):
                if job.can_claim_task(Task(task_id)):
                    process_task_idempotent(task_id, job._cn)
    assert computed == list(range(20))
    assert count(server_dsn, f"{prefix}results") == 20


def test_processing_in_batches(config: ModuleType, server_dsn: str, prefix: str) -> None:
    batches: list[list[int]] = []
    with Job(node_name="worker-01", config=config, wait_on_enter=120) as job:
        batch: list[int] = []
        batch_size = 100
        for task_id in ALL_TASKS:
            task = Task(task_id)
            if job.can_claim_task(task):
                job.add_task(task)
                batch.append(task_id)
                if len(batch) >= batch_size:
                    batches.append(batch)
                    batch = []
        if batch:
            batches.append(batch)
        job.write_audit()
    assert [len(each) for each in batches] == [100, 100, 50]
    assert count(server_dsn, f"{prefix}audit") == 250


def test_a_loop_that_goes_on_until_nothing_is_pending(config: ModuleType) -> None:
    pending = [["a", "b"], ["c"], []]
    asked_for: list[object] = []
    done: list[str] = []

    def get_pending_tasks(date: object) -> list[str]:
        asked_for.append(date)
        return pending.pop(0)

    with Job(node_name="worker-01", config=config, wait_on_enter=120) as job:
        while True:
            processed_count = 0
            for task_id in get_pending_tasks(job.date):
                task = Task(task_id)
                if job.can_claim_task(task):
                    job.add_task(task)
                    done.append(task_id)
                    processed_count += 1
            if processed_count > 0:
                job.write_audit()
            if processed_count == 0:
                break
            time.sleep(5)
        assert {row["item"] for row in job.get_audit()} == {"a", "b", "c"}
        assert asked_for == [job.date] * 3
    assert done == ["a", "b", "c"]


# --- Health Monitoring ----------------------------------------------------------------------------


@pytest.fixture
def web() -> tuple[Flask, Callable[[Job | None], None]]:
    app = Flask(__name__)
    holder: list[Job | None] = [None]

    @app.route("/health/ready")
    def health_ready() -> Any:
        job_instance = holder[0]
        if job_instance and job_instance.am_i_healthy():
            shown = {
                "status": "ready",
                "node": job_instance.node_name,
                "token_count": len(job_instance._my_tokens),
            }
            return jsonify(shown), 200
        return jsonify({"status": "not_ready"}), 503

    @app.route("/health/live")
    def health_live() -> Any:
        return jsonify({"status": "alive"}), 200

    def serve(job: Job | None) -> None:
        holder[0] = job

    return app, serve


def test_a_health_check_for_load_balancers(config: ModuleType, web: tuple[Flask, Callable[[Job | None], None]]) -> None:
    app, serve = web
    assert app.get("/health/ready") == ({"status": "not_ready"}, 503)
    with Job(node_name="worker-01", config=config, wait_on_enter=120) as job:
        serve(job)
        health_thread = Thread(target=lambda: app.run(host="0.0.0.0", port=8080))
        health_thread.daemon = True
        health_thread.start()
        eventually(app.is_serving.is_set)
        assert app.get("/health/ready") == ({"status": "ready", "node": "worker-01", "token_count": TOKENS}, 200)
        assert app.get("/health/live") == ({"status": "alive"}, 200)
    assert app.get("/health/ready") == ({"status": "not_ready"}, 503)
    assert app.get("/health/live") == ({"status": "alive"}, 200)
    app.is_shut.set()
    assert app.served == [("0.0.0.0", 8080)]


def check_node_health(job: Job) -> dict[str, Any]:
    return {
        "node_name": job.node_name,
        "is_healthy": job.am_i_healthy(),
        "is_leader": job.am_i_leader(),
        "token_count": len(job._my_tokens),
        "token_version": job._token_version,
        "last_heartbeat": job._last_heartbeat_sent,
        "active_nodes": len(job.get_active_nodes()),
        "coordination_enabled": job._coordination_enabled,
    }


def test_a_health_check_by_hand(config: ModuleType) -> None:
    with Job(node_name="worker-01", config=config, wait_on_enter=120) as job:
        health = check_node_health(job)
        heard = health.pop("last_heartbeat")
        assert heard.tzinfo is not None
        assert health == {
            "node_name": "worker-01",
            "is_healthy": True,
            "is_leader": True,
            "token_count": TOKENS,
            "token_version": job.token_version,
            "active_nodes": 1,
            "coordination_enabled": True,
        }
        eventually(lambda: check_node_health(job)["last_heartbeat"] > heard)
