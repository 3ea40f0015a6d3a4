"""The older README: settings from `SYNC_` variables, `Job(name, environment, config)`."""

import threading
from typing import Any

import psycopg
import pytest

from jobsync import CoordinationConfig, Job, Task, config
from tests.api.jobs import eventually, query, settings
from tests.seeds.support import TOKENS, Flask, db, time

ITEMS = list(range(50))


@pytest.fixture(autouse=True)
def variables(server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Export what the README exports."""
    given = psycopg.conninfo.conninfo_to_dict(server_dsn)
    exported = {
        "SYNC_SQL_HOST": given.get("host", "localhost"),
        "SYNC_SQL_DATABASE": given.get("dbname", "postgres"),
        "SYNC_SQL_USERNAME": given.get("user", "postgres"),
        "SYNC_SQL_PASSWORD": given.get("password", "postgres"),
        "SYNC_SQL_PORT": given.get("port", "5432"),
        "SYNC_SQL_APPNAME": prefix,
        "SYNC_COORDINATION_ENABLED": "true",
        "SYNC_TOTAL_TOKENS": str(TOKENS),
        "SYNC_HEARTBEAT_INTERVAL": "5",
        "SYNC_HEARTBEAT_TIMEOUT": "15",
        "SYNC_REBALANCE_INTERVAL": "30",
        "SYNC_TOKEN_REFRESH_STEADY": "30",
    }
    for variable, value in exported.items():
        monkeypatch.setenv(variable, str(value))


@pytest.fixture
def second(server_dsn: str, prefix: str) -> Job:
    """Give another worker of the same fleet, not yet entered."""
    return Job("worker-02", coordination_config=settings(server_dsn, prefix, total_tokens=TOKENS))


def process_tasks(job: Job) -> None:
    assert all(job.can_claim_task(item) for item in ITEMS)


def test_the_basic_example(second: Job) -> None:
    done = []
    with second, Job("worker-01", "production", config) as job:
        eventually(lambda: len(job.my_tokens) == TOKENS // 2)
        for item_id in ITEMS:
            task = Task(item_id)
            if job.can_claim_task(task):
                job.add_task(task)
                done.append(item_id)
        assert job.environment == "production"
        others = [item for item in ITEMS if second.can_claim_task(item)]
    assert sorted(done + others) == ITEMS


def test_the_variables_name_the_server_and_the_numbers() -> None:
    assert config.sync.coordination.total_tokens == TOKENS
    assert config.sync.coordination.heartbeat_timeout_sec == 15
    assert config.sync.sql.port > 0


def test_coordination_switched_off_by_a_variable(monkeypatch: pytest.MonkeyPatch, server_dsn: str, prefix: str) -> None:
    monkeypatch.setenv("SYNC_COORDINATION_ENABLED", "false")
    with Job("worker-01", "production", config) as job:
        process_tasks(job)
        assert len(job.my_tokens) == TOKENS, "alone with the numbers of the environment"
    assert query(server_dsn, "select 1 from pg_class where relname = %s", f"{prefix}node") == []


def test_dynamic_locks_and_their_management_by_hand() -> None:
    def dynamic_lock_provider(job: Job) -> None:
        job.register_task_locks_bulk([(t, "high-mem-%", "heavy") for t in (1, 2)])

    with Job("worker", "prod", config, lock_provider=dynamic_lock_provider, clear_existing_locks=True) as job:
        process_tasks(job)
    with Job("old-node", "prod", config) as old:
        old.register_lock(9, "high-mem-%")
    with Job("admin", "prod", config) as job:
        assert {lock["task_id"] for lock in job.list_locks()} == {"1", "2", "9"}
        job.clear_locks_by_creator("old-node")
        assert {lock["task_id"] for lock in job.list_locks()} == {"1", "2"}
        job.clear_all_locks()
        assert job.list_locks() == []


@pytest.mark.parametrize("clear_existing_locks", [False, True])
def test_gpu_tasks_are_pinned(second: Job, clear_existing_locks: bool, capsys: pytest.CaptureFixture[str]) -> None:
    def register_locks(job: Job) -> None:
        locks = [(task_id, "%gpu%", "requires_gpu") for task_id in (4, 5, 6)]
        job.register_task_locks_bulk(locks)

    done = []
    with (
        second,
        Job(
            "worker-gpu-01",
            "production",
            config,
            lock_provider=register_locks,
            clear_existing_locks=clear_existing_locks,
        ) as job,
    ):
        eventually(lambda: all(job.can_claim_task(Task(each)) for each in (4, 5, 6)))
        for task_id in ITEMS:
            if job.can_claim_task(Task(task_id)):
                done.append(task_id)
        locks = job.list_locks()
        for lock in locks:
            print(f"Token {lock['token_id']} -> {lock['node_pattern']}")
        assert job.clear_locks_by_creator("old-worker-01") == 0
        assert job.clear_all_locks() == 3
    assert {4, 5, 6} <= set(done)
    assert capsys.readouterr().out.count("-> %gpu%") == 3


def test_health_while_the_app_blocks_the_main_thread() -> None:
    app = Flask(__name__)

    @app.route("/health/ready")
    def health() -> Any:
        found.append(job.am_i_healthy())
        app.is_shut.set()
        return {}, 200

    def ask_once_it_serves() -> None:
        app.is_serving.wait(30)
        app.get("/health/ready")

    found: list[bool] = []
    threading.Thread(target=ask_once_it_serves).start()
    with Job("worker-01", "production", config) as job:
        app.run(host="0.0.0.0", port=8080)
    assert found == [True]


def test_custom_configuration_above_the_config_object() -> None:
    base_config = config
    tuned = CoordinationConfig(
        total_tokens=50000, heartbeat_interval_sec=3, heartbeat_timeout_sec=9, rebalance_check_interval_sec=15
    )
    with Job("worker-01", "production", base_config, coordination_config=tuned) as job:
        process_tasks(job)
        assert len(job.my_tokens) == 50_000


# --- Real-World Examples --------------------------------------------------------------------------


def test_a_daily_etl(server_dsn: str, prefix: str) -> None:
    loaded: list[str] = []
    with Job("etl-worker-01", "production", config, wait_on_enter=120) as job:
        for file_path in [f"s3://bucket/2024/02/{day:02}.csv" for day in range(1, 30)]:
            task = Task(file_path)
            if job.can_claim_task(task):
                job.add_task(task)
                loaded.append(file_path.upper())
        job.write_audit()
    assert len(loaded) == 29
    assert query(server_dsn, f"select count(distinct item) from {prefix}audit") == [(29,)]


def test_gpu_locks_from_a_query(tasks_table: str) -> None:
    def register_gpu_locks(job: Job) -> None:
        gpu_tasks = db.select(job._cn, f"SELECT task_id FROM {tasks_table} WHERE requires_gpu = true")
        locks = [(row["task_id"], "%gpu%", "gpu_required") for row in gpu_tasks.to_dict("records")]
        if locks:
            job.register_task_locks_bulk(locks)

    ran = []
    with Job("worker-gpu-01", "production", config, lock_provider=register_gpu_locks) as job:
        for task_id in ITEMS:
            if job.can_claim_task(Task(task_id)):
                ran.append(task_id)
        assert sorted(int(lock["task_id"]) for lock in job.list_locks()) == [3, 6, 9, 12]
    assert ran == ITEMS


def test_continuous_processing_with_bare_ids() -> None:
    queued = [["a", "b"], ["b", "c"], []]
    done: list[str] = []
    with Job("worker-01", "production", config, wait_on_enter=120) as job:
        while True:
            pending = queued.pop(0)
            if not pending:
                break
            for task_id in pending:
                if job.can_claim_task(Task(task_id)):
                    job.add_task(task_id)
                    done.append(task_id)
            job.write_audit()
            time.sleep(5)
        assert sorted(row["item"] for row in job.get_audit()) in (["a", "b", "b", "c"], ["a", "b", "c"])
    assert done == ["a", "b", "b", "c"], "without a run, what is offered again is done again"
