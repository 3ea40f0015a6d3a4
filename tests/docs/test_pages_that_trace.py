"""The pages about traces and logs, played: what they promise to tell is told."""

import logging
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from jobsync.core.log_events import Event, marks
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


def test_the_recipes_for_logs_tell_the_events(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    root, log = logging.getLogger(), logging.getLogger("jobsync")
    before = root.handlers[:], log.handlers[:], log.level
    try:
        stage.play("operate/logs.md")
        log.warning("it is lost", extra=marks(Event.WORKER_LOST_LEASE, worker="w", count=3))
        log.warning("it waits", extra=marks(Event.WORKER_WAITS, worker="w"))
    finally:
        root.handlers[:], log.handlers[:] = before[0], before[1]
        log.setLevel(before[2])
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "it is lost"
    json_lost, structlog_lost, *waits = told[1:]
    for line in (json_lost, structlog_lost):
        assert '"jobsync_event": "worker_lost_lease"' in line
        assert '"jobsync_count": 3' in line
    assert len(waits) == 2
    assert all('"jobsync_event": "worker_waits"' in line for line in waits)
