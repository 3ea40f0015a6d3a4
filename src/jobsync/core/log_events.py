"""The stable names of what is logged, and what a record bears beside its sentence.

Model: a record of the logger `jobsync` (or `jobsync.web`) bears the attribute `jobsync_event`, and each further field
as `jobsync_FIELD`. What happens to a node is a fact, whose name is its kind's. Sentences may be worded anew with any
release; names and fields stay. What each means, and its fields, is in `log_catalogue`.
"""

from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # Who only marks what it logs need not load all that members say.
    from jobsync.core.messages import Fact

PREFIX: Final = "jobsync_"


class Event(Enum):
    """Stable names of what is logged beside facts."""

    # Nodes
    STANDS_ALONE = "stands_alone"
    NOTHING_CONFIGURED = "nothing_configured"
    LOCKS_NOT_KEPT = "locks_not_kept"
    SETTINGS_DOUBTFUL = "settings_doubtful"
    EMBEDDED_IN_USE = "embedded_in_use"
    EMBEDDED_STARTED = "embedded_started"
    RUN_DATE_STANDS = "run_date_stands"
    ENGINE_FAILED = "engine_failed"
    OUT_OF_FLEET = "out_of_fleet"
    LEAVE_CUT_OFF = "leave_cut_off"
    QUESTION_FAILED = "question_failed"
    CALLBACK_FAILED = "callback_failed"
    CALLBACK_SLOW = "callback_slow"
    LOOP_BLOCKED = "loop_blocked"
    LOOP_WAS_BLOCKED = "loop_was_blocked"
    LATE_CALL_FAILED = "late_call_failed"
    SPAN_FAILED = "span_failed"
    HEARER_FAILED = "hearer_failed"
    # Leading
    LEAD_LOST = "lead_lost"
    LEAD_OVERRUN = "lead_overrun"
    SINGLETON_OVERRUN = "singleton_overrun"
    SINGLETON_ENDED = "singleton_ended"
    SINGLETON_NODE_ENDED = "singleton_node_ended"
    SINGLETON_FAILED = "singleton_failed"
    # Tasks and their records
    TASK_NOT_OWNED = "task_not_owned"
    TASK_TAKEN = "task_taken"
    TASKS_WAIT = "tasks_wait"
    RECORDS_WAIT = "records_wait"
    RECORDS_KEPT = "records_kept"
    RECORDS_TAKEN_OVER = "records_taken_over"
    RECORDS_LOST = "records_lost"
    RECORDS_BEFORE_HANDOVER = "records_before_handover"
    OLD_DAYS_LATER = "old_days_later"
    # Workers of the queue
    WORKER_BEGAN = "worker_began"
    WORKER_TOLD_TO_STOP = "worker_told_to_stop"
    WORKER_STOPPED = "worker_stopped"
    WORKER_STEERED = "worker_steered"
    WORKER_FAILED = "worker_failed"
    WORKER_WAITS = "worker_waits"
    WORKER_LOST_LEASE = "worker_lost_lease"
    WORKER_END_FAILED = "worker_end_failed"
    WORKER_LEFT_BEHIND = "worker_left_behind"
    WORKER_LOOP_ERROR = "worker_loop_error"
    WORKER_LOOP_STOPPED = "worker_loop_stopped"
    JOB_TAKEN_AWAY = "job_taken_away"
    JOB_RESULT_DROPPED = "job_result_dropped"
    JOB_ERROR_DROPPED = "job_error_dropped"
    JOB_LOST = "job_lost"
    JOB_END_UNTOLD = "job_end_untold"
    JOB_NOT_BEGUN = "job_not_begun"
    JOB_LISTENER_FAILED = "job_listener_failed"
    PERIODIC_REFUSED = "periodic_refused"
    # The live page
    LOGIN_REFUSED = "login_refused"
    LOGGED_IN = "logged_in"
    ACTION_FORBIDDEN = "action_forbidden"
    ACTION_REFUSED = "action_refused"
    ACTION_DONE = "action_done"
    FLEET_UNREADABLE = "fleet_unreadable"


def marks(event: Event, **fields: object) -> dict[str, object]:
    """Give what a record of an event bears: `extra` of the call that logs it."""
    return {"jobsync_event": event.value, **{PREFIX + name: value for name, value in fields.items()}}


def marks_of(fact: "Fact", node: str) -> dict[str, object]:
    """Give what the record of a fact bears."""
    given = {"event": fact.kind.value, "node": node, "count": fact.count, "seconds": fact.took_sec}
    return {PREFIX + name: value for name, value in (*given.items(), *fact.details) if value is not None}
