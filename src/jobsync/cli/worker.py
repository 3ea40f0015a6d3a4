"""`jobsync worker`: a user's ProcessingWorker in one process or several.

One process: this one becomes it, so that signals, exit status and memory are the worker's own. Several: each is started
and watched, and the signals are passed on.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from jobsync.cli.crew import Crew
from jobsync.cli.given import worker_environment
from jobsync.cli.processes import Lifeline, start_worker

WORKER_MODULE = "jobsync.cli.worker_process"


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What the command line says of the worker itself; None: as the module says."""

    worker_id: str | None = None
    queues: tuple[str, ...] | None = None
    max_concurrent_jobs: int | None = None

    def as_argument(self, number: int | None = None) -> str:
        """Write those that were given for the worker's process; with a number, its id bears it."""
        given = {name: value for name, value in asdict(self).items() if value is not None}
        if number is not None and self.worker_id is not None:
            given["worker_id"] = f"{self.worker_id}-{number}"
        return json.dumps(given)


def run_worker(target: str, options: WorkerOptions, settings: Mapping[str, object], *, processes: int) -> int:
    """Run the worker; give the exit status: 0 it was asked to stop and did, 1 not, 2 bad target, or no database."""
    environment = worker_environment(settings)
    if processes == 1:
        command = [sys.executable, "-m", WORKER_MODULE, target, options.as_argument()]
        os.execve(sys.executable, command, environment)  # noqa: S606 - our own interpreter and module
    command = [sys.executable, "-m", WORKER_MODULE, target]
    if subprocess.run(command, env=environment, check=False).returncode != 0:  # noqa: S603 - our own module
        return 2
    lifeline = Lifeline()
    try:
        with Crew() as crew:
            for number in range(1, processes + 1):
                arguments = [target, options.as_argument(number)]
                name = f"{options.worker_id or 'worker'}-{number}"
                crew.add(start_worker(name, WORKER_MODULE, arguments, lifeline=lifeline, environment=environment))
            return crew.wait()
    finally:
        lifeline.close()
