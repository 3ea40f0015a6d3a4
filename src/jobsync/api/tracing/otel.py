"""The one place that loads OpenTelemetry, and a trace context as one line of text."""

from typing import TYPE_CHECKING, Any, Final

from jobsync.core.errors import ExtraMissing

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer

MOST_CHARACTERS: Final = 1_000


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
    """What is used of OpenTelemetry, by name."""

    def __init__(self) -> None:
        root = opentelemetry()
        self.trace = root.trace
        self.context = root.context
        self.tracer: Tracer = root.trace.get_tracer("jobsync")
        self._w3c = root.trace.propagation.tracecontext.TraceContextTextMapPropagator()

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
