"""Judging the death of others, by this node's own clock alone.

Two rules, each sound whatever the database's clock does (PROTOCOL 2 and 3):

A  The node's `beats` did not change for longer than its row lease. The wait starts when the value was first *seen*,
   after the reply, so it outlasts a lease that the holder counts from before it sent the beat.
B  The session that the node bound is absent for longer than its session lease. A session that is gone never comes
   back under the same bind; the holder believes nothing unless a round trip on that session was *sent* less than
   a session lease ago.

A suspicion is not a verdict: the fence asks the database again, under the node's row lock. What is remembered stays
true over gaps in looking, since both observations are monotone for one bind. Only rule B needs more: right
after this node's own session broke, the others' may have broken with it, so it waits for a grace.

After a fail-over nothing that was seen before counts: the commits that would have ended a silence may be lost. The
member then begins with a new observer.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from jobsync.core.messages import Fence, Identity, Sighting
from jobsync.core.settings import observer_wait_sec

GRACE_AFTER_OWN_BREAK_SEC = 5.0
RETRY_FENCE_SEC = 0.05


@dataclass(frozen=True, slots=True)
class Suspect:
    """A node that has been silent (A) or absent (B) for long enough to be fenced.

    `alive_sec` is when this observer last saw a sign of life, by its own clock; None: it never did.
    """

    who: Identity
    beats: int
    rule: str
    alive_sec: float | None = None

    def fence(self, now_sec: float) -> Fence:
        """Ask for the fence."""
        silent_ms = None if self.alive_sec is None else round(1000 * (now_sec - self.alive_sec))
        return Fence(self.who, self.beats, self.rule, silent_ms)


@dataclass(slots=True)
class _Watched:
    beats: int
    same_since_sec: float
    row_wait_sec: float
    session_wait_sec: float | None
    absent_since_sec: float | None
    advanced_sec: float | None = None  # The last beat seen to be new, and the last look that saw the session:
    present_sec: float | None = None  # for the record, of how long tokens had no owner.
    not_before_sec: float = float("-inf")

    def due(self, grace_until_sec: float) -> tuple[float, str]:
        """When this node may be fenced if nothing changes, and by which rule."""
        by_a = max(self.same_since_sec + self.row_wait_sec, self.not_before_sec)
        if self.absent_since_sec is None or self.session_wait_sec is None:
            return by_a, "A"
        by_b = max(self.absent_since_sec + self.session_wait_sec, grace_until_sec, self.not_before_sec)
        return (by_b, "B") if by_b <= by_a else (by_a, "A")

    def alive_sec(self, rule: str) -> float | None:
        """When it last showed a sign of life: a beat, or, for whom rule B holds, its session.

        The session of a process that stands still is there all the time.
        """
        signs = (self.advanced_sec,) if rule == "A" else (self.advanced_sec, self.present_sec)
        return max((sign for sign in signs if sign is not None), default=None)


class Observer:
    """Remembers since when each other node has shown no sign of life."""

    def __init__(self) -> None:
        self._watched: dict[Identity, _Watched] = {}
        self._advanced: set[str] = set()
        self._grace_until_sec = float("-inf")

    def look(self, now_sec: float, sightings: Iterable[Sighting]) -> None:
        """Take in one look at the others; `now_sec` is the boot clock after the reply."""
        known, self._watched = self._watched, {}
        for seen in sightings:
            entry = known.get(seen.who)
            if entry is None:
                entry = _Watched(seen.beats, now_sec, 0.0, None, None)
                if any(who.name == seen.who.name for who in known):
                    self._note_advance(seen)
            elif entry.beats != seen.beats:
                entry.beats, entry.same_since_sec, entry.advanced_sec = seen.beats, now_sec, now_sec
                self._note_advance(seen)
            entry.row_wait_sec = observer_wait_sec(seen.row_lease_ms / 1000)
            entry.session_wait_sec = (
                None if seen.session_lease_ms is None else observer_wait_sec(seen.session_lease_ms / 1000)
            )
            if not seen.absent:
                entry.absent_since_sec, entry.present_sec = None, now_sec
            elif entry.absent_since_sec is None:
                entry.absent_since_sec = now_sec
            self._watched[seen.who] = entry

    def _note_advance(self, seen: Sighting) -> None:
        if not seen.leaving:
            self._advanced.add(seen.who.name)

    def seen_alive(self) -> frozenset[str]:
        """Name those whose beats advanced, or who came back, under this observer's eyes."""
        return frozenset(self._advanced)

    def suspects(self, now_sec: float) -> list[Suspect]:
        """List the nodes that may be fenced now."""
        found = []
        for who, entry in self._watched.items():
            due_sec, rule = entry.due(self._grace_until_sec)
            if due_sec <= now_sec:
                found.append(Suspect(who, entry.beats, rule, entry.alive_sec(rule)))
        return found

    def next_due_sec(self) -> float:
        """Tell when the next absent node may be fenced; rule A is looked at with every look."""
        absent = [w.due(self._grace_until_sec)[0] for w in self._watched.values() if w.absent_since_sec is not None]
        return min(absent, default=float("inf"))

    def forget(self, who: Identity) -> None:
        """Drop what is known of a node: it was fenced, or it moved on."""
        self._watched.pop(who, None)

    def postpone(self, who: Identity, now_sec: float) -> None:
        """Try a fence again a little later: a lock was held."""
        if who in self._watched:
            self._watched[who].not_before_sec = now_sec + RETRY_FENCE_SEC

    def own_session_broke(self, now_sec: float) -> None:
        """Start absences anew, after a grace: what broke this node's session may have broken the others'."""
        self._grace_until_sec = now_sec + GRACE_AFTER_OWN_BREAK_SEC
        for entry in self._watched.values():
            entry.absent_since_sec = None
