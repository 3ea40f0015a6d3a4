"""Claims whose answer may come when others have claimed the same: what a job's threads take over from each other."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class UnderWay:
    """The claims of one job that wait for the database, by thread. To be used under the lock that it is given."""

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._by_thread: dict[int, set[str]] = {}

    @contextmanager
    def claiming(self) -> Iterator[set[str]]:
        """Claim something, in this thread. Gives a set that fills with what other threads claim meanwhile, and keep."""
        taken_over, thread = set[str](), threading.get_ident()
        with self._lock:
            self._by_thread[thread] = taken_over
        try:
            yield taken_over
        finally:
            with self._lock:
                del self._by_thread[thread]

    def take_over(self, items: Iterable[str]) -> None:
        """This thread claims these, whoever else claims them."""
        for thread, taken_over in self._by_thread.items():
            if thread != threading.get_ident():
                taken_over.update(items)

    def let_go(self, items: Iterable[str]) -> None:
        """Nobody keeps these."""
        for taken_over in self._by_thread.values():
            taken_over.difference_update(items)
