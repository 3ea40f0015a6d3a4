"""Between a `tasks()` loop and the node: what the loop asks, and patience while the database is away."""

import logging
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from jobsync import runtime
from jobsync.api.batching import Batch
from jobsync.api.membership import AnyLedger, AnyNode
from jobsync.core.errors import DatabaseUnavailable
from jobsync.core.holding import Holding
from jobsync.core.log_events import Event, marks
from jobsync.runtime.clock import boot_sec
from jobsync.runtime.waiting import Flag

if TYPE_CHECKING:
    from jobsync.api.tracing.tasks import TaskSpans

log = logging.getLogger("jobsync")

AWAY_SEC = 0.5
MOST_BEHIND = 50_000


class LoopDesk:
    """What a `tasks()` loop asks of its job; see `jobsync.api.loop_worker.Worker` for each."""

    def __init__(
        self,
        node: AnyNode,
        ledger: AnyLedger,
        *,
        stop: Flag,
        token_of_text: Callable[[str], int],
        spans: "TaskSpans | None" = None,
    ) -> None:
        self._node = node
        self._ledger = ledger
        self._stop = stop
        self.spans = spans
        # Asked once a task or oftener, so that a call in between would be felt.
        self.token_of_text = token_of_text
        self.now_sec = boot_sec
        self.take_in_hand = node.hands.take
        self.put_back = node.hands.put_back
        self.record_done = ledger.done
        self.claiming = ledger.claiming

    def holding_now(self) -> Holding | None:
        """Give what is held this instant."""
        return self._node.holding

    def claim_batch(self, batch: Batch, given_up: Callable[[], bool]) -> set[str]:
        """Claim durably; give the texts of those that are this node's."""
        ledger = self._ledger
        texts = [text for _, text, _ in batch]
        if isinstance(ledger, runtime.SoloLedger):
            return ledger.claim_now(texts)
        if ledger.pending > MOST_BEHIND:
            ledger.flush()  # Bodies that are quicker than the disk wait for it here.
        tokens = [token for _, _, token in batch]
        if self.spans is None:
            return self._while_away(lambda: ledger.claim_now(texts, tokens), set(), given_up)
        return self.spans.claim(
            texts, lambda: self._while_away(lambda: ledger.claim_now(texts, tokens), set(), given_up)
        )

    def claim_stands(self, text: str, incarnation: int) -> bool:
        """Tell whether a claim that was made bears this registration; without a run owning the token is enough."""
        ledger = self._ledger
        return ledger.run_name is None or ledger.claimed_as(text) == incarnation

    def release_batch(self, texts: list[str], but_not: AbstractSet[str] = frozenset()) -> None:
        """Let go of claims, but not of some that are somebody else's by then."""
        self._ledger.release(texts, but_not)

    def done_by_anybody(self, texts: list[str]) -> set[str]:
        """Ask which tasks are done in the run, by whomever."""
        ledger = self._ledger
        assert not isinstance(ledger, runtime.SoloLedger)
        return self._while_away(lambda: ledger.done_by_anybody(texts), set(), lambda: False)

    def taken_back(self) -> set[str]:
        """Give, once, what was done here and could not be recorded: others have taken it over."""
        return self._ledger.taken_back()

    def _while_away(self, ask: Callable[[], set[str]], nothing: set[str], given_up: Callable[[], bool]) -> set[str]:
        """Ask until the database answers, or the job is stopped: a database that is away for a while ends no loop."""
        while not self.stopping and not given_up():
            try:
                return ask()
            except DatabaseUnavailable as error:
                log.warning(
                    "node %r: the loop waits for the database: %s",
                    self._node.name,
                    error,
                    extra=marks(Event.TASKS_WAIT, node=self._node.name),
                )
                self.pause(AWAY_SEC)
        return nothing

    def pause(self, seconds: float) -> bool:
        """Wait a little; True when the job was stopped."""
        self.require_running()
        return self._stop.wait(seconds)

    def require_running(self) -> None:
        """Raise what ended the node, if it ended."""
        self._node.require_running()

    @property
    def servers_met(self) -> int:
        """How many servers, or timelines of one, the rows came from so far."""
        return self._node.engine.standing.servers_met

    @property
    def stopping(self) -> bool:
        """Whether the job was stopped."""
        return self._stop.is_set()

    @property
    def in_run(self) -> bool:
        """Whether the job works within a run."""
        return self._ledger.run_name is not None
