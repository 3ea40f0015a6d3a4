"""The part of `ProcessingWorker` that knows what runs its jobs: functions by kind, or one method for every kind."""

from collections.abc import Callable
from typing import Any, TypeVar

from jobsync.api.checks import checked_callback, is_async
from jobsync.core.errors import InvalidArgument, NotRunning
from jobsync.core.queue.new_job import checked_text
from jobsync.core.queue.policy import RetryPolicy
from jobsync.runtime.worker.hub import Hub
from jobsync.runtime.worker.kinds import Handler, Knowledge
from jobsync.runtime.worker.running_job import RunningJob

F = TypeVar("F", bound=Callable[..., Any])


class WorkerHandlers:
    """The handlers of one worker, until it starts."""

    worker_id: str
    _hub: Hub | None
    _queues: tuple[str, ...]

    def __init__(self, retry: RetryPolicy) -> None:
        self._handlers: dict[str, Handler] = {}
        self._retry = _checked_policy(retry)

    def handles(self, kind: str, *, retry: RetryPolicy | None = None) -> Callable[[F], F]:
        """Register the decorated function for a kind of jobs; it is called with the job, and may be async.

        `retry` is the policy of this kind, instead of the worker's. Before the worker starts; once a kind.
        """
        checked_text("kind", kind)
        policy = self._retry if retry is None else _checked_policy(retry)

        def register(function: F) -> F:
            if not callable(function):
                raise InvalidArgument(f"{function!r:.80} cannot be called: give a function of the job")
            if not is_async(function):
                checked_callback("handler", function, 1)
            if kind in self._handlers:
                raise InvalidArgument(f"kind {kind!r} has a handler already: register one function a kind")
            if self._hub is not None:
                raise NotRunning(f"worker {self.worker_id!r} has started: register handlers before")
            self._handlers[kind] = Handler(function, is_async(function), policy)
            return function

        return register

    def process_job(self, job: RunningJob) -> Any:
        """Run a job; override it, sync or async, in a worker that runs every kind of its queues."""
        raise NotImplementedError(f"worker {self.worker_id!r} has no handler for {job!r}")

    def _knowledge(self) -> Knowledge:
        any_kind = None
        if type(self).process_job is not WorkerHandlers.process_job:
            any_kind = Handler(self.process_job, is_async(self.process_job), self._retry)
        if any_kind is None and not self._handlers:
            raise InvalidArgument(
                f"worker {self.worker_id!r} knows no kind of job: register handlers with @worker.handles('kind'), or "
                "override process_job"
            )
        return Knowledge(self._queues, dict(self._handlers), any_kind)


def _checked_policy(retry: object) -> RetryPolicy:
    if not isinstance(retry, RetryPolicy):
        raise InvalidArgument(f"retry={retry!r:.80} is refused: give a RetryPolicy")
    return retry
