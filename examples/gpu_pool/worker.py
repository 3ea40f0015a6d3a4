"""One node of a mixed pool: some tasks prefer a GPU node, fall back to any other, and take a CPU node as a last resort.

Run it under its name on every machine: `SYNC_DSN=postgresql://... python worker.py gpu-a-1`. Every node registers the
same pins when it starts, so that it does not matter which of them comes first.
"""

import sys
from contextlib import suppress

from jobsync import CoordinationConfig, Job, OwnershipLost

ROUND_SEC = 0.1

# Patterns as in SQL's LIKE, in order of preference: the first that matches a live node decides.
PINS = {
    **{f"train-{number}": ["gpu-a-1", "gpu-a-%", "cpu-%"] for number in range(6)},
    **{f"embed-{number}": ["gpu-a-2", "gpu-a-%", "cpu-%"] for number in range(6)},
    **{f"report-{number}": ["cpu-%"] for number in range(6)},
}


def register_pins(job: Job) -> None:
    """Store the pins, before the node joins; they outlive it."""
    job.register_locks_bulk([(task, patterns, "needs a GPU, or does not") for task, patterns in PINS.items()])


def serve(name: str) -> None:
    """Do this node's tasks again and again, until told to stop."""
    with Job(
        name,
        coordination_config=CoordinationConfig.from_env(),
        lock_provider=register_pins,
        clear_existing_locks=True,
        handle_signals=True,
    ) as job:
        while not job.wait(timeout=ROUND_SEC):
            for task in job.tasks(list(PINS)):
                # The work of a round; it counts only if the task is still this node's when it is written.
                with suppress(OwnershipLost), job.transaction(task, repeat=True) as conn:
                    conn.execute("insert into work (task, node) values (%s, %s)", [task.id, name])


if __name__ == "__main__":
    serve(sys.argv[1])
