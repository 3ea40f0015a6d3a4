"""The queue of a fleet for people who look at it and steer it: its tables are theirs who run nodes and enqueue."""

from jobsync.api.job_queue import JobQueue
from jobsync.core.settings import Settings
from jobsync.runtime.queue_desk import QueueDesk


class StandingQueue(JobQueue):
    """A JobQueue that never makes or migrates a table: the first call raises SchemaError where they are no fit."""

    def _make_desk(self, settings: Settings) -> QueueDesk:
        return QueueDesk(settings, makes_tables=False)
