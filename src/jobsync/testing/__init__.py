"""Tests of your own code that enqueues and runs jobs: against a real database, in one thread, on a clock of the test's.

    from jobsync.testing import TestClock, assert_enqueued, run_pending

    def test_signing_up_sends_a_mail(job_queue):
        sign_up("anna@example.org")
        assert_enqueued(job_queue, "welcome", payload={"to": "anna@example.org"})
        run_pending(worker, job_queue)

Theory of operation. There is no second queue to keep true: what decides which job may run, and what becomes of it, are
the functions in the database. `run_pending` takes jobs one by one and runs their handlers where it is called, so a
debugger, a mock and a coverage tool see them. Time is a value that the test passes in.

The pytest plugin (`jobsync_pytest`, found by pytest by itself) gives the fixtures `job_queue`, `jobsync_config` and
`jobsync_server`.

Not promised: anything about threads, crashes or speed. Start a `ProcessingWorker` for that.
"""

from jobsync.testing.assertions import assert_enqueued, enqueued
from jobsync.testing.clock import TestClock
from jobsync.testing.running import (
    Ran,
    run_next,
    run_pending,
    run_pending_async,
    run_pending_or_raise,
    run_pending_or_raise_async,
)
from jobsync.testing.tables import drop_tables

__all__ = [
    "Ran",
    "TestClock",
    "assert_enqueued",
    "drop_tables",
    "enqueued",
    "run_next",
    "run_pending",
    "run_pending_async",
    "run_pending_or_raise",
    "run_pending_or_raise_async",
]
