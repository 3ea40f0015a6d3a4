"""jobsync: coordination for fleets of Python workers on the PostgreSQL they already have.

    from jobsync import CoordinationConfig, Job

    with Job("worker-01", coordination_config=CoordinationConfig(dsn="postgresql://...")) as job:
        for task in job.tasks(ids):
            work_on(task.id)

What is named here is loaded when it is first used: a command or a program that needs little of it starts sooner.

`README.md` is the way in; `ARCHITECTURE.md` shows the rooms of this package and which way imports may point.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from jobsync.api.async_job import AsyncJob
    from jobsync.api.async_job_queue import AsyncJobQueue
    from jobsync.api.async_leader import AsyncLead
    from jobsync.api.claim import Claim
    from jobsync.api.compat import config
    from jobsync.api.config import CoordinationConfig
    from jobsync.api.health import Health
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
    from jobsync.runtime.leadership import Lead
    from jobsync.runtime.listener import RebalanceEvent
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
    "Health",
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

# Where each name comes from; the block above says the same to type checkers, and a test holds the two together.
_HOMES: Final = {
    "jobsync.api.async_job": "AsyncJob",
    "jobsync.api.async_job_queue": "AsyncJobQueue",
    "jobsync.api.async_leader": "AsyncLead",
    "jobsync.api.claim": "Claim",
    "jobsync.api.compat": "config",
    "jobsync.api.config": "CoordinationConfig",
    "jobsync.api.health": "Health",
    "jobsync.api.job": "Job",
    "jobsync.api.job_queue": "JobQueue",
    "jobsync.api.processing_worker": "ProcessingWorker WorkerStatus",
    "jobsync.api.status": "JobStatus",
    "jobsync.core.errors": (
        "AlreadyDone Cancel ConfigMismatch ConnectionsLent CoordinationDisabled DatabaseUnavailable "
        "EnterTimeout ExtraMissing InvalidArgument InvalidSettings InvalidTaskId JobStopped JobsyncError "
        "LeaderTimeout LeaseLost NodeNameInUse NotRunning OwnershipLost Retry SchemaError "
        "TransactionLost"
    ),
    "jobsync.core.queue.new_job": "NewJob",
    "jobsync.core.queue.policy": "RetryPolicy",
    "jobsync.core.queue.steering": "Limit Pause Schedule",
    "jobsync.core.queue.stored": "ActiveLease AttemptError StoredJob UnknownKind",
    "jobsync.core.settings": "recommended_tokens",
    "jobsync.core.tasks": "Task",
    "jobsync.core.tokens": "TokenSet",
    "jobsync.runtime.listener": "RebalanceEvent",
    "jobsync.runtime.leadership": "Lead",
    "jobsync.runtime.worker.running_job": "RunningJob",
}
_HOME_OF: Final = {name: home for home, names in _HOMES.items() for name in names.split()}


if not TYPE_CHECKING:  # A type checker that saw it would take every name for one of these.

    def __getattr__(name: str) -> Any:
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module 'jobsync' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(home), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
