"""A claim as a value: what a store elsewhere needs to refuse a writer that has lost the task."""

from dataclasses import dataclass

from jobsync.core.tasks import Task


@dataclass(frozen=True, slots=True)
class Claim:
    """One task claimed by this node.

    `epoch` is the fencing number of the task's token: every later owner has a higher one. A store that keeps the
    highest epoch it has seen for a task, and refuses lower ones, is safe from a process that was paused while it
    lost the task. Epochs are per token, not per node; `incarnation` is this node's registration.
    """

    task: Task
    token: int
    epoch: int
    run: str | None
    incarnation: int
