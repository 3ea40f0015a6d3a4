"""The first usage guide: creating jobs, configuring coordination."""

# ruff: noqa: DTZ001 - naive times, as the guide has them

from datetime import date, datetime
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from jobsync import CoordinationConfig, Job, Task
from jobsync.runtime.clock import boot_sec
from tests.api.jobs import in_thread, query
from tests.seeds.support import TOKENS, db

PENDING = list(range(40))


def audited(dsn: str, prefix: str) -> list[tuple[str, str]]:
    return [(node, item) for node, item in query(dsn, f"select node, item from {prefix}audit order by item")]


# --- Basic Job Creation ---------------------------------------------------------------------------


def work_off_pending(config: ModuleType, node_name: str, done: list[tuple[str, int]]) -> None:
    with Job(node_name=node_name, config=config, wait_on_enter=120) as job:
        for task_id in PENDING:
            task = Task(task_id)
            if job.can_claim_task(task):
                job.add_task(task)
                done.append((node_name, task_id))
        job.write_audit()


def test_a_simple_job_without_locks(config: ModuleType, server_dsn: str, prefix: str) -> None:
    done: list[tuple[str, int]] = []
    began_sec = boot_sec()
    work_off_pending(config, "worker-01", done)
    assert boot_sec() - began_sec >= 0.5, "the grace period was not waited"
    assert [task_id for _, task_id in done] == PENDING
    assert sorted(audited(server_dsn, prefix)) == sorted(("worker-01", str(task_id)) for task_id in PENDING)


@pytest.mark.slow
def test_a_simple_job_with_the_printed_wait_in_full(config: ModuleType) -> None:
    done: list[tuple[str, int]] = []
    began_sec = boot_sec()
    with in_thread(lambda: work_off_pending(config, "worker-02", done)) as other:
        work_off_pending(config, "worker-01", done)
        other.join(60)
    assert boot_sec() - began_sec >= 120
    assert sorted(task_id for _, task_id in done) == PENDING, "each task once"
    assert {node for node, _ in done} == {"worker-01", "worker-02"}


def test_a_job_for_a_given_date(config: ModuleType, tasks_table: str, server_dsn: str, prefix: str) -> None:
    def process_historical_date(date: datetime) -> None:
        with Job(node_name="worker-01", config=config, date=date, wait_on_enter=120) as job:
            sql = f"SELECT task_id FROM {tasks_table} WHERE date = %s AND status = 'pending'"
            found = db.select(job._cn, sql, date)
            for row in found.to_dict("records"):
                task = Task(row["task_id"])
                if job.can_claim_task(task):
                    job.add_task(task)
                    results.append(row["task_id"])
            job.write_audit()

    results: list[int] = []
    process_historical_date(datetime(2024, 2, 29))
    assert sorted(results) == list(range(1, 13))
    assert query(server_dsn, f"select distinct date from {prefix}audit") == [(date(2024, 2, 29),)]


# --- Coordination Configuration -------------------------------------------------------------------


def test_coordination_config_outranks_the_config_module(config: ModuleType, server_dsn: str, prefix: str) -> None:
    coord_config = CoordinationConfig(
        enabled=True,
        total_tokens=5000,
        heartbeat_interval_sec=10,
        heartbeat_timeout_sec=30,
        rebalance_check_interval_sec=60,
        dead_node_check_interval_sec=20,
        token_refresh_initial_interval_sec=2,
        token_refresh_steady_interval_sec=60,
        locks_enabled=True,
        leader_lock_timeout_sec=60,
        health_check_interval_sec=60,
    )
    with Job(node_name="worker-01", config=config, wait_on_enter=180, coordination_config=coord_config) as job:
        assert len(job.my_tokens) == 5000
        assert query(server_dsn, f"select count(*) from {prefix}token") == [(5000,)]


def test_a_job_with_coordination_disabled_does_every_task(config: ModuleType) -> None:
    coord_config = CoordinationConfig(enabled=False)
    done = []
    with Job(node_name="worker-01", config=config, coordination_config=coord_config) as job:
        for task_id in PENDING:
            done.append(task_id)
        assert all(job.can_claim_task(Task(task_id)) for task_id in PENDING)
    assert done == PENDING


@pytest.mark.parametrize(
    "given",
    [
        {
            "total_tokens": 50000,
            "heartbeat_interval_sec": 3,
            "heartbeat_timeout_sec": 10,
            "rebalance_check_interval_sec": 15,
            "dead_node_check_interval_sec": 5,
            "token_refresh_steady_interval_sec": 10,
        },
        {
            "heartbeat_interval_sec": 10,
            "heartbeat_timeout_sec": 30,
            "rebalance_check_interval_sec": 60,
            "token_refresh_steady_interval_sec": 60,
        },
        {
            "heartbeat_interval_sec": 3,
            "heartbeat_timeout_sec": 9,
            "dead_node_check_interval_sec": 5,
            "rebalance_check_interval_sec": 15,
            "token_refresh_initial_interval_sec": 3,
            "token_refresh_steady_interval_sec": 10,
        },
    ],
    ids=["large", "stable", "high churn"],
)
def test_each_tuning_that_the_guide_prints_makes_a_fleet(config: ModuleType, given: dict[str, Any]) -> None:
    coord_config = CoordinationConfig(**given)
    with Job(node_name="worker-01", config=config, coordination_config=coord_config) as job:
        assert len(job.my_tokens) == given.get("total_tokens", TOKENS)
        assert job.am_i_healthy()


def test_configuration_by_the_config_module_alone(server_dsn: str, config: ModuleType) -> None:
    config.sync.coordination = SimpleNamespace(
        enabled=True, total_tokens=5000, heartbeat_interval_sec=10, heartbeat_timeout_sec=30
    )
    with Job(node_name="worker-01", config=config) as job:
        assert job.status().total_tokens == 5000
        assert len(job.my_tokens) == 5000
