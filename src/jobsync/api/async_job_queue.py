"""`AsyncJobQueue`: the methods of `JobQueue` as coroutines, made of them."""

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, cast

from jobsync.api.async_mirror import awaited, described_by
from jobsync.api.async_queue_admin import AsyncQueueAdmin
from jobsync.api.async_queue_desk import AsyncQueueDesk, surely_cancelled
from jobsync.api.config import FROM_ENVIRONMENT, SettingsSource
from jobsync.api.job_queue import JobQueue
from jobsync.core.errors import NotRunning
from jobsync.core.settings import Settings
from jobsync.runtime.queue_desk import QueueDesk

if TYPE_CHECKING:
    from jobsync.api.tracing.sending import Sender

R = TypeVar("R")


class _InnerQueue(JobQueue):
    """A queue whose desk gives coroutines, and so whose methods do."""

    def _make_desk(self, settings: Settings) -> QueueDesk:
        return cast("QueueDesk", AsyncQueueDesk(settings))

    def _make_sender(self) -> "Sender":
        from jobsync.api.tracing.sending import AsyncSender  # noqa: PLC0415 - only who traces loads it

        return cast("Sender", AsyncSender())


@described_by(JobQueue)
class AsyncJobQueue(AsyncQueueAdmin):
    """For asyncio: every method is a coroutine, and none keeps the event loop waiting.

    `connection` is a psycopg.AsyncConnection here. Closed by `async with`, or by awaiting `close()`; belongs to the
    event loop of its first call. A cancelled call gives its connection back; whether its statement took place is open
    then.
    """

    def __init__(self, config: SettingsSource = FROM_ENVIRONMENT) -> None:
        self._queue = _InnerQueue(config)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __enter__(self) -> NoReturn:
        raise NotRunning("this is an AsyncJobQueue: use `async with`")

    def __exit__(self, *_: object) -> None:
        """Stand here so that `with` finds what tells it how to do better."""

    close = awaited(JobQueue.close)
    enqueue = awaited(JobQueue.enqueue)
    enqueue_many = awaited(JobQueue.enqueue_many)
    update_progress = awaited(JobQueue.update_progress)
    release_lease = awaited(JobQueue.release_lease)
    get_active_leases = awaited(JobQueue.get_active_leases)
    reset_expired_leases = awaited(JobQueue.reset_expired_leases)
    get = awaited(JobQueue.get)
    get_by_job_id = awaited(JobQueue.get_by_job_id)
    list_jobs = awaited(JobQueue.list_jobs)
    errors = awaited(JobQueue.errors)
    counts = awaited(JobQueue.counts)
    unknown_kinds = awaited(JobQueue.unknown_kinds)
    cancel = awaited(JobQueue.cancel)
    cancel_all = awaited(JobQueue.cancel_all)
    retry = awaited(JobQueue.retry)
    retry_all = awaited(JobQueue.retry_all)

    def _local(self, name: str) -> Any:
        return getattr(self._queue, name)

    async def _waited(self, function: Callable[[], R]) -> R:
        coroutine: Any = function()
        result: R = await surely_cancelled(coroutine)
        return result
