"""The producer's side of a job's trace: a span around `enqueue`, whose context is stored with the job."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jobsync.api.tracing.otel import Library
from jobsync.core.queue.new_job import NewJob

if TYPE_CHECKING:
    from opentelemetry.trace import Span

SYSTEM = {
    "messaging.system": "jobsync",
    "messaging.operation.name": "enqueue",
    "messaging.operation.type": "send",
}


class Spans:
    """Makes the spans, each with what is known before."""

    def __init__(self) -> None:
        self.otel = Library()

    @contextmanager
    def one(self, job: NewJob) -> "Iterator[Span]":
        """Make the span of one job the current one."""
        attributes: dict[str, Any] = {
            **SYSTEM,
            "messaging.destination.name": job.queue,
            "jobsync.job.kind": job.kind,
        }
        if job.job_id is not None:
            attributes["jobsync.job.key"] = job.job_id
        kind = self.otel.trace.SpanKind.PRODUCER
        name = f"enqueue {job.queue}"
        with self.otel.within(name, kind=kind, attributes=attributes) as span:
            yield span

    @contextmanager
    def many(self) -> "Iterator[Span]":
        """Make the span of many jobs the current one."""
        kind = self.otel.trace.SpanKind.PRODUCER
        with self.otel.within("enqueue", kind=kind, attributes=SYSTEM) as span:
            yield span


class Sender(Spans):
    """Has jobs stored within spans; `put` is given the context that is to be stored."""

    def send(self, job: NewJob, put: Callable[[str | None], int]) -> int:
        """Store one job; its id."""
        with self.one(job) as span:
            return _named(span, put(self.otel.carried()))

    def send_many(self, put: Callable[[str | None], list[int]]) -> list[int]:
        """Store many; their ids."""
        with self.many() as span:
            return _counted(span, put(self.otel.carried()))


class AsyncSender(Spans):
    """The same where `put` gives something to be awaited."""

    async def send(self, job: NewJob, put: Callable[[str | None], Awaitable[int]]) -> int:
        """Store one job; its id."""
        with self.one(job) as span:
            return _named(span, await put(self.otel.carried()))

    async def send_many(self, put: Callable[[str | None], Awaitable[list[int]]]) -> list[int]:
        """Store many; their ids."""
        with self.many() as span:
            return _counted(span, await put(self.otel.carried()))


def _named(span: "Span", number: int) -> int:
    span.set_attribute("messaging.message.id", str(number))
    return number


def _counted(span: "Span", numbers: list[int]) -> list[int]:
    span.set_attribute("messaging.batch.message_count", len(numbers))
    return numbers
