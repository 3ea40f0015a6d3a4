"""`jobsync jobs`: look at the queue, and help single jobs or many, without a worker.

Exit status: 0 done or shown, 1 nothing matched, 2 asked wrongly or the database could not be asked. Where nothing
matched, `--json` prints that, and stderr has no word of it: an empty list, null, `{"done": false}` or `{"done": 0}`.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from jobsync.cli.given import config_of
from jobsync.cli.options import Appname, AsJson, Dsn
from jobsync.cli.output import say
from jobsync.cli.shared import NOTHING, agreed, say_json, shown, who_asks
from jobsync.cli.shared import console as _console
from jobsync.core.errors import InvalidArgument
from jobsync.core.queue.stored import UNFINISHED, StoredJob

if TYPE_CHECKING:
    from jobsync import JobQueue

PAGE = 500
NOT_DONE: Final = {"done": False}


class Status(StrEnum):
    """The statuses of a job, as options take them."""

    PENDING = "pending"
    PROCESSING = "processing"
    RETRY = "retry"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


Kind = Annotated[str | None, typer.Option(help="Only jobs of this kind.")]
Queue = Annotated[str | None, typer.Option(help="Only jobs of this queue.")]
All = Annotated[bool, typer.Option("--all", help="All that match the filters, instead of one.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
OneJob = Annotated[str | None, typer.Argument(metavar="[ID]", help="The job's number, or its job_id.")]
QueueName = Annotated[str, typer.Argument(metavar="[QUEUE]", help="The queue's name.")]


jobs = typer.Typer(help="Look at the queue's jobs, retry and cancel them.", no_args_is_help=True)


def _view() -> Any:
    return import_module("jobsync.cli.jobs_view")


@contextmanager
def _queue(dsn: str | None, appname: str | None) -> "Iterator[JobQueue]":
    from jobsync.api.standing_queue import StandingQueue  # noqa: PLC0415 - other commands need not wait for it

    with StandingQueue(config_of({"dsn": dsn, "appname": appname})) as queue:
        yield queue


@jobs.command("list")
def list_jobs(
    *,
    status: Annotated[Status | None, typer.Option(help="Only jobs in this status.")] = None,
    kind: Kind = None,
    queue: Queue = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the newest first.")] = 20,
    dsn: Dsn = None,
    appname: Appname = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, the newest first. Exit status 1 if none matches."""
    with _queue(dsn, appname) as asked:
        found = asked.list_jobs(status=_text(status), kind=kind, queue=queue, limit=limit)
        counts = {} if as_json else asked.counts(queue=queue)
    if as_json:
        say(json.dumps([_view().job_as_dict(job) for job in found], indent=2))
    elif found:
        _view().show_jobs(_console(), found, counts)
    else:
        say(f"no jobs{_of(_text(status), kind, queue)}", err=True)
    raise typer.Exit(0 if found else NOTHING)


@jobs.command()
def show(
    *,
    job: Annotated[str, typer.Argument(metavar="ID", help="The job's number, or its job_id.")],
    dsn: Dsn = None,
    appname: Appname = None,
    as_json: AsJson = False,
) -> None:
    """Show one job with its whole timeline: attempts, errors with tracebacks, progress, result.

    Exit status 1 if there is none; `--json` then prints null.
    """
    with _queue(dsn, appname) as asked:
        found = _one(asked, job, as_json=as_json, nothing=None)
        errors = asked.errors(found.id)
    if as_json:
        say(json.dumps(_view().timeline_as_dict(found, errors), indent=2))
    else:
        _view().show_timeline(_console(), found, errors)


@jobs.command()
def retry(  # noqa: PLR0913 - one parameter an option
    *,
    job: OneJob = None,
    all_of_them: All = False,
    status: Annotated[Status | None, typer.Option(help="With --all: jobs that ended so. [default: failed]")] = None,
    kind: Kind = None,
    queue: Queue = None,
    yes: Yes = False,
    dsn: Dsn = None,
    appname: Appname = None,
    as_json: AsJson = False,
) -> None:
    """Run ended jobs again from their first attempt; or at once, one that waits for its next."""
    _check_scope(job, status, kind, queue, all_of_them=all_of_them)
    with _queue(dsn, appname) as asked:
        if job is not None:
            found = _one(asked, job, as_json=as_json)
            text = f"job {found.id} will run again"
            _tell_one(text, _not_retried(found), done=asked.retry(found.id), as_json=as_json)
        else:
            ended = _text(status) or "failed"
            which = Which(kind, queue, (ended,))
            act = partial(asked.retry_all, kind=kind, queue=queue, status=ended)
            _many(asked, "retry", which, act, yes=yes, as_json=as_json)


@jobs.command()
def cancel(  # noqa: PLR0913 - one parameter an option
    *,
    job: OneJob = None,
    all_of_them: All = False,
    status: Annotated[Status | None, typer.Option(help="With --all. [default: whatever has not ended]")] = None,
    kind: Kind = None,
    queue: Queue = None,
    yes: Yes = False,
    dsn: Dsn = None,
    appname: Appname = None,
    as_json: AsJson = False,
) -> None:
    """Cancel jobs that wait or run; the handler of a running one is told, and its result refused."""
    _check_scope(job, status, kind, queue, all_of_them=all_of_them)
    with _queue(dsn, appname) as asked:
        if job is not None:
            found = _one(asked, job, as_json=as_json)
            refusal = f"job {found.id} is {found.status} already: nothing to cancel"
            _tell_one(f"job {found.id} is cancelled", refusal, done=asked.cancel(found.id), as_json=as_json)
        else:
            one = _text(status)
            which = Which(kind, queue, UNFINISHED if one is None else (one,))
            act = partial(asked.cancel_all, kind=kind, queue=queue, status=one)
            _many(asked, "cancel", which, act, yes=yes, as_json=as_json)


@jobs.command()
def counts(*, queue: Queue = None, dsn: Dsn = None, appname: Appname = None, as_json: AsJson = False) -> None:
    """Count the jobs by status; and name what keeps jobs waiting: paused queues, kinds that no worker knows."""
    with _queue(dsn, appname) as asked:
        found, paused, unknown = asked.counts(queue=queue), asked.paused(), asked.unknown_kinds()
    if as_json:
        say(json.dumps(_view().counts_as_dict(found, paused, unknown), indent=2))
    else:
        _view().show_counts(_console(), found, paused, unknown)


@jobs.command()
def pause(*, queue: QueueName = "default", dsn: Dsn = None, appname: Appname = None, as_json: AsJson = False) -> None:
    """Take no more jobs from a queue; those that run go on. Enqueueing goes on, too."""
    with _queue(dsn, appname) as asked:
        asked.pause(queue, by=who_asks())
    text = f"queue {queue!r} is paused; `jobsync jobs resume {shown(queue)}` lets it run again"
    _tell_one(text, "", done=True, as_json=as_json)


@jobs.command()
def resume(*, queue: QueueName = "default", dsn: Dsn = None, appname: Appname = None, as_json: AsJson = False) -> None:
    """Take jobs from a queue again. Exit status 1 if it was not paused."""
    with _queue(dsn, appname) as asked:
        done = asked.resume(queue)
    _tell_one(f"queue {queue!r} runs again", f"queue {queue!r} was not paused", done=done, as_json=as_json)


# --- what several commands share -----------------------------------------------------------------


def _one(queue: "JobQueue", named: str, *, as_json: bool, nothing: Mapping[str, bool] | None = NOT_DONE) -> StoredJob:
    """Find a job by its number; else by its job_id. Where there is none, end the command, with JSON printing that."""
    found = queue.get(int(named)) if named.isdecimal() and len(named) < 19 else None
    found = found or queue.get_by_job_id(named)
    if found is None:
        if as_json:
            say_json(nothing)
        else:
            say(f"jobsync: there is no job {named!r}: it was pruned, or is in another database or appname", err=True)
        raise typer.Exit(NOTHING)
    return found


@dataclass(frozen=True, slots=True)
class Which:
    """The jobs that a command is to act on."""

    kind: str | None
    queue: str | None
    statuses: tuple[str, ...]

    def __str__(self) -> str:
        return f"{'/'.join(self.statuses)} jobs{_of(None, self.kind, self.queue)}"


def _check_scope(
    job: str | None, status: str | None, kind: str | None, queue: str | None, *, all_of_them: bool
) -> None:
    if (job is None) != all_of_them:
        raise InvalidArgument("name one job by its number or job_id, or give --all with --status, --kind or --queue")
    if job is not None and (status or kind or queue):
        raise InvalidArgument("filters go with --all: one job is named by its number or job_id alone")


def _not_retried(job: StoredJob) -> str:
    doing = {"processing": "it runs", "pending": "it waits to be taken"}.get(job.status, f"it is {job.status}")
    return f"job {job.id} was left alone: {doing} already"


def _tell_one(text: str, refusal: str, *, done: bool, as_json: bool) -> None:
    if as_json:
        say_json({"done": done})
    else:
        say(text if done else refusal, err=not done)
    if not done:
        raise typer.Exit(NOTHING)


def _many(queue: "JobQueue", verb: str, which: Which, act: Callable[[], int], *, yes: bool, as_json: bool) -> None:
    """Ask, unless told not to, and do it to all that match."""
    if not yes:
        found = sum(
            len(queue.list_jobs(kind=which.kind, queue=which.queue, status=status, limit=PAGE))
            for status in which.statuses
        )
        what = f"{verb} {found:,}{' or more' if found >= PAGE else ''} {which}"
        if found and not agreed(what, {"done": 0} if as_json else None):
            raise typer.Exit(NOTHING)
    done = act() if yes or found else 0
    word = {"retry": "will run again", "cancel": "cancelled"}[verb]
    if as_json:
        say_json({"done": done})
    else:
        say(f"{done:,} job{'' if done == 1 else 's'} {word}" if done else f"no {which}", err=not done)
    raise typer.Exit(0 if done else NOTHING)


def _text(status: Status | None) -> str | None:
    return None if status is None else status.value


def _of(status: str | None, kind: str | None, queue: str | None) -> str:
    given = {"status": status, "kind": kind, "queue": queue}
    parts = [f"{name} {value!r}" for name, value in given.items() if value]
    return f" of {', '.join(parts)}" if parts else ""
