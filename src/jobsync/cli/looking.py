"""`jobsync nodes`, `tokens`, `history`, `explain`, `plan`: a fleet looked at more closely. Nothing here changes it."""

from importlib import import_module
from typing import Annotated

import typer

from jobsync.cli.options import Appname, AsJson, Dsn
from jobsync.cli.output import say
from jobsync.cli.shared import NOTHING, as_plain, asked, console, say_json
from jobsync.core.errors import InvalidArgument


def nodes(*, dsn: Dsn = None, appname: Appname = None, as_json: AsJson = False) -> None:
    """List the nodes: state, what is asked of them, tokens, heartbeat, process. Exit status 1 if there is none."""
    with asked(dsn, appname) as cluster:
        found = cluster.status(rebalances=0)
    if as_json:
        say_json(found.nodes)
    elif found.nodes:
        import_module("jobsync.cli.fleet_view").show_nodes(console(), found)
    else:
        say("there is no node", err=True)
    raise typer.Exit(0 if found.nodes else NOTHING)


def tokens(
    *,
    node: Annotated[str | None, typer.Option(help="Only what this node holds, or is to hold.")] = None,
    unsettled: Annotated[bool, typer.Option("--unsettled", help="Only what is not where the plan wants it.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many ranges to people.")] = 100,
    dsn: Dsn = None,
    appname: Appname = None,
    as_json: AsJson = False,
) -> None:
    """List who holds which tokens, in ranges, and for whom the plan wants them. Exit status 1 if there is none."""
    with asked(dsn, appname) as cluster:
        found = [
            each
            for each in cluster.ranges()
            if (node is None or node in {each.node, each.intended}) and not (unsettled and each.node == each.intended)
        ]
    if as_json:
        say_json([as_plain(each) | {"size": each.size} for each in found])
    elif found:
        import_module("jobsync.cli.fleet_view").show_ranges(console(), found, limit)
    else:
        say("there are no such tokens", err=True)
    raise typer.Exit(0 if found else NOTHING)


def history(
    *,
    number: Annotated[int | None, typer.Argument(metavar="[ID]", help="One rebalance, with all its moves.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the newest first.")] = 20,
    dsn: Dsn = None,
    appname: Appname = None,
    as_json: AsJson = False,
) -> None:
    """List the rebalances: cause, tokens moved, how long planning took, until all had arrived, and without an owner.

    `uncovered` is the longest that any of the tokens had no owner: from when the old one ceased to believe in it, or
    was last seen alive, until it was granted to the new one. Exit status 1 if there is none.
    """
    with asked(dsn, appname) as cluster:
        found = cluster.history(limit, number=number)
    if as_json:
        say_json(found)
    elif found:
        view = import_module("jobsync.cli.fleet_view")
        view.show_history(console(), found, with_moves=number is not None)
    else:
        say("no rebalance" if number is None else f"no rebalance {number}", err=True)
    raise typer.Exit(0 if found else NOTHING)


def explain(
    *,
    key: Annotated[str, typer.Argument(metavar="KEY", help="A task's id.")],
    dsn: Dsn = None,
    appname: Appname = None,
    as_json: AsJson = False,
) -> None:
    """Tell who has a task and why: token, owner, epoch, the rule and the fallback step that placed it, past owners.

    Exit status 1 if no live node has it.
    """
    with asked(dsn, appname) as cluster:
        found = cluster.explain(key)
    if as_json:
        say_json(found)
    else:
        import_module("jobsync.cli.fleet_view").show_explanation(console(), found)
    raise typer.Exit(0 if found.owner_is_live else NOTHING)


def plan(
    *,
    without: Annotated[list[str] | None, typer.Option(metavar="NODE", help="As if it left; repeatable.")] = None,
    joining: Annotated[list[str] | None, typer.Option("--with", metavar="NODE", help="As if it joined.")] = None,
    dsn: Dsn = None,
    appname: Appname = None,
    as_json: AsJson = False,
) -> None:
    """Tell which tokens would move if nodes left or joined. A dry run, by the leader's own planner: nothing moves."""
    if not without and not joining:
        raise InvalidArgument("name a node that leaves or joins: --without NODE, --with NODE")
    with asked(dsn, appname) as cluster:
        found = cluster.plan(without=tuple(without or ()), joining=tuple(joining or ()))
    if as_json:
        say_json(found)
    else:
        import_module("jobsync.cli.fleet_view").show_plan(console(), found)
