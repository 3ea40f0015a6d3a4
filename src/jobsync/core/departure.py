"""Getting out gracefully: announce it, wait a little until successors are named, hand over, delete the row.

Waiting for the successors first keeps the time in which a token has no owner short: they take it as soon as it
is free. The wait is bounded, since there may be nobody to name them.
"""

from enum import Enum

PATIENCE_SEC = 1.0  # For successors to be named; a plan takes some ten milliseconds.
PATIENCE_OFFLINE_SEC = 2.0  # For a database that is away: then others fence the row.


class Step(Enum):
    """What a leaving node does next."""

    ANNOUNCE = "announce"
    WAIT = "wait"
    HAND_OVER = "hand over"
    FINISH_HANDOVER = "finish hand-over"


class Departure:
    """How far a node is on its way out."""

    def __init__(self) -> None:
        self.asked_sec: float | None = None
        self._announced = False
        self._shed = False

    def ask(self, now_sec: float) -> None:
        """The application wants out."""
        if self.asked_sec is None:
            self.asked_sec = now_sec

    def announced(self) -> None:
        """The row says so."""
        self._announced = True

    def shed(self) -> None:
        """The belief is dropped; the hand-over is under way."""
        self._shed = True

    def step(self, now_sec: float, *, successors_named: bool) -> Step:
        """Decide what comes next."""
        if not self._announced:
            return Step.ANNOUNCE
        if self._shed:
            return Step.FINISH_HANDOVER
        if successors_named or self.asked_sec is None or now_sec >= self.asked_sec + PATIENCE_SEC:
            return Step.HAND_OVER
        return Step.WAIT

    def gives_up_offline(self, now_sec: float) -> bool:
        """Tell whether the database was away for too long to wait for it any more."""
        return self.asked_sec is not None and now_sec >= self.asked_sec + PATIENCE_OFFLINE_SEC

    def next_due_sec(self, *, online: bool) -> float:
        """Tell when patience ends."""
        if self.asked_sec is None or self._shed:
            return float("inf")
        return self.asked_sec + (PATIENCE_SEC if online else PATIENCE_OFFLINE_SEC)
