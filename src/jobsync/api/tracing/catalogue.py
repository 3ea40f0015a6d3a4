"""Every span, once: its name, kind, attributes and meaning."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class SpanKindOf:
    """One kind of span: `name` with {queue} in it bears the queue's name; `kind` is OpenTelemetry's."""

    name: str
    kind: str
    text: str
    attributes: tuple[str, ...]


MESSAGING: Final = (
    "messaging.system",
    "messaging.operation.name",
    "messaging.operation.type",
    "messaging.destination.name",
)
NODE: Final = ("jobsync.node", "jobsync.tokens", "jobsync.plan.version")

SPANS: Final = (
    SpanKindOf(
        "enqueue {queue}",
        "producer",
        "A job is enqueued; its context travels with the job.",
        (*MESSAGING, "messaging.message.id", "jobsync.job.kind", "jobsync.job.key"),
    ),
    SpanKindOf(
        "enqueue",
        "producer",
        "Many jobs are enqueued at once; the one context travels with all of them.",
        ("messaging.system", "messaging.operation.name", "messaging.operation.type", "messaging.batch.message_count"),
    ),
    SpanKindOf(
        "process {queue}",
        "consumer",
        "An attempt at a job: child of the span in which it was enqueued, and linked to it.",
        (
            *MESSAGING,
            "messaging.message.id",
            "messaging.client.id",
            "jobsync.job.kind",
            "jobsync.job.key",
            "jobsync.job.attempt",
            "jobsync.job.epoch",
            "jobsync.job.outcome",
            "error.type",
        ),
    ),
    SpanKindOf(
        "claim",
        "internal",
        "Claims of tasks are written to the database.",
        ("jobsync.node", "jobsync.run", "jobsync.tasks", "jobsync.tasks.claimed"),
    ),
    SpanKindOf(
        "task",
        "internal",
        "A task of `job.tasks()`, from its body's first instant to its last.",
        ("jobsync.node", "jobsync.run", "jobsync.task", "jobsync.task.outcome"),
    ),
    SpanKindOf(
        "rebalance",
        "internal",
        "The leader reads the fleet, and writes a plan that moves tokens.",
        (
            *NODE,
            "jobsync.rebalance.reason",
            "jobsync.rebalance.nodes_before",
            "jobsync.rebalance.nodes_after",
        ),
    ),
    SpanKindOf(
        "rebalance gain", "internal", "From wanting tokens to having them.", (*NODE, "jobsync.epoch")
    ),
    SpanKindOf(
        "rebalance hand over", "internal", "From letting go of tokens until the database has them free.", NODE
    ),
    SpanKindOf(
        "rebalance lose",
        "internal",
        "Tokens are believed in no more: the lease ran out, or others fenced this node. An error.",
        ("jobsync.node", "jobsync.tokens", "jobsync.rebalance.reason"),
    ),
)  # fmt: skip


def reference() -> str:
    """Write the table of the reference, in Markdown."""
    rows = [
        f"| `{each.name}` | {each.kind} | {each.text} | {', '.join(f'`{name}`' for name in each.attributes)} |"
        for each in SPANS
    ]
    return "\n".join(["| span | kind | what | attributes |", "|---|---|---|---|", *rows])
