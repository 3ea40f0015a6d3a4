"""The trace of a job: from who enqueues it to who runs it, through the database."""

import asyncio
import os
from typing import Any

import psycopg
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, TraceState

from jobsync import AsyncJobQueue, Cancel, CoordinationConfig, Job, JobQueue, NewJob, ProcessingWorker, Retry
from jobsync.api.tracing.otel import MOST_CHARACTERS, Library
from jobsync.postgres.schema import ensure_schema
from jobsync.postgres.statement import load_sql
from tests.api.jobs import eventually, query, settings
from tests.tracing.conftest import Spans, about, id_of, parent_of

TRACER = trace.get_tracer("tests")


def traced(dsn: str, prefix: str) -> CoordinationConfig:
    return settings(dsn, prefix, tracing=True)


def test_an_attempt_is_a_child_of_the_span_in_which_its_job_was_enqueued(
    server_dsn: str, prefix: str, spans: Spans
) -> None:
    config = traced(server_dsn, prefix)
    worker = ProcessingWorker(config, worker_id="w", max_concurrent_jobs=2, poll_interval_ms=100)
    seen: dict[str, Any] = {}

    @worker.handles("plain")
    def plain(job: Any) -> None:
        seen["plain"] = trace.get_current_span().get_span_context().span_id
        with TRACER.start_as_current_span("within"):
            pass

    @worker.handles("keyed")
    async def keyed(job: Any) -> str:
        await asyncio.sleep(0)
        seen["keyed"] = trace.get_current_span().get_span_context().span_id
        return "result"

    with JobQueue(config) as queue, worker:
        with TRACER.start_as_current_span("request"):
            queue.enqueue("plain", {"n": 1})
        number = queue.enqueue("keyed", job_id="my key", affinity="a")
        eventually(lambda: len(spans.all()) == 6 + _others(spans), "both have run")
    request, enqueued = spans.one("request"), spans.one("enqueue default", job_kind="plain")
    ran = spans.one("process default", job_kind="plain")
    assert parent_of(enqueued) == id_of(request)
    assert parent_of(ran) == id_of(enqueued)
    assert [(link.context.trace_id, link.context.span_id) for link in ran.links] == [id_of(enqueued)]
    assert (enqueued.kind, ran.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert parent_of(spans.one("within")) == id_of(ran)
    assert seen["plain"] == id_of(ran)[1]
    enqueued, ran = spans.one("enqueue default", job_kind="keyed"), spans.one("process default", job_kind="keyed")
    assert parent_of(enqueued) is None
    assert parent_of(ran) == id_of(enqueued)
    assert seen["keyed"] == id_of(ran)[1]
    assert about(enqueued) == {
        "messaging.system": "jobsync",
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
        "messaging.destination.name": "default",
        "messaging.message.id": str(number),
        "jobsync.job.kind": "keyed",
        "jobsync.job.key": "my key",
    }
    epoch = about(ran).pop("jobsync.job.epoch")
    assert about(ran) == {
        "messaging.system": "jobsync",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "default",
        "messaging.message.id": str(number),
        "messaging.client.id": "w",
        "jobsync.job.kind": "keyed",
        "jobsync.job.key": "my key",
        "jobsync.job.attempt": 1,
        "jobsync.job.epoch": epoch,
        "jobsync.job.outcome": "returned",
    }


def _others(spans: Spans) -> int:
    """How many spans are about nodes."""
    return sum(span.name.startswith("rebalance") for span in spans.all())


def test_how_an_attempt_ended_is_told(server_dsn: str, prefix: str, spans: Spans) -> None:
    config = traced(server_dsn, prefix)
    worker = ProcessingWorker(config, worker_id="w", poll_interval_ms=100)
    errors = {"raised": ValueError("no such file"), "retry": Retry(3600, "later"), "cancelled": Cancel("never")}

    @worker.handles("ends")
    def ends(job: Any) -> None:
        raise errors[job.payload]

    with JobQueue(config) as queue, worker:
        for how in errors:
            queue.enqueue("ends", how, max_attempts=2 if how == "retry" else 1)
        eventually(lambda: len(spans.named("process default")) == 3)
    (raised,) = spans.named("process default", job_outcome="raised")
    assert about(raised)["error.type"] == "ValueError"
    assert (raised.status.status_code, raised.status.description) == (StatusCode.ERROR, "ValueError: no such file")
    assert [event.name for event in raised.events] == ["exception"]
    for how in ("retry", "cancelled"):
        (span,) = spans.named("process default", job_outcome=how)
        assert span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("edge", ["on_start", "on_end"])
def test_who_processes_spans_may_raise_and_nothing_else_fails(
    server_dsn: str,
    prefix: str,
    spans: Spans,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    edge: str,
) -> None:
    def breaks(*_: object) -> None:
        raise RuntimeError("no collector")

    monkeypatch.setattr(SimpleSpanProcessor, edge, breaks)
    config = traced(server_dsn, prefix)
    worker = ProcessingWorker(config, poll_interval_ms=100)
    worker.handles("works")(lambda job: job.payload)
    with JobQueue(config) as queue, worker:
        numbers = [queue.enqueue("works", 1), *queue.enqueue_many([NewJob("works", 2)])]
        eventually(lambda: queue.counts()["done"] + queue.counts()["retry"] == 2)
        assert [(job.status, job.attempts) for job in map(queue.get, numbers) if job] == [("done", 1)] * 2
    with Job("n", coordination_config=config) as job:
        assert [task.id for task in job.tasks(["a"])] == ["a"]
    assert "span_failed" in {getattr(record, "jobsync_event", "") for record in caplog.records}


def test_an_error_that_cannot_be_written_is_recorded_as_without_a_trace(
    server_dsn: str, prefix: str, spans: Spans
) -> None:
    class Unwritable(Exception):
        def __str__(self) -> str:
            raise TypeError("no text")

    config = traced(server_dsn, prefix)
    worker = ProcessingWorker(config, poll_interval_ms=100)

    @worker.handles("fails")
    def fails(_: Any) -> None:
        raise Unwritable

    with JobQueue(config) as queue, worker:
        number = queue.enqueue("fails", max_attempts=1)
        eventually(lambda: queue.counts()["failed"] == 1)
        job = queue.get(number)
    assert job is not None
    assert (job.last_error or "").strip().endswith("Unwritable: <exception str() failed>")


def test_many_jobs_bear_the_one_trace_whichever_way_they_are_stored(server_dsn: str, prefix: str, spans: Spans) -> None:
    config = traced(server_dsn, prefix)
    kinds = [("a", {"back\\slash": "\n"})] * 3 + [NewJob("a", 1, priority=1), NewJob("b", 2, job_id="key")]
    with JobQueue(config) as queue:
        queue.enqueue_many(kinds[:3])
        queue.enqueue_many(kinds[3:4])
        queue.enqueue_many(kinds)
        assert queue.get(1).payload == {"back\\slash": "\n"}  # type: ignore[union-attr]
    sent = spans.named("enqueue")
    assert [about(span)["messaging.batch.message_count"] for span in sent] == [3, 1, 5]
    stored = [_read(row[0]) for row in query(server_dsn, f"select trace_context from {prefix}job_body order by id")]
    assert stored == [_written(span) for span, count in zip(sent, (3, 1, 5), strict=True) for _ in range(count)]


def _written(span: Any) -> str:
    trace_id, span_id = id_of(span)
    return f"00-{trace_id:032x}-{span_id:016x}"


def _read(carried: str) -> str:
    """Leave the flags out, which are the library's business."""
    return carried.rpartition("-")[0]


def test_on_a_connection_of_ones_own_and_on_asyncio_it_is_the_same(server_dsn: str, prefix: str, spans: Spans) -> None:
    config = traced(server_dsn, prefix)

    async def put() -> None:
        async with AsyncJobQueue(config) as queue:
            with TRACER.start_as_current_span("request"):
                await queue.enqueue("a")
                await queue.enqueue_many([("a", 1)])

    asyncio.run(put())
    with JobQueue(config) as queue, psycopg.connect(server_dsn) as conn, TRACER.start_as_current_span("request"):
        queue.enqueue("a", 2, connection=conn)
        queue.enqueue_many([("a", 3)], connection=conn)
    sent = [span for span in spans.all() if span.name.startswith("enqueue")]
    assert [parent_of(span) for span in sent] == [id_of(span) for span in spans.named("request") for _ in range(2)]
    stored = query(server_dsn, f"select trace_context from {prefix}job_body order by id")
    assert [_read(row[0]) for row in stored] == [_written(span) for span in sent]


def test_a_failed_enqueue_is_an_error_and_stores_nothing(server_dsn: str, prefix: str, spans: Spans) -> None:
    with JobQueue(traced(server_dsn, prefix)) as queue:
        with pytest.raises(ValueError, match=r"jobs\[1\]"):
            queue.enqueue_many([("a", 1), ("", 2)])
        assert spans.one("enqueue").status.status_code is StatusCode.ERROR
        assert not any(queue.counts().values())


def test_what_nobody_traces_bears_no_trace_and_its_attempt_begins_one(
    server_dsn: str, prefix: str, spans: Spans
) -> None:
    """Whether tracing is off, or on without a current trace that is recorded, or the job came by SQL."""
    plain = settings(server_dsn, prefix)
    worker = ProcessingWorker(traced(server_dsn, prefix), worker_id="w", poll_interval_ms=100)
    worker.handles("a")(lambda job: None)
    with JobQueue(plain) as queue, worker, TRACER.start_as_current_span("request"):
        queue.enqueue("a")
        query(server_dsn, f"insert into {prefix}job (kind, payload) values ('a', '1')")
        query(server_dsn, f"update {prefix}job_body set trace_context = 'nonsense' where id = %s", queue.enqueue("a"))
        eventually(lambda: len(spans.named("process default")) == 3)
    assert {parent_of(span) for span in spans.named("process default")} == {None}
    assert not any(span.links for span in spans.named("process default"))
    assert not spans.named("enqueue default")


def test_a_worker_that_does_not_trace_asks_for_nothing(server_dsn: str, prefix: str, spans: Spans) -> None:
    worker = ProcessingWorker(settings(server_dsn, prefix), worker_id="w", poll_interval_ms=100)
    seen = []
    worker.handles("a")(lambda job: seen.append(job.trace_context))
    with JobQueue(traced(server_dsn, prefix)) as queue, worker:
        queue.enqueue("a")
        eventually(lambda: seen)
    assert seen == [None]
    assert not spans.named("process default")


def test_a_handler_can_read_the_context_and_a_worker_with_a_job_traces_like_it(
    server_dsn: str, prefix: str, spans: Spans
) -> None:
    config, seen = traced(server_dsn, prefix), []
    with Job("node", coordination_config=config) as job, JobQueue(config) as queue:
        worker = ProcessingWorker(config, node=job, poll_interval_ms=100)
        worker.handles("a")(lambda job: seen.append(job.trace_context))
        with worker:
            queue.enqueue("a", affinity="x", limit_key="y")
            eventually(lambda: seen)
    assert [_read(each) for each in seen] == [_written(spans.one("enqueue default"))]


def test_a_trace_that_was_begun_elsewhere_keeps_its_state_unless_it_is_too_long() -> None:
    library = Library()
    for state, kept in (
        ([("vendor", "a\\b")], " vendor=a\\b"),
        ([], ""),
        ([(f"k{n}", "v" * 250) for n in range(9)], ""),
    ):
        context = trace.SpanContext(
            1, 2, is_remote=True, trace_flags=trace.TraceFlags(1), trace_state=TraceState(state)
        )
        with trace.use_span(trace.NonRecordingSpan(context)):
            carried = library.carried()
        assert carried == f"00-{1:032x}-{2:016x}-01{kept}"
        assert len(carried) <= MOST_CHARACTERS
        read = library.context_of(carried)
        found = trace.get_current_span(read).get_span_context()
        assert (found.trace_id, found.span_id) == (1, 2)
        assert found.trace_state.to_header() == kept.strip()
    with trace.use_span(trace.INVALID_SPAN):
        assert library.carried() is None


OLD_ENQUEUE = (
    "integer[], integer[], integer[], timestamptz[], text[], text[], text[], jsonb[], _now timestamptz default null"
)
CALL = (
    "select id from sync_job_enqueue(array[sync_job_lane_of('default', 'k')], array[0], array[3], "
    "array[null::timestamptz], array[null::text], array[null::text], array[null::text], array['1'::jsonb]{more})"
)


def test_programs_of_before_go_on_with_the_function_that_they_know(server_dsn: str, prefix: str) -> None:
    with psycopg.connect(server_dsn, autocommit=True) as conn:
        ensure_schema(conn, prefix)

        def ask(text: str) -> Any:
            return conn.execute(text.replace("sync_", prefix).encode()).fetchall()

        conn.execute(
            f"create function {prefix}job_enqueue({OLD_ENQUEUE}) returns table (id bigint) language sql "
            "as 'select -1::bigint'".encode()
        )
        assert ask(CALL.format(more="")) == ask(CALL.format(more=", now()")) == [(-1,)]
        (new,) = ask(CALL.format(more=", null, array['a']"))
        assert ask("select id, trace_context from sync_job_body") == [(*new, "a")]
        conn.execute(load_sql("removals", "0005_enqueue_without_traces", prefix).encode())
        assert ask(f"select count(*) from pg_proc where proname = '{prefix}job_enqueue'") == [(1,)]


def test_a_child_of_a_fork_traces_on_its_own(server_dsn: str, prefix: str, spans: Spans) -> None:
    with JobQueue(traced(server_dsn, prefix)) as queue:
        queue.enqueue("a")
        child = os.fork()
        if child == 0:
            try:
                queue.enqueue("a")
                os._exit(0)
            except BaseException:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
    rows = query(server_dsn, f"select trace_context from {prefix}job_body")
    assert len({row[0] for row in rows}) == 2
