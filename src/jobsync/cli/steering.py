"""`jobsync cordon`, `drain`, `freeze`, `resume`: what people ask of nodes and of the fleet."""

import threading
from typing import TYPE_CHECKING, Annotated

import typer

from jobsync.api.clock import boot_sec
from jobsync.cli.options import Appname, AsJson, Dsn
from jobsync.cli.output import say
from jobsync.cli.shared import NOTHING, asked, at, count, say_json, seconds_of, shown, who_asks
from jobsync.core.errors import InvalidArgument

if TYPE_CHECKING:
    from jobsync.api.cluster import Cluster

LOOK_EVERY_SEC = 0.1

Node = Annotated[str, typer.Argument(metavar="NODE", help="The node's name.")]
Reason = Annotated[str | None, typer.Option(help="Why, for others to read.")]
ForTime = Annotated[
    str | None, typer.Option("--for", metavar="TIME", help="End by itself after so long: 90s, 10m, 2h.")
]


def cordon(
    *, node: Node, reason: Reason = None, dsn: Dsn = None, appname: Appname = None, as_json: AsJson = False
) -> None:
    """Give a node no new tokens and no new jobs; it keeps what it has. `jobsync resume NODE` ends it.

    Recorded with who asked and when. It holds for the name, also after a restart. Exit status 1 if it was cordoned
    already.
    """
    with asked(dsn, appname) as cluster:
        done = cluster.cordon(node, reason=reason, by=who_asks())
    _tell(
        "cordon",
        node,
        f"node {node!r} is cordoned: it gets no new tokens or jobs until `jobsync resume {shown(node)}`",
        f"node {node!r} was cordoned already",
        done=done,
        as_json=as_json,
    )


def drain(
    *,
    node: Node,
    for_time: ForTime = None,
    reason: Reason = None,
    wait: Annotated[
        str | None, typer.Option(metavar="TIME", help="Wait until it holds nothing, at most so long: 30s, 5m.")
    ] = None,
    dsn: Dsn = None,
    appname: Appname = None,
    as_json: AsJson = False,
) -> None:
    """Cordon a node, and have it hand over all it has; its process goes on. `jobsync resume NODE` ends it.

    Tokens go to the others, handlers that run finish, jobs that have not begun go back. Where no other node may take
    its tokens it keeps them until one may. Exit status 1 if it was drained already, or, with --wait, if it still holds
    something when the time is over.
    """
    wait_sec = None if wait is None else seconds_of(wait)
    for_sec = None if for_time is None else seconds_of(for_time)
    with asked(dsn, appname) as cluster:
        done = cluster.drain(node, for_sec, reason=reason, by=who_asks())
        if wait_sec is not None:
            _await_empty(cluster, node, wait_sec, as_json=as_json)
            return
    until = "until" if for_sec is None else f"for {for_time}, or until"
    _tell(
        "drain",
        node,
        f"node {node!r} is drained: it hands all over, and gets nothing {until} `jobsync resume {shown(node)}`",
        f"node {node!r} was drained already",
        done=done,
        as_json=as_json,
    )


def freeze(
    *,
    for_time: ForTime = None,
    reason: Reason = None,
    dsn: Dsn = None,
    appname: Appname = None,
    as_json: AsJson = False,
) -> None:
    """Let joins, leaves and lock changes move no tokens; the certainly dead are still taken over.

    A node that leaves finds its place again when it is back under its name. `jobsync resume` ends it. Exit status 1 if
    the fleet was frozen already, without an end.
    """
    for_sec = None if for_time is None else seconds_of(for_time)
    with asked(dsn, appname) as cluster:
        done = cluster.freeze(for_sec, reason=reason, by=who_asks())
        ends_at = next((each.ends_at for each in cluster.steering() if each.verb == "freeze"), None)
    until = f"until {at(ends_at)} or `jobsync resume`" if ends_at else "until `jobsync resume`"
    text = f"the fleet is frozen {until}: joins and leaves move nothing"
    _tell("freeze", None, text, "the fleet was frozen already", done=done, as_json=as_json)


def resume(
    *,
    node: Annotated[str | None, typer.Argument(metavar="[NODE]", help="Without it: the freeze.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Whatever was asked, of any node and the fleet.")] = False,
    dsn: Dsn = None,
    appname: Appname = None,
    as_json: AsJson = False,
) -> None:
    """End what was asked of a node; without a name, the freeze. Exit status 1 if there was nothing to end."""
    if node == "":
        raise InvalidArgument("the name of the node is empty: leave it out to end the freeze")
    with asked(dsn, appname) as cluster:
        ended = cluster.resume(node, everything=everything, by=who_asks())
    if as_json:
        say_json({"ended": ended})
    for each in [] if as_json else ended:
        whom = "the fleet" if each.node is None else f"node {shown(each.node)!r}"
        say(f"{whom} takes part again: {each.verb} of {at(each.asked_at)} by {shown(each.asked_by)} has ended")
    if not ended:
        whom = "anything" if everything else "the fleet to freeze" if node is None else f"anything of node {node!r}"
        if not as_json:
            say(f"nobody had asked {whom}: nothing to end", err=True)
        raise typer.Exit(NOTHING)


def _tell(verb: str, node: str | None, text: str, refusal: str, *, done: bool, as_json: bool) -> None:
    if as_json:
        say_json({"verb": verb, "node": node, "changed": done})
    else:
        say(text if done else refusal, err=not done)
    if not done:
        raise typer.Exit(NOTHING)


def _await_empty(cluster: "Cluster", node: str, wait_sec: float, *, as_json: bool) -> None:
    """Look again and again until the node holds nothing, or the time is over: looks take time, too."""
    pause = threading.Event()
    give_up_sec = boot_sec() + wait_sec
    load = cluster.load_of(node)
    while (load.tokens or load.jobs) and boot_sec() < give_up_sec:
        pause.wait(LOOK_EVERY_SEC)
        load = cluster.load_of(node)
    empty = not load.tokens and not load.jobs
    if as_json:
        say_json({"verb": "drain", "node": node, "empty": empty, "tokens": load.tokens, "jobs": load.jobs})
    elif empty:
        say(f"node {node!r} is drained and holds nothing: it may be stopped")
    else:
        left = f"{count(load.tokens, 'token')} and {count(load.jobs, 'job')}"
        say(f"node {node!r} still holds {left} after {wait_sec:g} s; see `jobsync doctor`", err=True)
    if not empty:
        raise typer.Exit(NOTHING)
