"""Leading in real processes: whoever is killed or stopped is replaced, and no two ever lead at one instant.

Every process writes down what it was told on the boot clock that all share; the judge of answers (tests.chaos.fleet)
finds where two said yes at once.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from jobsync.runtime.clock import boot_sec
from tests.api.jobs import eventually
from tests.chaos.fleet import ROOT, Sample, overlaps, read_samples

pytestmark = pytest.mark.chaos

QUICK = {"heartbeat_interval_sec": 0.4, "heartbeat_timeout_sec": 1.5}
BUSY_SEC = 1.5  # What a busy machine may add to a bound.
KILLS = 3


class Leader:
    """One process that leads when it may."""

    def __init__(self, name: str, directory: Path, given: dict[str, Any]) -> None:
        self.name = name
        stem = directory / f"{name}-{os.urandom(3).hex()}"
        self.answers, self.log = stem.with_suffix(".answers"), stem.with_suffix(".log")
        self.answers.touch()
        paths = {"answers": str(self.answers), "log": str(self.log), "name": name}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.leader_main", json.dumps({**given, **paths})],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        self._said: defaultdict[str, queue.Queue[dict[str, Any]]] = defaultdict(queue.Queue)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            self._said[next(iter(said))].put(said)
        self.process.stdout.close()

    def hear(self, what: str, limit_sec: float = 30.0) -> dict[str, Any]:
        """Wait for the next time that the process says this: its first lead may begin before its entry is told."""
        try:
            return self._said[what].get(timeout=limit_sec)
        except queue.Empty:
            log = self.log.read_text()[-3000:]
            raise AssertionError(f"{self.name!r} does not say {what!r}; its log:\n{log}") from None

    def signal(self, number: signal.Signals) -> float:
        """Send a signal; give the boot clock just before."""
        at_sec = boot_sec()
        self.process.send_signal(number)
        return at_sec

    @property
    def samples(self) -> list[Sample]:
        return read_samples(self.answers)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        self._reader.join(10)


Start = Callable[..., Leader]


@pytest.fixture
def started() -> list[Leader]:
    return []


@pytest.fixture
def start(server_dsn: str, prefix: str, tmp_path: Path, started: list[Leader]) -> Iterator[Start]:
    """Start a process and wait until it has entered."""
    with ExitStack() as stack:

        def start(name: str, *, mutant: bool = False, **settings: Any) -> Leader:
            chosen = {"dsn": server_dsn, "appname": prefix, "total_tokens": 12, **settings}
            leader = Leader(name, tmp_path, {"settings": chosen, "mutant": mutant})
            stack.callback(leader.close)
            started.append(leader)
            leader.hear("entered")
            return leader

        yield start


def assert_one_at_a_time(leaders: list[Leader]) -> None:
    found = overlaps([(leader.name, leader.samples) for leader in leaders], 1)
    assert not found, f"two led at once: {found[:5]}"


def test_a_killed_leader_is_replaced_in_about_a_second(start: Start, started: list[Leader]) -> None:
    kill_leaders(start, started, KILLS)


def kill_leaders(start: Start, started: list[Leader], kills: int) -> list[float]:
    """Kill the leader so many times; give the seconds from each kill to the next leader's first work."""
    waiting = [start("n0"), start("n1"), start("n2")]
    epochs, took_sec = [waiting[0].hear("leads")["epoch"]], []
    for number in range(kills):
        killed = waiting.pop(0)
        killed_sec = killed.signal(signal.SIGKILL)
        said = waiting[0].hear("leads")
        took_sec.append(said["leads"] - killed_sec)
        epochs.append(said["epoch"])
        waiting.append(start(f"n{number + 3}"))
    assert max(took_sec) < 1.0 + BUSY_SEC
    assert epochs == sorted(set(epochs))
    assert_one_at_a_time(started)
    return took_sec


def test_a_stopped_leader_is_replaced_and_told_at_its_first_question(start: Start, started: list[Leader]) -> None:
    old, new = start("old", **QUICK), start("new", **QUICK)
    old.hear("leads")
    eventually(lambda: len(old.samples) > 10)
    old.signal(signal.SIGSTOP)
    new.hear("leads")
    eventually(lambda: len(new.samples) > 10)
    resumed_sec = old.signal(signal.SIGCONT)
    assert not old.hear("ceased")["held"]
    after = [sample for sample in old.samples if sample.before_sec >= resumed_sec]
    assert [sample.mask for sample in after] == [0]
    eventually(lambda: new.samples[-1].before_sec > resumed_sec + 0.2)
    assert all(sample.mask for sample in new.samples)
    assert_one_at_a_time(started)


def test_a_terminated_leader_hands_over(start: Start, started: list[Leader]) -> None:
    old, new = start("old"), start("new")
    old.hear("leads")
    asked_sec = old.signal(signal.SIGTERM)
    assert old.hear("ceased")["held"]  # It was stopped, and led until it ended.
    assert new.hear("leads")["leads"] - asked_sec < 0.5 + BUSY_SEC
    assert old.process.wait(10) == 0
    assert_one_at_a_time(started)


def test_the_judge_convicts_a_leader_that_is_never_told(start: Start, started: list[Leader]) -> None:
    bad, good = start("bad", mutant=True, **QUICK), start("good", **QUICK)
    bad.hear("leads")
    bad.signal(signal.SIGSTOP)
    good.hear("leads")
    resumed_sec = bad.signal(signal.SIGCONT)
    eventually(lambda: sum(sample.before_sec > resumed_sec for sample in bad.samples) > 20)
    with pytest.raises(AssertionError, match="two led at once"):
        assert_one_at_a_time(started)
