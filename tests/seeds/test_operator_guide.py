"""The operator guide: what it does in Python, and the states that it asks to check."""

import logging
from types import ModuleType

import pytest

from jobsync import CoordinationConfig, Job
from tests.api.jobs import eventually, query, settings
from tests.seeds.support import TOKENS


@pytest.fixture
def coord_config(server_dsn: str, prefix: str) -> CoordinationConfig:
    return settings(server_dsn, prefix, total_tokens=TOKENS)


def test_locks_of_a_decommissioned_node_are_removed(
    coord_config: CoordinationConfig, server_dsn: str, prefix: str
) -> None:
    with Job("old-worker-name", coordination_config=coord_config) as old:
        old.register_locks_bulk([(task_id, "gone-%", "orphaned") for task_id in range(5)])
    orphaned = (
        f"SELECT l.task_id FROM {prefix}lock l LEFT JOIN {prefix}node n ON l.created_by = n.name WHERE n.name IS NULL"
    )
    assert len(query(server_dsn, orphaned)) == 5
    with Job("admin", coordination_config=coord_config) as job:
        assert job.clear_locks_by_creator("old-worker-name") == 5
    assert query(server_dsn, orphaned) == []


def test_a_node_has_no_tokens_when_all_are_locked_to_others(coord_config: CoordinationConfig) -> None:
    few = CoordinationConfig(dsn=coord_config.dsn, appname=coord_config.appname, total_tokens=1)

    def provide(job: Job) -> None:
        job.register_lock("anything", "worker-01", "the only token")

    with (
        Job("worker-01", coordination_config=few, lock_provider=provide) as owner,
        Job("worker-02", coordination_config=few) as idle,
    ):
        assert len(owner.my_tokens) == 1
        assert len(idle.my_tokens) == 0
        assert idle.am_i_healthy()


def test_without_coordination_two_workers_do_the_same_task(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "jobsync")
    with Job("worker-01", coordination_config=None) as first, Job("worker-02", coordination_config=None) as second:
        assert first.can_claim_task("x")
        assert second.can_claim_task("x")
    assert "coordination is off: this process does every task" in caplog.text


@pytest.mark.parametrize(
    "given",
    [
        {"total_tokens": 50000, "heartbeat_interval_sec": 3},
        {"heartbeat_timeout_sec": 30, "rebalance_check_interval_sec": 60},
        {"heartbeat_interval_sec": 3, "heartbeat_timeout_sec": 9},
    ],
    ids=["large", "stable", "high churn"],
)
def test_each_recommended_setting(config: ModuleType, given: dict[str, int]) -> None:
    with Job("worker-01", config=config, coordination_config=CoordinationConfig(**given)) as job:  # type: ignore[arg-type]
        assert job.am_i_healthy()


def test_what_is_monitored(coord_config: CoordinationConfig, server_dsn: str, prefix: str) -> None:
    with (
        Job("worker-01", coordination_config=coord_config) as first,
        Job("worker-02", coordination_config=coord_config) as second,
    ):
        eventually(lambda: len(first.my_tokens) == len(second.my_tokens) == TOKENS // 2)
        status = first.get_coordination_status()
        assert (status["live_nodes"], status["leader"], status["tokens_owned"]) == (2, "worker-01", TOKENS // 2)
        assert [node["name"] for node in first.nodes] == ["worker-01", "worker-02"]
        assert first.get_dead_nodes() == []
        lag = query(server_dsn, f"select max(extract(epoch from now() - last_heartbeat)) from {prefix}node")[0][0]
        assert lag < 10
