"""`jobsync locks`: which tasks are pinned to which nodes.

Exit status: 0 done or shown, 1 nothing matched, 2 asked wrongly or the database could not be asked.
"""

from importlib import import_module
from typing import Annotated

import typer

from jobsync.cli.options import Appname, AsJson, Dsn
from jobsync.cli.output import say
from jobsync.cli.shared import NOTHING, agreed, asked, console, count, say_json, seconds_of, who_asks
from jobsync.core.errors import InvalidArgument

locks = typer.Typer(help="List, add and clear locks: tasks pinned to nodes.", no_args_is_help=True)


@locks.command("list")
def list_locks(
    *,
    like: Annotated[str | None, typer.Option(help="Only tasks that contain this text.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many to people.")] = 100,
    dsn: Dsn = None,
    appname: Appname = None,
    as_json: AsJson = False,
) -> None:
    """List locks in the order of registration, each with the pattern that decides now. Exit status 1 if none."""
    with asked(dsn, appname) as cluster:
        found = cluster.locks(like)
    if as_json:
        say_json(found)
    elif found:
        import_module("jobsync.cli.fleet_view").show_locks(console(), found, limit)
    else:
        say("no locks" if like is None else f"no lock on a task that contains {like!r:.80}", err=True)
    raise typer.Exit(0 if found else NOTHING)


@locks.command()
def add(
    *,
    task: Annotated[str, typer.Argument(metavar="TASK", help="The task's id.")],
    patterns: Annotated[
        list[str], typer.Argument(metavar="PATTERN...", help="Names of nodes as in SQL's LIKE, the best first.")
    ],
    reason: Annotated[str | None, typer.Option(help="Why, for others to read.")] = None,
    expires_in: Annotated[str | None, typer.Option(metavar="TIME", help="2h, 7d. [default: never]")] = None,
    dsn: Dsn = None,
    appname: Appname = None,
    as_json: AsJson = False,
) -> None:
    """Pin a task to nodes: the first pattern that matches a live node decides. Replaces an earlier lock of the task."""
    days = None if expires_in is None else seconds_of(expires_in) / 86_400
    with asked(dsn, appname) as cluster:
        cluster.add_lock(task, patterns, reason=reason, expires_in_days=days, by=who_asks())
    if as_json:
        say_json({"task_id": task, "node_patterns": patterns, "created_by": who_asks()})
    else:
        say(f"task {task!r} is locked to {', '.join(map(repr, patterns))}")


@locks.command()
def clear(
    *,
    task: Annotated[str | None, typer.Argument(metavar="[TASK]", help="The task whose lock goes.")] = None,
    creator: Annotated[str | None, typer.Option(help="All locks that this node or person registered.")] = None,
    all_of_them: Annotated[bool, typer.Option("--all", help="All locks of the fleet.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dsn: Dsn = None,
    appname: Appname = None,
    as_json: AsJson = False,
) -> None:
    """Remove the lock of a task, of a creator, or all. Exit status 1 if there was none."""
    if (task is not None) + (creator is not None) + all_of_them != 1:
        raise InvalidArgument("name one task, or give --creator NAME, or --all")
    if all_of_them and not yes and not agreed("clear every lock of the fleet", {"cleared": 0} if as_json else None):
        raise typer.Exit(NOTHING)
    with asked(dsn, appname) as cluster:
        cleared = int(cluster.clear_lock(task)) if task is not None else cluster.clear_locks(creator)
    if as_json:
        say_json({"cleared": cleared})
    else:
        say(f"{count(cleared, 'lock')} cleared" if cleared else "there was no such lock", err=not cleared)
    raise typer.Exit(0 if cleared else NOTHING)
