"""The pages about traces and logs, played: what they promise to tell is told."""

from typing import Any

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.api.jobs import eventually
from tests.docs.stage import Stage
from tests.tracing.conftest import Spans, spans

__all__ = ["spans"]


def test_the_trace_of_a_request_goes_on_in_its_job(stage: Stage, spans: Spans) -> None:
    def wait_until_done(queue: Any) -> None:
        eventually(lambda: queue.counts()["done"] == 1)

    stage.play("operate/traces.md", exporter=InMemorySpanExporter(), wait_until_done=wait_until_done)
    names = ("POST /images", "enqueue default", "process default", "read image")
    request, *others = (spans.one(name) for name in names)
    parent = request
    for span in others:
        assert span.parent is not None
        assert parent.context is not None
        assert (span.parent.trace_id, span.parent.span_id) == (parent.context.trace_id, parent.context.span_id)
        parent = span
