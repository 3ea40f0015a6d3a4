"""A job that stands alone: it owns every token for ever, keeps its records in memory, touches no database."""

import logging
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, nullcontext
from datetime import date

from jobsync.core import messages as m
from jobsync.core.holding import Grant, Holding
from jobsync.core.log_events import Event, marks
from jobsync.core.pool import RIGHT_TO_LEAD
from jobsync.core.settings import Settings
from jobsync.core.tokens import TokenSet
from jobsync.runtime.callbacks import Callbacks
from jobsync.runtime.clock import now
from jobsync.runtime.hands import InHand

log = logging.getLogger("jobsync")
FOREVER = float("inf")


class SoloEngine:
    """Looks to readers like an engine whose lease never ends."""

    def __init__(self, name: str, total_tokens: int) -> None:
        everything = TokenSet.span(0, total_tokens)
        holding = Holding(everything, (Grant(1, everything | RIGHT_TO_LEAD),), FOREVER, FOREVER, 1)
        self.standing = m.Standing(
            phase=m.Phase.LIVE,
            incarnation=1,
            holding=holding,
            connected=False,
            settled=True,
            plan_version=1,
            target=everything,
            leader=name,
            live=1,
            last_reply=now(),
            session_lease_ms=None,
        )

    def wait_until(self, condition: Callable[[m.Standing], bool], timeout_sec: float | None) -> bool:  # noqa: ARG002
        """Tell whether the one standing fulfils a condition: it never changes."""
        return condition(self.standing)


class SoloNode:
    """The only node of its world."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.settings = settings
        self.hands = InHand()
        self.callbacks = Callbacks(name)
        self.engine = SoloEngine(name, settings.total_tokens)

    def enter(self) -> None:
        """Tell the callbacks that everything is this node's, once."""
        log.info(
            "node %r: coordination is off: this process does every task",
            self.name,
            extra=marks(Event.STANDS_ALONE, node=self.name),
        )
        held = self.engine.standing.holding.tokens
        self.callbacks.tell(m.Change(TokenSet(), held, 1, "stand-alone"))

    def leave(self) -> bool:
        """End the callbacks."""
        self.callbacks.stop()
        return True

    @property
    def holding(self) -> Holding:
        """Everything, for ever."""
        return self.engine.standing.holding

    @property
    def tokens(self) -> TokenSet:
        """All tokens."""
        return self.engine.standing.holding.tokens

    @property
    def incarnation(self) -> int:
        """The only one."""
        return 1

    def is_healthy(self) -> bool:
        """Nothing can be lost."""
        return True

    def why_unhealthy(self) -> tuple[str, ...]:
        """Nothing can be wrong."""
        return ()

    ended_badly = False

    def require_running(self) -> None:
        """It always runs."""


class SoloLedger:
    """Claims and audits in memory."""

    run_name = None

    def __init__(self, day: date) -> None:
        self.day = day
        self.claims: dict[str, None] = {}
        self.audits: dict[str, date] = {}

    def claim_now(self, items: list[str]) -> set[str]:
        """Claim tasks: all are this node's."""
        self.claims.update(dict.fromkeys(items))
        return set(items)

    def claim_soon(self, item: str) -> None:
        """Remember a claim."""
        self.claims[item] = None

    def claiming(self) -> AbstractContextManager[set[str]]:
        """Nothing comes late."""
        return nullcontext(set())

    def release(self, items: list[str], but_not: AbstractSet[str] = frozenset()) -> None:
        """Let go of claims."""
        for item in items:
            if item not in but_not:
                self.claims.pop(item, None)

    def done(self, items: list[str]) -> None:
        """Remember that tasks are done."""
        self.audits.update(dict.fromkeys(items, self.day))

    def taken_back(self) -> set[str]:
        """Nobody takes anything."""
        return set()

    def flush(self) -> bool:
        """Nothing waits."""
        return True

    def close(self, patience_sec: float) -> None:
        """Nothing waits."""
