"""How many jobs a worker fetches ahead, and when it gives back what it fetched too early.

A round trip to the database costs as much as hundreds of small jobs, so a worker fetches many at once, and keeps some
in stock while it fetches the next. A job in stock is kept from other workers, though, who may have nothing to do. So
the stock is what the handlers are seen to run in `STOCK_SEC`, it grows only where the handlers had to wait for it, and
what will not begin within `PATIENCE_SEC` goes back.
"""

from dataclasses import dataclass
from typing import Final

STOCK_SEC: Final = 0.05
PATIENCE_SEC: Final = (
    0.05  # A handler that runs for so long may run for long; others have the jobs 100 ms after the take.
)
FIRST_STOCK: Final = 8
MOST_STOCK: Final = 1500
BATCH: Final = 500  # The most that one lease lists.
_WEIGHT_SEC: Final = 0.02  # How long it takes for half of what was seen to be forgotten.


@dataclass(slots=True)
class Flow:
    """The flow of jobs through the slots of one worker.

    per_sec   how many jobs a second they were last seen to run, while there were any to run; None: nothing seen yet
    stock     how many to have fetched beyond those that begin at once
    """

    slots: int
    stock: int = FIRST_STOCK
    per_sec: float | None = None

    def saw(self, finished: int, busy_sec: float) -> None:
        """Take in how many jobs ended in a time in which there always was one that ran."""
        if busy_sec <= 0:
            return
        seen = finished / busy_sec
        if self.per_sec is None:
            self.per_sec = seen
        else:
            keep = 0.5 ** (busy_sec / _WEIGHT_SEC)
            self.per_sec = self.per_sec * keep + seen * (1 - keep)

    def took(self, asked: int, got: int, *, ran_dry: bool) -> None:
        """Take in a refill; `ran_dry`: a handler could have begun a job while it was on its way."""
        if ran_dry and got >= asked:
            self.stock = max(FIRST_STOCK, 2 * self.stock)
        self.stock = min(self.stock, self._runs_in(STOCK_SEC), MOST_STOCK)

    def want(self, fetched: int, free: int) -> int:
        """Say how many to ask for now, with so many fetched and not begun, and so many slots free; 0: none yet."""
        stock = min(self.stock, self._runs_in(STOCK_SEC))
        missing = free + stock - fetched
        if missing <= 0 or (free <= fetched and fetched > stock // 2):
            return 0
        return min(missing, BATCH)

    def surplus(self, fetched: int, stalled_sec: float) -> int:
        """Say how many to give back, if for so long none of those fetched has begun."""
        if stalled_sec >= PATIENCE_SEC:
            return fetched
        soon = self._runs_in(2 * PATIENCE_SEC)
        return fetched - soon if fetched > 2 * soon + FIRST_STOCK else 0

    def gave_back(self) -> None:
        """Begin small again: what was seen before says nothing of the handlers at hand."""
        self.stock = 0
        self.per_sec = 0.0

    def _runs_in(self, sec: float) -> int:
        return MOST_STOCK if self.per_sec is None else int(self.per_sec * sec)
