"""`jobsync status`, for people and for programs."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobsync.api.cluster import ClusterStatus, NodeStatus
from jobsync.cli.shared import at, shown


def show_status(console: Console, status: ClusterStatus) -> None:
    """Write the cluster's line, its nodes and its latest rebalances."""
    _print(console, summary(status))
    _print(console, Text(f"{status.where}, tables {status.appname}*", style="dim"))
    if status.nodes:
        console.print()
        console.print(_nodes(status))
    if status.rebalances:
        console.print()
        console.print(_rebalances(status))


def _print(console: Console, line: Text) -> None:
    console.print(line, soft_wrap=True)


def summary(status: ClusterStatus) -> Text:
    """Say in one line how the fleet is."""
    word = ("healthy", "bold green") if status.is_healthy else ("not healthy", "bold red")
    if status.total_tokens is None:
        return Text.assemble(word, ": no node has ever joined")
    held = f"{status.tokens_live:,} of {status.total_tokens:,} tokens held by {_count(status.live_nodes, 'live node')}"
    if status.live_tokenless:
        held += f", {status.live_tokenless:,} more take{'s' if status.live_tokenless == 1 else ''} none"
    line = Text.assemble(word, ": ", held, f", plan {status.plan_version}")
    if status.locks:
        line.append(f", {_count(status.locks, 'lock')}")
    if status.frozen:
        frozen = next(each for each in status.steering if each.verb == "freeze")
        until = at(frozen.ends_at) if frozen.ends_at else "`jobsync resume`"
        line.append(f"; frozen by {shown(frozen.asked_by)} until {until}", "yellow")
    if status.quarantined:
        line.append("; in quarantine after a fail-over: nothing is granted until a whole lease has passed", "yellow")
    return line


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)


def _nodes(status: ClusterStatus) -> Table:
    table = _table()
    table.add_column("node", overflow="fold")
    table.add_column("state", no_wrap=True)
    for title in ("tokens", "share", "beat"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("process", overflow="fold")
    table.add_column("since", no_wrap=True)
    for node in status.nodes:
        table.add_row(
            shown(node.name),
            state_of(node),
            f"{node.tokens:,}" if node.takes_tokens or node.tokens else "none",
            f"{node.share:.1%}" if node.takes_tokens or node.tokens else "",
            f"{span(node.heartbeat_age_sec)} ago",
            f"{shown(node.host, nobody='?')}:{node.pid or '?'}",
            f"{span((status.read_at - node.created_on).total_seconds())}",
            style="" if node.is_live else "dim",
        )
    return table


def state_of(node: NodeStatus) -> Text:
    """Say how a node is, and what is asked of it, in a few words."""
    words = []
    if node.is_leader:
        words.append("leads")
    if node.state != "live" or not (node.is_leader or node.steered):
        words.append(node.state)
    if node.steered == "cordon":
        words.append("cordoned")
    elif node.steered == "drain":
        words.append("draining" if node.tokens else "drained")
    style = "red" if not node.is_live else "yellow" if node.steered else "bold" if node.is_leader else ""
    return Text(", ".join(words), style=style)


def _rebalances(status: ClusterStatus) -> Table:
    table = _table()
    for title in ("rebalance", "reason", "by", "nodes"):
        table.add_column(title, overflow="fold")
    table.add_column("moved", justify="right", no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    for row in status.rebalances:
        table.add_row(
            f"{span((status.read_at - row.triggered_at).total_seconds())} ago",
            shown(row.reason),
            shown(row.leader),
            f"{row.nodes_before} to {row.nodes_after}",
            f"{row.tokens_moved:,}",
            f"{row.duration_ms} ms",
        )
    return table


def span(seconds: float) -> str:
    """Write a duration in its largest sensible unit."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.1f} s"
