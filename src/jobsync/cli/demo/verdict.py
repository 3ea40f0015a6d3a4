"""The verdict: a pure function of what the log, the counts, the history and the processes say.

Every promise is one check with its figures. A check for which there is no evidence does not hold.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jobsync.cli.demo.stdlib import Counts
from jobsync.cli.demo.tables import LogRow

COVERED_LIMIT_SEC = 5.0
MANY = 3


@dataclass(frozen=True, slots=True)
class EventFacts:
    """One thing that was done to the fleet: 'kill', 'stop' or 'join'.

    `settled_sec` counts from it until all tokens were owned by live workers again (None: never seen). `moved` is what
    the history says, `least` the fewest tokens that could have moved.
    """

    kind: str
    node: str
    settled_sec: float | None
    moved: int
    least: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that the verdict is drawn from.

    `items` is the input; `counted` names the file of each row of the counts; `exit_statuses` are those of all workers
    but the killed one.
    """

    items: tuple[str, ...]
    log: tuple[LogRow, ...]
    counted: tuple[str, ...]
    events: tuple[EventFacts, ...]
    exit_statuses: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Check:
    """One promise, whether it held, and its figures in words."""

    promise: str
    holds: bool
    figures: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """All checks; it holds when each of them does."""

    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        return bool(self.checks) and all(check.holds for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Give it for programs."""
        return {"holds": self.holds, "checks": [asdict(check) for check in self.checks]}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A whole demo: the verdict, what was counted, and what failed workers said."""

    verdict: Verdict
    totals: Counts
    files: int
    took_sec: float
    prefix: str
    complaints: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Give it for programs."""
        return {
            **self.verdict.as_dict(),
            "files": self.files,
            "took_sec": round(self.took_sec, 3),
            "counted": asdict(self.totals),
            "prefix": self.prefix,
            "complaints": list(self.complaints),
        }


def judge(evidence: Evidence) -> Verdict:
    """Judge a demo."""
    by_kind = {event.kind: event for event in evidence.events}
    kill = by_kind.get("kill")
    return Verdict(
        (
            _ended_once(evidence),
            _counted_once(evidence),
            _begun_again(evidence, kill),
            _covered(kill),
            *(_moved(kind, by_kind.get(kind)) for kind in ("kill", "stop", "join")),
            _left_well(evidence.exit_statuses),
        )
    )


def _ended_once(evidence: Evidence) -> Check:
    ends = Counter(row.item for row in evidence.log if row.what == "end")
    once, twice, never = _tally(evidence.items, ends)
    holds = once == len(evidence.items) > 0 and set(ends) == set(evidence.items)
    return Check("each file ended once", holds, f"once {once:,}, twice {twice:,}, never {never:,}")


def _counted_once(evidence: Evidence) -> Check:
    rows = Counter(evidence.counted)
    once, twice, never = _tally(evidence.items, rows)
    holds = once == len(evidence.items) > 0 and set(rows) == set(evidence.items)
    return Check("its counts stored once", holds, f"once {once:,}, twice {twice:,}, never {never:,}")


def _tally(items: tuple[str, ...], found: Counter[str]) -> tuple[int, int, int]:
    times = [found[item] for item in items]
    return times.count(1), sum(count > 1 for count in times), times.count(0)


def _begun_again(evidence: Evidence, kill: EventFacts | None) -> Check:
    promise = "killed in hand, redone once"
    if kill is None:
        return Check(promise, holds=False, figures="nobody was killed")
    own = [row for row in evidence.log if row.node == kill.node]
    ended = {row.item for row in own if row.what == "end"}
    left = sorted({row.item for row in own if row.what == "begin"} - ended)
    if not left:
        return Check(promise, holds=False, figures=f"{kill.node} was killed with no file in hand")
    again = {item: [row.node for row in evidence.log if _is_begin(row, item, kill.node)] for item in left}
    told = [_told_again(item, nodes) for item, nodes in again.items()]
    more = f" and {len(told) - MANY} more" if len(told) > MANY else ""
    return Check(promise, all(len(nodes) == 1 for nodes in again.values()), "; ".join(told[:MANY]) + more)


def _is_begin(row: LogRow, item: str, victim: str) -> bool:
    return row.what == "begin" and row.item == item and row.node != victim


def _told_again(item: str, nodes: list[str]) -> str:
    match nodes:
        case []:
            return f"{item} was not begun again"
        case [node]:
            return f"{item}, by {node}"
        case _:
            return f"{item} was begun again {len(nodes)} times, by {', '.join(nodes)}"


def _covered(kill: EventFacts | None) -> Check:
    promise = "all tokens owned again"
    if kill is None:
        return Check(promise, holds=False, figures="nobody was killed")
    if kill.settled_sec is None:
        return Check(promise, holds=False, figures=f"not seen after the kill of {kill.node}")
    within = kill.settled_sec <= COVERED_LIMIT_SEC
    late = "" if within else f", later than {COVERED_LIMIT_SEC:g} s"
    return Check(promise, within, f"{kill.settled_sec:.2f} s after the kill{late}")


def _moved(kind: str, event: EventFacts | None) -> Check:
    promise = f"tokens moved by the {kind}"
    if event is None:
        return Check(promise, holds=False, figures=f"there was no {kind}")
    figures = f"{event.moved:,}, the least possible is {event.least:,}"
    if event.settled_sec is None:
        return Check(promise, holds=False, figures=f"{figures}; it never settled")
    return Check(promise, event.moved == event.least, figures)


def _left_well(exit_statuses: Mapping[str, int]) -> Check:
    bad = [f"{name} ended with {status}" for name, status in exit_statuses.items() if status != 0]
    figures = "; ".join(bad) if bad else f"{len(exit_statuses)} workers, exit status 0"
    return Check("all others left well", not bad and bool(exit_statuses), figures)
