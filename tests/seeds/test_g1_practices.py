"""The first usage guide: best practices."""

import logging
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from jobsync import CoordinationConfig, Job, Task
from jobsync.runtime.clock import PACE, boot_sec
from tests.api.jobs import eventually, query, settings
from tests.seeds.support import TOKENS, Until, db, time

logger = logging.getLogger("worker")


def process_tasks(job: Job) -> list[int]:
    done = [task_id for task_id in range(20) if job.can_claim_task(Task(task_id))]
    assert done == list(range(20))
    return done


@pytest.mark.parametrize("wait_on_enter", [60, 120, 180])
def test_use_appropriate_wait_times(config: ModuleType, wait_on_enter: int) -> None:
    began_sec = boot_sec()
    with Job("worker-01", config, wait_on_enter=wait_on_enter):
        assert boot_sec() - began_sec >= PACE.lasting_sec(wait_on_enter)


def test_implement_idempotent_processing(config: ModuleType, server_dsn: str, prefix: str) -> None:
    query(server_dsn, f"create table {prefix}results (task_id int)")

    def process_task_safely(task_id: int, cn: Any) -> None:
        if db.select_scalar(cn, f"select count(*) from {prefix}results where task_id = %s", task_id):
            return
        with cn.transaction():
            db.execute(cn, f"insert into {prefix}results values (%s)", task_id)

    with Job("worker-01", config) as job:
        for _ in range(2):
            process_task_safely(7, job._cn)
    assert query(server_dsn, f"select * from {prefix}results") == [(7,)]


def test_use_bulk_lock_registration(config: ModuleType) -> None:
    def register_locks(job: Job) -> None:
        locks = [(task_id, "worker-%", "special") for task_id in range(1_000)]
        job.register_locks_bulk(locks)

    def register_slowly(job: Job) -> None:
        for task_id in range(1_000, 1_010):
            job.register_lock(task_id, "worker-%", "special")

    for provider, count in ((register_locks, 1_000), (register_slowly, 1_010)):
        with Job("worker-01", config, lock_provider=provider) as job:
            assert len(job.list_locks()) == count
            process_tasks(job)


def test_monitor_rebalance_frequency(config: ModuleType, prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    def check_rebalance_frequency(cn: Any) -> int:
        sql = (
            f"SELECT COUNT(*) AS rebalance_count FROM {prefix}rebalance WHERE triggered_at > NOW() - INTERVAL '1 hour'"
        )
        count = int(db.select_scalar(cn, sql))
        if count > 5:
            logger.warning("High rebalance frequency: %d in last hour", count)
        return count

    for number in range(6):
        with Job(f"worker-{number}", config) as job:
            count = check_rebalance_frequency(job._cn)
    assert count == 6
    assert "High rebalance frequency: 6" in caplog.text


def test_use_descriptive_node_names(config: ModuleType) -> None:
    region, instance_id = "eu-west-1", "i-0abc"
    node_name = f"prod-worker-{region}-{instance_id}"
    with Job(node_name, config) as job:
        assert [node["name"] for node in job.get_active_nodes()] == ["prod-worker-eu-west-1-i-0abc"]


def test_document_lock_reasons(config: ModuleType) -> None:
    def register_locks(job: Job) -> None:
        job.register_lock(task_id=100, node_patterns=["gpu-v100-%", "%-gpu"], reason="requires_nvidia_v100_preferred")
        job.register_lock(task_id=200, node_patterns=["high-mem-01", "high-mem-%"], reason="requires_64gb_ram")
        job.register_lock(task_id=300, node_patterns=["us-east-1-%", "us-east-%", "us-%"], reason="data_in_us_east_s3")

    with Job("worker-01", config, lock_provider=register_locks) as job:
        reasons = [lock["reason"] for lock in job.list_locks()]
        assert reasons == ["requires_nvidia_v100_preferred", "requires_64gb_ram", "data_in_us_east_s3"]


def test_manage_the_lifecycle_of_locks(config: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def dynamic_locks(job: Job) -> None:
        job.register_locks_bulk([(task, "high-mem-%", "heavy") for task in (1, 2)])

    for name in ("old-1", "worker-01"):
        with Job(name, "production", config, lock_provider=dynamic_locks, clear_existing_locks=True) as job:
            process_tasks(job)
            job.register_lock(f"of {name}", "high-mem-%")
    with Job("admin", "production", config) as job:
        assert [node["name"] for node in job.nodes] == ["admin"], "in this form the admin is a node like any other"
        for lock in job.list_locks():
            patterns = lock["node_patterns"]
            print(f"Token {lock['token_id']}: {patterns} by {lock['created_by']}")
            if lock["created_by"].startswith("old-"):
                job.clear_locks_by_creator(lock["created_by"])
        assert sorted(lock["task_id"] for lock in job.list_locks()) == ["1", "2", "of worker-01"]
    assert "by old-1" in capsys.readouterr().out


def test_an_admin_beside_workers_joins_and_leaves(config: ModuleType, server_dsn: str, prefix: str) -> None:
    worker = Job("worker-01", coordination_config=settings(server_dsn, prefix, total_tokens=TOKENS))
    with worker:
        with Job("admin", "production", config) as job:
            eventually(lambda: len(worker.my_tokens) + len(job.my_tokens) == TOKENS)
            assert abs(len(worker.my_tokens) - len(job.my_tokens)) <= 1
            assert job.list_locks() == []
        eventually(lambda: len(worker.my_tokens) == TOKENS)


def test_health_checks_end_an_unhealthy_loop(config: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Job] = []
    rounds = 0
    with Job("worker-01", config) as job:
        served.append(job)
        keep_going = Until(lambda: False)
        while not keep_going():
            if not job.am_i_healthy():
                break
            process_tasks(job)
            rounds += 1
            if rounds == 3:
                monkeypatch.setattr(job, "am_i_healthy", lambda: False)
    assert rounds == 3


def test_log_meaningful_information(config: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "worker")
    with Job("worker-01", config) as job:
        logger.info("Starting processing: %d tokens assigned", len(job._my_tokens))
        logger.info("Completed %d tasks", len(process_tasks(job)))
        logger.debug("Token version: %s", job._token_version)
        assert f"Starting processing: {TOKENS} tokens assigned" in caplog.text
        assert f"Token version: {job.token_version}" in caplog.text


def test_keep_callbacks_fast(config: ModuleType) -> None:
    seen: list[str] = []

    def on_tokens_added(token_ids: set[int]) -> None:
        for token_id in token_ids:
            seen.append(f"slow {token_id}")
        threading.Thread(target=lambda: seen.append(f"heavy work for {len(token_ids)}")).start()

    with Job("worker-01", config, on_tokens_added=on_tokens_added) as job:
        process_tasks(job)
        eventually(lambda: f"heavy work for {TOKENS}" in seen)


def test_clear_existing_locks_where_they_are_dynamic(config: ModuleType) -> None:
    asked: list[object] = []

    def register_locks(job: Job) -> None:
        asked.append(job.date)
        job.register_locks_bulk([(task, "%-gpu", "gpu") for task in range(len(asked))])

    for count in (1, 2):
        with Job(node_name="worker-01", config=config, lock_provider=register_locks, clear_existing_locks=True) as job:
            process_tasks(job)
            assert len(job.list_locks()) == count
            assert asked[-1] == job.date


def monitored(start_processing: Callable[[int], object], said: list[str]) -> Callable[[set[int]], None]:
    def on_tokens_added(token_ids: set[int]) -> None:
        start = time.time()
        try:
            for token_id in token_ids:
                start_processing(token_id)
            said.append(f"Callback completed in {int((time.time() - start) * 1000)}ms")
        except Exception as error:
            said.append(f"Callback failed: {error}")

    return on_tokens_added


def broken(token_id: int) -> None:
    raise ConnectionError(f"no way to {token_id}")


@pytest.mark.parametrize(("start", "says"), [(int, "completed in"), (broken, "failed: no way")])
def test_monitor_callback_performance(config: ModuleType, start: Callable[[int], object], says: str) -> None:
    said: list[str] = []
    with Job("worker-01", config, on_tokens_added=monitored(start, said)) as job:
        process_tasks(job)
        eventually(lambda: said)
    assert says in said[0]


def test_test_in_staging_first(config: ModuleType) -> None:
    coord_config = CoordinationConfig(total_tokens=10000, heartbeat_interval_sec=5)
    with Job(node_name="staging-worker-01", config=config, coordination_config=coord_config) as job:
        assert len(job.my_tokens) == 10_000
        process_tasks(job)
