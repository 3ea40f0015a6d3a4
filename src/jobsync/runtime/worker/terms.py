"""What a worker is told once and for all."""

from dataclasses import dataclass

from jobsync.runtime.worker.kinds import Knowledge


@dataclass(frozen=True, slots=True)
class Terms:
    """The settings of one worker.

    extend_after   the part of the lease's duration after which it is extended
    owns_tokens    whether the worker's node owns tokens, to which jobs with an affinity go
    keep_days      how long ended jobs are kept; None: for ever
    traced         whether the trace in which a job was enqueued is asked for
    """

    worker_id: str
    knowledge: Knowledge
    slots: int
    lease_ms: int
    extend_after: float
    poll_sec: float
    stop_sec: float
    max_crashes: int
    owns_tokens: bool
    keep_days: float | None
    traced: bool = False
