"""Where a queue's talks are carried out: connections of its own, opened when they are first needed.

Guarantees: the schema stands before the first talk, however many begin at once. Safe for many threads. After a fork
the child opens connections of its own. Not promised: that a statement whose connection broke under it was not carried
out; a job that has a job_id can be enqueued again to be sure.
"""

import os
import threading
from typing import Any, TypeVar

from jobsync.core.errors import JobsyncError, NotRunning
from jobsync.core.settings import Settings
from jobsync.postgres.borrowed import can_copy, checked_connection, on_borrowed
from jobsync.postgres.job_batches import JobBatches, Reader
from jobsync.postgres.jobs import Jobs
from jobsync.postgres.pool import DEADLOCK_TRIES
from jobsync.postgres.queue_pool import QueuePool, was_undone
from jobsync.postgres.reception import Place, look_in, receive
from jobsync.postgres.talk import Talk
from jobsync.runtime.place import Doorway

R = TypeVar("R")


class OpenQueue:
    """A place whose schema stands, and what is asked there.

    Where it does not, it is made; or, for those who only look and steer (`makes_tables` false), refused.
    """

    def __init__(self, settings: Settings, *, makes_tables: bool = True) -> None:
        self._doorway = Doorway(settings)
        self.place: Place = self._doorway.place
        enter = receive if makes_tables else look_in
        try:
            enter(self.place, settings.prefix)
        except BaseException:
            self._doorway.release()
            raise

    def close(self) -> None:
        """Let go of the embedded server, where one is used."""
        self._doorway.release()


class QueueDesk:
    """The synchronous side."""

    def __init__(self, settings: Settings, *, makes_tables: bool = True) -> None:
        self.prefix = settings.prefix
        self._makes_tables = makes_tables
        self.jobs = Jobs(settings.prefix)
        self.batches = JobBatches(self.jobs)
        self._settings = settings
        self._lock = threading.Lock()
        self._open: OpenQueue | None = None
        self._pool: QueuePool | None = None
        self._schema: str | None = None
        self._process = os.getpid()
        self._closed = False

    def do(self, talk: Talk[R]) -> R:
        """Carry a talk out, each statement of which commits by itself."""
        return self._opened().do(talk)

    def enqueue(self, talk: Talk[int], connection: Any) -> int:
        """Carry out a talk that stores one job, in the connection's transaction where one is given."""
        return self.do(talk) if connection is None else self._on(connection, talk)

    def enqueue_many(self, reader: Reader, connection: Any) -> list[int]:
        """Store jobs, all or none."""
        if connection is None:
            return self._store(reader)
        copies = can_copy(checked_connection(connection))
        return self._on(
            connection, self.batches.enqueue(reader) if copies else self.batches.enqueue_without_copy(reader)
        )

    def _store(self, reader: Reader) -> list[int]:
        """Store jobs in a transaction of their own; again where it met another that wants the same keys."""
        for left in range(DEADLOCK_TRIES - 1, -1, -1):
            try:
                return self._opened().do_as_one(self.batches.enqueue(reader))
            except JobsyncError as error:
                if not (left and was_undone(error) and reader.again()):
                    raise
        raise AssertionError("the last try returns or raises")

    def _on(self, connection: Any, talk: Talk[R]) -> R:
        checked_connection(connection)
        pool = self._opened()
        if self._schema is None:
            self._schema = pool.do(self.jobs.schema())
        return on_borrowed(connection, self.prefix, self._schema, talk, pool.apart)

    def _opened(self) -> QueuePool:
        pool = self._pool
        if pool is not None and self._process == os.getpid():
            return pool
        with self._lock:
            if self._closed:
                raise NotRunning("this JobQueue is closed: make another")
            if self._pool is None or self._process != os.getpid():
                # What a fork inherited is its parent's to use, and to close.
                self._process = os.getpid()
                self._open = OpenQueue(self._settings, makes_tables=self._makes_tables)
                self._pool = QueuePool(self._open.place)
            return self._pool

    def close(self) -> None:
        """Close all connections; the desk serves nothing more."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
            opened, self._open = self._open, None
        if self._process == os.getpid():
            if pool is not None:
                pool.close()
            if opened is not None:
                opened.close()
