"""Every event that is logged, once: how loud it is, what else its record bears, and what it means.

Authoritative: this table. The page of the reference is made from it, and a test compares it with every call. No program
that only logs loads it.
"""

from dataclasses import dataclass
from typing import Final

from jobsync.core.log_events import PREFIX, Event
from jobsync.core.messages import FactKind


@dataclass(frozen=True, slots=True)
class LogEvent:
    """What a record of one event is like; `level` is empty where it varies."""

    event: Event | FactKind
    level: str
    text: str
    fields: tuple[str, ...] = ()


NODE: Final = ("node",)
WORKER: Final = ("worker",)
JOB: Final = ("job", "kind")
COUNT: Final = ("node", "count")

FACTS: Final = (
    LogEvent(FactKind.REGISTERED, "info", "The node is in the fleet.", (*NODE, "incarnation")),
    LogEvent(FactKind.REBOUND, "info", "It has a new session to the database, and is who it was.", NODE),
    LogEvent(FactKind.SESSION_BROKEN, "warning", "Its session broke; it goes on while its lease lasts.", NODE),
    LogEvent(FactKind.SESSION_LEASE_OFF, "warning", "Deaths are not detected fast: why is in the sentence.", NODE),
    LogEvent(FactKind.SESSION_LEASE_RAISED, "info", "The session lease is longer, as round trips are.", NODE),
    LogEvent(FactKind.LEASE_RAN_OUT, "warning", "It believes in no tokens any more.", (*COUNT, "reason")),
    LogEvent(FactKind.FENCED_BY_OTHERS, "warning", "Others took it for dead, and took its tokens.", (*COUNT, "reason")),
    LogEvent(FactKind.FENCED_OTHER, "warning", "It fenced another node.", (*NODE, "other", "other_incarnation")),
    LogEvent(FactKind.GRANTED, "info", "Tokens came.", (*COUNT, "seconds", "version", "epoch")),
    LogEvent(FactKind.GAVE_UP, "info", "Tokens went.", (*COUNT, "seconds", "version")),
    LogEvent(FactKind.LEADS, "info", "It leads the fleet.", (*NODE, "epoch")),
    LogEvent(FactKind.LEADS_NO_MORE, "info", "It leads no more.", NODE),
    LogEvent(FactKind.HANDOVER_OVERDUE, "warning", "The application let go too late; others have the tokens.", NODE),
    LogEvent(FactKind.PLANNED, "info", "The leader wrote a plan that moves tokens.",
             (*COUNT, "seconds", "version", "reason", "nodes_before", "nodes_after")),
    LogEvent(FactKind.LOCKS_UNMATCHED, "warning", "Pins match no live node.", NODE),
    LogEvent(FactKind.LOCKS_CONFLICT, "warning", "Two pins of one token differ.", NODE),
    LogEvent(FactKind.QUARANTINED, "warning", "After a fail-over nothing is granted for a lease.", NODE),
    LogEvent(FactKind.REFUSED, "", "The database refused a question; it is asked again.", NODE),
    LogEvent(FactKind.NOT_DURABLE, "warning", "The server may forget commits.", NODE),
    LogEvent(FactKind.WAITING_FOR_NAME, "info", "Its name is another's, until that is dead.", NODE),
    LogEvent(FactKind.VIOLATION, "error", "An invariant of ownership is broken.", NODE),
    LogEvent(FactKind.LEFT, "info", "It has left.", NODE),
    LogEvent(FactKind.WRITE_REFUSED, "", "A stale write was refused.", COUNT),
    LogEvent(FactKind.JOBS_RECOVERED, "", "Jobs of dead workers were taken back.", COUNT),
)  # fmt: skip

EVENTS: Final = (
    LogEvent(Event.STANDS_ALONE, "info", "Coordination is off: this process does every task.", NODE),
    LogEvent(Event.NOTHING_CONFIGURED, "warning", "The same, since nothing is configured.", NODE),
    LogEvent(Event.LOCKS_NOT_KEPT, "info", "A pin was registered where there is no fleet.", NODE),
    LogEvent(Event.SETTINGS_DOUBTFUL, "warning", "Settings look unwise: the sentence says which.", NODE),
    LogEvent(Event.EMBEDDED_IN_USE, "info", "The embedded PostgreSQL is used.", ("directory",)),
    LogEvent(Event.EMBEDDED_STARTED, "info", "It was started.", ("directory",)),
    LogEvent(Event.RUN_DATE_STANDS, "warning", "A run has another date than was given here.", (*NODE, "run")),
    LogEvent(Event.ENGINE_FAILED, "error", "The engine failed: the node owns nothing any more.", NODE),
    LogEvent(Event.OUT_OF_FLEET, "error", "The node's life ended with an error.", NODE),
    LogEvent(Event.LEAVE_CUT_OFF, "warning", "Leaving took too long.", (*NODE, "seconds")),
    LogEvent(Event.QUESTION_FAILED, "error", "The database answered a question with an error.", (*NODE, "question")),
    LogEvent(Event.CALLBACK_FAILED, "error", "A callback raised.", (*NODE, "callback")),
    LogEvent(Event.CALLBACK_SLOW, "warning", "A callback took long.", (*NODE, "callback", "seconds")),
    LogEvent(Event.LOOP_BLOCKED, "warning", "The application's event loop does not run.", (*NODE, "seconds")),
    LogEvent(Event.LOOP_WAS_BLOCKED, "warning", "It did not run for a while.", (*NODE, "seconds")),
    LogEvent(Event.LATE_CALL_FAILED, "", "A call failed after its caller was cancelled."),
    LogEvent(Event.SPAN_FAILED, "error", "A span for OpenTelemetry could not be made."),
    LogEvent(Event.HEARER_FAILED, "error", "A counter of facts (metrics, traces) failed; the node goes on.", NODE),
    LogEvent(Event.LEAD_LOST, "warning", "A `job.leader()` block lost the lead.", (*NODE, "epoch")),
    LogEvent(Event.LEAD_OVERRUN, "warning", "It goes on although it did.", (*NODE, "epoch")),
    LogEvent(Event.SINGLETON_OVERRUN, "warning", "A singleton goes on although its job ends.", ("singleton",)),
    LogEvent(Event.SINGLETON_ENDED, "debug", "A singleton ends with its job.", ("singleton",)),
    LogEvent(Event.SINGLETON_NODE_ENDED, "error", "It ends since its node did.", ("singleton",)),
    LogEvent(Event.SINGLETON_FAILED, "error", "It raised, and is tried again.", ("singleton", "epoch")),
    LogEvent(Event.TASK_NOT_OWNED, "debug", "`add_task` said no: another node's."),
    LogEvent(Event.TASK_TAKEN, "debug", "`add_task` said no: claimed or done in the run."),
    LogEvent(Event.TASKS_WAIT, "warning", "A `tasks()` loop waits for the database.", NODE),
    LogEvent(Event.RECORDS_WAIT, "warning", "Claims and audits wait for the database.", ("count",)),
    LogEvent(Event.RECORDS_KEPT, "error", "They could not be written, and are kept.", ("count",)),
    LogEvent(Event.RECORDS_TAKEN_OVER, "warning", "Finished tasks of a run are others' now.", ("run", "count")),
    LogEvent(Event.RECORDS_LOST, "error", "Claims and audits were lost at the exit.", ("count",)),
    LogEvent(Event.RECORDS_BEFORE_HANDOVER, "warning", "They could not be written before a hand-over.", NODE),
    LogEvent(Event.OLD_DAYS_LATER, "info", "Old days are dropped another time."),
    LogEvent(Event.WORKER_BEGAN, "info", "`jobsync worker` runs.", (*WORKER, "slots")),
    LogEvent(Event.WORKER_TOLD_TO_STOP, "info", "It was told to stop.", WORKER),
    LogEvent(Event.WORKER_STOPPED, "info", "It has stopped.", WORKER),
    LogEvent(Event.WORKER_STEERED, "info", "A worker was cordoned, drained or resumed.", (*WORKER, "verb")),
    LogEvent(Event.WORKER_FAILED, "error", "A worker failed, and takes nothing any more.", WORKER),
    LogEvent(Event.WORKER_WAITS, "warning", "A worker's database is away or refuses.", WORKER),
    LogEvent(Event.WORKER_LOST_LEASE, "warning", "A worker lost its lease on jobs.", (*WORKER, "count")),
    LogEvent(Event.WORKER_END_FAILED, "error", "A worker could not end in order.", WORKER),
    LogEvent(Event.WORKER_LEFT_BEHIND, "warning", "It stopped while handlers run.", (*WORKER, "count")),
    LogEvent(Event.WORKER_LOOP_ERROR, "error", "Something came out of a task in its event loop.", WORKER),
    LogEvent(Event.WORKER_LOOP_STOPPED, "error", "A handler stopped the event loop of all.", WORKER),
    LogEvent(Event.JOB_TAKEN_AWAY, "warning", "A job that runs here was cancelled, or is another's.", JOB),
    LogEvent(Event.JOB_RESULT_DROPPED, "warning", "A handler returned something after it had ended its job.", JOB),
    LogEvent(Event.JOB_ERROR_DROPPED, "warning", "It raised something after that.", JOB),
    LogEvent(Event.JOB_LOST, "warning", "A job was lost to this worker.", JOB),
    LogEvent(Event.JOB_END_UNTOLD, "error", "How a job ended could not be told.", (*WORKER, *JOB)),
    LogEvent(Event.JOB_NOT_BEGUN, "error", "A job cannot begin, for want of a thread.", (*WORKER, *JOB)),
    LogEvent(Event.JOB_LISTENER_FAILED, "error", "A listener for jobs failed."),
    LogEvent(Event.PERIODIC_REFUSED, "error", "A periodic job is never enqueued: why is in the sentence."),
    LogEvent(Event.LOGIN_REFUSED, "warning", "The live page was given a wrong token.", ("client",)),
    LogEvent(Event.LOGGED_IN, "info", "Somebody logged in there.", ("client",)),
    LogEvent(Event.ACTION_FORBIDDEN, "warning", "Somebody asked there for what is forbidden.", ("client",)),
    LogEvent(Event.ACTION_REFUSED, "warning", "Something asked for there was refused.", ("client", "act")),
    LogEvent(Event.ACTION_DONE, "info", "Something asked for there was done.", ("client", "act")),
    LogEvent(Event.FLEET_UNREADABLE, "error", "The live page cannot read the fleet."),
)


def reference() -> str:
    """Write the tables of the reference, in Markdown."""
    parts = []
    for title, events in (("What happens to a node", FACTS), ("What else is logged", EVENTS)):
        rows = [
            f"| `{each.event.value}` | {each.level or '*varies*'} | {each.text} | "
            f"{', '.join(f'`{PREFIX}{name}`' for name in each.fields)} |"
            for each in events
        ]
        parts.append(
            "\n".join([f"## {title}", "", "| event | level | what | further fields |", "|---|---|---|---|", *rows])
        )
    return "\n\n".join(parts)
