"""Worker processes that a command started and waits for.

Signals are passed on to all of them; a second Ctrl-C kills them. Nothing is restarted: whoever wants that has a
supervisor, which sees the exit status.
"""

import queue
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Self

from jobsync.cli.processes import Worker, ending_of

LOOK_SEC = 0.2


class Crew:
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
