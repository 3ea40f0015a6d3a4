"""The part of `Job` that pins tasks to nodes."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

from jobsync.api.lock_checks import checked_days, checked_patterns, is_storable
from jobsync.api.membership import Membership
from jobsync.core.errors import InvalidArgument
from jobsync.core.pins import NewLock
from jobsync.core.tasks import Task, TaskId, as_task

log = logging.getLogger("jobsync")

Patterns: TypeAlias = str | Sequence[str]
LockTuple: TypeAlias = tuple[Task | TaskId, Patterns] | tuple[Task | TaskId, Patterns, str | None]


class LockMethods(Membership):
    """Locks, also called pins: a task is bound to nodes by SQL LIKE patterns, tried in order.

    The first pattern that matches a live node decides; where none does, the task counts as unlocked, and a warning says
    so. A lock outlives the node that registered it, and a change takes effect by itself. In a job that stands alone
    these methods do nothing, and log so. Bad input raises InvalidArgument before anything is stored.
    """

    def register_lock(
        self,
        task_id: Task | TaskId,
        node_patterns: Patterns,
        reason: str | None = None,
        expires_in_days: float | None = None,
    ) -> None:
        """Pin one task: a pattern, or several in order of preference. Replaces what was registered for it before."""
        self._store([(task_id, node_patterns, reason)], expires_in_days)

    def register_locks_bulk(self, locks: Iterable[LockTuple]) -> None:
        """Pin many tasks in one round trip: (task id, patterns, reason) each, the reason may be left out."""
        given: object = locks
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise InvalidArgument(f"locks={locks!r} is refused: give (task id, patterns, reason) for each task")
        self._store(locks, None)

    register_task_lock = register_lock
    register_task_locks_bulk = register_locks_bulk

    def list_locks(self) -> list[dict[str, Any]]:
        """List the locks that have not expired, in the order of registration.

        Dicts with token_id, task_id, node_patterns (list), node_pattern (the first), reason, created_by, created_at,
        expires_at.
        """
        desk = self._lock_desk()
        if desk is None:
            return []
        return [{**asdict(row), "node_pattern": row.node_patterns[0]} for row in desk.list_all()]

    def clear_locks_by_creator(self, creator: str) -> int:
        """Remove the locks that one node registered; give how many."""
        if not isinstance(creator, str) or not creator or not is_storable(creator):
            raise InvalidArgument(f"creator={creator!r} is no node name; to remove all locks, call clear_all_locks()")
        desk = self._lock_desk()
        return 0 if desk is None else desk.clear_by(creator)

    def clear_all_locks(self) -> int:
        """Remove all locks of the fleet; give how many."""
        desk = self._lock_desk()
        return 0 if desk is None else desk.clear_all()

    def _store(self, locks: Iterable[LockTuple], expires_in_days: float | None) -> None:
        checked = {lock.task_id: lock for lock in (self._checked(lock) for lock in locks)}
        days = checked_days(expires_in_days)
        desk = self._lock_desk()
        if desk is not None and checked:
            desk.register(list(checked.values()), days)

    def _checked(self, lock: LockTuple) -> NewLock:
        if not isinstance(lock, tuple | list) or not 2 <= len(lock) <= 3:
            raise InvalidArgument(f"{lock!r} is no lock: give (task id, patterns, reason)")
        task, patterns = lock[0], lock[1]
        reason = lock[2] if len(lock) == 3 else None
        text = as_task(task).text
        if reason is not None and (not isinstance(reason, str) or not is_storable(reason)):
            raise InvalidArgument(
                f"the reason of the lock on task {text!r} is {reason!r}: give a text without NUL, or None"
            )
        return NewLock(text, self._token_of_text(text), checked_patterns(text, patterns), reason)
