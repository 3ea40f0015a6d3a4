"""Once a minute: enqueue what is due of the periodic jobs, from one worker of the fleet.

Model: every worker has a `Periodic` and asks it at its own pace: `next_due_sec` says how long to wait, `fire_due` does
the rest. The oldest live worker fires; where a worker leads that is the leader. Others look just as rarely, later in
the minute, so that they know when it is their turn; and at once when their node comes to lead. What stands unfired for
`OVERDUE_SEC`, since the first among them hangs, anybody fires.

Authoritative: the row of each periodic job. Enqueueing a due time is a compare-and-set of its `last_due`, in one
transaction with the job, so that it happens once however many workers believe that they are the first, and whoever dies
in between. The time is the database's; this process's clock only says when to look again.

Cost: one statement a minute and worker (the first's at the start of the minute, when alone something can be due), and
one for each due time.

Not promised: firing while no worker lives. The latest due time that was missed is enqueued when one comes.
"""

import logging
from collections.abc import Callable
from datetime import timedelta

from jobsync.core.errors import ExtraMissing
from jobsync.core.log_events import Event, marks
from jobsync.core.queue.periodic import decide_round, until_next_minute_sec
from jobsync.postgres.queue_admin import PeriodicStatements, look_of
from jobsync.postgres.statement import Row, Statement
from jobsync.postgres.worker_line import LineRefused
from jobsync.runtime.clock import boot_sec

AFTER_THE_MINUTE_SEC = 0.01  # Clocks differ in speed: a look just before the minute would be in vain.
MINUTE_SEC = 60.0
OVERDUE_SEC = 90.0
TURN_SEC = 5.0  # The first among the workers has so long before others look; these spread over the minute.

log = logging.getLogger("jobsync")


class Periodic:
    """One worker's part in periodic jobs; for one thread.

    `incarnation` gives the number of the worker's node, 0 while it has none; `leads` whether its node leads now.
    """

    def __init__(self, prefix: str, incarnation: Callable[[], int], leads: Callable[[], bool]) -> None:
        self._statements = PeriodicStatements(prefix)
        self._incarnation = incarnation
        self._leads = leads
        self._led = False
        self._look_at_sec = 0.0
        self._complaints = frozenset[str]()

    @property
    def due_sec(self) -> float:
        """When `fire_due` is to be called, on the boot clock; in the past: now."""
        return 0.0 if not self._led and self._leads() else self._look_at_sec

    def next_due_sec(self) -> float:
        """Count the seconds until then; 0 or less: now."""
        return self.due_sec - boot_sec()

    def fire_due(self, run: Callable[[Statement], list[Row]]) -> int:
        """Look, and enqueue what is due if it is this worker's turn; give how many jobs were enqueued.

        `run` executes a statement that commits at once. Raises what it raises; then the next look is a minute later.
        """
        incarnation = self._incarnation()
        self._led = self._leads()
        self._look_at_sec = boot_sec() + MINUTE_SEC
        if not incarnation:
            return 0
        now, is_first, periodics = look_of(run(self._statements.look(incarnation)))
        is_first = is_first or self._led
        turn_sec = 0.0 if is_first else TURN_SEC + incarnation % 50
        self._look_at_sec = boot_sec() + until_next_minute_sec(now) + AFTER_THE_MINUTE_SEC + turn_sec
        try:
            decided = decide_round(periodics, now)
        except ExtraMissing as error:
            self._complain({str(error)})
            return 0
        complaints = {f"the periodic job {name!r} is never enqueued: {reason}" for name, reason in decided.broken}
        long_ago = now - timedelta(seconds=OVERDUE_SEC)
        fired = 0
        for due in decided.due:
            if is_first or due.first_missed < long_ago:
                try:
                    fired += run(self._statements.fire(due.name, due.at))[0][0] is not None
                except LineRefused as error:  # One that was written by hand must not keep the others from their times.
                    complaints.add(f"the periodic job {due.name!r} was refused by the database: {error}")
        self._complain(complaints)
        return fired

    def _complain(self, complaints: set[str]) -> None:
        for text in sorted(complaints - self._complaints):
            log.error("%s", text, extra=marks(Event.PERIODIC_REFUSED))
        self._complaints = frozenset(complaints)
