"""A process that hosts one job or several, asks them what they own, and writes down what they say.

Started by `bench.fleet` with one JSON argument; takes one word a line on standard input (`enter`, `stop`) and tells
what happens in JSON lines on standard output.
"""

import json
import logging
import mmap
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.intervals import SLOT, LogFile
from jobsync import CoordinationConfig, Job, Task, TokenSet

LONGEST_GAP_SEC = 0.05
ASKED_IDS = 512


def boot_sec() -> float:
    """Read the clock that all processes of the machine share."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def say(event: str, **details: object) -> None:
    """Tell the bench."""
    print(json.dumps({"event": event, "at": boot_sec(), **details}), flush=True)


class Probe(threading.Thread):
    """Asks every job again and again what it owns, and logs each change."""

    def __init__(self, log: Path, jobs: list[Job], *, every_sec: float, trusting: bool) -> None:
        super().__init__(name="probe", daemon=True)
        self._jobs = jobs
        self._every_sec = every_sec
        self._answer: Callable[[Job], TokenSet] = _tokens_without_lease if trusting else _tokens
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        slots = os.open(LogFile(log).slots, os.O_RDWR | os.O_CREAT)
        size = SLOT.size * (len(jobs) + 2)
        os.ftruncate(slots, size)
        self._slots = mmap.mmap(slots, size)
        self._held: list[TokenSet] = [TokenSet() for _ in jobs]
        self._yes: list[float] = [0.0 for _ in jobs]
        self._tasks = [Task(number) for number in range(ASKED_IDS)]
        self._rounds = self._disagreements = 0

    def run(self) -> None:
        """Sample until the process ends."""
        while True:
            for slot, job in enumerate(self._jobs):
                self._sample(slot, job)
            time.sleep(self._every_sec)

    def _sample(self, slot: int, job: Job) -> None:
        before = boot_sec()
        tokens = self._answer(job)
        after = boot_sec()
        held = self._held[slot]
        if tokens is not held or before - self._yes[slot] > LONGEST_GAP_SEC:
            if held:
                self._write("off", slot, self._yes[slot])
            if tokens:
                self._write("on", slot, job.node_name, after, tokens.text())
            self._held[slot] = tokens
        if tokens:
            self._yes[slot] = before
            SLOT.pack_into(self._slots, SLOT.size * slot, before)
            self._compare(job, tokens)
        self._count()

    def _compare(self, job: Job, tokens: TokenSet) -> None:
        """Ask for one task as well: the two answers must agree while the tokens stay the same."""
        task = self._tasks[self._rounds % ASKED_IDS]
        answer = job.can_claim_task(task)
        if self._answer(job) is tokens and answer != (job.task_to_token(task) in tokens):
            self._disagreements += 1

    def _count(self) -> None:
        self._rounds += 1
        SLOT.pack_into(self._slots, len(self._slots) - 2 * SLOT.size, self._rounds)
        SLOT.pack_into(self._slots, len(self._slots) - SLOT.size, self._disagreements)

    def _write(self, *line: object) -> None:
        os.write(self._log, json.dumps(line).encode() + b"\n")

    def fact(self, at: float, kind: str, text: str) -> None:
        """Log what the engine reports."""
        self._write("fact", at, kind, text)


def _tokens(job: Job) -> TokenSet:
    return job.my_tokens


def _tokens_without_lease(job: Job) -> TokenSet:
    """Answer by a broken rule, for the control run: whatever was granted last, lease or no lease."""
    node = job._node
    return TokenSet() if node is None else node.engine.standing.holding.tokens


class FactHandler(logging.Handler):
    """Passes the engine's facts on to the probe's log."""

    def __init__(self, write: Callable[[float, str, str], None]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        """Write one fact, with the instant at which it was reported."""
        kind = getattr(record, "jobsync_fact", record.levelname)
        self._write(boot_sec(), str(kind), record.getMessage())


def make_job(spec: dict[str, Any], name: str) -> Job:
    """Make one of the jobs that the specification asks for."""
    config = CoordinationConfig(dsn=spec["dsn"], appname=spec["prefix"], **spec["settings"])
    return Job(name, coordination_config=config, handle_signals=spec["handle_signals"])


def main(text: str) -> None:
    """Host the jobs until told to stop."""
    spec = json.loads(text)
    jobs = [make_job(spec, name) for name in spec["names"]]
    if spec["probe_sec"] is not None:
        probe = Probe(Path(spec["log"]), jobs, every_sec=spec["probe_sec"], trusting=spec["trusting"])
        logger = logging.getLogger("jobsync")
        logger.setLevel(logging.DEBUG)
        logger.addHandler(FactHandler(probe.fact))
        probe.start()
    say("ready", pid=os.getpid())
    for line in sys.stdin:
        if line.strip() == "enter":
            break
    else:
        return
    threading.Thread(target=_obey, args=(jobs,), daemon=True).start()
    with ExitStack() as entered:
        for job in jobs:
            entered.enter_context(job)
        say("entered")
        jobs[0].wait()
        say("stopping")
    say("left")


def _obey(jobs: list[Job]) -> None:
    for line in sys.stdin:
        if line.strip() == "stop":
            for job in jobs:
                job.stop()


if __name__ == "__main__":
    main(sys.argv[1])
