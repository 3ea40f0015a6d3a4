"""Jobs run one by one by whoever asks, without a thread of their own: what tests are made of.

Model: a runner is a node of the fleet for as long as it is open, and takes, one at a time, the best of what may run:
the same functions of the schema decide as for a worker. The instant at which it takes and ends is the caller's, so that
delays and back-offs pass when he says so; None means the database's clock.

Not promised: anything about crashes, lost leases, or speed.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from jobsync.core.errors import JobsyncError
from jobsync.core.queue.periodic import decide_round
from jobsync.core.queue.states import PENDING
from jobsync.core.settings import Settings
from jobsync.postgres.leases import Attempt, Leases, Taken
from jobsync.postgres.queue_admin import PeriodicStatements, look_of
from jobsync.postgres.statement import Row, Statement, call, statement
from jobsync.postgres.worker_line import LineBroken, LineRefused, WorkerLine
from jobsync.runtime.clock import boot_sec
from jobsync.runtime.node import Node
from jobsync.runtime.waiting import Flag
from jobsync.runtime.worker.desk import Desk
from jobsync.runtime.worker.endings import Ending, Endings
from jobsync.runtime.worker.kinds import Lane
from jobsync.runtime.worker.running_job import HeldLease, RunningJob
from jobsync.runtime.worker.terms import Terms

LEASE_MS: Final = 7 * 86_400_000
MOST_PROMOTED: Final = 1000
ALSO_SUSPECTS: Final = True


class InlineRunner:
    """Takes and ends jobs in the caller's thread; made by `open_runner`, closed by `close`.

    It looks enough like a worker's hub for the worker's own methods to work inside a handler.
    """

    is_alive = True

    def __init__(self, settings: Settings, terms: Terms) -> None:
        self.desk: Desk
        self.is_stopping = False
        self.fetched: Sequence[RunningJob] = ()
        self.has_ended = Flag()
        self.left_behind: Sequence[RunningJob] = ()
        self._terms = terms
        self._prefix = settings.prefix
        self._leases = Leases(settings.prefix, terms.worker_id, lease_ms=LEASE_MS, max_crashes=terms.max_crashes)
        self._periodic = PeriodicStatements(settings.prefix)
        self._endings = Endings(settings.secrets, lambda: 0.5)  # The middle of each spread: waits are what they say.
        self._job: RunningJob | None = None
        self._node = Node(terms.worker_id, settings, environment=None, takes_tokens=False)
        self._node.receive()
        place = self._node.pool.terms
        self._line = WorkerLine(place.conninfo, place.unavailable, boot_sec)
        self._node.join()
        try:
            self._node.wait_until_in(wait_sec=None, stop=Flag())
        except BaseException:
            self._node.leave()
            raise
        self.desk = Desk(self._node, terms)

    def close(self) -> None:
        """Leave the fleet."""
        self.has_ended.set()
        self.desk.close()
        self._line.close()
        self._node.leave()

    # --- what a worker asks of its hub -----------------------------------------------------------

    @property
    def slots(self) -> "InlineRunner":
        """What runs: there is one slot, and this is it."""
        return self

    def running(self) -> list[RunningJob]:
        """Give the job whose handler runs."""
        return [] if self._job is None else [self._job]

    def stop(self, timeout_sec: float) -> None:  # noqa: ARG002 - as a hub's
        """Take nothing more; the handler at hand ends as it likes."""
        self.is_stopping = True

    # --- running ---------------------------------------------------------------------------------

    def take(self, now: datetime | None) -> RunningJob | None:
        """Take the best of what may run; None where nothing may, or after `stop`."""
        if self.is_stopping:
            return None
        lanes = self._lanes()
        listed = "{" + ",".join(map(str, lanes)) + "}"
        who = (self._terms.worker_id, self._node.incarnation)
        at_gate = (None, listed, 1, LEASE_MS, ALSO_SUSPECTS, 0, self._terms.max_crashes)
        plain_types = ("text", "bigint", "integer[]", "integer", "integer", "timestamptz")
        gated_types = ("text", "bigint", "text", "integer[]", "integer", "integer", "boolean", "integer", "integer")
        _, plain, gated = self._run(
            call("job_promote", self._prefix, MOST_PROMOTED, now, types=("integer", "timestamptz")),
            call("job_take", self._prefix, *who, listed, 1, LEASE_MS, now, types=plain_types),
            call("job_take_gated", self._prefix, *who, *at_gate, now, types=(*gated_types, "timestamptz")),
        )
        jobs = [self._job_of(row, lanes, is_plain=rows is plain) for rows in (plain, gated) for row in rows]
        if not jobs:
            return None
        jobs.sort(key=lambda job: (-job.priority, job.id))
        if len(jobs) > 1:
            self._run(self._leases.release([job.as_attempt() for job in jobs[1:]]))
        self._job = jobs[0]
        return self._job

    def after_return(self, job: RunningJob, value: object) -> Ending:
        """Decide what follows from what a handler returned."""
        return self._endings.after_return(job, value)

    def after_error(self, job: RunningJob, error: BaseException) -> Ending:
        """Decide what follows from what a handler raised."""
        return self._endings.after_error(job, error)

    def end(self, job: RunningJob, ending: Ending, now: datetime | None) -> bool:
        """Write down how an attempt ended; False, and nothing is written, where it has ended otherwise meanwhile."""
        self._job = None
        if ending.outcome is None:
            return False
        return bool(self._run(self._end(job.as_attempt(), ending, now))[0][0][0])

    def give_back(self, job: RunningJob) -> None:
        """Give a job back that is not to run after all: the attempt is not charged."""
        self._job = None
        with suppress(JobsyncError):  # An error is on its way already.
            self._run(self._end(job.as_attempt(), Ending(PENDING), None))

    def fire_due(self, now: datetime) -> None:
        """Enqueue what is due of the periodic jobs at an instant."""
        (rows,) = self._run(self._periodic.look(self._node.incarnation))
        for due in decide_round(look_of(rows)[2], now).due:
            types = ("text", "timestamptz", "timestamptz")
            self._run(call("job_fire", self._prefix, due.name, due.at, now, types=types))

    # --- the database ----------------------------------------------------------------------------

    def _run(self, *works: Statement) -> list[list[Row]]:
        try:
            return self._line.run(*works)
        except (LineBroken, LineRefused) as error:
            raise JobsyncError(f"the database did not carry out a statement: {error}") from error

    def _lanes(self) -> dict[int, Lane]:
        """Give the lanes that are known here; without names of queues, those of all."""
        knowledge = self._terms.knowledge
        (rows,) = self._run(statement("list_lanes", self._prefix))
        return {
            number: Lane(number, queue, kind, knowledge.handler_of(kind))
            for number, queue, kind in rows
            if queue in (knowledge.queues or (queue,)) and (knowledge.kinds is None or kind in knowledge.kinds)
        }

    def _job_of(self, row: Row, lanes: dict[int, Lane], *, is_plain: bool) -> RunningJob:
        lease = HeldLease(row[0], self._node.incarnation, float("inf"), self.desk, left=1)
        taken: Taken = row  # type: ignore[assignment]
        return RunningJob(taken, lease, lanes[taken[2]], is_plain=is_plain)

    def _end(self, attempt: Attempt, ending: Ending, now: datetime | None) -> Statement:
        if now is None:
            return self._leases.end(
                attempt, str(ending.outcome), wait_sec=ending.wait_sec, error=ending.error, result=ending.result
            )
        run_at = None if ending.wait_sec is None else now + timedelta(seconds=ending.wait_sec)
        terms = (attempt.epoch, attempt.place, attempt.id, ending.outcome, run_at, ending.error, ending.result, now)
        types = ("bigint", "integer", "bigint", "text", "timestamptz", "text", "jsonb", "timestamptz")
        return call("job_end_attempt", self._prefix, *terms, types=types)
