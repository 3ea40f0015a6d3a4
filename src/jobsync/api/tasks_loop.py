"""The loop that users write: `for task in job.tasks(ids)`.

Each task that is yielded is owned by this node at that instant, and its claim is in the database. Coming back for
the next one says that the last one is done. What was claimed and not begun is released, so that nothing waits for
this process longer than it must.

Batches: a collection (a list, a range, a set) cannot block, so tasks are claimed in batches that double from 1 to
`MOST_IN_BATCH`, as long as the bodies are quick (see `Pace`); the next batch is then claimed while the bodies of the
last one run. Any other source may block at any id, and a task must never wait inside a batch for the next id:
there each id is claimed by itself.

In a run, a source that can be walked again is walked until every id is done by somebody.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias

from jobsync.api.batching import Batch, Claiming, Pace
from jobsync.api.loop_worker import Worker
from jobsync.core.errors import JobsyncError
from jobsync.core.holding import Fence, Holding
from jobsync.core.tasks import Task, TaskId, tasks_of
from jobsync.core.tokens import TokenSet

if TYPE_CHECKING:
    from jobsync.api.tracing.tasks import TaskSpans

MOST_IN_BATCH = 4_096
ASK_BATCH = 5_000
LOOK_EVERY = 256
SLOW_BODY_SEC = 0.25
HELD_MOST_SEC = 5.0
IDLE_FIRST_SEC = 0.02
UNCERTAIN_SEC = 0.05
IDLE_MOST_SEC = 0.5

Source: TypeAlias = Iterable[TaskId | Task] | Callable[[], Iterable[TaskId | Task]]


class TaskLoop:
    """An iterator over the tasks of this node, and a context manager that releases what was not begun."""

    def __init__(self, worker: Worker, source: Source) -> None:
        self._worker = worker
        self.spans = worker.spans
        self.runs_bodies = True  # Here, where the next task is asked for; not for a loop of asyncio.
        self._source = source
        self._walks_again = worker.in_run and (callable(source) or isinstance(source, Collection))
        self._walk: Iterator[Task] = iter(())
        self._again: deque[Task] = deque()
        self._looks_ahead = False
        self._look_ahead_at = -1
        self._pace = Pace(1)
        self._ready: deque[tuple[Task, str, int]] = deque()
        self._within: TokenSet | None = None
        self._coming: Claiming | Exception | None = None
        self._in_hand: tuple[Task, str, int] | None = None
        self._held: Holding | None = None
        self._asked_sec = 0.0
        self._counts_as_done = True
        self._lost = False
        self._done_in_run: set[str] = set()
        self._servers_met = worker.servers_met
        self._seen_undone: dict[str, None] = {}
        self._idle_sec = IDLE_FIRST_SEC
        self._closed = self._superseded = False
        self._begin_walk()

    # --- the loop ------------------------------------------------------------------------------

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Task:
        if self._superseded:
            raise JobsyncError(
                "this loop ended when job.tasks() was called again: a job has one loop at a time; what this one had "
                "claimed was released, and its task in hand is not done"
            )
        if self._in_hand is not None:
            self._finish_in_hand(*self._in_hand)
        while not self._closed and not self._worker.stopping:
            if self._take_owned():
                assert self._in_hand is not None
                self._counts_as_done, self._lost = True, False
                if self.spans is not None:
                    self._begin_span(self.spans, self._in_hand[1])
                return self._in_hand[0]
            if not self._fill() and not self._walk_again():
                break
        self.close()
        self._worker.require_running()
        raise StopIteration

    def done(self) -> None:
        """Mark the task in hand done now, as before a `break`."""
        if self._in_hand is not None:
            self._finish_in_hand(*self._in_hand)

    def _begin_span(self, spans: "TaskSpans", text: str) -> None:
        spans.begin(text)
        if self.runs_bodies:
            spans.enter()

    def _end_span(self, spans: "TaskSpans", outcome: str, error: BaseException | None = None) -> None:
        if self.runs_bodies:
            spans.leave()
        spans.end(outcome, error)

    def close(self, error: BaseException | None = None) -> None:
        """Leave the task in hand not done, and release it and everything that was claimed and not begun.

        `error` is what ended its body, for its span.
        """
        if self._closed:
            return
        self._closed = True
        if self.spans is not None:
            self._end_span(self.spans, "not done", error)
        texts = [text for _, text, _ in self._ready]
        self._ready.clear()
        self._again.clear()
        if self._in_hand is not None:
            (_, text, token), self._in_hand = self._in_hand, None
            self._worker.put_back(token)
            texts.append(text)
        coming, self._coming = self._coming, None
        if isinstance(coming, Claiming):
            texts += coming.abandon()
        self._worker.release_batch(texts)

    def supersede(self) -> None:
        """Close it for a later loop; whoever goes on with this one all the same is told."""
        self._superseded = not self._closed
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(error)

    # --- what a transaction tells of the task in hand ------------------------------------------

    def fence_in_hand(self, text: str) -> Fence | None:
        """Give the right under which the task in hand was taken up, if it is this one."""
        if self._in_hand is None or self._in_hand[1] != text or self._held is None:
            return None
        return self._held.fence_of(self._in_hand[2])

    def note_recorded(self, text: str) -> None:
        """A transaction has recorded the task in hand: nothing is left to record."""
        if self._in_hand is not None and self._in_hand[1] == text:
            self._counts_as_done = False
            if self._walks_again:
                self._done_in_run.add(text)

    def note_lost(self, text: str) -> None:
        """The task in hand was lost to another node: coming back for the next one does not make it done."""
        if self._in_hand is not None and self._in_hand[1] == text:
            self._counts_as_done = False
            self._lost = True

    # --- one task ------------------------------------------------------------------------------

    def _finish_in_hand(self, _: Task, text: str, token: int) -> None:
        self._in_hand = None
        if self._counts_as_done:
            self._worker.record_done([text])
            if self._walks_again:
                self._done_in_run.add(text)
        self._worker.put_back(token)
        if self._lost:
            self._worker.release_batch([text])
        if self.spans is not None:
            self._end_span(self.spans, "lost" if self._lost else "done")
        if self._ready or self._coming is not None:
            now_sec = self._worker.now_sec()
            body_sec, self._asked_sec = now_sec - self._asked_sec, now_sec
            if body_sec >= SLOW_BODY_SEC:
                self._give_back(body_sec)

    def _give_back(self, body_sec: float) -> None:
        """Let go of what was claimed in quicker times: others may want it before this node comes to it."""
        coming = len(self._coming.batch) if isinstance(self._coming, Claiming) else 0
        if body_sec * (len(self._ready) + coming) < HELD_MOST_SEC:
            return
        tasks = [task for task, _, _ in self._ready]
        claimed = [task.text for task in tasks]
        patient = bool(self._ready)
        self._ready.clear()
        self._pace = self._new_pace()
        self._claim_again(tasks)
        self._worker.release_batch(claimed + self._let_go_of_coming(patient=patient))

    def _let_go_of_coming(self, *, patient: bool) -> list[str]:
        """Have what is claimed ahead claimed again, after what waits for that already; give what is to be released.

        What is still being claimed is left to come, after those: released late, it could be in hand again by then.
        """
        coming = self._coming
        if not isinstance(coming, Claiming) or not (coming.is_over_soon() if patient else coming.is_over):
            return []
        claimed = coming.abandon()
        self._coming = None
        later = [task for task, _, _ in coming.batch]
        self._forget(later)
        self._again.extend(later)
        return claimed

    def _claim_again(self, tasks: list[Task]) -> None:
        """Have tasks that were at hand claimed again, before all others: the walk came to them first."""
        self._forget(tasks)
        self._again.extendleft(reversed(tasks))

    def _forget(self, tasks: list[Task]) -> None:
        for task in tasks:
            self._seen_undone.pop(task.text, None)

    def _take_owned(self) -> bool:
        """Take the next task in hand that is owned this instant; False when none is at hand."""
        lost: list[Task] = []
        doubtful: list[Task] = []
        worker, ready = self._worker, self._ready
        while ready:
            taken = ready.popleft()
            task, text, token = taken
            # In hand first, then the question: a hand-over that begins in between waits for this body.
            worker.take_in_hand(token)
            held = worker.holding_now()
            # The set is the one in which the token was found, as long as nothing comes or goes.
            owned = held is not None and (held.tokens is self._within or token in held.tokens)
            if held is not None and owned and worker.claim_stands(text, held.incarnation):
                self._in_hand, self._held = taken, held
                break
            worker.put_back(token)
            if held is None:
                # Whose they are cannot be told now. The walk waits until it can, and claims them again.
                doubtful += [task, *(each for each, _, _ in ready)]
                ready.clear()
            elif owned:
                # A node that was fenced meanwhile, and has its tokens again, has lost the claims that it made before.
                doubtful.append(task)
            else:
                lost.append(task)
        if len(ready) == self._look_ahead_at:
            self._look_ahead()
        if lost or doubtful:
            self._claim_again(doubtful)
            claimed = [task.text for task in (*lost, *doubtful)]
            worker.release_batch(claimed + (self._let_go_of_coming(patient=True) if held is None else []))
        return self._in_hand is not None

    # --- batches -------------------------------------------------------------------------------

    def _fill(self) -> bool:
        """Claim the next batch of owned tasks; False when the walk is at its end and nothing was claimed."""
        if self._again or self._coming is None:
            batch, at_end = self._gather()
            if not batch:
                return not at_end
            claimed = self._worker.claim_batch(batch, _never)
        else:
            batch, claimed = self._take_coming(self._coming)
        self._ready.extend(batch if len(claimed) == len(batch) else [each for each in batch if each[1] in claimed])
        self._within = batch.within
        if claimed:
            self._idle_sec = IDLE_FIRST_SEC
        self._asked_sec = self._worker.now_sec()
        self._pace.begins(len(self._ready), self._asked_sec)
        self._look_ahead_at = self._pace.look_ahead_at if self._looks_ahead and self._coming is None else -1
        return True

    def _take_coming(self, coming: Claiming | Exception) -> tuple[Batch, set[str]]:
        if isinstance(coming, Exception):
            self._coming = None
            raise coming
        coming.wait()  # Whoever is interrupted here finds it again, or releases it.
        self._coming = None
        return coming.batch, coming.result()

    def _look_ahead(self) -> None:
        """Begin to claim the next batch beside the bodies of this one, if they are quick."""
        self._look_ahead_at = -1
        if not self._pace.may_look_ahead(len(self._ready), self._worker.now_sec()):
            return
        try:
            batch, _ = self._gather()
        except Exception as error:  # noqa: BLE001 - raised when its turn comes
            # It belongs to an id further on: what is at hand is done first.
            self._coming = error
            return
        if batch:
            self._coming = Claiming(self._worker, batch)

    def _gather(self) -> tuple[Batch, bool]:
        """Take owned tasks from the walk, as many as the pace allows; tell whether the walk is at its end."""
        worker, batch, looked, token_of = self._worker, Batch(), 0, self._worker.token_of_text
        left = self._pace.next_size(len(self._ready), worker.now_sec())
        edges: Sequence[int] = ()
        for task in self._next_tasks():
            text = task.text
            if self._walks_again:
                if text in self._done_in_run or text in self._seen_undone:
                    continue
                self._seen_undone[text] = None
            looked -= 1
            if looked < 0:
                held, looked = self._certain_holding(), LOOK_EVERY if self._looks_ahead else 0
                if held is None:
                    break
                batch.found_in(held.tokens)
                edges = held.tokens.edges
            token = token_of(text)
            if bisect_right(edges, token) & 1:  # What `token in held.tokens` asks, at a third of its price.
                batch.append((task, text, token))
                left -= 1
                if not left:
                    return batch, False
            elif worker.stopping:
                break
        return batch, self._coming is None

    def _next_tasks(self) -> Iterator[Task]:
        """Give what is to be claimed next: what was let go of, and then the walk, unless a part of it comes already."""
        if not self._again:
            return self._walk
        again = _taken_from(self._again)
        return again if self._coming is not None else chain(again, self._walk)

    def _certain_holding(self) -> Holding | None:
        """Wait until it can be told whose a task is: passing over it could leave it undone. None: stopped."""
        while (holding := self._worker.holding_now()) is None:
            if self._worker.pause(UNCERTAIN_SEC):
                return None
        return holding

    # --- walks ---------------------------------------------------------------------------------

    def _begin_walk(self) -> None:
        ids = self._source() if callable(self._source) else self._source
        self._looks_ahead = isinstance(ids, Collection)
        self._pace = self._new_pace()
        self._look_ahead_at = -1
        self._seen_undone = {}
        self._walk = tasks_of(ids)

    def _new_pace(self) -> Pace:
        return Pace(MOST_IN_BATCH if self._looks_ahead else 1)

    def _walk_again(self) -> bool:
        """Begin another walk, unless every id is done by somebody; wait a little where nothing was left to claim."""
        if not self._walks_again:
            return False
        if self._servers_met != self._worker.servers_met:
            self._ask_new_server()
            return True
        undone = [text for text in self._seen_undone if text not in self._done_in_run]
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

    def _ask_new_server(self) -> None:
        """After a fail-over, do again what the new server does not know to be done.

        A claim of it may stand there all the same, by this living node, and would keep its next owner from it: it is
        released.
        """
        self._servers_met = self._worker.servers_met
        known = list(self._done_in_run)
        self._done_in_run = set()
        for start in range(0, len(known), ASK_BATCH):
            self._done_in_run |= self._worker.done_by_anybody(known[start : start + ASK_BATCH])
        self._worker.release_batch([text for text in known if text not in self._done_in_run])
        self._begin_walk()


def _taken_from(tasks: deque[Task]) -> Iterator[Task]:
    while tasks:
        yield tasks.popleft()


def _never() -> bool:
    return False
