"""The loop that users write: `for task in job.tasks(ids)`.

Each task that is yielded is owned by this node at that instant, and its claim is in the database. Coming back for
the next one says that the last one is done. What was claimed and not begun is released, so that nothing waits for
this process longer than it must.

Batches: a collection (a list, a range, a set) cannot block, so tasks are claimed in batches that double from 1 to
`MOST_IN_BATCH`, one round trip each. Any other source may block at any id, and a task must never wait inside a batch
for the next id: there each id is claimed by itself.

In a run, a source that can be walked again is walked until every id is done by somebody.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from types import TracebackType
from typing import Protocol, Self, TypeAlias

from jobsync.core.holding import Fence, Holding
from jobsync.core.tasks import Task, TaskId, tasks_of

MOST_IN_BATCH = 512
ASK_BATCH = 5_000
IDLE_FIRST_SEC = 0.02
UNCERTAIN_SEC = 0.05
IDLE_MOST_SEC = 0.5

Source: TypeAlias = Iterable[TaskId | Task] | Callable[[], Iterable[TaskId | Task]]


class Worker(Protocol):
    """What the loop needs of its job."""

    def holding_now(self) -> Holding | None:
        """Give what is held this instant."""

    def token_of_text(self, text: str) -> int:
        """Give the token of a task."""

    def take_in_hand(self, token: int) -> None:
        """Let hand-overs of this token wait."""

    def put_back(self, token: int) -> None:
        """Let them wait no more."""

    def claim_batch(self, texts: list[str]) -> set[str]:
        """Claim durably; give those that are this node's."""

    def release_batch(self, texts: list[str]) -> None:
        """Let go of claims."""

    def record_done(self, texts: list[str]) -> None:
        """Record that tasks are done."""

    def done_by_anybody(self, texts: list[str]) -> set[str]:
        """Ask which tasks are done in the run, by whomever."""

    def taken_back(self) -> set[str]:
        """Give, once, what was done here and could not be recorded: others have taken it over."""

    def pause(self, seconds: float) -> bool:
        """Wait for a change of tokens, at most so long; True when the job was stopped."""

    def require_running(self) -> None:
        """Raise what ended the node, if it ended."""

    @property
    def stopping(self) -> bool:
        """Whether the job was stopped."""

    @property
    def in_run(self) -> bool:
        """Whether the job works within a run."""


class TaskLoop:
    """An iterator over the tasks of this node, and a context manager that releases what was not begun."""

    def __init__(self, worker: Worker, source: Source) -> None:
        self._worker = worker
        self._source = source
        self._walks_again = worker.in_run and (callable(source) or isinstance(source, Collection))
        self._walk: Iterator[Task] = iter(())
        self._size_limit = 1
        self._batch_size = 1
        self._ready: deque[Task] = deque()
        self._in_hand: Task | None = None
        self._fence: Fence | None = None
        self._counts_as_done = True
        self._lost = False
        self._done_in_run: set[str] = set()
        self._seen_undone: list[str] = []
        self._idle_sec = IDLE_FIRST_SEC
        self._closed = False
        self._begin_walk()

    # --- the loop ------------------------------------------------------------------------------

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Task:
        self._finish_in_hand()
        while not self._closed and not self._worker.stopping:
            task = self._next_owned()
            if task is not None:
                self._in_hand = task
                self._counts_as_done, self._lost = True, False
                return task
            if not self._fill() and not self._walk_again():
                break
        self.close()
        self._worker.require_running()
        raise StopIteration

    def done(self) -> None:
        """Mark the task in hand done now, as before a `break`."""
        self._finish_in_hand()

    def close(self) -> None:
        """Leave the task in hand not done, and release it and everything that was claimed and not begun."""
        if self._closed:
            return
        self._closed = True
        texts = [task.text for task in self._ready]
        self._ready.clear()
        if self._in_hand is not None:
            task, self._in_hand = self._in_hand, None
            self._worker.put_back(self._worker.token_of_text(task.text))
            texts.append(task.text)
        self._worker.release_batch(texts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- what a transaction tells of the task in hand ------------------------------------------

    def fence_in_hand(self, text: str) -> Fence | None:
        """Give the right under which the task in hand was taken up, if it is this one."""
        return self._fence if self._in_hand is not None and self._in_hand.text == text else None

    def note_recorded(self, text: str) -> None:
        """A transaction has recorded the task in hand: nothing is left to record."""
        if self._in_hand is not None and self._in_hand.text == text:
            self._counts_as_done = False
            self._done_in_run.add(text)

    def note_lost(self, text: str) -> None:
        """The task in hand was lost to another node: coming back for the next one does not make it done."""
        if self._in_hand is not None and self._in_hand.text == text:
            self._counts_as_done = False
            self._lost = True

    # --- one task ------------------------------------------------------------------------------

    def _finish_in_hand(self) -> None:
        if self._in_hand is None:
            return
        task, self._in_hand = self._in_hand, None
        if self._counts_as_done:
            self._worker.record_done([task.text])
            self._done_in_run.add(task.text)
        self._worker.put_back(self._worker.token_of_text(task.text))
        if self._lost:
            self._worker.release_batch([task.text])

    def _next_owned(self) -> Task | None:
        lost = []
        found = None
        while self._ready and found is None:
            task = self._ready.popleft()
            token = self._worker.token_of_text(task.text)
            # In hand first, then the question: a hand-over that begins in between waits for this body.
            self._worker.take_in_hand(token)
            holding = self._worker.holding_now()
            self._fence = None if holding is None else holding.fence_of(token)
            if self._fence is not None:
                found = task
            else:
                self._worker.put_back(token)
                lost.append(task.text)
        if lost:
            self._worker.release_batch(lost)
        return found

    def _fill(self) -> bool:
        """Claim the next batch of owned tasks; False when the walk is at its end and nothing was claimed."""
        batch: list[Task] = []
        at_end = True
        for task in self._walk:
            if self._may_be_mine(task):
                batch.append(task)
                if len(batch) >= self._batch_size:
                    at_end = False
                    break
            elif self._worker.stopping:
                break
        if not batch:
            return not at_end
        self._batch_size = min(self._size_limit, self._batch_size * 2)
        claimed = self._worker.claim_batch([task.text for task in batch])
        self._ready.extend(task for task in batch if task.text in claimed)
        if claimed:
            self._idle_sec = IDLE_FIRST_SEC
        return True

    def _may_be_mine(self, task: Task) -> bool:
        if self._walks_again:
            if task.text in self._done_in_run:
                return False
            self._seen_undone.append(task.text)
        while (holding := self._worker.holding_now()) is None:
            # Whose task it is cannot be told now. Passing over it could leave it undone, so the loop waits.
            if self._worker.pause(UNCERTAIN_SEC):
                return False
        return self._worker.token_of_text(task.text) in holding.tokens

    # --- walks ---------------------------------------------------------------------------------

    def _begin_walk(self) -> None:
        ids = self._source() if callable(self._source) else self._source
        self._size_limit = MOST_IN_BATCH if isinstance(ids, Collection) else 1
        self._batch_size = 1
        self._seen_undone = []
        self._walk = tasks_of(ids)

    def _walk_again(self) -> bool:
        """Begin another walk, unless every id is done by somebody; wait a little where nothing was left to claim."""
        if not self._walks_again:
            return False
        undone = [text for text in dict.fromkeys(self._seen_undone) if text not in self._done_in_run]
        for start in range(0, max(len(undone), 1), ASK_BATCH):
            # Asking writes first what waits here, and so finds out what others have taken over meanwhile.
            self._done_in_run |= self._worker.done_by_anybody(undone[start : start + ASK_BATCH])
        taken = self._worker.taken_back()
        self._done_in_run -= taken
        if not taken and all(text in self._done_in_run for text in undone):
            return False
        self._worker.pause(self._idle_sec)
        self._idle_sec = min(IDLE_MOST_SEC, self._idle_sec * 2)
        self._begin_walk()
        return True
