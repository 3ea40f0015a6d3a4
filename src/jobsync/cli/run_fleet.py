"""`jobsync run`: a user's function in several worker processes.

The target is looked up first, in a process of its own, so that a bad one is refused before any worker starts and
the command itself never runs the user's code. Signals are passed on to all workers; a second Ctrl-C kills them. Nothing
is restarted: whoever wants that has a supervisor, which sees the exit status.
"""

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Self

from jobsync.cli.processes import Lifeline, Worker, ending_of, start_worker, worker_environment

WORKER_MODULE = "jobsync.cli.run_worker"
LOOK_SEC = 0.2


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
        with _Crew() as crew:
            for number in range(1, workers + 1):
                name = f"{prefix}-{number}"
                crew.add(
                    start_worker(name, WORKER_MODULE, [target, name, *run], lifeline=lifeline, environment=environment)
                )
            return crew.wait()
    finally:
        lifeline.close()


class _Crew:
    """The workers under way; while entered, this process's SIGTERM and SIGINT are theirs."""

    def __init__(self) -> None:
        self._workers: list[Worker] = []
        self._ended: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self._asked_to_stop = False

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.send(signal.SIGTERM)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def add(self, worker: Worker) -> None:
        """Watch one more worker; one that was started while the others were told to stop is told, too."""
        self._workers.append(worker)
        threading.Thread(target=self._await, args=(worker,), daemon=True).start()
        if self._asked_to_stop:
            worker.send(signal.SIGTERM)

    def _await(self, worker: Worker) -> None:
        worker.process.wait()
        self._ended.put(worker)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the shape of a handler
        is_second_interrupt = self._asked_to_stop and number == signal.SIGINT
        self._asked_to_stop = True
        for worker in self._workers:
            worker.send(signal.SIGKILL if is_second_interrupt else signal.Signals(number))

    def wait(self) -> int:
        """Wait until all have ended, reporting each that ended badly; 1 if any did."""
        ended_badly = sum(self._report(worker) for worker in self._endings())
        return min(1, ended_badly)

    def _endings(self) -> Iterator[Worker]:
        for _ in self._workers:
            while True:
                try:
                    # With a limit, so that a signal's handler runs in between.
                    worker = self._ended.get(timeout=LOOK_SEC)
                except queue.Empty:
                    continue
                break
            yield worker

    def _report(self, worker: Worker) -> bool:
        status = worker.process.returncode
        stopped = self._asked_to_stop and status in {-signal.SIGTERM, -signal.SIGINT}
        if status == 0 or stopped:
            return False
        left = sum(each.is_running for each in self._workers)
        sys.stderr.write(
            f"jobsync: worker {worker.name!r} {ending_of(status)}; it is not restarted, {left} of "
            f"{len(self._workers)} workers run on\n"
        )
        sys.stderr.flush()
        return True
