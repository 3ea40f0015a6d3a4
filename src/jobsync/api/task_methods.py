"""The part of `Job` that works: whose task is it, claims, audits, the loop and the transaction."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final

from jobsync import runtime
from jobsync.api.claim import Claim
from jobsync.api.loop_desk import LoopDesk
from jobsync.api.membership import AnyLedger, Membership
from jobsync.api.tasks_loop import Source, TaskLoop
from jobsync.core.errors import AlreadyDone, CoordinationDisabled, InvalidArgument, JobsyncError, OwnershipLost
from jobsync.core.holding import Fence
from jobsync.core.log_events import Event, marks
from jobsync.core.tasks import OneOrMany, Task, TaskId, as_task, tasks_of

log = logging.getLogger("jobsync")

# Made once: whoever offers every task of a fleet to `add_task` is told no more often than anything.
_NOT_OWNED: Final = marks(Event.TASK_NOT_OWNED)
_TAKEN: Final = marks(Event.TASK_TAKEN)


class TaskMethods(Membership):
    """Working on tasks."""

    # --- whose task is it ----------------------------------------------------------------------

    def can_claim_task(self, task: Task | TaskId) -> bool:
        """Tell whether this node owns the task's token now. Local, no query, safe from any thread.

        False as soon as the node's own lease is not certain. In a run this is necessary, not sufficient: the
        claim decides (`add_task`, `tasks`).
        """
        if not self._asked_before:
            self._asked_before = True
            self._touch()
            if type(self).can_claim_task is TaskMethods.can_claim_task:
                # From now on the answering function stands in for this method, which would only call it: a call is a
                # fifth of the answer's cost. A subclass with a method of its own keeps it.
                self.__dict__["can_claim_task"] = self._owns
        return self._owns(task)

    def task_to_token(self, task: Task | TaskId) -> int:
        """Give the token that a task hashes to."""
        return self._tokens_by_text[as_task(task).text]

    def get_my_task_ids(self, ids: Iterable[TaskId | Task]) -> list[TaskId]:
        """Give those of the ids that this node owns now, in order."""
        held = self._held_tokens()
        token_of = self._tokens_by_text
        return [task.id for task in tasks_of(ids) if token_of[task.text] in held]

    def get_task_ids_for_token(self, token: int, ids: Iterable[TaskId | Task]) -> list[TaskId]:
        """Give those of the ids that hash to one token, in order; cheap to call for every token over one list."""
        self._touch()
        if not isinstance(token, int) or not 0 <= token < self._total_tokens:
            raise InvalidArgument(f"token={token!r} is refused: give a token, from 0 to {self._total_tokens - 1}")
        return self._index.ids_for_token(token, ids)

    # --- claims and audits ---------------------------------------------------------------------

    def add_task(self, task: Task | TaskId) -> bool:
        """Claim a task and remember it for `write_audit()`; False when it is not this node's.

        Without a run the claim is written within 50 ms (a kill may lose it); in a run it is durable before this
        returns, and False when somebody else has or had it: another node, another job of this one, or another call
        of this method, so that each task of the run gets one yes.
        """
        if self._run is not None:
            with self._one_adding(as_task(task).text) as is_first:
                return is_first and self._claim_and_remember(task)
        return self._claim_and_remember(task)

    def _claim_and_remember(self, task: Task | TaskId) -> bool:
        claimed = self._claim_to_add(task)
        if claimed:
            self._remember(as_task(task).text)
        return claimed

    @contextmanager
    def _one_adding(self, text: str) -> Iterator[bool]:
        """Tell whether this call alone may add a task of the run: not where it is being added, or has been."""
        self._working()
        with self._lock:
            is_first = not any(text in each for each in (self._adding, self._added, self._auditing))
            if is_first:
                self._adding.add(text)
        try:
            yield is_first
        finally:
            if is_first:
                self._adding.discard(text)

    def _remember(self, text: str) -> None:
        with self._lock:
            self._added[text] = None

    def _claim_to_add(self, task: Task | TaskId) -> bool:
        text = as_task(task).text
        ledger = self._working()
        if not self.can_claim_task(task):
            log.debug("node %r: task %r is another node's", self._name, text, extra=_NOT_OWNED)
            return False
        if self._run is None:
            ledger.claim_soon(text)
        elif text not in self._claim_now(ledger, [text]):
            log.debug(
                "node %r: task %r is claimed or done by another node in run %r",
                self._name,
                text,
                self._run,
                extra=_TAKEN,
            )
            return False
        return True

    def _claim_now(self, ledger: AnyLedger, texts: list[str]) -> set[str]:
        if self._task_spans is None:
            return ledger.claim_now(texts)
        return self._task_spans.claim(texts, lambda: ledger.claim_now(texts))

    def set_claim(self, task: OneOrMany) -> list[TaskId]:
        """Record claims of one task or many, durably; give the ids that are this node's."""
        tasks = list(tasks_of(task))
        claimed = self._claim_now(self._working(), [each.text for each in tasks]) if tasks else set()
        return [each.id for each in tasks if each.text in claimed]

    def write_audit(self) -> None:
        """Mark all tasks that `add_task` remembered as done, for the date and the run.

        A database that is away gets them when it is back.
        """
        self._recording()
        self._audit(self._take_added())

    def _take_added(self) -> list[str]:
        with self._lock:
            added, self._added = self._added, {}
            if self._run is not None:
                self._auditing.update(added)
        return list(added)

    def _audit(self, texts: list[str]) -> None:
        if texts:
            ledger = self._recording()
            try:
                ledger.done(texts)
            except JobsyncError:
                # No more can be kept there, so they stay here, for another call.
                with self._lock:
                    self._added = {**dict.fromkeys(texts), **self._added}
                raise
            finally:
                self._auditing.difference_update(texts)
            ledger.flush()

    def get_audit(self) -> list[dict[str, Any]]:
        """List what is done for the date (in a run: within the run) as dicts with node, task_id, item and date."""
        ledger = self._recording()
        if isinstance(ledger, runtime.SoloLedger):
            rows: Iterable[tuple[Any, ...]] = [(self._name, item, day) for item, day in ledger.audits.items()]
        else:
            ledger.flush()
            rows = self._pool().run(self._records.read_audit(ledger.day, self._run))
        return [{"node": node, "task_id": item, "item": item, "date": day} for node, item, day in rows]

    def get_incomplete_tasks(self, older_than: timedelta = timedelta(minutes=5)) -> list[Task]:
        """List tasks claimed for the date (and the run) by an incarnation that is gone, and never audited.

        Gone is a node that died, left, or was restarted under its name. `older_than` is the least age of the claim.
        """
        ledger = self._recording()
        if isinstance(ledger, runtime.SoloLedger):
            return []
        if not isinstance(older_than, timedelta) or older_than < timedelta(0):
            raise InvalidArgument(
                f"older_than={older_than!r} is refused: give a timedelta, such as timedelta(minutes=5)"
            )
        rows = self._pool().run(self._records.incomplete(ledger.day, self._run, older_than.total_seconds()))
        return [Task(item) for (item,) in rows]

    def tasks(self, ids: Source) -> TaskLoop:
        """Iterate over the tasks of `ids` that this node owns and has durably claimed.

        A task is recorded done when the loop comes back for the next one. Leaving the loop early leaves the task in
        hand not done; under `with job.tasks(ids) as tasks:` it and the unstarted rest are released at once, otherwise
        at the next `tasks()` call or at exit. In a run a list, or a callable that gives a fresh iterator, is
        walked again until every id is done by somebody, or `stop()`; a one-shot iterator is walked once, so what
        other nodes lose after it has passed is left to the next walk.
        """
        for loop in self._loops:
            loop.supersede()
        spans = None if self._tracing is None else self._tracing.task_spans(self._name, self._run)
        desk = LoopDesk(
            self._running(), self._working(), stop=self._stop, token_of_text=self._token_of_text, spans=spans
        )
        loop = TaskLoop(desk, ids)
        self._loops = [loop]
        return loop

    def claim(self, task: Task | TaskId) -> Claim:
        """Claim a task durably and give the claim with its fencing number, for stores elsewhere.

        Raises OwnershipLost when the task is not this node's, or in a run when somebody else has or had it.
        """
        given = as_task(task)
        ledger = self._working()
        token = self._token_of_text(given.text)
        holding = self._running().holding
        fence = None if holding is None else holding.fence_of(token)
        # The fence is taken first: if the token is lost before the claim is written, the claim is refused.
        if fence is None or given.text not in self._claim_now(ledger, [given.text]):
            raise OwnershipLost(
                f"task {given.text!r} is not node {self._name!r}'s to claim (token {token}): another node "
                "owns, has or had it"
            )
        return Claim(given, token, fence.epoch, self._run, fence.incarnation)

    @contextmanager
    def transaction(self, task: Task | TaskId | Claim, *, repeat: bool = False) -> Iterator[Any]:
        """Lend a psycopg connection in a transaction that commits together with the audit of the task, or not at all.

        Raises OwnershipLost when the task is not this node's any more, and AlreadyDone when it is audited already in
        the run (without a run: for the date) unless `repeat`; then nothing is written. This is the exactly-once path.
        Do long work before the block: the server ends a transaction that idles for over 5 s, since a fence of this node
        would have to wait for it (a body that must idle longer sets idle_in_transaction_session_timeout itself).
        Given a `Claim`, the transaction commits only under the epoch of that claim.
        Raises CoordinationDisabled for a job that stands alone.
        """
        work = self._owned_work(task, repeat=repeat)
        with self._outcome_noted(work.text), runtime.owned_transaction(work) as conn:
            yield conn

    def _owned_work(self, task: Task | TaskId | Claim, *, repeat: bool) -> "runtime.OwnedWork":
        ledger = self._recording()
        node = self._running()
        if not self._is_member(node) or not isinstance(ledger, runtime.Ledger):
            raise CoordinationDisabled("transaction() needs a node of a fleet: this job stands alone, or only observes")
        text = task.task.text if isinstance(task, Claim) else as_task(task).text
        token = self._token_of_text(text)

        def find_fence() -> Fence | None:
            return Fence(task.incarnation, task.epoch) if isinstance(task, Claim) else self._fence_of(text, token)

        return runtime.OwnedWork(
            node, ledger, self._records, text=text, token=token, find_fence=find_fence, repeat=repeat
        )

    @contextmanager
    def _outcome_noted(self, text: str) -> Iterator[None]:
        """Tell the loop that has the task in hand how its transaction ended."""
        try:
            yield
        except AlreadyDone:
            self._note_recorded(text)
            raise
        except BaseException:
            # Whoever catches this and comes back for the next task has not done this one: its effects are not written.
            for loop in self._loops:
                loop.note_lost(text)
            raise
        self._note_recorded(text)

    def _note_recorded(self, text: str) -> None:
        for loop in self._loops:
            loop.note_recorded(text)
        if isinstance(self._ledger, runtime.Ledger):
            self._ledger.recorded_by_transaction(text)

    def _fence_of(self, text: str, token: int) -> Fence | None:
        """Give the right under which a task in hand was taken up, or else the one held now."""
        for loop in self._loops:
            if (fence := loop.fence_in_hand(text)) is not None:
                return fence
        holding = self._running().holding
        return None if holding is None else holding.fence_of(token)
