"""Who in this process is told that jobs may have become free: enqueued, or left behind by a node that is gone.

Hints only, as all notifications are: one may be lost with a session, and nobody is told of what happened before the
session listened. So everybody is told once whenever listening begins, and whoever hears looks for himself.
"""

import logging
from collections.abc import Callable

from jobsync.core.log_events import Event, marks

log = logging.getLogger("jobsync")


class JobHearers:
    """The functions to call. Safe from any thread, and from a signal handler; a list's own methods are whole."""

    def __init__(self) -> None:
        self._hearers: list[Callable[[], None]] = []

    def __bool__(self) -> bool:
        return bool(self._hearers)

    def add(self, heard: Callable[[], None]) -> None:
        """Call this one, too, from now on."""
        self._hearers.append(heard)

    def remove(self, heard: Callable[[], None]) -> None:
        """Call this one no more; nothing happens if it was not called before."""
        if heard in self._hearers:
            self._hearers.remove(heard)

    def tell(self) -> None:
        """Call all of them. One that fails is logged, and harms neither the others nor the engine."""
        for heard in tuple(self._hearers):
            try:
                heard()
            except Exception:
                log.exception("a listener for jobs failed", extra=marks(Event.JOB_LISTENER_FAILED))
