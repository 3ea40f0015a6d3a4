"""Locks as statements: which tasks are pinned to which nodes."""

import json
from dataclasses import dataclass
from datetime import datetime

from jobsync.core.pins import NewLock
from jobsync.postgres.records import int_array, text_array
from jobsync.postgres.statement import Row, Statement, statement


@dataclass(frozen=True, slots=True)
class LockRow:
    """One lock as it is stored."""

    token_id: int
    task_id: str
    node_patterns: list[str]
    reason: str | None
    created_by: str | None
    created_at: datetime
    expires_at: datetime | None


class LockStatements:
    """Makes the statements of one fleet (prefix)."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def register(self, locks: list[NewLock], creator: str, expires_in_days: float | None) -> Statement:
        """Store locks, in one statement however many they are. Equal patterns are sent and read once."""
        which = {patterns: number for number, patterns in enumerate({lock.patterns: None for lock in locks}, start=1)}
        return statement(
            "register_locks",
            self._prefix,
            text_array([lock.task_id for lock in locks]),
            int_array(lock.token for lock in locks),
            text_array([json.dumps(patterns) for patterns in which]),
            int_array(which[lock.patterns] for lock in locks),
            text_array([lock.reason for lock in locks]),
            creator,
            expires_in_days,
        )

    def list_all(self) -> Statement:
        """List what has not expired, in the order of registration."""
        return statement("list_locks", self._prefix)

    def clear(self, creator: str | None) -> Statement:
        """Remove the locks of one creator, or all; the one row gives how many."""
        return statement("clear_locks", self._prefix, creator)


def lock_row(row: Row) -> LockRow:
    """Read a row of `LockStatements.list_all`."""
    token_id, task_id, patterns, reason, created_by, created_at, expires_at = row
    return LockRow(token_id, task_id, json.loads(patterns), reason, created_by, created_at, expires_at)
