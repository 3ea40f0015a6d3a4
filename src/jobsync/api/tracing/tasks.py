"""Spans of tasks, for one loop over them, and of the claims that go before."""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from jobsync.api.tracing.otel import Library

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span


class TaskSpans:
    """The spans of the tasks that one job works on, and of its claims.

    The span of the task in hand is the current one where its body runs: there, `enter` and `leave` are called. They
    put a context in place of another and hold no token of it, since a body may end in another context than it began.
    """

    def __init__(self, otel: Library, node: str, run: str | None) -> None:
        self._otel = otel
        self._about = {"jobsync.node": node} | ({} if run is None else {"jobsync.run": run})
        self._span: Span | None = None
        self._entered: tuple[Span, Context] | None = None

    def begin(self, text: str) -> None:
        """A task is taken in hand."""
        self._span = self._otel.started("task", attributes={**self._about, "jobsync.task": text})

    def end(self, outcome: str, error: BaseException | None = None) -> None:
        """It is no more."""
        span, self._span = self._span, None
        if span is None:
            return
        span.set_attribute("jobsync.task.outcome", outcome)
        if error is not None:
            self._otel.tell(span, error, "{1}")
        self._otel.ended(span)

    def enter(self) -> None:
        """The body of the task in hand begins here."""
        if self._span is not None:
            before = self._otel.context.get_current()
            self._entered = self._span, before
            self._otel.context.attach(self._otel.trace.set_span_in_context(self._span, before))

    def leave(self) -> None:
        """It has ended here."""
        entered, self._entered = self._entered, None
        if entered is not None and self._otel.trace.get_current_span() is entered[0]:
            self._otel.context.attach(entered[1])

    def claim(self, texts: Collection[str], ask: Callable[[], set[str]]) -> set[str]:
        """Claim within a span."""
        attributes: dict[str, Any] = {**self._about, "jobsync.tasks": len(texts)}
        with self._otel.within("claim", attributes=attributes) as span:
            claimed = ask()
            span.set_attribute("jobsync.tasks.claimed", len(claimed))
            return claimed
