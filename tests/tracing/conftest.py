"""Spans as they are made: the process's one tracer provider keeps them in memory."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from jobsync.api.tracing.process import tracing


@cache
def _exporter() -> InMemorySpanExporter:
    """The provider can be set once a process."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


class Spans:
    """What was traced since the test began."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def all(self) -> Sequence[ReadableSpan]:
        tracing().flush()
        return [span for span in self._exporter.get_finished_spans() if span.instrumentation_scope is not None]

    def named(self, name: str, **attributes: object) -> list[ReadableSpan]:
        """Those of a name whose attributes have these values; `job_kind` stands for `jobsync.job.kind`."""
        wanted = {f"jobsync.{key.replace('_', '.')}": value for key, value in attributes.items()}
        return [span for span in self.all() if span.name == name and wanted.items() <= about(span).items()]

    def one(self, name: str, **attributes: object) -> ReadableSpan:
        (span,) = self.named(name, **attributes)
        return span


def about(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def id_of(span: ReadableSpan) -> tuple[int, int]:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id


def parent_of(span: ReadableSpan) -> tuple[int, int] | None:
    return None if span.parent is None else (span.parent.trace_id, span.parent.span_id)


@pytest.fixture
def spans() -> Iterator[Spans]:
    exporter = _exporter()
    exporter.clear()
    yield Spans(exporter)
    exporter.clear()
