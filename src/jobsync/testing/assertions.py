"""What is in the queue, and assertions on it that say what is there when they fail."""

from typing import Any, Final

from jobsync.api.job_queue import JobQueue
from jobsync.core.errors import InvalidArgument
from jobsync.core.queue.stored import UNFINISHED, StoredJob

MOST: Final = 10_000
SHOWN: Final = 20
_ANY: Final = object()
_COLUMNS: Final = frozenset(StoredJob.__dataclass_fields__)


def enqueued(queue: JobQueue, kind: str | None = None) -> list[StoredJob]:
    """List the jobs, of one kind or of all, that wait or run; the oldest first. What has ended is not among them."""
    jobs = [job for status in UNFINISHED for job in queue.list_jobs(status=status, kind=kind, limit=MOST)]
    return sorted(jobs, key=lambda job: job.id)


def assert_enqueued(
    queue: JobQueue, kind: str, *, payload: Any = _ANY, times: int | None = None, **columns: Any
) -> list[StoredJob]:
    """Fail unless a job of this kind waits, or exactly so many do; give those that fit.

    `payload` and `columns` (affinity, job_id, limit_key, max_attempts, priority, queue, run_at, status, ...) are
    compared by `==`, so `unittest.mock.ANY` and its like serve.
    """
    unknown = columns.keys() - _COLUMNS
    if unknown:
        raise InvalidArgument(f"a job has no {', '.join(sorted(unknown))}: compare {', '.join(sorted(_COLUMNS))}")
    wanted = {"kind": kind, **({} if payload is _ANY else {"payload": payload}), **columns}
    there = enqueued(queue)
    fitting = [job for job in there if all(getattr(job, name) == value for name, value in wanted.items())]
    if len(fitting) == times or (times is None and fitting):
        return fitting
    asked = "a job" if times is None else f"{times} jobs" if times != 1 else "one job"
    terms = ", ".join(f"{name}={value!r}" for name, value in wanted.items())
    raise AssertionError(f"expected {asked} with {terms}; {len(fitting)} fit\n{_told(there, wanted)}")


def _told(there: list[StoredJob], wanted: dict[str, Any]) -> str:
    if not there:
        return "nothing waits in the queue"
    names = list(dict.fromkeys(["kind", "payload", *wanted]))
    # What is most like it comes first: a wrong payload is the commonest reason.
    there = sorted(there, key=lambda job: (-sum(getattr(job, name) == value for name, value in wanted.items()), job.id))
    lines = [
        f"  job {job.id} ({job.status}): " + ", ".join(f"{name}={getattr(job, name)!r:.200}" for name in names)
        for job in there[:SHOWN]
    ]
    more = [f"  ... and {len(there) - SHOWN} more"] if len(there) > SHOWN else []
    return "\n".join([f"what waits ({len(there)}):", *lines, *more])
