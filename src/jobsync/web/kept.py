"""One connection for all who look at the fleet more closely, and answers that are shared by all who ask the same.

However many ask at once, one question is before the database at a time, on one connection that stays open between
them. An answer is given to whoever asks the same within a second, as what the poller reads is.
"""

import asyncio
import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final, TypeVar

from jobsync.api.clock import boot_sec
from jobsync.api.cluster import Cluster, open_cluster
from jobsync.api.config import CoordinationConfig
from jobsync.core.errors import DatabaseUnavailable, JobsyncError
from jobsync.web.poller import EVERY_SEC

T = TypeVar("T")

MOST_ANSWERS: Final = 200


class KeptCluster:
    """A `Cluster` that stays open, for all threads in turns; closed with the process at the latest."""

    def __init__(self, config: CoordinationConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._cluster: Cluster | None = None
        self._closing: Callable[[], object] | None = None

    def ask(self, question: Callable[[Cluster], T]) -> T:
        """Put a question, connecting where that is needed. Raises what it raises, and DatabaseUnavailable."""
        with self._lock:
            was_open = self._cluster is not None
            try:
                return self._put(question)
            except DatabaseUnavailable:
                if not was_open:
                    raise
            # The server, or something on the way, had closed it meanwhile: that says nothing about a new one.
            return self._put(question)

    def close(self) -> None:
        """Close the connection; whoever asks afterwards opens it anew."""
        with self._lock:
            self._drop()

    def _put(self, question: Callable[[Cluster], T]) -> T:
        cluster = self._cluster or self._open()
        try:
            return question(cluster)
        except BaseException as error:
            if isinstance(error, DatabaseUnavailable) or not isinstance(error, JobsyncError):
                self._drop()
            raise

    def _open(self) -> Cluster:
        with ExitStack() as stack:
            self._cluster = cluster = stack.enter_context(open_cluster(self._config))
            self._closing = weakref.finalize(self, stack.pop_all().close)
        return cluster

    def _drop(self) -> None:
        closing, self._cluster, self._closing = self._closing, None, None
        if closing is not None:
            closing()


class Answers:
    """What was answered within the last second, by what was asked; the latest few hundred. For one event loop."""

    def __init__(self, ask: Callable[[str], Any]) -> None:
        self._ask = ask
        self._asking = asyncio.Lock()
        self._known: dict[str, tuple[float, Any, str | None]] = {}
        self._changed_sec = float("-inf")

    async def to(self, asked: str) -> tuple[Any, str | None]:
        """Give the answer, or why there is none."""
        async with self._asking:
            known = self._known.get(asked)
            if known is None or known[0] <= max(boot_sec() - EVERY_SEC, self._changed_sec):
                known = await self._new(asked)
            return known[1:]

    def changed(self) -> None:
        """Forget what was answered: something was changed."""
        self._changed_sec = boot_sec()

    async def _new(self, asked: str) -> tuple[float, Any, str | None]:
        began_sec = boot_sec()
        answer, error = None, None
        try:
            answer = await asyncio.to_thread(self._ask, asked)
        except JobsyncError as refusal:
            error = str(refusal)
        self._known.pop(asked, None)
        while len(self._known) >= MOST_ANSWERS:
            self._known.pop(next(iter(self._known)))
        self._known[asked] = (began_sec, answer, error)
        return self._known[asked]
