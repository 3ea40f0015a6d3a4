"""A statement of a round trip, and what follows from it."""

from collections.abc import Callable
from dataclasses import dataclass

from jobsync.postgres.statement import Row, Statement
from jobsync.postgres.worker_line import LineRefused


@dataclass(frozen=True, slots=True)
class Errand:
    """A statement, what to do with its rows, and what to do where the database refuses it."""

    work: Statement
    answered: Callable[[list[Row]], None]
    refused: Callable[[LineRefused], None]
