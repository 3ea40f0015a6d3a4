"""Every metric, once: its name, kind, labels and meaning. Units stand in the names, as Prometheus has it.

Each bears `fleet`, the appname as its tables bear it, before its own labels: one Prometheus may watch many fleets,
and one process may be a node of several.
"""

from dataclasses import dataclass
from typing import Final

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
JOB_SECONDS: Final = (0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: `kind` is gauge, counter or histogram; `buckets` are a histogram's bounds.

    `own_labels` are those beside `fleet`, which every metric has.
    """

    name: str
    kind: str
    text: str
    own_labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, in the order in which values are given."""
        return ("fleet", *self.own_labels)


NODE = ("node",)
JOB = ("worker", "queue", "kind")

PROCESS: Final = (
    Metric("jobsync_tokens_held", "gauge", "Tokens that the node owns with a certain lease.", NODE),
    Metric("jobsync_tokens_target", "gauge", "Tokens that the plan wants for the node.", NODE),
    Metric("jobsync_lease_margin_seconds", "gauge", "What is left of the node's lease; 0: not certain.", NODE),
    Metric("jobsync_reply_age_seconds", "gauge", "Seconds since the database last answered the node.", NODE),
    Metric("jobsync_healthy", "gauge", "1 while the node does its duty, as /health/ready says.", NODE),
    Metric("jobsync_leads", "gauge", "1 while the node believes that it leads the fleet.", NODE),
    Metric("jobsync_facts_total", "counter", "What happened to the node, by the stable name of the log's lines.",
           ("node", "fact")),
    Metric("jobsync_tokens_moved_total", "counter", "Tokens that the node took (in), gave up (out) or lost (lost).",
           ("node", "direction")),
    Metric("jobsync_handover_seconds", "histogram", "From letting go of tokens until the database had them free.", NODE,
           SECONDS),
    Metric("jobsync_heartbeat_seconds", "histogram", "Round trips of the node's heartbeats.", NODE, SECONDS),
    Metric("jobsync_fences_total", "counter", "Fences: of others by this node, and of this node by others.",
           ("node", "side")),
    Metric("jobsync_refused_writes_total", "counter", "Stale writes that the database refused: results of lost jobs, "
           "transactions of lost tasks.", NODE),
    Metric("jobsync_worker_jobs_running", "gauge", "Jobs whose handlers run in the worker.", ("worker",)),
    Metric("jobsync_worker_jobs_fetched", "gauge", "Jobs fetched ahead that have not begun.", ("worker",)),
    Metric("jobsync_worker_slots", "gauge", "How many jobs the worker runs at once.", ("worker",)),
    Metric("jobsync_job_seconds", "histogram", "How long handlers ran, whatever came of it.", JOB, JOB_SECONDS),
    Metric("jobsync_job_attempts_total", "counter", "Attempts that ended: returned, raised, or lost to another worker.",
           (*JOB, "outcome")),
    Metric("jobsync_job_crashes_total", "counter", "Jobs that this process took back from workers that died.", NODE),
)  # fmt: skip

FLEET: Final = (
    Metric("jobsync_up", "gauge", "1 while the fleet's database answers."),
    Metric("jobsync_active_nodes", "gauge", "Live nodes that take tokens."),
    Metric("jobsync_token_balance", "gauge", "Tokens held, relative to the even share: 1 is even.", NODE),
    Metric("jobsync_heartbeat_lag_seconds", "gauge", "Age of the node's heartbeat, until it is fenced.", NODE),
    Metric("jobsync_rebalances_an_hour", "gauge", "Distributions of the last hour that moved tokens."),
    Metric("jobsync_seconds_since_leader_change", "gauge", "Seconds since the right to lead was last granted."),
    Metric("jobsync_tokens", "gauge", "Tokens of the fleet."),
    Metric("jobsync_tokens_unowned", "gauge", "Tokens that no live node holds."),
    Metric("jobsync_tokens_moving", "gauge", "Tokens that are not where the plan wants them."),
    Metric("jobsync_plan_version", "gauge", "The number of the latest distribution."),
    Metric("jobsync_quarantined", "gauge", "1 while nothing is granted, after a fail-over."),
    Metric("jobsync_locks", "gauge", "Pins that hold."),
    Metric("jobsync_queue_jobs", "gauge", "Jobs by where they stand: waiting, later, processing.",
           ("queue", "kind", "state")),
    Metric("jobsync_queue_oldest_seconds", "gauge", "Age of the oldest job that could run now.", ("queue", "kind")),
    Metric("jobsync_queue_failed_jobs", "gauge", "Jobs that failed for good and have not been pruned or retried."),
    Metric("jobsync_queue_done_a_minute", "gauge", "Jobs done in the minute before."),
    Metric("jobsync_queue_failed_a_minute", "gauge", "Jobs that failed for good in the minute before."),
    Metric("jobsync_queue_workers", "gauge", "Live queue workers."),
    Metric("jobsync_queue_paused", "gauge", "1 for a queue that is paused.", ("queue",)),
)  # fmt: skip


def reference() -> str:
    """Write the tables of the reference, in Markdown."""
    parts = []
    for title, metrics in (("Of one process", PROCESS), ("Of the fleet", FLEET)):
        rows = [
            f"| `{each.name}` | {each.kind} | {', '.join(f'`{label}`' for label in each.own_labels)} | {each.text} |"
            for each in metrics
        ]
        parts.append("\n".join([f"## {title}", "", "| metric | kind | labels | what |", "|---|---|---|---|", *rows]))
    return "\n\n".join(parts)
