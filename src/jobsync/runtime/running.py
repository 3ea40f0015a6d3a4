"""The attempt in whose handler this code runs: what `update_progress` and `release_lease` take by themselves.

A context variable, so that each thread and each coroutine of a worker has its own, and what a handler calls or starts
with its context has the handler's.
"""

from contextvars import ContextVar
from typing import Final

from jobsync.core.queue.running import RunningAttempt

RUNNING: Final[ContextVar[RunningAttempt | None]] = ContextVar("jobsync_running", default=None)
