"""The worker in the image: put your own handlers in the place of this one.

Its name is NODE_NAME where that is set (Kubernetes: the pod's name), else the container's host name. It answers health
checks and metrics on port 8080 (HEALTH_PORT) and needs nothing else but SYNC_DSN. `python worker.py 1000` puts jobs in.
"""

import hashlib
import os
import socket
import sys
from typing import Any

from jobsync import CoordinationConfig, JobQueue, NewJob, ProcessingWorker, RunningJob

HEALTH_PORT = int(os.environ.get("HEALTH_PORT", "8080"))
STOP_SEC = 45.0  # Less than what the orchestrator allows before it kills.


def make() -> ProcessingWorker:
    """Make the worker of this process: `jobsync worker worker:make`."""
    worker = ProcessingWorker(
        worker_id=os.environ.get("NODE_NAME") or socket.gethostname(), stop_timeout_seconds=STOP_SEC
    )
    worker.handles("digest")(digest)
    worker.serve_health(HEALTH_PORT, metrics=True)
    return worker


def digest(job: RunningJob) -> dict[str, Any]:
    """Stand for real work: hash a text many times over."""
    value = str(job.payload["text"]).encode()
    for _ in range(int(job.payload.get("rounds", 100_000))):
        value = hashlib.sha256(value).digest()
    return {"digest": value.hex()}


def enqueue(count: int) -> None:
    """Put jobs in for the workers to do."""
    with JobQueue(CoordinationConfig.from_env()) as queue:
        queue.enqueue_many([NewJob("digest", {"text": f"text {number}"}) for number in range(count)])


if __name__ == "__main__":
    enqueue(int(sys.argv[1]))
