"""The second usage guide: `CoordinationConfig` holds the connection, and one callback tells of every change."""

import logging
import threading
from typing import Any

import psycopg
import pytest

from jobsync import CoordinationConfig, EnterTimeout, Job, Task, recommended_tokens
from jobsync.runtime.clock import PACE, boot_sec
from tests.api.jobs import eventually
from tests.seeds.support import TOKENS, Flask, Until, jsonify, time

logger = logging.getLogger("worker")
ALL_TASKS = list(range(60))


@pytest.fixture
def connection(server_dsn: str, prefix: str) -> dict[str, Any]:
    """Give the connection's fields as a user of this guide writes them down."""
    given = psycopg.conninfo.conninfo_to_dict(server_dsn)
    return {
        "host": given.get("host", "localhost"),
        "port": int(given.get("port") or 5432),
        "dbname": given.get("dbname", "postgres"),
        "user": given.get("user", "postgres"),
        "password": given.get("password", "postgres"),
        "appname": prefix,
    }


@pytest.fixture
def coord_config(connection: dict[str, Any]) -> CoordinationConfig:
    return CoordinationConfig(**connection, total_tokens=TOKENS)


# --- Basic Usage ----------------------------------------------------------------------------------


def test_a_batch_on_three_nodes_that_wait_for_each_other(
    connection: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Three nodes must start within the grace period, on a busy machine too.
    monkeypatch.setattr(PACE, "factor", 1 / 20)
    coord_config = CoordinationConfig(**connection, minimum_nodes=3)
    done: list[tuple[str, int]] = []
    waited_sec: list[float] = []

    def work(node_name: str) -> None:
        began_sec = boot_sec()
        with Job(node_name, coordination_config=coord_config, wait_on_enter=60) as job:
            waited_sec.append(boot_sec() - began_sec)
            for task_id in ALL_TASKS:
                task = Task(task_id)
                if job.can_claim_task(task):
                    job.add_task(task)
                    done.append((node_name, task_id))
            job.write_audit()
            # Who left early would hand its tokens to those that have not walked the list yet.
            finished.wait(30)

    finished = threading.Barrier(3)
    workers = [threading.Thread(target=work, args=(f"worker-0{number}",)) for number in (1, 2, 3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert sorted(task_id for _, task_id in done) == ALL_TASKS, "each task exactly once"
    assert {node for node, _ in done} == {"worker-01", "worker-02", "worker-03"}
    assert min(waited_sec) >= 3.0


def test_too_few_nodes_after_the_grace_period(connection: dict[str, Any]) -> None:
    coord_config = CoordinationConfig(**connection, minimum_nodes=3)
    with (
        pytest.raises(EnterTimeout, match=r"for 3 live nodes and saw 1") as refused,
        Job("worker-01", coordination_config=coord_config, wait_on_enter=60),
    ):
        pass
    assert isinstance(refused.value, TimeoutError)


def test_a_grace_period_shorter_than_joining_takes(coord_config: CoordinationConfig) -> None:
    with Job("worker-01", coordination_config=coord_config, wait_on_enter=0) as job:
        assert len(job.my_tokens) == TOKENS


def test_a_job_without_coordination() -> None:
    done = []
    with Job("worker-01", coordination_config=None) as job:
        for task_id in ALL_TASKS:
            done.append(task_id)
        assert all(job.can_claim_task(task_id) for task_id in ALL_TASKS)
    assert done == ALL_TASKS


# --- Configuration --------------------------------------------------------------------------------


def test_the_parameters_that_the_guide_prints(connection: dict[str, Any]) -> None:
    coord_config = CoordinationConfig(
        **connection,
        total_tokens=10000,
        minimum_nodes=1,
        heartbeat_interval_sec=5,
        heartbeat_timeout_sec=15,
        rebalance_check_interval_sec=30,
    )
    with Job("worker-01", coordination_config=coord_config) as job:
        assert len(job.my_tokens) == 10_000
    assert CoordinationConfig(**connection) == coord_config, "they are the defaults"


@pytest.mark.parametrize(
    ("total_tokens", "wait_on_enter", "interval_sec", "timeout_sec"),
    [
        (10000, 120, 5, 15),
        (10000, 60, 5, 15),
        (50000, 120, 3, 10),
        (10000, 120, 10, 30),
        (10000, 60, 3, 9),
        (1000, 30, 5, 15),
        (5000, 30, 5, 15),
    ],
)
def test_each_tuning_of_the_table(
    connection: dict[str, Any], total_tokens: int, wait_on_enter: int, interval_sec: int, timeout_sec: int
) -> None:
    coord_config = CoordinationConfig(
        **connection,
        total_tokens=total_tokens,
        minimum_nodes=1,
        heartbeat_interval_sec=interval_sec,
        heartbeat_timeout_sec=timeout_sec,
    )
    with Job("worker-01", coordination_config=coord_config, wait_on_enter=wait_on_enter) as job:
        assert len(job.my_tokens) == total_tokens


@pytest.mark.parametrize("nodes", [2, 5, 10, 20, 50])
def test_the_table_of_token_counts(nodes: int) -> None:
    tasks = (1_000, 2_500, 5_000, 7_500, 10_000, 50_000)
    assert [recommended_tokens(each, nodes) for each in tasks] == [10_000, 25_000, 50_000, 75_000, 100_000, 500_000]


@pytest.mark.parametrize("hash_function", ["md5", "sha256", "double_sha256"])
def test_each_hash_function(connection: dict[str, Any], hash_function: str) -> None:
    coord_config = CoordinationConfig(**connection, hash_function=hash_function)
    with Job("worker-01", coordination_config=coord_config) as job:
        assert all(job.can_claim_task(task_id) for task_id in ALL_TASKS)
        assert job.status().total_tokens == 10_000


# --- Task Locking ---------------------------------------------------------------------------------


def test_gpu_locks(coord_config: CoordinationConfig) -> None:
    gpu_tasks = [3, 5, 7]

    def register_gpu_locks(job: Job) -> None:
        locks = [(task_id, "%-gpu", "requires_gpu") for task_id in gpu_tasks]
        job.register_locks_bulk(locks)

    done = []
    with (
        Job("worker-01", coordination_config=coord_config) as plain,
        Job("worker-gpu-01-gpu", coordination_config=coord_config, lock_provider=register_gpu_locks) as job,
    ):
        eventually(lambda: all(job.can_claim_task(Task(each)) for each in gpu_tasks))
        for task_id in ALL_TASKS:
            if job.can_claim_task(Task(task_id)):
                done.append(task_id)
        assert not any(plain.can_claim_task(Task(each)) for each in gpu_tasks)
    assert set(gpu_tasks) < set(done)


def test_fallback_patterns(coord_config: CoordinationConfig) -> None:
    def register_locks_with_fallback(job: Job) -> None:
        job.register_lock(task_id=100, node_patterns=["gpu-primary-01", "%-gpu"], reason="prefer_primary")
        job.register_lock(task_id=200, node_patterns=["us-east-1-%", "us-east-%", "us-%"], reason="data_locality")

    with (
        Job("us-east-7", coordination_config=coord_config, lock_provider=register_locks_with_fallback) as east,
        Job("second-gpu", coordination_config=coord_config) as gpu,
    ):
        eventually(lambda: gpu.can_claim_task(100) and east.can_claim_task(200))


def test_dynamic_and_static_locks(coord_config: CoordinationConfig) -> None:
    heavy = [1, 2]

    def register_heavy(job: Job) -> None:
        job.register_locks_bulk([(t, "high-mem-%", "heavy") for t in heavy])

    def register_customer(job: Job) -> None:
        job.register_lock("customer-X", "east-%", "data_locality")

    found = []
    for provider, clear in ((register_customer, False), (register_heavy, False), (register_heavy, True)):
        with Job(
            "worker-01",
            coordination_config=coord_config,
            lock_provider=provider,
            clear_existing_locks=clear,
        ) as job:
            found.append({lock["task_id"] for lock in job.list_locks()})
    assert found == [{"customer-X"}, {"customer-X", "1", "2"}, {"1", "2"}]


# --- Long-Running Tasks, Monitoring ---------------------------------------------------------------


def test_on_rebalance_tells_of_every_change(coord_config: CoordinationConfig) -> None:
    owned: list[int] = []

    def on_rebalance() -> None:
        current_tokens = job.my_tokens
        owned.append(len(current_tokens))

    def has_come_and_gone() -> bool:
        steps = [count for number, count in enumerate(owned) if number == 0 or owned[number - 1] != count]
        if steps == [TOKENS]:
            with Job("worker-02", coordination_config=coord_config):
                eventually(lambda: owned[-1] == TOKENS // 2)
        return steps == [TOKENS, TOKENS // 2, TOKENS]

    shutdown = Until(has_come_and_gone)
    with Job("worker-01", coordination_config=coord_config, on_rebalance=on_rebalance) as job:
        while not shutdown():
            time.sleep(1)


def test_health_for_a_load_balancer(coord_config: CoordinationConfig) -> None:
    app = Flask(__name__)

    @app.route("/health/ready")
    def health() -> Any:
        if job.am_i_healthy():
            return jsonify({"status": "ready"}), 200
        return jsonify({"status": "not_ready"}), 503

    with Job("worker-01", coordination_config=coord_config) as job:
        assert app.get("/health/ready") == ({"status": "ready"}, 200)
    assert app.get("/health/ready") == ({"status": "not_ready"}, 503)
