"""Virtual time: what happens next, and the trace of what happened."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

Place = tuple[float, int]
"""A place in the order of things: an instant of true time, and a number for those of one instant."""


class Agenda:
    """Entries in order of true time; those of one instant in the order in which they were made."""

    def __init__(self, *, traced: bool = False) -> None:
        self.now_sec = 0.0
        self.trace: list[str] | None = [] if traced else None
        self._entries: list[tuple[Place, Callable[[], None]]] = []
        self._serial = count()

    def after(self, sec: float, act: Callable[[], None]) -> None:
        """Let something happen later."""
        self.put(self.place_after(sec), act)

    def place_after(self, sec: float) -> Place:
        """Take a place in the order, for what may be put there at any time until then."""
        return self.now_sec + max(0.0, sec), next(self._serial)

    def put(self, place: Place, act: Callable[[], None]) -> None:
        """Let something happen in its place."""
        heappush(self._entries, (place, act))

    def run(self, sec: float) -> None:
        """Let time pass."""
        self.run_until(lambda: False, within_sec=sec)

    def run_until(self, done: Callable[[], bool], *, within_sec: float) -> bool:
        """Let time pass until something is so; say whether it came to be."""
        end_sec = self.now_sec + within_sec
        while not done():
            if not self._entries or self._entries[0][0][0] > end_sec:
                self.now_sec = end_sec
                return done()
            (self.now_sec, _), act = heappop(self._entries)
            act()
        return True

    def note(self, who: str, what: str) -> None:
        """Write a line of the trace, if there is one."""
        if self.trace is not None:
            self.trace.append(f"{self.now_sec:12.6f} {who:<6} {what}")
