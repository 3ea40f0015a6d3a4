"""The first usage guide: locks and pins."""

import logging
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest

from jobsync import CoordinationConfig, Job, Task
from tests.api.jobs import eventually, query, settings
from tests.seeds.support import TOKENS, db

DAY = "2024-02-29"


def other_node(dsn: str, prefix: str, name: str) -> Job:
    return Job(name, coordination_config=settings(dsn, prefix, total_tokens=TOKENS))


def patterns_by_task(job: Job) -> dict[str, list[str]]:
    return {lock["task_id"]: lock["node_patterns"] for lock in job.list_locks()}


def test_a_single_lock_with_an_expiry(config: ModuleType, server_dsn: str, prefix: str) -> None:
    def register_locks(job: Job) -> None:
        job.register_lock(task_id=12345, node_patterns="worker-01", reason="high_memory_required", expires_in_days=7)

    done: list[int] = []
    with (
        other_node(server_dsn, prefix, "worker-02") as second,
        Job(node_name="worker-01", config=config, lock_provider=register_locks) as job,
    ):
        eventually(lambda: job.can_claim_task(12345))
        assert not second.can_claim_task(12345)
        for task_id in (1, 2, 12345):
            task = Task(task_id)
            if job.can_claim_task(task):
                job.add_task(task)
                done.append(task_id)
        assert 12345 in done
        (lock,) = job.list_locks()
        assert (lock["reason"], lock["created_by"]) == ("high_memory_required", "worker-01")
        assert abs(lock["expires_at"] - lock["created_at"] - timedelta(days=7)) < timedelta(minutes=1)


def test_locks_in_bulk_from_a_query_on_the_jobs_connection(config: ModuleType, tasks_table: str) -> None:
    def register_locks(job: Job) -> None:
        sql = f"SELECT task_id, required_node FROM {tasks_table} WHERE date = %s AND required_node IS NOT NULL"
        tasks = db.select(job._cn, sql, job.date)
        locks = []
        for task in tasks.to_dict("records"):
            nodes = [name.strip() for name in task["required_node"].split(",")]
            locks.append((task["task_id"], nodes, "resource_requirement"))
        if locks:
            job.register_locks_bulk(locks)

    with Job(node_name="worker-01", config=config, lock_provider=register_locks, date=DAY) as job:
        assert patterns_by_task(job) == {each: ["worker-01", "worker-%"] for each in ("4", "8", "12")}


def test_each_kind_of_pattern(config: ModuleType) -> None:
    def register_pattern_locks(job: Job) -> None:
        job.register_lock(task_id=100, node_patterns="prod-node-01", reason="exact_node")
        job.register_lock(task_id=200, node_patterns="prod-%", reason="any_prod_node")
        job.register_lock(task_id=300, node_patterns="%-gpu", reason="gpu_required")
        job.register_lock(task_id=400, node_patterns="%special%", reason="special_nodes_only")
        job.register_lock(
            task_id=500,
            node_patterns=["prod-gpu-01", "prod-gpu-%", "%-gpu"],
            reason="prefer_primary_gpu_with_fallback",
        )
        job.register_lock(
            task_id=600, node_patterns=["us-east-1-%", "us-east-%", "us-%"], reason="regional_data_locality"
        )

    with Job("worker-01", config, lock_provider=register_pattern_locks) as job:
        assert patterns_by_task(job) == {
            "100": ["prod-node-01"],
            "200": ["prod-%"],
            "300": ["%-gpu"],
            "400": ["%special%"],
            "500": ["prod-gpu-01", "prod-gpu-%", "%-gpu"],
            "600": ["us-east-1-%", "us-east-%", "us-%"],
        }


# --- Lock Lifecycle Management --------------------------------------------------------------------


def test_dynamic_locks_begin_anew_each_run(config: ModuleType) -> None:
    heavy_queries = [1, 2, 3]

    def register_current_locks(job: Job) -> None:
        locks = [(task_id, "high-mem-%", "heavy_query") for task_id in heavy_queries]
        if locks:
            job.register_task_locks_bulk(locks)

    found = []
    for heavy_queries in ([1, 2, 3], [3, 4]):  # noqa: B007 - what the provider finds changes from run to run
        with Job(
            node_name="worker-01", config=config, lock_provider=register_current_locks, clear_existing_locks=True
        ) as job:
            found.append(sorted(patterns_by_task(job)))
            # No node of high memory is here, so every task may be done by this one.
            assert all(job.can_claim_task(Task(task_id)) for task_id in range(10))
    assert found == [["1", "2", "3"], ["3", "4"]]


def test_static_locks_outlive_the_run(config: ModuleType) -> None:
    def register_permanent_locks(job: Job) -> None:
        job.register_task_lock("customer-X", "node-east-%", "data_locality")
        job.register_task_lock("customer-Y", "node-west-%", "data_locality")

    for node_name in ("worker-east-01", "worker-east-02"):
        with Job(
            node_name=node_name, config=config, lock_provider=register_permanent_locks, clear_existing_locks=False
        ) as job:
            assert sorted(patterns_by_task(job)) == ["customer-X", "customer-Y"]
    with Job("worker-01", config) as job:
        assert sorted(patterns_by_task(job)) == ["customer-X", "customer-Y"]


def test_locks_are_managed_by_hand(config: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with Job("old-worker-01", config) as old:
        old.register_locks_bulk([(n, ["a-%", "b-%"], "old") for n in range(3)])
    with Job("worker-00", config) as old:
        old.register_lock("kept", "c-%")
    with Job("worker-01", config) as job:
        locks = job.list_locks()
        for lock in locks:
            patterns_str = " -> ".join(lock["node_patterns"])
            print(f"Token {lock['token_id']}: {patterns_str} (created by {lock['created_by']})")
        assert job.clear_locks_by_creator("old-worker-01") == 3
        assert list(patterns_by_task(job)) == ["kept"]
        assert job.clear_all_locks() == 1
        assert all(job.can_claim_task(Task(task_id)) for task_id in range(10))
    assert capsys.readouterr().out.count("a-% -> b-% (created by old-worker-01)") == 3


def test_locks_from_requirements_in_a_table(
    config: ModuleType, tasks_table: str, caplog: pytest.LogCaptureFixture
) -> None:
    def register_locks(job: Job) -> None:
        sql = f"SELECT task_id, required_resource, priority FROM {tasks_table} WHERE date = %s"
        locks: list[tuple[Any, ...]] = []
        for row in db.select(job._cn, sql, job.date).to_dict("records"):
            match row["required_resource"], row["priority"]:
                case "gpu", "high":
                    locks.append((row["task_id"], ["gpu-primary", "%-gpu"], "high_priority_gpu"))
                case "gpu", _:
                    locks.append((row["task_id"], "%-gpu", "gpu_required"))
                case "high_memory", _:
                    locks.append((row["task_id"], ["high-mem-01", "high-mem-%"], "memory_required"))
        if locks:
            job.register_locks_bulk(locks)
            logging.getLogger("worker").info("registered %d locks for %s", len(locks), job.date)

    caplog.set_level(logging.INFO, "worker")
    with Job(
        node_name="worker-01", config=config, lock_provider=register_locks, clear_existing_locks=True, date=DAY
    ) as job:
        current_locks = job.list_locks()
        reasons = {lock["task_id"]: lock["reason"] for lock in current_locks}
    assert len(reasons) == 8
    assert {reasons["6"], reasons["3"], reasons["1"]} == {"high_priority_gpu", "gpu_required", "memory_required"}
    assert f"registered 8 locks for {DAY}" in caplog.text


# --- Fallback Pattern Support ---------------------------------------------------------------------


def test_patterns_are_tried_in_order(config: ModuleType, server_dsn: str, prefix: str) -> None:
    def register_locks_with_fallback(job: Job) -> None:
        job.register_lock(task_id=100, node_patterns=["gpu-primary-01", "gpu-pool-%"], reason="prefer_primary")
        job.register_lock(
            task_id=200,
            node_patterns=["us-east-1a-%", "us-east-1-%", "us-east-%", "us-%"],
            reason="data_locality",
        )
        job.register_lock(
            task_id=300, node_patterns=["xlarge-mem-%", "large-mem-%", "medium-mem-%"], reason="memory_tiering"
        )
        job.register_lock(task_id=400, node_patterns="special-node-only", reason="exact_match_required")

    with (
        Job("gpu-pool-7", config, lock_provider=register_locks_with_fallback) as pool,
        other_node(server_dsn, prefix, "us-west-2"),
    ):
        eventually(lambda: pool.can_claim_task(100))
        with other_node(server_dsn, prefix, "gpu-primary-01") as primary:
            eventually(lambda: primary.can_claim_task(100))
            assert not pool.can_claim_task(100)
        eventually(lambda: pool.can_claim_task(100))
    stored = query(server_dsn, f"select task_id, jsonb_typeof(node_patterns) from {prefix}lock order by task_id")
    assert stored == [(each, "array") for each in ("100", "200", "300", "400")]


def test_gpu_tasks_go_to_the_gpu_node(config: ModuleType, tasks_table: str, server_dsn: str, prefix: str) -> None:
    def register_gpu_locks(job: Job) -> None:
        sql = f"SELECT task_id, priority FROM {tasks_table} WHERE requires_gpu = true AND date = %s"
        locks: list[tuple[Any, ...]] = []
        for row in db.select(job._cn, sql, job.date).to_dict("records"):
            if row["priority"] == "high":
                locks.append((row["task_id"], ["gpu-primary", "%-gpu"], "high_priority_gpu"))
            else:
                locks.append((row["task_id"], "%-gpu", "gpu_required"))
        if locks:
            job.register_locks_bulk(locks)

    done: list[int] = []
    coordination = CoordinationConfig(dsn=server_dsn, appname=prefix, total_tokens=TOKENS)
    with Job("worker-01", coordination_config=coordination) as plain:
        with Job(node_name="worker-01-gpu", config=config, lock_provider=register_gpu_locks, date=DAY) as job:
            eventually(lambda: all(job.can_claim_task(n) for n in (3, 6, 9, 12)))
            for task_id in range(1, 13):
                task = Task(task_id)
                if job.can_claim_task(task):
                    job.add_task(task)
                    done.append(task_id)
            assert not any(plain.can_claim_task(n) for n in (3, 6, 9, 12))
        assert {3, 6, 9, 12} <= set(done)
