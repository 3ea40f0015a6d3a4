"""What a program loads with `from jobsync import Job`, and what only with its first use: times vary, sets do not."""

import json
import subprocess
import sys

# All that `from jobsync import Job` may load of this package. Each module costs every program's start some
# milliseconds: whoever adds one has to mean it. See "What is loaded when" in ARCHITECTURE.md.
LOADED = {
    "jobsync", "jobsync.api", "jobsync.api.batching", "jobsync.api.checks", "jobsync.api.claim", "jobsync.api.compat",
    "jobsync.api.config", "jobsync.api.health", "jobsync.api.job", "jobsync.api.leader_methods",
    "jobsync.api.lock_checks", "jobsync.api.lock_methods", "jobsync.api.loop_desk", "jobsync.api.loop_worker",
    "jobsync.api.membership", "jobsync.api.signals", "jobsync.api.status", "jobsync.api.status_methods",
    "jobsync.api.task_date", "jobsync.api.task_methods", "jobsync.api.tasks_loop", "jobsync.api.token_index",
    "jobsync.core", "jobsync.core.errors", "jobsync.core.first_use", "jobsync.core.hashing", "jobsync.core.holding",
    "jobsync.core.leases", "jobsync.core.log_events", "jobsync.core.pins", "jobsync.core.pool",
    "jobsync.core.setting_rules", "jobsync.core.settings", "jobsync.core.tasks", "jobsync.core.tokens",
    "jobsync.postgres", "jobsync.runtime", "jobsync.runtime.clock", "jobsync.runtime.listener",
    "jobsync.runtime.waiting",
}  # fmt: skip
OTHERS = {
    "asyncio", "concurrent", "ctypes", "email", "http", "importlib.metadata", "json", "multiprocessing", "psycopg",
    "psycopg_pool", "socket", "ssl", "subprocess", "tempfile", "typing_extensions", "typer", "rich",
}  # fmt: skip
ALONE = """
with Job("alone", coordination_config=None) as job:
    with job.tasks(["a", "b"]) as tasks:
        for task in tasks:
            assert job.can_claim_task(task)
    with job.leader(timeout=0) as lead:
        assert lead.held
    assert job.status().healthy and job.health().is_ready and len(job.get_audit()) == 2
    job.register_lock("a", "elsewhere-%")
    assert job.get_active_nodes() and not job.list_locks()
"""


def loaded_by(code: str) -> set[str]:
    """Name the modules that a fresh process has loaded after some code."""
    program = f"{code}\nimport sys; names = sorted(sys.modules); import json; print(json.dumps(names))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(found.stdout.splitlines()[-1]))


def test_a_job_to_be_made_needs_neither_the_driver_nor_an_event_loop() -> None:
    there = loaded_by("pass")  # Some environments load modules for every process.
    config = "CoordinationConfig(dsn='postgresql://nowhere/none')"
    found = loaded_by(f"from jobsync import CoordinationConfig, Job; Job('made', coordination_config={config})")
    assert {name for name in found if name.partition(".")[0] == "jobsync"} == LOADED
    assert (found - there) & OTHERS == set()


def test_a_job_that_stands_alone_never_loads_the_driver() -> None:
    found = loaded_by(f"from jobsync import Job\n{ALONE}")
    assert "jobsync.runtime.solo" in found
    assert not {name for name in found if name.partition(".")[0] in {"psycopg", "psycopg_pool", "asyncio"}}
