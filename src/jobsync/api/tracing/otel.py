"""The one place that loads OpenTelemetry, and a trace context as one line of text."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from jobsync.core.errors import ExtraMissing
from jobsync.core.log_events import Event, marks

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

log = logging.getLogger("jobsync")

MOST_CHARACTERS: Final = 1_000
FAILED: Final = "a span could not be made"


def opentelemetry() -> Any:
    """Give the library's root, with what is used of it loaded, or say which extra it is in."""
    try:
        import opentelemetry.context  # noqa: PLC0415 - an extra: loaded when it is used
        import opentelemetry.trace  # noqa: PLC0415
        import opentelemetry.trace.propagation.tracecontext  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ExtraMissing(
            "tracing needs opentelemetry-api, which is not installed: pip install 'jobsync[otel]'"
        ) from None
    return opentelemetry


class Library:
    """What is used of OpenTelemetry, by name.

    A span's processors are the application's, and may raise. What is traced goes on all the same: a job that is stored
    is not reported as refused, and a handler that returned has not failed.
    """

    def __init__(self) -> None:
        root = opentelemetry()
        self.trace = root.trace
        self.context = root.context
        self.tracer: Tracer = root.trace.get_tracer("jobsync")
        self._w3c = root.trace.propagation.tracecontext.TraceContextTextMapPropagator()

    def started(self, name: str, parent: "Context | None" = None, **about: Any) -> "Span":
        """Start a span, or have one that is none."""
        try:
            return self.tracer.start_span(name, parent, **about)
        except Exception:
            log.exception(FAILED, extra=marks(Event.SPAN_FAILED))
            return self.trace.INVALID_SPAN  # type: ignore[no-any-return]

    @staticmethod
    def ended(span: "Span") -> None:
        """End a span."""
        try:
            span.end()
        except Exception:
            log.exception(FAILED, extra=marks(Event.SPAN_FAILED))

    @contextmanager
    def within(
        self, name: str, parent: "Context | None" = None, *, tells_errors: bool = True, **about: Any
    ) -> "Iterator[Span]":
        """Make a span the current one; `tells_errors`: it bears the exception that the block raises."""
        span = self.started(name, parent, **about)
        try:
            with self.trace.use_span(span, record_exception=tells_errors, set_status_on_exception=tells_errors):
                yield span
        finally:
            self.ended(span)

    def tell(self, span: "Span", error: BaseException, form: str) -> None:
        """Say on a span what its work raised, whose `str` is the application's, too."""
        try:
            span.record_exception(error)
            span.set_attribute("error.type", type(error).__qualname__)
            span.set_status(self.trace.StatusCode.ERROR, form.format(type(error).__name__, error))
        except Exception:
            log.exception(FAILED, extra=marks(Event.SPAN_FAILED))

    def carried(self) -> str | None:
        """Write the current context: a traceparent, and behind a blank the tracestate if there is one; None: no trace.

        The text is printable ASCII of at most `MOST_CHARACTERS`: a longer tracestate is left out.
        """
        headers: dict[str, str] = {}
        self._w3c.inject(headers)
        parent, state = headers.get("traceparent"), headers.get("tracestate")
        if parent is None:
            return None
        whole = f"{parent} {state}" if state else parent
        return whole if len(whole) <= MOST_CHARACTERS and whole.isascii() and whole.isprintable() else parent

    def context_of(self, carried: str | None) -> "Context | None":
        """Read it back; None where there is none that can be read."""
        if not carried:
            return None
        parent, _, state = carried.partition(" ")
        headers = {"traceparent": parent, "tracestate": state} if state else {"traceparent": parent}
        context: Context = self._w3c.extract(headers, self.context.Context())
        return context if self.trace.get_current_span(context).get_span_context().is_valid else None
