"""The part of `AsyncJobQueue` that steers, made of `QueueAdmin`."""

from jobsync.api.async_mirror import awaited
from jobsync.api.queue_admin import QueueAdmin


class AsyncQueueAdmin:
    """The methods of `QueueAdmin` as coroutines."""

    pause = awaited(QueueAdmin.pause)
    resume = awaited(QueueAdmin.resume)
    paused = awaited(QueueAdmin.paused)
    pauses = awaited(QueueAdmin.pauses)
    set_limit = awaited(QueueAdmin.set_limit)
    limits = awaited(QueueAdmin.limits)
    schedule = awaited(QueueAdmin.schedule)
    unschedule = awaited(QueueAdmin.unschedule)
    schedules = awaited(QueueAdmin.schedules)
    prune = awaited(QueueAdmin.prune)
