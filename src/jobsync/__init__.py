"""jobsync: coordination for fleets of Python workers on the PostgreSQL they already have.

    from jobsync import CoordinationConfig, Job

    with Job("worker-01", coordination_config=CoordinationConfig(dsn="postgresql://...")) as job:
        for task in job.tasks(ids):
            work_on(task.id)

`README.md` is the way in; `ARCHITECTURE.md` shows the rooms of this package and which way imports may point.
"""

from jobsync.api.async_job import AsyncJob
from jobsync.api.async_job_queue import AsyncJobQueue
from jobsync.api.async_leader import AsyncLead
from jobsync.api.claim import Claim
from jobsync.api.compat import config
from jobsync.api.config import CoordinationConfig
from jobsync.api.job import Job
from jobsync.api.job_queue import JobQueue
from jobsync.api.processing_worker import ProcessingWorker, WorkerStatus
from jobsync.api.status import JobStatus
from jobsync.core.errors import (
    AlreadyDone,
    Cancel,
    ConfigMismatch,
    ConnectionsLent,
    CoordinationDisabled,
    DatabaseUnavailable,
    EnterTimeout,
    ExtraMissing,
    InvalidArgument,
    InvalidSettings,
    InvalidTaskId,
    JobStopped,
    JobsyncError,
    LeaderTimeout,
    LeaseLost,
    NodeNameInUse,
    NotRunning,
    OwnershipLost,
    Retry,
    SchemaError,
    TransactionLost,
)
from jobsync.core.queue.new_job import NewJob
from jobsync.core.queue.policy import RetryPolicy
from jobsync.core.queue.steering import Limit, Pause, Schedule
from jobsync.core.queue.stored import ActiveLease, AttemptError, StoredJob, UnknownKind
from jobsync.core.settings import recommended_tokens
from jobsync.core.tasks import Task
from jobsync.core.tokens import TokenSet
from jobsync.runtime.callbacks import RebalanceEvent
from jobsync.runtime.leadership import Lead
from jobsync.runtime.worker.running_job import RunningJob

__all__ = [
    "ActiveLease",
    "AlreadyDone",
    "AsyncJob",
    "AsyncJobQueue",
    "AsyncLead",
    "AttemptError",
    "Cancel",
    "Claim",
    "ConfigMismatch",
    "ConnectionsLent",
    "CoordinationConfig",
    "CoordinationDisabled",
    "DatabaseUnavailable",
    "EnterTimeout",
    "ExtraMissing",
    "InvalidArgument",
    "InvalidSettings",
    "InvalidTaskId",
    "Job",
    "JobQueue",
    "JobStatus",
    "JobStopped",
    "JobsyncError",
    "Lead",
    "LeaderTimeout",
    "LeaseLost",
    "Limit",
    "NewJob",
    "NodeNameInUse",
    "NotRunning",
    "OwnershipLost",
    "Pause",
    "ProcessingWorker",
    "RebalanceEvent",
    "Retry",
    "RetryPolicy",
    "RunningJob",
    "Schedule",
    "SchemaError",
    "StoredJob",
    "Task",
    "TokenSet",
    "TransactionLost",
    "UnknownKind",
    "WorkerStatus",
    "config",
    "recommended_tokens",
]
