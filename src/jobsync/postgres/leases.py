"""The leased queue from a worker's side, as statements: take, done, give back, extend, look after.

Theory of operation: jobs are taken many at a time under one lease with one epoch, and an attempt is named by that
epoch, its place in the lease's list (from 1) and the job's id. The functions say which of what they were told no longer
holds; nothing is believed before the database's answer is there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from jobsync.postgres.records import int_array, text_array
from jobsync.postgres.statement import Row, Statement, call, statement

EPOCH_OF_POSTGRES: Final = datetime(2000, 1, 1, tzinfo=UTC)


class Taken(NamedTuple):
    """A row of a take, as the line gives it: `created_us` counts microseconds from `EPOCH_OF_POSTGRES`."""

    epoch: int
    id: int
    lane: int
    priority: int
    attempts: int
    crashes: int
    max_attempts: int
    created_us: int
    job_id: str | None
    payload: str
    place: int
    affinity: str | None = None
    token: int | None = None
    trace_context: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at one job, as the database can check it."""

    epoch: int
    place: int
    id: int


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found; `next_due_sec`: when the next delayed job is due, None if none waits.

    `steered`: what people ask of the worker's node, cordon or drain.
    """

    recovered: int
    next_due_sec: float | None
    lanes: int
    any_ready: bool
    any_gated: bool
    steered: str | None
    any_due: bool

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Look":
        """Read the one row."""
        return cls(*rows[0])


def created_at(created_us: int) -> datetime:
    """Make the instant of a `Taken.created_us`."""
    return EPOCH_OF_POSTGRES + timedelta(microseconds=created_us)


class Leases:
    """Makes the statements of one worker in one fleet (prefix).

    With `traced`, takes give the trace in which each job was enqueued, which costs them a look more a job.
    """

    def __init__(self, prefix: str, worker: str, *, lease_ms: int, max_crashes: int, traced: bool = False) -> None:
        self._prefix = prefix
        self._worker = worker
        self._lease_ms = lease_ms
        self._max_crashes = max_crashes
        self._traced = traced

    # --- taking and giving back ------------------------------------------------------------------

    def take(self, incarnation: int, lanes: str, want: int) -> Statement:
        """Take up to so many ready jobs of these lanes (an array's literal), under one lease; a row each, `Taken`."""
        terms = (self._worker, incarnation, lanes, want, self._lease_ms)
        if self._traced:
            return statement("take_traced", self._prefix, *terms)
        return call("job_take", self._prefix, *terms, types=("text", "bigint", "integer[]", "integer", "integer"))

    def take_gated(
        self, incarnation: int, node: str | None, lanes: str, want: int, *, suspects: bool, from_token: int
    ) -> Statement:
        """Take up to so many jobs that are taken one by one; each begins at once. A row each, `Taken`."""
        types = ("text", "bigint", "text", "integer[]", "integer", "integer", "boolean", "integer", "integer")
        own = (self._lease_ms, suspects, from_token, self._max_crashes)
        terms = (self._worker, incarnation, node, lanes, want, *own)
        if self._traced:
            return statement("take_gated_traced", self._prefix, *terms)
        return call("job_take_gated", self._prefix, *terms, types=types)

    def any_gated(self, lanes: str) -> Statement:
        """Ask whether anything of these lanes waits to be taken singly; one row."""
        return statement("job_any_gated", self._prefix, lanes)

    def release(self, attempts: Sequence[Attempt]) -> Statement:
        """Give back what has not begun, uncharged; one row: how many were this worker's to give."""
        types = ("bigint[]", "integer[]", "bigint[]")
        return call("job_release", self._prefix, *_columns(attempts), types=types)

    def release_unknown(self, incarnation: int, known: Sequence[int]) -> Statement:
        """Give back what this worker was given under other epochs than these; one row: how many."""
        types = ("text", "bigint", "bigint[]")
        return call("job_release_unknown", self._prefix, self._worker, incarnation, int_array(known), types=types)

    # --- the end of attempts ---------------------------------------------------------------------

    def done(
        self,
        epochs: Sequence[int],
        places: Sequence[int],
        ids: Sequence[int],
        results: Sequence[str | None],
        over: Sequence[int],
    ) -> Statement:
        """Record plain jobs as done, with results as JSON texts; the rows name the ids that are refused.

        Leases of the epochs in `over` have nothing left to do, and go.
        """
        types = ("bigint[]", "integer[]", "bigint[]", "jsonb[]", "bigint[]")
        columns = (int_array(epochs), int_array(places), int_array(ids), text_array(results), int_array(over))
        return call("job_done", self._prefix, *columns, types=types)

    def end(
        self,
        attempt: Attempt,
        outcome: str,
        *,
        wait_sec: float | None = None,
        error: str | None = None,
        result: str | None = None,
    ) -> Statement:
        """End one attempt: `done`, `retry`, `failed`, `cancelled`, `pending`; one row: whether it was its to end."""
        named = (attempt.epoch, attempt.place, attempt.id)
        return statement("job_end_attempt", self._prefix, *named, outcome, wait_sec, error, result)

    # --- while they run --------------------------------------------------------------------------

    def extend(self, incarnation: int, epochs: Sequence[int]) -> Statement:
        """Extend all these leases; the rows are those that stand: (epoch, ids)."""
        types = ("text", "bigint", "bigint[]", "integer")
        terms = (self._worker, incarnation, int_array(epochs), self._lease_ms)
        return call("job_extend", self._prefix, *terms, types=types)

    def still_mine(self, attempts: Sequence[Attempt]) -> Statement:
        """Ask which of these are still to be worked on; a row each: the id."""
        types = ("bigint[]", "integer[]", "bigint[]")
        return call("job_still_mine", self._prefix, *_columns(attempts), types=types)

    def progress(self, attempt: Attempt, progress: int, message: str | None) -> Statement:
        """Say how far an attempt has come; one row: whether it still runs."""
        types = ("bigint", "integer", "bigint", "integer", "text")
        named = (attempt.epoch, attempt.place, attempt.id)
        return call("job_set_progress", self._prefix, *named, progress, message, types=types)

    # --- looking after ---------------------------------------------------------------------------

    def look(self, lanes: str, node: str) -> Statement:
        """Recover what was lost, promote what is due, tell what waits and who is steered; one row, a `Look`."""
        return statement("job_look", self._prefix, lanes, node)

    def recover(self) -> Statement:
        """Take back what lost its lease; one row: how many jobs."""
        return call("job_recover", self._prefix, types=())

    def lanes(self, queues: Sequence[str], kinds: Sequence[str] | None) -> Statement:
        """List the lanes of these queues and kinds: (lane, queue, kind, how many lanes there are at all)."""
        return statement("job_lanes", self._prefix, text_array(queues), None if kinds is None else text_array(kinds))

    def enter(self, incarnation: int, node: str, queues: str, kinds: str) -> Statement:
        """Say that this worker lives; queues and kinds as JSON texts."""
        return statement("job_enter_worker", self._prefix, incarnation, self._worker, node, queues, kinds)

    def leave(self, incarnation: int) -> Statement:
        """Say that it does no more."""
        return statement("job_leave_worker", self._prefix, incarnation, self._worker)

    def prune(self, days: float, most: int) -> Statement:
        """Delete up to so many jobs that ended so long ago; one row: how many."""
        return call("job_prune", self._prefix, days, most, types=("float8", "integer"))


def _columns(attempts: Sequence[Attempt]) -> tuple[str, str, str]:
    return (
        int_array([each.epoch for each in attempts]),
        int_array([each.place for each in attempts]),
        int_array([each.id for each in attempts]),
    )
