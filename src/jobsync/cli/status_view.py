"""`jobsync status`, for people. Without Rich, which takes longer to load than the fleet to be asked."""

from jobsync.api.fleet_status import ClusterStatus, NodeStatus, Rebalance
from jobsync.cli.plain import Column, Paper, Styled
from jobsync.cli.shared import at, count, shown

NODES = (
    Column("node", folds=True),
    Column("state"),
    Column("tokens", right=True),
    Column("share", right=True),
    Column("beat", right=True),
    Column("process", folds=True),
    Column("since"),
)
REBALANCES = (
    Column("rebalance"),
    Column("reason", folds=True),
    Column("by", folds=True),
    Column("nodes"),
    Column("moved", right=True),
    Column("took", right=True),
)


def show_status(paper: Paper, status: ClusterStatus) -> None:
    """Write the cluster's line, its nodes and its latest rebalances."""
    paper.line(*summary(status))
    paper.line((f"{status.where}, tables {status.appname}*", "dim"))
    if status.nodes:
        paper.line()
        paper.table(NODES, [(_node(node, status), "" if node.is_live else "dim") for node in status.nodes])
    if status.rebalances:
        paper.line()
        paper.table(REBALANCES, [(_rebalance(row, status), "") for row in status.rebalances])


def summary(status: ClusterStatus) -> list[Styled]:
    """Say in one line how the fleet is."""
    word: Styled = ("healthy", "bold green") if status.is_healthy else ("not healthy", "bold red")
    if status.total_tokens is None:
        return [word, (": no node has ever joined", "")]
    held = f"{status.tokens_live:,} of {status.total_tokens:,} tokens held by {count(status.live_nodes, 'live node')}"
    if status.live_tokenless:
        held += f", {status.live_tokenless:,} more take{'s' if status.live_tokenless == 1 else ''} none"
    line = [word, (f": {held}, plan {status.plan_version}", "")]
    if status.locks:
        line.append((f", {count(status.locks, 'lock')}", ""))
    if status.frozen:
        frozen = next(each for each in status.steering if each.verb == "freeze")
        until = at(frozen.ends_at) if frozen.ends_at else "`jobsync resume`"
        line.append((f"; frozen by {shown(frozen.asked_by)} until {until}", "yellow"))
    if status.quarantined:
        text = "; in quarantine after a fail-over: nothing is granted until a whole lease has passed"
        line.append((text, "yellow"))
    return line


def _node(node: NodeStatus, status: ClusterStatus) -> list[str | Styled]:
    holds = node.takes_tokens or node.tokens
    return [
        shown(node.name),
        state_of(node),
        f"{node.tokens:,}" if holds else "none",
        f"{node.share:.1%}" if holds else "",
        f"{span(node.heartbeat_age_sec)} ago",
        f"{shown(node.host, nobody='?')}:{node.pid or '?'}",
        span((status.read_at - node.created_on).total_seconds()),
    ]


def state_of(node: NodeStatus) -> Styled:
    """Say how a node is, and what is asked of it, in a few words, and how they are to look."""
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
    return ", ".join(words), style


def _rebalance(row: Rebalance, status: ClusterStatus) -> list[str | Styled]:
    return [
        f"{span((status.read_at - row.triggered_at).total_seconds())} ago",
        shown(row.reason),
        shown(row.leader),
        f"{row.nodes_before} to {row.nodes_after}",
        f"{row.tokens_moved:,}",
        f"{row.duration_ms} ms",
    ]


def span(seconds: float) -> str:
    """Write a duration in its largest sensible unit."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.1f} s"
