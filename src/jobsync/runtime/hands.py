"""Tasks whose bodies are running now: a hand-over of their tokens waits for them."""

import threading
from collections.abc import Callable

from jobsync.core.tokens import TokenSet


class InHand:
    """Counts the bodies in progress, by token."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # reentrant: a signal handler may leave the job
        self._bodies: dict[int, int] = {}
        self._waiting: list[tuple[TokenSet, Callable[[], None]]] = []

    def take(self, token: int) -> None:
        """A body for a task of this token begins."""
        with self._lock:
            self._bodies[token] = self._bodies.get(token, 0) + 1

    def put_back(self, token: int) -> None:
        """It ended, however it ended."""
        with self._lock:
            left = self._bodies.pop(token, 1) - 1
            if left:
                self._bodies[token] = left
            if not self._waiting:
                return
            free = [(tokens, then) for tokens, then in self._waiting if not self._any_of(tokens)]
            self._waiting = [entry for entry in self._waiting if entry not in free]
        for _, then in free:
            then()

    def when_free(self, tokens: TokenSet, then: Callable[[], None]) -> None:
        """Call `then` once no body is in progress for any of the tokens: at once, or where the last ends."""
        with self._lock:
            if self._any_of(tokens):
                self._waiting.append((tokens, then))
                return
        then()

    def _any_of(self, tokens: TokenSet) -> bool:
        return any(token in tokens for token in self._bodies)


class Latch:
    """Calls `then` once, when it was counted down to zero."""

    def __init__(self, count: int, then: Callable[[], None]) -> None:
        # Taken by one call each, without a lock: a handler may count down in the middle of its thread's own counting.
        self._left = list(range(count))
        self._then = then

    def count_down(self) -> None:
        """One of the awaited things happened."""
        if self._left.pop() == 0:
            self._then()
