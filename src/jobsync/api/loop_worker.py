"""What a `tasks()` loop needs of its job."""

from typing import TYPE_CHECKING, Protocol

from jobsync.api.batching import Claimer
from jobsync.core.holding import Holding

if TYPE_CHECKING:
    from jobsync.api.tracing.tasks import TaskSpans


class Worker(Claimer, Protocol):
    """What the loop needs of its job."""

    @property
    def spans(self) -> "TaskSpans | None":
        """What traces the tasks in hand; None: nothing does."""

    def now_sec(self) -> float:
        """Read the clock."""

    def holding_now(self) -> Holding | None:
        """Give what is held this instant."""

    def token_of_text(self, text: str) -> int:
        """Give the token of a task."""

    def take_in_hand(self, token: int) -> None:
        """Let hand-overs of this token wait."""

    def put_back(self, token: int) -> None:
        """Let them wait no more."""

    def claim_stands(self, text: str, incarnation: int) -> bool:
        """Tell whether a claim that was made bears this registration; without a run owning the token is enough."""

    def record_done(self, texts: list[str]) -> None:
        """Record that tasks are done."""

    def done_by_anybody(self, texts: list[str]) -> set[str]:
        """Ask which tasks are done in the run, by whomever."""

    def taken_back(self) -> set[str]:
        """Give, once, what was done here and could not be recorded: others have taken it over."""

    def pause(self, seconds: float) -> bool:
        """Wait for a change of tokens, at most so long; True when the job was stopped."""

    def require_running(self) -> None:
        """Raise what ended the node, if it ended."""

    @property
    def servers_met(self) -> int:
        """How many servers, or timelines of one, the rows came from so far: a new one may lack what was done."""

    @property
    def stopping(self) -> bool:
        """Whether the job was stopped."""

    @property
    def in_run(self) -> bool:
        """Whether the job works within a run."""
