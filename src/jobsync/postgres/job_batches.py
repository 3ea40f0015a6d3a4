"""Many jobs at once: read lazily, checked, and copied in; all of them in the caller's transaction, or none.

Model: the jobs are read in batches of `BATCH`. A batch of plain jobs goes into an open COPY as it was made, so that
the server stores what came before while this side writes the next; a batch with any other job in it is stored by the
schema's own function. Either way the ids grow in the order of the jobs.

Guarantees: at most `MOST_IN_A_COPY` jobs (and the ids of all) are in memory. A job that is refused is named by its
position, and the caller's transaction is to be undone.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from operator import length_hint
from typing import Any, Final, TypeAlias

from jobsync.core.errors import InvalidArgument
from jobsync.core.queue.new_job import (
    DEFAULT_QUEUE,
    Encoder,
    NewJob,
    checked_text,
    payload_encoder,
    payload_text,
    payload_texts,
)
from jobsync.postgres.jobs import Jobs
from jobsync.postgres.records import int_array, text_array
from jobsync.postgres.run_at import delay_sec, instant
from jobsync.postgres.statement import Statement, load_sql, statement
from jobsync.postgres.talk import Copy, Talk

BATCH: Final = 1_000
MOST_IN_A_COPY: Final = 20_000

Lane: TypeAlias = tuple[str, str]
"""A queue and a kind."""

NewJobs: TypeAlias = Iterable[NewJob | tuple[str, object]]


@dataclass(slots=True)
class Batch:
    """Jobs that were checked and written down, in order: columns of one length."""

    names: list[Lane] = field(default_factory=list)
    payloads: list[str] = field(default_factory=list)
    given: list[NewJob | None] = field(default_factory=list)
    is_plain: bool = True

    def add(self, name: Lane, payload: str, job: NewJob | None) -> None:
        """Add one; None stands for a job that leaves everything else to the defaults."""
        self.names.append(name)
        self.payloads.append(payload)
        self.given.append(job)
        if job is not None and not job.is_plain:
            self.is_plain = False


class Reader:
    """Reads jobs and makes batches of them, one ahead at most; all are enqueued in one trace, or in none."""

    def __init__(self, jobs: NewJobs, trace: str | None = None) -> None:
        if isinstance(jobs, str | bytes | dict) or not isinstance(jobs, Iterable):
            raise InvalidArgument(
                f"jobs is a {type(jobs).__name__}: give NewJobs or pairs (kind, payload), in a list or so"
            )
        self.trace = trace
        self._jobs: NewJobs = jobs
        self._names: dict[str, Lane] = {}
        self._begin()
        self.expected = length_hint(jobs, MOST_IN_A_COPY)
        self.next: Batch | None = None
        self.advance()

    def _begin(self) -> None:
        self._source: Iterator[NewJob | tuple[str, object]] = iter(self._jobs)
        self._encode: Encoder = payload_encoder()
        self._read = 0

    def again(self) -> bool:
        """Begin anew, for a transaction that was undone; False where the jobs can be read only once."""
        if isinstance(self._jobs, Iterator):
            return False
        self._begin()
        self.advance()
        return True

    def advance(self) -> None:
        """Make `next` the batch after it; None after the last."""
        items = list(islice(self._source, BATCH))
        batch = (self._pairs(items) or self._one_by_one(items)) if items else None
        self._read += len(items)
        self.next = batch

    def _pairs(self, items: list[Any]) -> Batch | None:
        """Make a batch of good pairs of known kinds, which is what most are; None of anything else."""
        try:
            names = [self._names[kind] for kind, _ in items if type(kind) is str]
            texts = payload_texts([payload for _, payload in items], self._encode)
        except (KeyError, TypeError, ValueError, RecursionError):
            self._encode = payload_encoder()
            return None
        if len(names) < len(items) or not all(type(item) is tuple for item in items):
            return None
        return Batch(names, texts, [None] * len(items))

    def _one_by_one(self, items: list[Any]) -> Batch:
        batch = Batch()
        for position, item in enumerate(items, start=self._read):
            try:
                self._add(batch, item)
            except InvalidArgument as error:
                raise InvalidArgument(f"jobs[{position}]: {error}") from None
        return batch

    def _add(self, batch: Batch, item: object) -> None:
        if isinstance(item, NewJob):
            batch.add((item.queue, item.kind), payload_text(item.payload, self._encode), item)
            return
        if not isinstance(item, tuple) or len(item) != 2:
            raise InvalidArgument(f"{item!r:.80} is neither a NewJob nor a pair (kind, payload)")
        kind, payload = item
        name = self._names.get(kind) if isinstance(kind, str) else None
        if name is None:
            name = self._names[kind] = (DEFAULT_QUEUE, checked_text("kind", kind))
        batch.add(name, payload_text(payload, self._encode), None)


class CopyStream:
    """The rows of plain jobs for COPY, made while they are sent, as long as the ids suffice."""

    def __init__(self, reader: Reader, lanes: dict[Lane, int], numbers: list[str]) -> None:
        self._reader = reader
        self._lanes = lanes
        self._numbers = numbers
        self._trace = "" if reader.trace is None else f"{reader.trace}\t"
        self._used = 0
        self._ready: list[str] = []

    def __iter__(self) -> Iterator[bytes]:
        """Write the bodies, batch by batch; stops before one that cannot go this way."""
        while (batch := self._reader.next) is not None and self._can_take(batch):
            yield self._bodies(batch)
            self._reader.advance()

    def _can_take(self, batch: Batch) -> bool:
        fits = self._used + len(batch.names) <= len(self._numbers)
        return fits and batch.is_plain and all(name in self._lanes for name in set(batch.names))

    def _bodies(self, batch: Batch) -> bytes:
        numbers = self._numbers[self._used : self._used + len(batch.names)]
        self._used += len(numbers)
        if any(batch.given):
            heads, rows = self._of_any(batch, numbers)
        else:
            heads, rows = self._of_pairs(batch, numbers)
        self._ready += heads
        # The only backslashes are JSON's and a trace's, whose texts hold no tab and no line end as such.
        return ("\n".join(rows) + "\n").replace("\\", "\\\\").encode("ascii")

    def _of_pairs(self, batch: Batch, numbers: list[str]) -> tuple[list[str], list[str]]:
        """Put together texts that are there already: what most jobs are costs a third of what any job costs."""
        default = NewJob("default")
        tails = {name: f"\t{lane}\t{default.priority}" for name, lane in self._lanes.items()}
        heads = [number + tails[name] for number, name in zip(numbers, batch.names, strict=True)]
        middle = f"\t{default.max_attempts}\t{self._trace}"
        return heads, [head + middle + payload for head, payload in zip(heads, batch.payloads, strict=True)]

    def _of_any(self, batch: Batch, numbers: list[str]) -> tuple[list[str], list[str]]:
        default, lanes = NewJob("default"), self._lanes
        jobs = [default if job is None else job for job in batch.given]
        columns = zip(numbers, batch.names, jobs, strict=True)
        heads = [f"{number}\t{lanes[name]}\t{job.priority}" for number, name, job in columns]
        rows = zip(heads, jobs, batch.payloads, strict=True)
        return heads, [f"{head}\t{job.max_attempts}\t{self._trace}{payload}" for head, job, payload in rows]

    def ready(self) -> Iterator[bytes]:
        """Write who may be taken: what was sent before."""
        yield ("\n".join(self._ready) + "\n").encode("ascii")

    def ids(self) -> list[int]:
        """Give the ids of what was sent, in order."""
        return list(map(int, self._numbers[: self._used]))


class JobBatches:
    """Makes the talks that store many jobs of one fleet."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._prefix = jobs.prefix

    def enqueue(self, reader: Reader) -> Talk[list[int]]:
        """Store the jobs in the transaction in which the talk goes on, by COPY where that is possible."""
        ids: list[int] = []
        lanes: dict[Lane, int] = {}
        while (batch := reader.next) is not None:
            yield from self._learn_lanes(lanes, batch)
            if batch.is_plain:
                ids += yield from self._copy(reader, lanes, len(batch.names))
            else:
                ids += yield from self._store(batch, lanes, reader.trace)
                reader.advance()
        yield statement("wake_workers", self._prefix)
        return ids

    def enqueue_without_copy(self, reader: Reader) -> Talk[list[int]]:
        """Do the same by plain statements alone: for a connection in pipeline mode, which cannot COPY."""
        ids: list[int] = []
        lanes: dict[Lane, int] = {}
        while (batch := reader.next) is not None:
            yield from self._learn_lanes(lanes, batch)
            ids += yield from self._store(batch, lanes, reader.trace)
            reader.advance()
        return ids

    def _learn_lanes(self, lanes: dict[Lane, int], batch: Batch) -> Talk[None]:
        for name in sorted(set(batch.names)):
            if name not in lanes:
                lanes[name] = yield from self._jobs.lane(*name)

    def _copy(self, reader: Reader, lanes: dict[Lane, int], first: int) -> Talk[list[int]]:
        wanted = max(first, min(MOST_IN_A_COPY, reader.expected)) if first == BATCH else first
        rows = yield statement("draw_job_numbers", self._prefix, wanted)
        stream = CopyStream(reader, lanes, rows[0][0].split(","))
        bodies = "copy_job_bodies" if reader.trace is None else "copy_traced_bodies"
        yield Copy(load_sql("statements", bodies, self._prefix), stream)
        yield Copy(load_sql("statements", "copy_ready_jobs", self._prefix), stream.ready())
        return stream.ids()

    def _store(self, batch: Batch, lanes: dict[Lane, int], trace: str | None) -> Talk[list[int]]:
        rows = yield self._enqueue_many(batch, lanes, trace)
        return [int(row[0]) for row in rows]

    def _enqueue_many(self, batch: Batch, lanes: dict[Lane, int], trace: str | None) -> Statement:
        default = NewJob("default")
        jobs = [default if job is None else job for job in batch.given]
        return statement(
            "enqueue_many",
            self._prefix,
            int_array(lanes[name] for name in batch.names),
            int_array(job.priority for job in jobs),
            int_array(job.max_attempts for job in jobs),
            text_array([instant(job.run_at) for job in jobs]),
            [delay_sec(job.run_at) for job in jobs],
            text_array([job.job_id for job in jobs]),
            text_array([job.affinity for job in jobs]),
            text_array([job.limit_key for job in jobs]),
            text_array(batch.payloads),
            None if trace is None else text_array([trace] * len(jobs)),
        )
