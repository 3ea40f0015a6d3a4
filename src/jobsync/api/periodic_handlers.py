"""`@worker.periodic(...)`: a handler together with the times at which its jobs are enqueued."""

from collections.abc import Callable
from typing import Any, TypeVar

from jobsync.api.worker_handlers import WorkerHandlers
from jobsync.core.errors import InvalidArgument
from jobsync.core.queue.new_job import DEFAULT_QUEUE, NewJob
from jobsync.core.queue.periodic import checked_cron
from jobsync.core.queue.policy import RetryPolicy
from jobsync.core.queue.steering import PeriodicWish, checked_schedule_name, checked_wish
from jobsync.postgres.queue_admin import schedule
from jobsync.postgres.statement import Statement

F = TypeVar("F", bound=Callable[..., Any])


class PeriodicHandlers(WorkerHandlers):
    """The part of `ProcessingWorker` that knows when its jobs are due."""

    def __init__(self, retry: RetryPolicy) -> None:
        super().__init__(retry)
        self._wishes: dict[str, PeriodicWish] = {}

    def periodic(
        self,
        cron: str,
        *,
        name: str | None = None,
        timezone: str = "UTC",
        payload: object = None,
        queue: str = DEFAULT_QUEUE,
        priority: int = 0,
        retry: RetryPolicy | None = None,
    ) -> Callable[[F], F]:
        """Register the decorated function, and have a job for it enqueued whenever a cron expression is due.

        `name` is both the kind and the name of the periodic job; by default the function's. The rest is as for
        `JobQueue.schedule`, which is called when the worker starts: several workers of one program set the same, once.
        Taking the decorator away ends nothing: `JobQueue.unschedule` does. Raises ExtraMissing where
        `jobsync[periodic]` is not installed.
        """
        when = checked_cron(cron, timezone)

        def register(function: F) -> F:
            given = name if name is not None else getattr(function, "__name__", None)
            wish = checked_wish(given, when, NewJob(checked_schedule_name(given), payload, None, priority, queue=queue))
            registered = self.handles(wish.kind, retry=retry)(function)
            self._wishes[wish.name] = wish
            return registered

        return register

    def _schedule_periodic(self, prefix: str, run: Callable[[Statement], object], queues: tuple[str, ...]) -> None:
        """Set what is wished for; raises InvalidArgument for a queue that the worker does not serve."""
        for wish in self._wishes.values():
            if wish.queue not in queues:
                raise InvalidArgument(
                    f"the periodic job {wish.name!r} goes to queue {wish.queue!r}, which this worker does not serve: "
                    f"name it among queues={queues!r}"
                )
            run(schedule(prefix, wish))
