"""`jobsync jobs`, for people and for programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from jobsync import ActiveLease, AttemptError, StoredJob, UnknownKind
from jobsync.cli.shared import as_plain, inert, shown
from jobsync.cli.status_view import span

STATUS_STYLES = {
    "pending": "",
    "processing": "bold",
    "retry": "yellow",
    "done": "green",
    "failed": "bold red",
    "cancelled": "dim",
}
ERROR_CHARACTERS = 60
VALUE_CHARACTERS = 4000


def job_as_dict(job: StoredJob | ActiveLease) -> dict[str, Any]:
    """Give it as JSON takes it; times are ISO 8601 texts."""
    plain: dict[str, Any] = as_plain(asdict(job))
    return plain


def timeline_as_dict(job: StoredJob, errors: Sequence[AttemptError]) -> dict[str, Any]:
    """Give a job with its attempts that failed or crashed, the oldest first."""
    return {**job_as_dict(job), "errors": [as_plain(asdict(error)) for error in errors]}


def counts_as_dict(counts: Mapping[str, int], paused: Sequence[str], unknown: Sequence[UnknownKind]) -> dict[str, Any]:
    """Give the counts, and what keeps jobs waiting."""
    return {**counts, "paused": list(paused), "unknown_kinds": [asdict(each) for each in unknown]}


# --- for people ----------------------------------------------------------------------------------


def show_jobs(console: Console, found: Sequence[StoredJob], counts: Mapping[str, int]) -> None:
    """Write a table of jobs, and how many there are of each status."""
    table = _table()
    table.add_column("id", justify="right", no_wrap=True)
    table.add_column("kind", overflow="fold")
    table.add_column("status", no_wrap=True)
    table.add_column("tries", justify="right", no_wrap=True)
    table.add_column("enqueued", no_wrap=True)
    table.add_column("", no_wrap=True, overflow="ellipsis")
    with_queues = {job.queue for job in found} != {"default"}
    for job in found:
        kind = f"{job.queue}: {job.kind}" if with_queues else job.kind
        table.add_row(
            str(job.id), Text(shown(kind)), _status(job.status), _attempts(job), _short(job.created_at), _detail(job)
        )
    console.print(table)
    console.print()
    console.print(_counted(counts), soft_wrap=True)


def show_timeline(console: Console, job: StoredJob, errors: Sequence[AttemptError]) -> None:
    """Write all that is known of one job, in the order in which it happened."""
    named = f" {job.job_id!r}" if job.job_id is not None else ""
    console.print(
        Text.assemble((f"job {job.id}{named}", "bold"), f"  {shown(job.kind)}  ", _status(job.status)), soft_wrap=True
    )
    console.print(Padding(_facts(job), (1, 0, 1, 0)))
    for at, line, more in _events(job, errors):
        console.print(Text.assemble((_instant(at), "dim"), "  ", line), soft_wrap=True)
        if more:
            console.print(Padding(Text(inert(more.rstrip()), style="dim"), (0, 0, 0, 22)), soft_wrap=True)
    if job.status == "done":
        console.print()
        console.print(Text.assemble(("result  ", "dim"), _value(job.result)), soft_wrap=True)


def show_counts(
    console: Console, counts: Mapping[str, int], paused: Sequence[str], unknown: Sequence[UnknownKind]
) -> None:
    """Write a line a status, and what keeps jobs waiting."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right")
    table.add_column()
    for status, count in counts.items():
        table.add_row(f"{count:,}", _status(status) if count else Text(status, style="dim"))
    console.print(table)
    for queue in paused:
        line = f"queue {queue!r} is paused: `jobsync jobs resume {shown(queue)}`"
        console.print(Text(line, style="yellow"), soft_wrap=True)
    for each in unknown:
        waiting = f"{each.waiting:,} {'job waits' if each.waiting == 1 else 'jobs wait'}"
        line = f"no live worker knows kind {each.kind!r} in queue {each.queue!r}: {waiting} for one"
        console.print(Text(line, style="yellow"), soft_wrap=True)


def _events(job: StoredJob, errors: Sequence[AttemptError]) -> list[tuple[datetime, Text, str]]:
    """List what happened to a job, and last how it is: instant, sentence, and what belongs below it."""
    found: list[tuple[datetime, Text, str]] = [(job.created_at, Text("enqueued"), "")]
    for error in errors:
        found += _taken(error.attempts, error.worker_id, error.taken_at)
        found.append((error.at, Text.assemble(_attempt_line(error), _after(error.taken_at, error.at)), error.error))
    if job.attempt not in {error.attempt for error in errors}:
        found += _taken(job.attempts, job.taken_by, job.taken_at)
    match job.status:
        case "processing":
            until = _instant(job.locked_until) if job.locked_until else "?"
            progress = f", {job.progress} %" if job.progress else ""
            message = f": {shown(job.progress_message)}" if job.progress_message else ""
            line = Text(
                f"attempt {job.attempts} is with {shown(job.locked_by)}, lease until {until}{progress}{message}", "bold"
            )
            found.append((job.updated_at, line, ""))
        case "pending" | "retry":
            found.append((job.run_at, Text(f"due for attempt {job.attempts + 1} of {job.max_attempts}"), ""))
        case _:
            at = job.finished_at or job.updated_at
            found.append((at, Text.assemble(_status(job.status), _after(job.taken_at, at)), ""))
    return found


def _taken(attempts: int, worker: str | None, at: datetime | None) -> list[tuple[datetime, Text, str]]:
    return [] if at is None else [(at, Text(f"attempt {attempts} taken by {shown(worker)}"), "")]


def _after(taken_at: datetime | None, ended_at: datetime) -> str:
    return "" if taken_at is None else f", {span((ended_at - taken_at).total_seconds())} after it was taken"


def _attempt_line(error: AttemptError) -> Text:
    if not error.attempts:
        return Text.assemble(("failed", "red"), f" by hand: {shown(error.worker_id)} said so in SQL")
    word = ("crashed", "bold red") if error.crashed else ("failed", "red")
    return Text.assemble(f"attempt {error.attempts} ", word, f" on {shown(error.worker_id)}")


def _facts(job: StoredJob) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    rows = {
        "queue": job.queue,
        "priority": str(job.priority) if job.priority else None,
        "attempts": f"{job.attempts} of {job.max_attempts}, {job.crashes} of them crashed",
        "progress": f"{job.progress} %{f', {job.progress_message}' if job.progress_message else ''}",
        "affinity": job.affinity,
        "limit key": job.limit_key,
        "attempt no.": str(job.attempt) if job.attempt is not None else None,
        "payload": _value(job.payload),
    }
    for name, value in rows.items():
        if value is not None:
            table.add_row(name, Text(inert(value)))
    return table


def _detail(job: StoredJob) -> Text:
    match job.status:
        case "processing":
            progress = f" {job.progress} %" if job.progress else ""
            message = shown(job.progress_message, nobody="")
            return Text(f"with {shown(job.locked_by)}{progress} {message}".rstrip())
        case "failed" | "retry":
            last = (job.last_error or "").strip().splitlines()
            return Text(shown(last[-1]) if last else "", style="red" if job.status == "failed" else "")
        case "pending":
            return Text(f"due {_short(job.run_at)}" if job.run_at > job.created_at else "", style="dim")
        case _:
            return Text(f"after {span((job.finished_at - job.created_at).total_seconds())}" if job.finished_at else "")


def _status(status: str) -> Text:
    return Text(status, style=STATUS_STYLES.get(status, ""))


def _attempts(job: StoredJob) -> str:
    return f"{job.attempts}/{job.max_attempts}" if job.attempts else "-"


def _short(at: datetime) -> str:
    return at.astimezone().strftime("%m-%d %H:%M:%S")


def _counted(counts: Mapping[str, int]) -> Text:
    return Text(", ".join(f"{count:,} {status}" for status, count in counts.items() if count), style="dim")


def _instant(at: datetime) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _value(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return inert(text if len(text) <= VALUE_CHARACTERS else f"{text[:VALUE_CHARACTERS]}... ({len(text):,} characters)")


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
