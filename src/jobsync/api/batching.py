"""How large the next batch of a `tasks()` loop is, and claiming it while the bodies of the last one run."""

import threading
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from typing import Protocol

from jobsync.core.tasks import Task
from jobsync.core.tokens import TokenSet
from jobsync.runtime.waiting import Flag, begin

BATCH_SEC = 0.1
FIRST_AHEAD = 32
ABANDON_SEC = 1.0


class Batch(list[tuple[Task, str, int]]):
    """Tasks that were this node's, each with its text and its token.

    `within` is the one set of tokens in which all of them were found, None where it changed meanwhile.
    """

    within: TokenSet | None = None

    def found_in(self, tokens: TokenSet) -> None:
        """Those that come next are found in this set."""
        self.within = tokens if not self or tokens is self.within else None


class Pace:
    """Sizes batches: each twice the last, but no more than the bodies have lately done within `BATCH_SEC`.

    So work that is slow is claimed one by one, and what is claimed is soon begun. A batch is claimed ahead only where
    the bodies are quick enough to be through with what is at hand within that time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 1
        self._at_hand = 0
        self._began_sec = 0.0

    def begins(self, count: int, now_sec: float) -> None:
        """The loop begins to hand out this many tasks."""
        self._at_hand = count
        self._began_sec = now_sec

    @property
    def look_ahead_at(self) -> int:
        """How many tasks are left when the next batch is to be claimed beside the bodies; -1: never."""
        if self._at_hand < FIRST_AHEAD:
            return -1
        return self._at_hand - max(FIRST_AHEAD // 2, self._at_hand // 8)

    def may_look_ahead(self, left: int, now_sec: float) -> bool:
        """Tell whether the tasks left will be done soon, as their elders were."""
        return left * (now_sec - self._began_sec) <= BATCH_SEC * (self._at_hand - left)

    def next_size(self, left: int, now_sec: float) -> int:
        """Give the size of the next batch, with this many of the last one left."""
        size = min(self._size, self._most)
        handed_out, took_sec = self._at_hand - left, now_sec - self._began_sec
        if handed_out > 0 and took_sec > 0:
            size = min(size, int(handed_out * BATCH_SEC / took_sec) + 1)
        self._size = size * 2
        return size


class Claimer(Protocol):
    """What claiming beside the bodies needs of the job."""

    def claiming(self) -> AbstractContextManager[set[str]]:
        """Give a set that fills with what other claims of this job ask for while the block runs."""

    def claim_batch(self, batch: Batch, given_up: Callable[[], bool]) -> set[str]:
        """Claim durably; give the texts of those that are this node's. `given_up`: nobody waits for it any more."""

    def release_batch(self, texts: list[str], but_not: AbstractSet[str] = frozenset()) -> None:
        """Let go of claims, but not of some that are somebody else's by then."""


class Claiming:
    """A batch that is being claimed in a thread of its own.

    What was claimed goes to the loop, or is released where the claim ends; whoever takes it first has it, by one call
    and without a lock, since a handler may close the loop in the middle of anything.
    """

    def __init__(self, claimer: Claimer, batch: Batch) -> None:
        self.batch = batch
        self._claimer = claimer
        self._claimed: list[set[str]] = []
        self._error: Exception | None = None
        self._abandoned = False
        self._over = Flag()
        try:
            begin(threading.Thread(target=self._run, name="jobsync-claim", daemon=True))
        except BaseException:
            self._abandoned = True  # Whatever a handler raised meanwhile: nobody will ask for the claims.
            raise

    def _run(self) -> None:
        try:
            with self._claimer.claiming() as taken_over:
                self._claimed.append(self._claimer.claim_batch(self.batch, lambda: self._abandoned))
                if self._abandoned:
                    # Another loop of this job may have claimed them meanwhile, and have them in hand.
                    self._claimer.release_batch(self._take(), taken_over)
        except Exception as error:  # noqa: BLE001 - raised where the claims are waited for
            self._error = error
        finally:
            self._over.set()

    def _take(self) -> list[str]:
        try:
            return list(self._claimed.pop())
        except IndexError:
            return []

    @property
    def is_over(self) -> bool:
        """Whether the database has answered."""
        return self._over.is_set()

    def is_over_soon(self) -> bool:
        """Whether the database answers within the time that a loop may wait for it."""
        return self._over.wait(ABANDON_SEC)

    def wait(self) -> None:
        """Wait until the database has answered."""
        self._over.wait()

    def result(self) -> set[str]:
        """Wait for the claims; raises what claiming raised."""
        self.wait()
        if self._error is not None:
            raise self._error
        return set(self._claimed[0]) if self._claimed else set()

    def abandon(self) -> list[str]:
        """Give what was claimed and is to be released. Claims that take long are released where they end."""
        self._over.wait(ABANDON_SEC)
        self._abandoned = True
        return self._take()
