"""Spans of nodes: who moved which tokens, claims, and tasks."""

import asyncio
import threading
import time
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from jobsync import AsyncJob, CoordinationConfig, Job
from jobsync.api.tracing.catalogue import SPANS, reference
from jobsync.api.tracing.process import Scribe, tracing
from tests.api.jobs import TOKENS, eventually, query, settings, task_for_each_token
from tests.docs.pages import marked
from tests.tracing.conftest import Spans, about, id_of, parent_of

TASKS = task_for_each_token(TOKENS)
ALONE = CoordinationConfig(enabled=False, tracing=True, total_tokens=TOKENS)


def current() -> int:
    return trace.get_current_span().get_span_context().span_id


def test_a_rebalance_is_traced_where_it_is_planned_and_where_tokens_go(
    server_dsn: str, prefix: str, spans: Spans
) -> None:
    config = settings(server_dsn, prefix, tracing=True)
    with Job("a", coordination_config=config) as first:
        with Job("b", coordination_config=config) as second:
            eventually(lambda: len(first.my_tokens) == len(second.my_tokens) == TOKENS // 2)
            eventually(lambda: spans.named("rebalance hand over", node="a"))
            version = second.token_version
        eventually(lambda: len(first.my_tokens) == TOKENS)
    planned = spans.one("rebalance", rebalance_reason="join")
    assert about(planned) == {
        "jobsync.node": "a",
        "jobsync.tokens": TOKENS // 2,
        "jobsync.plan.version": version,
        "jobsync.rebalance.reason": "join",
        "jobsync.rebalance.nodes_before": 1,
        "jobsync.rebalance.nodes_after": 2,
    }
    gained = spans.named("rebalance gain", node="b", plan_version=version)
    assert sum(about(span)["jobsync.tokens"] for span in gained) == TOKENS // 2
    lost = spans.one("rebalance hand over", node="a", plan_version=version)
    for span in (planned, lost, *gained):
        assert span.start_time is not None
        assert span.end_time is not None
        assert 0 < span.end_time - span.start_time < 60e9
        assert parent_of(span) is None


@pytest.mark.slow
def test_tokens_that_are_lost_are_an_error(server_dsn: str, prefix: str, spans: Spans) -> None:
    with Job("a", coordination_config=settings(server_dsn, prefix, tracing=True)):
        # As if others had fenced it: its row is another incarnation's.
        query(server_dsn, f"update {prefix}node set incarnation = incarnation + 1000, bind = 0")
        eventually(lambda: spans.named("rebalance lose"))
    lost = spans.named("rebalance lose")[0]
    assert lost.status.status_code is StatusCode.ERROR
    assert about(lost)["jobsync.tokens"] == TOKENS


def test_claims_and_tasks_are_traced(server_dsn: str, prefix: str, spans: Spans) -> None:
    with Job("a", coordination_config=settings(server_dsn, prefix, tracing=True), run="r") as job:
        seen = []
        for task in job.tasks(TASKS[:4]):
            seen.append((task.id, current()))
        assert current() == 0
        assert job.set_claim(TASKS[5:7]) == TASKS[5:7]
        assert job.add_task(TASKS[8])
    tasks = spans.named("task", node="a", run="r", task_outcome="done")
    assert [(about(span)["jobsync.task"], id_of(span)[1]) for span in tasks] == seen
    claims = [(about(span)["jobsync.tasks"], about(span)["jobsync.tasks.claimed"]) for span in spans.named("claim")]
    assert sorted(claims) == [(1, 1), (1, 1), (1, 1), (2, 2), (2, 2)] or sum(asked for asked, _ in claims) == 7


def test_a_task_that_is_left_is_not_done_and_its_error_is_told(spans: Spans) -> None:
    with Job("a", coordination_config=ALONE) as job:
        with pytest.raises(ValueError, match="broken"), job.tasks(["one", "two"]) as tasks:
            raise ValueError(f"broken: {next(tasks)}")
        assert current() == 0
        with job.tasks(["three"]) as tasks:
            next(tasks)
            tasks.done()
    one = spans.one("task", task="one")
    assert about(one) == {
        "jobsync.node": "a",
        "jobsync.task": "one",
        "jobsync.task.outcome": "not done",
        "error.type": "ValueError",
    }
    assert (one.status.status_code, one.status.description) == (StatusCode.ERROR, "broken: Task('one')")
    assert about(spans.one("task", task="three"))["jobsync.task.outcome"] == "done"
    assert not spans.named("task", task="two")


def test_the_body_of_an_async_loop_runs_within_its_tasks_span(spans: Spans) -> None:
    async def main() -> list[tuple[Any, int]]:
        seen = []
        async with AsyncJob("a", coordination_config=ALONE) as job:
            async for task in job.tasks(["one", "two"]):
                await asyncio.sleep(0)
                seen.append((task.id, current()))
            assert current() == 0
            async with job.tasks(["three"]) as tasks:
                async for _ in tasks:
                    break
            assert current() == 0
            async with job.tasks(["four"]) as tasks:
                # Each in a task of its own, and so in a context of its own.
                assert await asyncio.wait_for(anext(tasks), 20) is not None
                assert await asyncio.wait_for(anext(tasks, None), 20) is None
            assert current() == 0
        return seen

    seen = asyncio.run(main())
    done = spans.named("task", task_outcome="done")
    assert [(about(span)["jobsync.task"], id_of(span)[1]) for span in done[:2]] == seen
    assert about(spans.one("task", task="three"))["jobsync.task.outcome"] == "not done"
    assert about(spans.one("task", task="four"))["jobsync.task.outcome"] == "done"


def test_without_the_setting_nothing_is_traced(server_dsn: str, prefix: str, spans: Spans) -> None:
    with Job("a", coordination_config=settings(server_dsn, prefix)) as job:
        assert [task.id for task in job.tasks(TASKS[:2])] == TASKS[:2]
    assert not spans.all()


def test_who_keeps_the_lease_does_not_wait_for_spans() -> None:
    scribe, gate, done = Scribe(), threading.Event(), []
    scribe.put(lambda: done.append(gate.wait(60)))
    began = time.monotonic()
    for number in range(100):
        scribe.put(lambda number=number: done.append(number))  # type: ignore[misc]
    assert time.monotonic() - began < 30
    assert done == []
    gate.set()
    eventually(lambda: done == [True, *range(100)])
    scribe.put(lambda: 1 / 0)  # type: ignore[arg-type]
    scribe.put(done.clear)
    eventually(lambda: not done)


def test_a_node_goes_on_where_no_thread_can_be_had_for_its_spans(
    server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tracing.cache_clear()  # Its thread is to be started in this test.
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if thread.name == "jobsync-spans":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refused)
    try:
        with Job("n", coordination_config=settings(server_dsn, prefix, tracing=True)) as job:
            assert len(job.my_tokens) == TOKENS
            assert job.am_i_healthy()
    finally:
        tracing.cache_clear()
    assert "span_failed" in {getattr(record, "jobsync_event", "") for record in caplog.records}


def test_the_reference_names_what_is_made() -> None:
    assert "\n".join(marked("operate/traces.md", "spans")) == reference()
    assert len({span.name for span in SPANS}) == len(SPANS)
