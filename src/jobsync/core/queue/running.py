"""Which attempt at a job runs here."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunningAttempt:
    """One attempt at one job: the epoch of its lease, and its place (from 1) in the lease's list."""

    id: int
    epoch: int
    place: int
