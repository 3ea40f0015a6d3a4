"""`jobsync run`: a user's function in several worker processes.

The target is looked up first, in a process of its own, so that a bad one is refused before any worker starts and
the command itself never runs the user's code.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping

from jobsync.cli.crew import Crew
from jobsync.cli.given import worker_environment
from jobsync.cli.processes import Lifeline, start_worker

WORKER_MODULE = "jobsync.cli.run_worker"


def run_fleet(
    target: str, workers: int, options: Mapping[str, object], *, name_prefix: str | None, run_name: str | None
) -> int:
    """Start the workers, wait for all of them, and give the exit status: 0 all ended well, 1 not, 2 bad target."""
    environment = worker_environment(options)
    command = [sys.executable, "-m", WORKER_MODULE, target]
    if subprocess.run(command, env=environment, check=False).returncode != 0:  # noqa: S603 - our own module
        return 2
    prefix = name_prefix or f"{socket.gethostname()}-{os.getpid()}"
    lifeline = Lifeline()
    run = [] if run_name is None else [run_name]
    try:
        with Crew() as crew:
            for number in range(1, workers + 1):
                name = f"{prefix}-{number}"
                crew.add(
                    start_worker(name, WORKER_MODULE, [target, name, *run], lifeline=lifeline, environment=environment)
                )
            return crew.wait()
    finally:
        lifeline.close()
