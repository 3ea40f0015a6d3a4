"""What an application wants to be told of, by which of its functions."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field

from jobsync.core.tokens import TokenSet
from jobsync.runtime.waiting import Flag

BODY_GRACE_SEC = 0.05


@dataclass(frozen=True, slots=True)
class RebalanceEvent:
    """What `on_rebalance(event)` is told.

    `first` marks the first assignment; `version` is the distribution's number; `added` and `removed` are the tokens
    that changed hands (both empty when only the cluster's members changed); `reason` is a word or two.
    """

    first: bool
    version: int
    added: frozenset[int] | TokenSet
    removed: frozenset[int] | TokenSet
    reason: str


@dataclass(slots=True)
class Listener:
    """One job's functions, and whether its body has begun."""

    name: str
    on_tokens_added: Callable[[set[int]], object] | None = None
    on_tokens_removed: Callable[[set[int]], object] | None = None
    on_rebalance: Callable[..., object] | None = None
    entered: Flag = field(default_factory=Flag)
    body_began: Flag = field(default_factory=Flag)
    gone: bool = False
    told: bool = False

    @property
    def wants_anything(self) -> bool:
        """Whether there is anything to call."""
        return any((self.on_tokens_added, self.on_tokens_removed, self.on_rebalance))

    def wait_for_body(self) -> None:
        """Wait until the body can use its name for the job."""
        if self.told:
            return
        self.entered.wait()
        self.body_began.wait(BODY_GRACE_SEC)


def takes_an_argument(function: Callable[..., object]) -> bool:
    """Tell whether a rebalance callback is to be given the event."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(
        p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL) and p.default is p.empty
        for p in parameters
    )
