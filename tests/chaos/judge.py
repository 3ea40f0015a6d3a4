"""The judge of runs: who did which task, when, and whether that was right. It uses nothing of the library.

What the processes wrote down is one file each, with a record for every body begun: the instant on the boot clock, the
task, and the incarnation as which the process was in the fleet. What the database knows is the standing claim and the
audits of each task. The rule: every task is begun once and audited once, except those in the hands of a process that
was killed or stopped, which are begun once more.

In its hands is what it had begun and not audited when the fault struck. The table of claims tells which: a claim is
taken over only as long as no audit stands. So of a task that was begun twice the standing claim must bear the
incarnation of the second beginning, and no audit may be older than the claim.
"""

import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

RECORD = struct.Struct("<dqq")


@dataclass(frozen=True, slots=True, order=True)
class Begun:
    """One body that began."""

    at_sec: float
    task: int
    incarnation: int
    process: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """The standing claim of a task."""

    incarnation: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known when a run is over.

    `faults` gives for each process that was killed or stopped the instant from which it certainly did nothing, or
    nothing more before it was woken.
    """

    tasks: int
    begun: Mapping[str, Sequence[Begun]]
    faults: Mapping[str, float]
    claims: Mapping[int, Claimed]
    audits: Sequence[tuple[int, datetime]]


def read_begun(process: str, path: Path) -> list[Begun]:
    """Read what one process wrote down; a last record that a kill cut short is left out."""
    raw = path.read_bytes()
    whole = len(raw) - len(raw) % RECORD.size
    return [Begun(at_sec, task, who, process) for at_sec, task, who in RECORD.iter_unpack(raw[:whole])]


def begun_twice(evidence: Evidence) -> list[int]:
    """List the tasks that were begun more than once."""
    counts = Counter(record.task for records in evidence.begun.values() for record in records)
    return sorted(task for task, count in counts.items() if count > 1)


def complaints(evidence: Evidence) -> list[str]:
    """List what was wrong with a run; nothing if it was right."""
    audits = defaultdict(list)
    for task, at in evidence.audits:
        audits[task].append(at)
    by_task = defaultdict(list)
    for records in evidence.begun.values():
        for record in records:
            by_task[record.task].append(record)
    found = [f"task {task} is none of the run's" for task in {*by_task, *audits} if not 0 <= task < evidence.tasks]
    for task in range(evidence.tasks):
        found += _about_records(task, audits[task], evidence.claims.get(task))
        found += _about_bodies(task, sorted(by_task[task]), evidence)
    return found


def _about_records(task: int, audited: list[datetime], claim: Claimed | None) -> Iterable[str]:
    if len(audited) != 1:
        yield f"task {task} is audited {len(audited)} times"
    elif claim is not None and claim.at > audited[0]:
        yield f"task {task} was claimed after it was audited"


def _about_bodies(task: int, begun: list[Begun], evidence: Evidence) -> Iterable[str]:
    if not begun:
        yield f"task {task} was never begun"
        return
    claim = evidence.claims.get(task)
    if claim is not None and claim.incarnation != begun[-1].incarnation:
        yield f"task {task} was last begun as {begun[-1].incarnation}, and is claimed by {claim.incarnation}"
    if len(begun) > 2:
        yield f"task {task} was begun {len(begun)} times: {begun}"
    if len(begun) == 2:
        first = next((record for record in begun if _in_hand(record, evidence)), None)
        if first is None:
            yield f"task {task} was begun twice without a fault: {begun}"
            return
        again = begun[1 - begun.index(first)]
        if again.at_sec < evidence.faults[first.process]:
            yield f"task {task} was begun twice before the fault: {begun}"
        if again.incarnation == first.incarnation:
            yield f"task {task} was begun twice by one incarnation: {begun}"


def _in_hand(record: Begun, evidence: Evidence) -> bool:
    """Tell whether a process may have had this body in hand when its fault struck.

    A process that is stopped between being given a task and writing that down does so when it wakes: the first record
    after the fault is in hand too.
    """
    fault_sec = evidence.faults.get(record.process)
    if fault_sec is None:
        return False
    records = evidence.begun[record.process]
    before = sum(each.at_sec <= fault_sec for each in records)
    return record in records[: before + 1]
