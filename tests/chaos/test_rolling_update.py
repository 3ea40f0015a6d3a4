"""A rolling update on real processes: a batch runs while workers of the next version join and those of this one leave.

The next version has a schema of its own (`next_version`). First its additions are made, under the old workers; then its
workers join, one after the other, and for each an old one is drained and stopped; then what only the old ones needed is
removed. The judge is that of the other runs: every task begun once and done once. A sampling thread in each process
asks for every token, all the time: nobody says yes with another, and how long nobody does is measured.
"""

import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from jobsync.api.cluster import open_cluster
from jobsync.postgres.schema import latest_version
from jobsync.runtime.clock import boot_sec
from tests.api.jobs import eventually, query, settings
from tests.chaos.fleet import Fleet, Worker, gaps
from tests.chaos.judge import Claimed, Evidence, begun_twice, complaints, read_begun
from tests.chaos.next_version import environment_of, make_next_version

pytestmark = pytest.mark.chaos

RUN = "nightly"
LIMIT_SEC = 120.0
TOKENS = 48
QUIET = 1.0  # The load of a machine that does nothing else.


@dataclass(frozen=True, slots=True)
class Size:
    """How many workers of either version, and how many tasks of what length: more than can be done before the end."""

    workers: int
    tasks: int
    body_sec: float


class Roll:
    """One rolling update, with the evidence that it leaves."""

    def __init__(self, dsn: str, prefix: str, directory: Path, size: Size) -> None:
        self.dsn, self.prefix, self.size = dsn, prefix, size
        self.fleet = Fleet(dsn, prefix, directory, total_tokens=TOKENS)
        self.next = make_next_version(directory / "next")
        self.inside = ("env", f"PYTHONPATH={self.next}")

    def begin(self, name: str, **given: Any) -> Worker:
        """Have a worker enter, and walk."""
        worker = self.fleet.launch(name, run=RUN, **given)
        assert "entered" in (said := worker.hear(LIMIT_SEC)), said
        worker.order("walk", count=self.size.tasks, pace_sec=self.size.body_sec, hurries=True)
        return worker

    def join(self, name: str) -> Worker:
        """Have a worker of the next version enter, and wait until it has its part of the work."""
        worker = self.begin(name, inside=self.inside)
        eventually(lambda: worker.begun_file.stat().st_size > 0 or self.is_over(), f"{name} works", limit_sec=LIMIT_SEC)
        return worker

    def is_over(self) -> bool:
        """Tell whether all is done already: on a machine that is very busy starting a worker takes long."""
        return query(self.dsn, f"select count(*) from {self.prefix}audit") == [(self.size.tasks,)]

    def drain_and_stop(self, worker: Worker) -> None:
        """Do what an operator does: drain the node, wait until it is empty, and send SIGTERM."""
        with open_cluster(settings(self.dsn, self.prefix)) as cluster:
            assert cluster.drain(worker.name, reason="update", by="test")
            eventually(lambda: not cluster.load_of(worker.name).tokens, f"{worker.name} is empty", limit_sec=LIMIT_SEC)
        worker.signal(signal.SIGTERM)
        assert worker.process.wait(LIMIT_SEC) == 0, worker.tail()

    def command(self, *words: str, of_next: bool = False) -> "subprocess.CompletedProcess[str]":
        """Run the command of either version on this fleet."""
        environment = environment_of(self.next) if of_next else dict(os.environ)
        environment = {name: value for name, value in environment.items() if not name.startswith("SYNC_")}
        return subprocess.run(
            [sys.executable, "-m", "jobsync", *words, "--dsn", self.dsn, "--appname", self.prefix],
            env=environment, capture_output=True, text=True, timeout=LIMIT_SEC, check=False,
        )  # fmt: skip

    def migrate(self, *words: str) -> tuple[int, str]:
        done = self.command("migrate", *words, of_next=True)
        return done.returncode, done.stdout + done.stderr

    def has_function(self, name: str) -> bool:
        return query(self.dsn, "select count(*) > 0 from pg_proc where proname = %s", self.prefix + name) == [(True,)]

    def evidence(self) -> Evidence:
        files = [worker.begun_file for worker in self.fleet.workers]
        claims = query(self.dsn, f"select item, incarnation, created_on from {self.prefix}claim where run = %s", RUN)
        audits = query(self.dsn, f"select item, created_on from {self.prefix}audit where run = %s", RUN)
        return Evidence(
            tasks=self.size.tasks,
            begun={str(file): read_begun(str(file), file) for file in files},
            faults={},
            claims={int(item): Claimed(incarnation, at) for item, incarnation, at in claims},
            audits=[(int(item), at) for item, at in audits],
        )

    def written_down(self, since: datetime) -> list[int]:
        """List how long, in milliseconds, the history says that tokens were without an owner, for each rebalance."""
        with open_cluster(settings(self.dsn, self.prefix)) as cluster:
            past = cluster.history(100)
        return [each.uncovered_ms for each in past if each.triggered_at > since and each.uncovered_ms is not None]

    def uncovered(self, since_sec: float, until_sec: float) -> list[float]:
        """List every time in which nobody said yes for a token, one for each token and hand-over, in seconds."""
        answers = [worker.samples for worker in self.fleet.workers]
        found = (gaps(answers, token, since_sec, until_sec, longer_than_sec=0.0) for token in range(TOKENS))
        return [end_sec - start_sec for each in found for start_sec, end_sec in each]


def roll(dsn: str, prefix: str, directory: Path, size: Size) -> tuple[list[float], list[int]]:
    """Update a fleet under a batch, judge what it did; give the times without an owner, as seen and as written down."""
    update = Roll(dsn, prefix, directory, size)
    with update.fleet:
        old = [update.begin(f"old-{n}") for n in range(size.workers)]
        eventually(lambda: all(worker.begun_file.stat().st_size > 0 for worker in old), "all work", limit_sec=LIMIT_SEC)
        since_sec = read_begun("", old[-1].begun_file)[-1].at_sec
        ((since,),) = query(dsn, "select clock_timestamp()")

        status, text = update.migrate()
        assert (status, "are ready" in text, "migrate --phase post" in text) == (0, True, True), text

        new = []
        for number, worker in enumerate(old):
            new.append(update.join(f"new-{number}"))
            if number == 0:
                a_removal_is_refused(update, old)
            update.drain_and_stop(worker)

        written = update.written_down(since)
        until_sec = boot_sec()
        for worker in new:
            worker.let_body_end()
        for worker in new:
            assert worker.hear(LIMIT_SEC) == {"walked": True}
        update.fleet.assert_exclusive()
        evidence = update.evidence()
        assert complaints(evidence) == []
        assert begun_twice(evidence) == []
        the_old_is_removed(update)
        return update.uncovered(since_sec, until_sec), written


def a_removal_is_refused(update: Roll, old: list[Worker]) -> None:
    """While old workers are there: it names them, and changes nothing."""
    status, text = update.migrate("--phase", "post")
    assert status == 2
    assert "nothing was changed" in text
    assert all(f"'{worker.name}' (version {latest_version()})" in text for worker in old), text
    assert update.has_function("grow")


def the_old_is_removed(update: Roll) -> None:
    """When they are gone: a program of the old version is told so from now on, and the new ones go on."""
    assert update.migrate("--phase", "post")[0] == 0
    assert not update.has_function("grow")
    assert update.has_function("grow_anew")
    late = update.fleet.launch("late", run=RUN)
    said = late.hear()
    assert said["error"] == "SchemaError"
    assert f"newer than this program's {latest_version()}" in said["text"]
    assert "update jobsync here first" in said["text"]
    told = update.command("status")
    assert (told.returncode, "update jobsync here first" in told.stderr) == (2, True)
    more = update.fleet.enter("new-more", inside=update.inside)
    update.fleet.wait_until_owned(update.fleet.running)
    assert more.ask("status")["held"]


def told(uncovered: list[float], written_ms: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    """Print what was measured, for the documentation."""
    ms = sorted(1000 * each for each in uncovered)
    with capsys.disabled():
        print(
            f"\n{len(ms)} times that a token was without an owner: median {statistics.median(ms):.1f} ms, "
            f"99 % {ms[len(ms) * 99 // 100]:.1f} ms, worst {ms[-1]:.1f} ms; "
            f"the history says at most {max(written_ms)} ms"
        )


@pytest.fixture
def clean(server_dsn: str, prefix: str) -> Iterator[None]:
    """Drop the table that only the next version has."""
    yield
    query(server_dsn, f"drop table if exists {prefix}zone")


@pytest.mark.usefixtures("clean")
def test_two_versions_share_a_schema_while_one_takes_over(server_dsn: str, prefix: str, tmp_path: Path) -> None:
    uncovered, written_ms = roll(server_dsn, prefix, tmp_path, Size(workers=2, tasks=4000, body_sec=0.05))
    assert uncovered, "tokens moved"
    assert len(written_ms) >= 4, "two joined, and two were drained"
    # The processes say yes last before the one instant, and again after the other.
    assert 0 <= max(written_ms) <= 1000 * max(uncovered) + 1
    # On a machine that is busy with other tests a process may wait longer for its turn than a hand-over takes.
    assert statistics.median(uncovered) < 5.0


@pytest.mark.slow
@pytest.mark.usefixtures("clean")
def test_three_workers_are_replaced_and_no_token_is_long_without_an_owner(
    server_dsn: str, prefix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    is_quiet = os.getloadavg()[0] < QUIET
    uncovered, written_ms = roll(server_dsn, prefix, tmp_path, Size(workers=3, tasks=15_000, body_sec=0.005))
    told(uncovered, written_ms, capsys)
    # Where others are at work as well, what is measured is how long a process waits for its turn.
    assert max(uncovered) < (0.05 if is_quiet else 10.0)
