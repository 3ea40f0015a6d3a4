"""What a worker knows how to run: handlers by kind, and the lanes in the database that bear these kinds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobsync.core.queue.policy import RetryPolicy


@dataclass(frozen=True, slots=True)
class Handler:
    """A function that runs jobs, whether it is to be awaited, and what follows when it fails."""

    function: Callable[[Any], Any]
    is_async: bool
    retry: RetryPolicy


@dataclass(frozen=True, slots=True)
class Lane:
    """A kind of jobs in a queue, by its number in the database, and who runs it here."""

    number: int
    queue: str
    kind: str
    handler: Handler


@dataclass(frozen=True, slots=True)
class Knowledge:
    """Everything a worker can run: of these queues, these kinds; or, with `any_kind`, every kind of them."""

    queues: tuple[str, ...]
    by_kind: dict[str, Handler]
    any_kind: Handler | None

    @property
    def kinds(self) -> tuple[str, ...] | None:
        """The kinds by name; None: every kind."""
        return None if self.any_kind is not None else tuple(self.by_kind)

    def handler_of(self, kind: str) -> Handler:
        """Give who runs a kind that is known."""
        handler = self.by_kind.get(kind) or self.any_kind
        assert handler is not None
        return handler
