"""What happens to the fleet, and when: a kill, a stop and a join, each once the one before has settled.

An event is due at a share of the files done. It has settled when live workers own all tokens again; after a join,
when the newcomer owns its share too. The tokens that an event moved are read from the history between its own
mark and the next one's.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from jobsync.cli.demo.fleet import Fleet
from jobsync.cli.demo.verdict import EventFacts
from jobsync.cli.demo.watch import Snapshot

DUE = (("kill", 0.25), ("stop", 0.45), ("join", 0.60))
SETTLE_LIMIT_SEC = 30.0


@dataclass(slots=True)
class Event:
    """One event under way or over."""

    kind: str
    node: str
    begun_sec: float
    mark: int
    least: int
    settled_sec: float | None = None
    given_up: bool = False

    @property
    def is_over(self) -> bool:
        """Whether it has settled, or never will."""
        return self.settled_sec is not None or self.given_up


class Scenario:
    """Brings the events about; `step` is called with every snapshot, `say(text)` is told what happens."""

    def __init__(
        self, fleet: Fleet, files: int, just_begun: Callable[[str], list[str]], say: Callable[[str], None]
    ) -> None:
        self._fleet = fleet
        self._files = files
        self._just_begun = just_begun
        self._say = say
        self._due = list(DUE)
        self._last_mark = 0
        self.events: list[Event] = []

    @property
    def is_settling(self) -> bool:
        """Whether an event is under way."""
        return bool(self.events) and not self.events[-1].is_over

    def step(self, snapshot: Snapshot) -> None:
        """Bring about what is due, and see whether what was done has settled."""
        if snapshot.ended < self._files:
            self._last_mark = snapshot.last_rebalance
        if self.is_settling:
            self._see_settled(self.events[-1], snapshot)
        elif self._due and snapshot.ended >= self._due[0][1] * self._files:
            kind, _ = self._due.pop(0)
            self._begin(kind, snapshot)

    def _begin(self, kind: str, snapshot: Snapshot) -> None:
        running = self._fleet.running()
        if kind == "join":
            least = snapshot.total_tokens // (len(running) + 1)
            begun_sec = time.perf_counter()
            node = self._fleet.let_in()
            self._say(f"{node} joins")
        else:
            leader = snapshot.status.leader
            node = leader if kind == "kill" and leader in running else running[-1]
            least = snapshot.tokens_of(node)
            begun_sec = self._end(kind, node, is_leader=node == leader)
        self.events.append(Event(kind, node, begun_sec, snapshot.last_rebalance, least))

    def _end(self, kind: str, node: str, *, is_leader: bool) -> float:
        if kind == "stop":
            begun_sec = time.perf_counter()
            self._fleet.stop(node)
            self._say(f"{node} is told to stop (SIGTERM)")
            return begun_sec
        begun_sec, inside = self._fleet.kill(node, self._just_begun)
        files = ", ".join(inside) or "no file"
        self._say(f"{node}{', the leader,' if is_leader else ''} is killed (SIGKILL) inside {files}")
        return begun_sec

    def _see_settled(self, event: Event, snapshot: Snapshot) -> None:
        running = self._fleet.running()
        after_sec = snapshot.at_sec - event.begun_sec
        covered = snapshot.tokens_of(*running) == snapshot.total_tokens
        if covered and (event.kind != "join" or snapshot.tokens_of(event.node) >= event.least):
            event.settled_sec = after_sec
            self._say(f"live workers own all tokens, {after_sec:.2f} s after the {event.kind}")
        elif after_sec > SETTLE_LIMIT_SEC:
            event.given_up = True
            self._say(f"the {event.kind} has not settled within {SETTLE_LIMIT_SEC:.0f} s")

    def facts(self, snapshot: Snapshot) -> tuple[EventFacts, ...]:
        """Give what the history says of each event, once all files are done."""
        marks = [event.mark for event in self.events[1:]] + [self._last_mark]
        moved = {row.id: row.tokens_moved for row in snapshot.status.rebalances}
        return tuple(
            EventFacts(
                event.kind,
                event.node,
                event.settled_sec,
                sum(count for number, count in moved.items() if event.mark < number <= until),
                event.least,
            )
            for event, until in zip(self.events, marks, strict=True)
        )
