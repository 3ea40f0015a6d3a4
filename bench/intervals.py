"""From what every process answered, sample by sample, to who owned what and when.

A probe samples each job's answer and notes the clock before and after the question. From the first sample that
shows a set of tokens to the last one, the job said yes to them: the interval runs from just after the first answer
to just before the last question, so it is never longer than the truth. Two intervals of two jobs that share a
token and an instant are an overlap: the thing that must never happen.

A process that was paused asked nothing: after a gap in the samples a new interval begins. A killed process cannot
say goodbye: the instant of its last yes is kept in a mapped page, which survives it.
"""

import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobsync import TokenSet

SLOT = struct.Struct("d")


@dataclass(frozen=True, slots=True)
class Interval:
    """One job said yes to these tokens from `start` to `end` (boot clock, seconds)."""

    job: str
    start: float
    end: float
    tokens: TokenSet


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two jobs said yes to the same tokens at the same time."""

    jobs: tuple[str, str]
    at: float
    lasted_sec: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Log:
    """What one process wrote: the intervals of its jobs, the engines' facts, and how often it was asked."""

    intervals: list[Interval]
    facts: list[tuple[float, str, str]]
    samples: int
    disagreements: int


class LogFile:
    """A worker's log as it grows; `read` gives all of it so far."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def slots(self) -> Path:
        """The mapped file: for each job the instant of its last yes; then samples and disagreements."""
        return self._path.with_suffix(".slots")

    def read(self) -> Log:
        """Read intervals (those still open end at the last yes so far) and facts."""
        slots = [value for (value,) in SLOT.iter_unpack(self.slots.read_bytes())] if self.slots.exists() else []
        open_since: dict[int, tuple[str, float, TokenSet]] = {}
        intervals: list[Interval] = []
        facts: list[tuple[float, str, str]] = []
        for line in self._lines():
            match json.loads(line):
                case ["on", slot, job, start, tokens]:
                    open_since[slot] = (job, start, TokenSet.parse(tokens))
                case ["off", slot, end]:
                    job, start, held = open_since.pop(slot)
                    intervals.append(Interval(job, start, max(start, end), held))
                case ["fact", at, kind, text]:
                    facts.append((at, kind, text))
        for slot, (job, start, held) in open_since.items():
            intervals.append(Interval(job, start, max(start, slots[slot]), held))
        samples, disagreements = (int(slots[-2]), int(slots[-1])) if slots else (0, 0)
        return Log(intervals, facts, samples, disagreements)

    def _lines(self) -> list[str]:
        # The last line may be half written: by a process that was killed, or that is writing now.
        return self._path.read_text().split("\n")[:-1] if self._path.exists() else []


def overlaps(intervals: Iterable[Interval]) -> list[Overlap]:
    """Find all pairs of intervals of different jobs that share a token and more than an instant."""
    found: list[Overlap] = []
    going_on: list[Interval] = []
    for later in sorted(intervals, key=lambda each: each.start):
        going_on = [each for each in going_on if each.end > later.start]
        for earlier in going_on:
            shared = earlier.tokens & later.tokens if earlier.job != later.job else TokenSet()
            lasted_sec = min(earlier.end, later.end) - later.start
            if shared and lasted_sec > 0:
                found.append(Overlap((earlier.job, later.job), later.start, lasted_sec, len(shared)))
        going_on.append(later)
    return found


def last_yes(intervals: Sequence[Interval], held: TokenSet) -> list[tuple[float, TokenSet]]:
    """Tell when a process last said yes to each of the tokens that it held, as (instant, tokens)."""
    remaining = held
    ends: list[tuple[float, TokenSet]] = []
    for each in sorted(intervals, key=lambda interval: interval.end, reverse=True):
        if each.tokens & remaining:
            ends.append((each.end, each.tokens & remaining))
            remaining = remaining - each.tokens
    return ends


def first_yes(others: Iterable[Interval], tokens: TokenSet, after: float) -> list[tuple[float, int]] | None:
    """Tell when somebody first said yes to each token, as (seconds after `after`, count); None: not all yet."""
    remaining = tokens
    reached: list[tuple[float, int]] = []
    for each in sorted(others, key=lambda interval: interval.start):
        if each.end < after:
            continue
        fresh = each.tokens & remaining
        if fresh:
            reached.append((each.start - after, len(fresh)))
            remaining = remaining - fresh
            if not remaining:
                return reached
    return None


def as_details(found: Sequence[Overlap]) -> list[dict[str, Any]]:
    """Give overlaps for the JSON file."""
    return [
        {"jobs": each.jobs, "at": each.at, "lasted_ms": each.lasted_sec * 1000, "tokens": each.tokens} for each in found
    ]
