"""Throwing whole days of old claims and audits away, beside the work.

The leader prunes row by row on its own session, which must never wait. A day's table is dropped from here instead: by
any process that works without a run, about once an hour, on a connection of its own, since reading and removing a
large table takes its time. The database lets one process at a time do it.
"""

import logging
import threading

from jobsync.core.errors import JobsyncError
from jobsync.core.log_events import Event, marks
from jobsync.postgres.pool import Pool
from jobsync.postgres.records import Records
from jobsync.runtime.clock import boot_sec

FIRST_SEC = 15.0
EVERY_SEC = 3600.0
PAUSE_SEC = 1.0
MOST_STEPS = 100

log = logging.getLogger("jobsync")


class DaySweeper:
    """Sweeps now and then, in a thread that ends with the sweep. `due_sec` tells when (boot clock)."""

    def __init__(self, pool: Pool, records: Records) -> None:
        self._pool = pool
        self._records = records
        self.due_sec = float("inf")

    def schedule(self) -> None:
        """The process begins to write rows that will have to be swept one day."""
        self.due_sec = boot_sec() + FIRST_SEC

    def begin(self) -> None:
        """Sweep beside whatever the caller does, and be due again in an hour."""
        self.due_sec = boot_sec() + EVERY_SEC
        threading.Thread(target=self.sweep, name="jobsync-sweep", daemon=True).start()

    def sweep(self) -> int:
        """Drop day after day until none is old enough; give how many went."""
        dropped = 0
        try:
            for _ in range(MOST_STEPS):
                outcome = self._pool.run_apart(self._records.drop_day())[0][0]
                if outcome == "nothing":
                    break
                dropped += outcome == "dropped"
                threading.Event().wait(PAUSE_SEC)
        except JobsyncError as error:
            log.info(
                "old days of claims and audits are dropped another time: %s", error, extra=marks(Event.OLD_DAYS_LATER)
            )
        return dropped
