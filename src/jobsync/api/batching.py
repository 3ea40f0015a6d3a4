"""How large the next batch of a `tasks()` loop is, and claiming it while the bodies of the last one run."""

import threading
from collections.abc import Callable

from jobsync.core.tasks import Task

Batch = list[tuple[Task, int]]  # each task with its token
Claim = Callable[[Batch, Callable[[], bool]], set[str]]  # with what tells that nobody waits for the answer any more
BATCH_SEC = 0.1
FIRST_AHEAD = 32
ABANDON_SEC = 1.0


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


class Claiming:
    """A batch that is being claimed in a thread of its own."""

    def __init__(self, claim: Claim, release: Callable[[list[str]], None], batch: Batch) -> None:
        self.batch = batch
        self._claim = claim
        self._release = release
        self._claimed: set[str] = set()
        self._error: Exception | None = None
        self._lock = threading.Lock()
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name="jobsync-claim", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            claimed = self._claim(self.batch, lambda: self._abandoned)
        except Exception as error:  # noqa: BLE001 - raised where the claims are waited for
            self._error = error
            return
        with self._lock:
            self._claimed = claimed
            abandoned = self._abandoned
        if abandoned:
            self._release(list(claimed))

    @property
    def is_over(self) -> bool:
        """Whether the database has answered."""
        return not self._thread.is_alive()

    def is_over_soon(self) -> bool:
        """Whether the database answers within the time that a loop may wait for it."""
        self._thread.join(ABANDON_SEC)
        return self.is_over

    def result(self) -> set[str]:
        """Wait for the claims; raises what claiming raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._claimed

    def abandon(self) -> list[str]:
        """Give what was claimed and is to be released. Claims that take long are released where they end."""
        self._thread.join(ABANDON_SEC)
        with self._lock:
            self._abandoned = True
            claimed, self._claimed = self._claimed, set()
        return list(claimed)
