"""A fleet of real worker processes: starts, signals and questions them, and judges afterwards what they answered.

The judge is apart from the fleet and uses nothing of the library: it reads what the processes wrote down, in
times of the boot clock that all share. An interval of yes begins after its first answer and ends before its
last one, so that no delay between an answer and its stamp can look like an overlap. A stopped process answers
nothing: its interval ends with its last yes.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil  # type: ignore[import-untyped]

from jobsync.runtime.clock import boot_sec
from tests.api.jobs import eventually, task_for_each_token
from tests.chaos.worker_main import SAMPLE

ROOT = Path(__file__).parents[2]
TOKENS = 12
SILENCE_SEC = 0.25


class Worker:
    """One process of the fleet, as its starter sees it."""

    def __init__(self, name: str, directory: Path, given: dict[str, Any]) -> None:
        self.name = name
        stem = f"{name}-{os.urandom(3).hex()}"
        self.answers = directory / f"{stem}.answers"
        self.events_file = directory / f"{stem}.events"
        self.log = directory / f"{stem}.log"
        self.begun_file = directory / f"{stem}.begun"
        self.acked_file = directory / f"{stem}.acked"
        files = {
            "answers": self.answers, "events": self.events_file, "log": self.log, "begun": self.begun_file,
            "acked": self.acked_file,
        }  # fmt: skip
        for file in files.values():
            file.touch()
        self._may_end = directory / f"{stem}.may-end"
        paths = {what: str(file) for what, file in {**files, "may_end": self._may_end}.items()}
        inside = given.get("inside", ())  # A command that runs another in a network of its own.
        self.process = subprocess.Popen(
            [*inside, sys.executable, "-m", "tests.chaos.worker_main", json.dumps({**given, **paths, "name": name})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        self._said: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.put(json.loads(line))
        self.process.stdout.close()

    def hear(self, limit_sec: float = 30.0) -> dict[str, Any]:
        """Wait for the next thing that the process says."""
        try:
            return self._said.get(timeout=limit_sec)
        except queue.Empty:
            self._tell_stacks()
            raise AssertionError(f"worker {self.name!r} says nothing; its log:\n{self.tail()}") from None

    def _tell_stacks(self) -> None:
        """Have a process that hangs write into its log where its threads are."""
        if self.process.poll() is None:
            written = self.log.stat().st_size
            self.process.send_signal(signal.SIGUSR1)
            with suppress(AssertionError):
                eventually(lambda: self.log.stat().st_size > written + 500, limit_sec=5.0)

    def order(self, do: str, **arguments: Any) -> None:
        """Send an order; its answer is heard later."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self.process.stdin.flush()

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send an order and give the answer."""
        self.order(do, **arguments)
        return self.hear()

    def signal(self, number: signal.Signals) -> float:
        """Send a signal; give the boot clock just before."""
        at_sec = boot_sec()
        self.process.send_signal(number)
        return at_sec

    def kill(self) -> float:
        """Kill it; give the boot clock just before."""
        at_sec = self.signal(signal.SIGKILL)
        self.process.wait(10)
        return at_sec

    def stop(self) -> float:
        """Stop the whole process (SIGSTOP), and wait until it stands still; give the boot clock then."""
        self.signal(signal.SIGSTOP)
        return self.wait_until_stopped()

    def wait_until_stopped(self) -> float:
        """Wait until the process stands still by SIGSTOP; give the boot clock then."""
        process = psutil.Process(self.process.pid)
        eventually(lambda: process.status() == psutil.STATUS_STOPPED, f"{self.name} stands still")
        return boot_sec()

    def let_body_end(self) -> None:
        """Let the body that waits in `walk` end."""
        self._may_end.touch()

    def go_on(self) -> float:
        """Let a stopped process go on (SIGCONT); give the boot clock just before."""
        return self.signal(signal.SIGCONT)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self._reader.join(10)
        if self.process.stdin is not None:
            # What could not be delivered to a killed process is lost with it.
            with suppress(BrokenPipeError):
                self.process.stdin.close()

    def tail(self) -> str:
        return self.log.read_text()[-3000:]

    @property
    def acked(self) -> set[str]:
        """What the database had acknowledged as done: audits by the ledger, transactions by their COMMIT."""
        return set(self.acked_file.read_text().split())

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.events_file.read_text().splitlines()]

    @property
    def samples(self) -> "list[Sample]":
        return read_samples(self.answers)


class Fleet:
    """Workers on one database and prefix; leaving it kills those that are left."""

    def __init__(self, dsn: str, prefix: str, directory: Path, **settings: Any) -> None:
        self.directory = directory
        self.tokens = int(settings.get("total_tokens", TOKENS))
        self.questions = task_for_each_token(self.tokens)
        self.given = {
            "settings": {"dsn": dsn, "appname": prefix, "total_tokens": self.tokens, **settings},
            "questions": self.questions,
        }
        self.workers: list[Worker] = []

    def start(self, *names: str, **given: Any) -> list[Worker]:
        """Start workers one after the other, so that the first one leads, and wait until all have entered."""
        started = [self.enter(name, **given) for name in names]
        self.wait_until_owned(self.running)
        return started

    def enter(self, name: str, **given: Any) -> Worker:
        """Start one worker and wait until it has entered; the others may be busy, and are asked nothing."""
        worker = self.launch(name, **given)
        assert "entered" in (said := worker.hear()), said
        return worker

    def launch(self, name: str, **given: Any) -> Worker:
        """Start one worker, which says `entered` when it has."""
        worker = Worker(name, self.directory, {**self.given, **given})
        self.workers.append(worker)
        return worker

    @property
    def running(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.process.poll() is None]

    def held(self, workers: Iterable[Worker]) -> int:
        return sum(len(worker.ask("status")["held"]) for worker in workers)

    def wait_until_owned(self, workers: Sequence[Worker], limit_sec: float = 30.0) -> None:
        """Wait until these workers own every token among them."""
        eventually(lambda: self.held(workers) == self.tokens, "every token is owned", limit_sec=limit_sec)

    def assert_exclusive(self) -> None:
        """Fail if two processes ever answered yes for one task at one instant."""
        found = self.overlaps()
        assert not found, f"owned twice: {found[:5]}"

    def overlaps(self) -> list[tuple[int, str, str, float]]:
        """List where two processes answered yes for one task at one instant, each process by its number."""
        answers = ((f"{worker.name} ({worker.process.pid})", worker.samples) for worker in self.workers)
        return overlaps(answers, self.tokens)

    def seconds_to_cover(self, since_sec: float, workers: Iterable[Worker]) -> float:
        """Tell how long after an instant every task had been answered yes by one of the workers."""
        asked = list(workers)
        first: dict[int, float] = {}

        def covered() -> bool:
            for sample in (s for worker in asked for s in worker.samples if s.before_sec >= since_sec):
                for task in sample.tasks(self.tokens):
                    first[task] = min(sample.after_sec, first.get(task, sample.after_sec))
            return len(first) == self.tokens

        # A status that says so may run ahead of the sampling thread, and so of the file.
        eventually(covered, "every task is covered again")
        return max(first.values()) - since_sec

    def seconds_to_steady_cover(self, since_sec: float, until_sec: float) -> float:
        """Tell how long after an instant some task was last answered yes by nobody, up to another instant."""
        answers = [worker.samples for worker in self.workers]
        found = (gaps(answers, task, since_sec, until_sec) for task in range(self.tokens))
        return max((end_sec for each in found for _, end_sec in each), default=since_sec) - since_sec

    def longest_gap_sec(self, since_sec: float, until_sec: float) -> float:
        """Tell for how long at most a task was answered yes by nobody, between two instants."""
        answers = [worker.samples for worker in self.workers]
        found = (gaps(answers, task, since_sec, until_sec) for task in range(self.tokens))
        return max((end_sec - start_sec for each in found for start_sec, end_sec in each), default=0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.close()


# --- the judge -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sample:
    """What one process answered for all tasks at one instant between two readings of the boot clock.

    `leased_until_sec` is the end of the lease that stood just after the answer.
    """

    before_sec: float
    after_sec: float
    mask: int
    leased_until_sec: float = 0.0

    def tasks(self, count: int) -> Iterator[int]:
        return (number for number in range(count) if self.mask >> number & 1)


def read_samples(path: Path) -> list[Sample]:
    """Read an answers file; a last record that a kill cut short is left out."""
    raw = path.read_bytes()
    whole = len(raw) - len(raw) % SAMPLE.size
    return [Sample(*record) for record in SAMPLE.iter_unpack(raw[:whole])]


def intervals(samples: Iterable[Sample], task: int) -> list[tuple[float, float]]:
    """List the times of unbroken yes for one task, each from after its first answer to before its last."""
    found: list[tuple[float, float]] = []
    first: Sample | None = None
    last: Sample | None = None
    for sample in samples:
        yes = bool(sample.mask >> task & 1)
        silent = last is not None and sample.before_sec - last.after_sec > SILENCE_SEC
        if first is not None and last is not None and (not yes or silent):
            found.append((first.after_sec, last.before_sec))
            first = None
        if yes:
            first = first or sample
            last = sample
        else:
            last = None
    if first is not None and last is not None:
        found.append((first.after_sec, last.before_sec))
    return found


def overlaps(answers: Iterable[tuple[str, list[Sample]]], tasks: int) -> list[tuple[int, str, str, float]]:
    """List where two processes said yes for one task at one time: task, both names, seconds of overlap."""
    read = list(answers)
    found = []
    for task in range(tasks):
        spans = sorted((*span, name) for name, samples in read for span in intervals(samples, task))
        end_sec, holder = float("-inf"), ""
        for start_sec, stop_sec, name in spans:
            if start_sec < end_sec and stop_sec > start_sec and name != holder:
                found.append((task, holder, name, min(end_sec, stop_sec) - start_sec))
            if stop_sec > end_sec:
                end_sec, holder = stop_sec, name
    return found


def gaps(
    answers: Iterable[list[Sample]],
    task: int,
    since_sec: float,
    until_sec: float,
    *,
    longer_than_sec: float = SILENCE_SEC,
) -> Iterator[tuple[float, float]]:
    """List the times, between two instants, in which nobody said yes for a task.

    Pauses between samples that a busy machine makes are no gaps, unless shorter ones are asked for.
    """
    covered_sec = since_sec
    for start_sec, stop_sec in sorted(span for samples in answers for span in intervals(samples, task)):
        if covered_sec >= until_sec:
            return
        if start_sec - covered_sec > longer_than_sec:
            yield covered_sec, min(start_sec, until_sec)
        covered_sec = max(covered_sec, stop_sec)
    if until_sec - covered_sec > longer_than_sec:
        yield covered_sec, until_sec
