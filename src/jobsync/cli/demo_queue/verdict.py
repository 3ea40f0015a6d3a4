"""The verdict: a pure function of the results, the handlers' log, the job rows and the processes.

Every promise is one check with its figures. A check for which there is no evidence does not hold.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from jobsync.cli.demo.verdict import Check, Verdict
from jobsync.cli.demo_queue.measure import Measure
from jobsync.cli.demo_queue.tables import Measured, Trace
from jobsync.cli.demo_queue.watch import begun_again

TAKEN_OVER_LIMIT_MS = 5000.0
STAGED_FAILURES = 2
MANY = 3


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What the queue says of one job at the end."""

    id: int
    item: str
    status: str
    attempts: int
    crashes: int
    max_attempts: int


@dataclass(frozen=True, slots=True)
class KillFacts:
    """Who was killed, and when."""

    worker: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that the verdict is drawn from.

    `control` is what each file measures by other means; `jobs` are the files' jobs; `flaky` and `endless` name the one
    that was staged to fail and the one that was cancelled.
    """

    control: Mapping[str, Measure]
    measured: tuple[Measured, ...]
    trace: tuple[Trace, ...]
    jobs: tuple[JobFacts, ...]
    flaky: int
    endless: JobFacts
    kill: KillFacts | None
    cancelled_at: datetime | None
    exit_statuses: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A whole demo: the verdict, and what failed workers said."""

    verdict: Verdict
    files: int
    size_bytes: int
    took_sec: float
    prefix: str
    complaints: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Give it for programs."""
        return {**self.verdict.as_dict(), **{k: v for k, v in asdict(self).items() if k != "verdict"}}


def judge(evidence: Evidence) -> Verdict:
    """Judge a demo."""
    return Verdict(
        (
            _once(evidence),
            _right(evidence),
            _done(evidence),
            _taken_over(evidence),
            _begun_once(evidence),
            _failed_then_done(evidence),
            _cancelled(evidence),
            _left_well(evidence.exit_statuses),
        )
    )


def _once(evidence: Evidence) -> Check:
    rows = Counter(row.item for row in evidence.measured)
    times = [rows[item] for item in evidence.control]
    once, twice, never = times.count(1), sum(count > 1 for count in times), times.count(0)
    holds = once == len(evidence.control) > 0 and set(rows) == set(evidence.control)
    return Check("each file's result once", holds, f"once {once:,}, twice {twice:,}, never {never:,}")


def _right(evidence: Evidence) -> Check:
    wrong = [row.item for row in evidence.measured if evidence.control.get(row.item) != row.measure]
    figures = f"{len(evidence.measured) - len(wrong):,} right"
    if wrong:
        figures += f", {len(wrong):,} wrong: {', '.join(wrong[:MANY])}"
    return Check("as measured without a queue", not wrong and bool(evidence.measured), figures)


def _done(evidence: Evidence) -> Check:
    found = Counter(job.status for job in evidence.jobs)
    holds = found["done"] == len(evidence.jobs) == len(evidence.control) > 0
    figures = ", ".join(f"{count:,} {status}" for status, count in found.most_common()) or "there were no jobs"
    return Check("each job done", holds, figures)


def _in_hand(evidence: Evidence) -> tuple[int, ...]:
    """Name the jobs that the killed worker had begun and not ended."""
    if evidence.kill is None:
        return ()
    own = [line for line in evidence.trace if line.worker == evidence.kill.worker]
    measured = {row.item for row in evidence.measured if row.worker == evidence.kill.worker}
    ended = {job.id for job in evidence.jobs if job.item in measured}
    last = {line.job: line.what for line in own}
    return tuple(job for job, what in last.items() if what == "begin" and job not in ended)


def _taken_over(evidence: Evidence) -> Check:
    promise = "killed in hand, begun again"
    kill = evidence.kill
    if kill is None:
        return Check(promise, holds=False, figures="nobody was killed")
    jobs = _in_hand(evidence)
    if not jobs:
        return Check(promise, holds=False, figures=f"{kill.worker} was killed with no job in hand")
    again = begun_again(evidence.trace, jobs, kill.at)
    missing = [job for job in jobs if job not in again]
    if missing:
        return Check(promise, holds=False, figures=f"never: job {', job '.join(map(str, missing))}")
    last = max(again.values(), key=lambda line: line.at)
    after_ms = (last.at - kill.at).total_seconds() * 1000
    told = f"{len(again)} job{'' if len(again) == 1 else 's'}, the last after {after_ms:.0f} ms by {last.worker}"
    return Check(promise, after_ms <= TAKEN_OVER_LIMIT_MS, told)


def _begun_once(evidence: Evidence) -> Check:
    """Nothing ran twice but what failed, and what the killed worker had in hand: those once more."""
    crashed = set(_in_hand(evidence))
    begins = Counter(line.job for line in evidence.trace if line.what == "begin")
    allowed = {job.id: 1 + (job.id in crashed) + STAGED_FAILURES * (job.id == evidence.flaky) for job in evidence.jobs}
    odd = {job: begins[job] for job, times in allowed.items() if begins[job] != times}
    figures = f"{len(allowed) - len(odd):,} jobs begun as often as they had to be"
    if odd:
        listed = ", ".join(f"job {job} {times} times" for job, times in list(odd.items())[:MANY])
        figures += f"; not {len(odd):,}: {listed}"
    return Check("nothing else ran twice", not odd and bool(allowed), figures)


def _failed_then_done(evidence: Evidence) -> Check:
    promise = f"failed {STAGED_FAILURES} times, then done"
    lines = [line for line in evidence.trace if line.job == evidence.flaky]
    failed = [line for line in lines if line.what == "failed"]
    waits = [
        next(((b.at - line.at).total_seconds() for b in lines if b.what == "begin" and b.at > line.at), None)
        for line in failed
    ]
    job = next((job for job in evidence.jobs if job.id == evidence.flaky), None)
    holds = len(failed) == STAGED_FAILURES and None not in waits and job is not None and job.status == "done"
    told = ", ".join("never" if wait is None else f"after {wait:.1f} s" for wait in waits) or "it never failed"
    return Check(promise, holds, f"job {evidence.flaky}, begun again {told}")


def _cancelled(evidence: Evidence) -> Check:
    promise = "cancelled while it ran"
    endless, at = evidence.endless, evidence.cancelled_at
    told = next((line for line in evidence.trace if line.job == endless.id and line.what == "told"), None)
    if at is None:
        return Check(promise, holds=False, figures="nothing was cancelled")
    if told is None:
        return Check(promise, holds=False, figures=f"job {endless.id} is {endless.status}; its handler was not told")
    after_ms = (told.at - at).total_seconds() * 1000
    return Check(
        promise, endless.status == "cancelled", f"job {endless.id} is {endless.status}, told after {after_ms:.0f} ms"
    )


def _left_well(exit_statuses: Mapping[str, int]) -> Check:
    bad = [f"{name} ended with {status}" for name, status in exit_statuses.items() if status != 0]
    figures = "; ".join(bad) if bad else f"{len(exit_statuses)} workers, exit status 0"
    return Check("all others left well", not bad and bool(exit_statuses), figures)
