"""Worker processes: started with a name, told to stop, reported when they end.

A worker is a fresh Python process in a session of its own: a Ctrl-C at the terminal reaches the command alone,
which passes it on once. Each worker inherits the reading end of a pipe, its lifeline. The command holds the other end
and never writes: when it dies, by whatever death, the worker reads the end of the pipe and stops as on SIGTERM.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

LIFELINE_VARIABLE = "JOBSYNC_LIFELINE_FD"


@dataclass(frozen=True, slots=True)
class Worker:
    """One process of a fleet, by its node's name."""

    name: str
    process: "subprocess.Popen[bytes]"

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal; one that has ended already is left alone."""
        if self.is_running:
            self.process.send_signal(number)


class Lifeline:
    """The command's end of the pipe that its workers watch; closing it stops them."""

    def __init__(self) -> None:
        self.reading, self._writing = os.pipe()

    def close(self) -> None:
        """Let go of the pipe, once."""
        if self._writing >= 0:
            os.close(self._writing)
            os.close(self.reading)
            self._writing = -1


def start_worker(
    name: str,
    module: str,
    arguments: list[str],
    *,
    lifeline: Lifeline,
    environment: Mapping[str, str],
    output: Path | None = None,
) -> Worker:
    """Start `python -m module arguments`; its output goes to a file where one is named, else where ours goes."""
    command = [sys.executable, "-m", module, *arguments]
    own = {**environment, LIFELINE_VARIABLE: str(lifeline.reading)}
    if output is None:
        return Worker(name, _popen(command, own, lifeline, None))
    with output.open("ab") as file:
        return Worker(name, _popen(command, own, lifeline, file.fileno()))


def _popen(
    command: list[str], environment: Mapping[str, str], lifeline: Lifeline, output: int | None
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(  # noqa: S603 - our own interpreter and modules
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=dict(environment),
        pass_fds=[lifeline.reading],
        start_new_session=True,
    )


def watch_lifeline() -> None:
    """In a worker: send ourselves SIGTERM when the command that started us is gone."""
    number = os.environ.pop(LIFELINE_VARIABLE, None)
    if number is not None:
        threading.Thread(target=_watch, args=(int(number),), name="jobsync-lifeline", daemon=True).start()


def _watch(descriptor: int) -> None:
    while os.read(descriptor, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def ending_of(status: int) -> str:
    """Say how a process ended, from its return code: 'ended with exit status 3', 'was killed by SIGKILL'."""
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


@contextmanager
def sigterm_unwinds() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does: through every `finally`."""

    def unwind(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the shape of a handler
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
