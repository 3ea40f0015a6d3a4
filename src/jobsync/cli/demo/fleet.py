"""The demo's processes: who was started, how each ended, and what a SIGKILL found in its hands."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

from jobsync.cli.given import worker_environment
from jobsync.cli.processes import Lifeline, Worker, start_worker

LEAVE_SEC = 8.0
CATCH_SEC = 10.0


class Fleet:
    """Workers by name, each `python -m MODULE NAME ...` with a file for what it prints; closing it ends them all."""

    def __init__(self, *, dsn: str, prefix: str, module: str, arguments: list[str], log_dir: Path) -> None:
        self._options = {"dsn": dsn, "appname": prefix}
        self._module = module
        self._arguments = arguments
        self._log_dir = log_dir
        self._lifeline = Lifeline()
        self._told_to_stop: set[str] = set()
        self._gate = log_dir / "gate"
        self._standing_by: Worker | None = None
        self.workers: dict[str, Worker] = {}
        self.killed: str | None = None

    def start(self, *, minimum_nodes: int) -> str:
        """Start one more worker, which waits until so many are live; give its name."""
        name = f"worker-{len(self.workers) + 1}"
        self.workers[name] = self._process(name, minimum_nodes, [])
        return name

    def stand_by(self) -> None:
        """Start the process of a worker to come, which waits at a gate.

        So a join is the library's own time, and not the time that a busy machine takes to start an interpreter.
        """
        name = f"worker-{len(self.workers) + 1}"
        self._standing_by = self._process(name, 1, [str(self._gate)])

    def let_in(self) -> str:
        """Open the gate for the worker that stands by; give its name."""
        worker = self._standing_by
        assert worker is not None, "nobody stands by"
        self._standing_by = None
        self.workers[worker.name] = worker
        self._gate.touch()
        return worker.name

    def _process(self, name: str, minimum_nodes: int, more: list[str]) -> Worker:
        return start_worker(
            name,
            self._module,
            [name, *self._arguments, *more],
            lifeline=self._lifeline,
            environment=worker_environment(self._options | {"minimum_nodes": minimum_nodes}),
            output=self._log_path(name),
        )

    def kill(self, name: str, just_begun: Callable[[str], list[str]]) -> tuple[float, list[str]]:
        """Kill a worker with SIGKILL while it is inside a file; give the instant, and the file.

        It is frozen for the moment of the look: otherwise the file could end between the look and the kill. The
        look asks for files begun so lately that their commit cannot be on its way. A worker that is found elsewhere
        goes on, and is looked at again.
        """
        worker = self.workers[name]
        until_sec = time.perf_counter() + CATCH_SEC
        while True:
            worker.send(signal.SIGSTOP)
            inside = just_begun(name)
            if inside or time.perf_counter() > until_sec:
                break
            worker.send(signal.SIGCONT)
            time.sleep(0.003)
        killed_sec = time.perf_counter()
        worker.send(signal.SIGKILL)
        self.killed = name
        worker.process.wait()
        return killed_sec, inside

    def stop(self, name: str) -> None:
        """Ask a worker to stop, with SIGTERM."""
        self._told_to_stop.add(name)
        self.workers[name].send(signal.SIGTERM)

    def running(self) -> list[str]:
        """Name the workers that are meant to own tokens: running, and not told to stop."""
        return [name for name, worker in self.workers.items() if worker.is_running and name not in self._told_to_stop]

    def state_of(self, name: str) -> str:
        """Say in a word or two how a worker is."""
        worker = self.workers.get(name)
        if worker is None:
            return "unknown"
        if name == self.killed:
            return "killed (SIGKILL)"
        if worker.is_running:
            return "stopping (SIGTERM)" if name in self._told_to_stop else "working"
        status = worker.process.returncode
        if status != 0:
            return f"failed ({status})"
        return "stopped (SIGTERM)" if name in self._told_to_stop else "finished"

    def wait(self) -> dict[str, int]:
        """Wait until all have ended, at most `LEAVE_SEC`; give the exit status of each but the killed one."""
        until_sec = time.perf_counter() + LEAVE_SEC
        while any(worker.is_running for worker in self.workers.values()) and time.perf_counter() < until_sec:
            time.sleep(0.02)
        return {
            name: -1 if (status := worker.process.poll()) is None else status
            for name, worker in self.workers.items()
            if name != self.killed
        }

    def complaints(self) -> list[str]:
        """Give the last line that each failed worker printed."""
        lines = []
        for name, worker in self.workers.items():
            text = self._log_path(name).read_text(errors="replace").strip()
            if name != self.killed and worker.process.poll() not in {None, 0} and text:
                lines.append(f"{name} said: {text.splitlines()[-1]}")
        return lines

    def close(self) -> None:
        """Stop whoever runs, and kill whoever does not stop."""
        if self._standing_by is not None:
            self._standing_by.send(signal.SIGKILL)
            self._standing_by.process.wait()
        for worker in self.workers.values():
            worker.send(signal.SIGCONT)
            worker.send(signal.SIGTERM)
        self.wait()
        for worker in self.workers.values():
            worker.send(signal.SIGKILL)
            worker.process.wait()
        self._lifeline.close()

    def _log_path(self, name: str) -> Path:
        return self._log_dir / f"{name}.log"
