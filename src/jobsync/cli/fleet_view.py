"""What people see of nodes, tokens, locks, history, an explanation, a plan."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobsync.api.fleet_status import ClusterStatus, Steered
from jobsync.api.fleet_values import DryRun, Explanation, HeldRange, LockStatus, PastRebalance, TokenMove
from jobsync.cli.shared import at, count, shown
from jobsync.cli.status_view import span, state_of

MOVES_SHOWN = 60


def table(*titles: str, right: Sequence[str] = ()) -> Table:
    """Make a plain table; the columns named in `right` hold numbers."""
    made = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for title in titles:
        made.add_column(title, justify="right" if title in right else "left", overflow="fold", no_wrap=title in right)
    return made


def show_nodes(console: Console, status: ClusterStatus) -> None:
    """Write a row a node, and what is asked of them below."""
    rows = table(
        "node", "state", "tokens", "share", "beat", "plan", "process", "env", "since", right=("tokens", "share")
    )
    for node in status.nodes:
        holds = node.takes_tokens or node.tokens
        rows.add_row(
            shown(node.name),
            Text(*state_of(node)),
            f"{node.tokens:,}" if holds else "none",
            f"{node.share:.1%}" if holds else "",
            f"{span(node.heartbeat_age_sec)} ago",
            str(node.version) if node.takes_tokens else "",
            f"{shown(node.host, nobody='?')}:{node.pid or '?'}",
            shown(node.environment, nobody=""),
            at(node.created_on),
            style="" if node.is_live else "dim",
        )
    console.print(rows)
    show_steering(console, status.steering)


def show_steering(console: Console, steering: Sequence[Steered]) -> None:
    """Write a line for each thing that is asked."""
    for each in steering:
        whom = "the fleet" if each.node is None else shown(each.node)
        end = f", until {at(each.ends_at)}" if each.ends_at else ""
        why = f": {shown(each.reason)}" if each.reason else ""
        text = f"{each.verb} {whom}, by {shown(each.asked_by)} at {at(each.asked_at)}{end}{why}"
        console.print(Text(text, style="yellow"), soft_wrap=True)


def show_ranges(console: Console, ranges: Sequence[HeldRange], limit: int) -> None:
    """Write a row a range."""
    rows = table(
        "from", "to", "tokens", "holder", "planned for", "epoch", "since", right=("from", "to", "tokens", "epoch")
    )
    for each in ranges[:limit]:
        rows.add_row(
            f"{each.first}",
            f"{each.end - 1}",
            f"{each.size:,}",
            Text(shown(each.node), style="" if each.node else "red"),
            "" if each.intended == each.node else Text(shown(each.intended), style="yellow"),
            "" if each.epoch is None else str(each.epoch),
            at(each.assigned_at),
        )
    console.print(rows)
    _more(console, len(ranges) - limit, "range")


def show_history(console: Console, history: Sequence[PastRebalance], *, with_moves: bool) -> None:
    """Write a row a rebalance; of a single one its moves as well."""
    titles = ("id", "at", "reason", "by", "nodes", "moved", "planned in", "settled", "uncovered")
    rows = table(*titles, right=("id", "moved", "planned in", "settled", "uncovered"))
    for each in history:
        rows.add_row(
            str(each.id),
            at(each.triggered_at),
            shown(each.reason),
            shown(each.leader),
            f"{each.nodes_before} to {each.nodes_after}",
            f"{each.tokens_moved:,}",
            f"{each.duration_ms:,} ms",
            "" if each.settled_ms is None else f"{each.settled_ms:,} ms",
            "" if each.uncovered_ms is None else f"{each.uncovered_ms:,} ms",
        )
    console.print(rows)
    if with_moves:
        console.print()
        _show_moves(console, history[0].moves)


def _show_moves(console: Console, moves: Sequence[TokenMove]) -> None:
    rows = table("from", "to", "tokens", "which", right=("tokens",))
    for move in moves[:MOVES_SHOWN]:
        some = ", ".join(str(a) if b == a + 1 else f"{a}-{b - 1}" for a, b in move.ranges[:8])
        more = f" and {len(move.ranges) - 8} more ranges" if len(move.ranges) > 8 else ""
        rows.add_row(shown(move.source), shown(move.target), f"{move.tokens:,}", some + more)
    console.print(rows)
    _more(console, len(moves) - MOVES_SHOWN, "move")


def show_locks(console: Console, locks: Sequence[LockStatus], limit: int) -> None:
    """Write a row a lock."""
    rows = table("task", "token", "patterns", "active", "matches", "reason", "by", "expires", right=("token",))
    for lock in locks[:limit]:
        if not lock.decides:
            active = Text("overruled", style="yellow")
        else:
            active = Text("none matches", style="red") if lock.step is None else Text(f"{lock.step}.")
        names = ", ".join(map(shown, lock.matches[:3])) + (" ..." if len(lock.matches) > 3 else "")
        rows.add_row(
            shown(lock.task_id),
            str(lock.token_id),
            ", ".join(map(shown, lock.node_patterns)),
            active,
            names,
            shown(lock.reason, nobody=""),
            shown(lock.created_by, nobody=""),
            at(lock.expires_at),
        )
    console.print(rows)
    _more(console, len(locks) - limit, "lock")


def _more(console: Console, left: int, what: str) -> None:
    if left > 0:
        console.print(Text(f"and {count(left, f'more {what}')}: --limit, or --json for all", style="dim"))


def show_explanation(console: Console, told: Explanation) -> None:
    """Write a line a fact."""
    owner = Text("nobody", style="red")
    if told.owner is not None:
        live = "" if told.owner_is_live else ", which is not live"
        owner = Text(f"{shown(told.owner)}{live}, epoch {told.epoch}, since {at(told.since)}")
    facts: list[tuple[str, Text | str]] = [("task", shown(told.task_id)), ("token", str(told.token)), ("owner", owner)]
    if told.intended != told.owner:
        facts.append(("planned for", Text(f"{shown(told.intended)}: on its way, see jobsync doctor", style="yellow")))
    facts.append(("why", told.rule))
    if told.lock is not None:
        lock = told.lock
        why = f": {shown(lock.reason)}" if lock.reason else ""
        facts.append(("lock", f"by {shown(lock.created_by)} at {at(lock.created_at)}{why}"))
    for number, past in enumerate(told.past):
        why = "" if past.reason is None else f", {shown(past.reason)}"
        gap = "" if past.uncovered_ms is None else f", after {past.uncovered_ms:,} ms without an owner"
        text = f"{at(past.since)}  {shown(past.node)}, epoch {past.epoch}{why}{gap}"
        facts.append(("" if number else "owners", text))
    rows = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    for title, fact in facts:
        rows.add_row(title, fact)
    console.print(rows)


def show_plan(console: Console, found: DryRun) -> None:
    """Write what would move, from whom to whom, and the counts before and after."""
    doings = [f"{shown(name)} left" for name in found.without] + [f"{shown(name)} joined" for name in found.joining]
    share = found.tokens_moved / found.total_tokens
    text = (
        f"if {' and '.join(doings)}: {found.tokens_moved:,} of {found.total_tokens:,} tokens ({share:.1%}) would move"
    )
    console.print(Text(text, style="bold"), soft_wrap=True)
    if found.unplaced:
        text = f"{count(found.unplaced, 'token')} would be nobody's: no node may take them"
        console.print(Text(text, style="red"), soft_wrap=True)
    if found.unmatched_locks:
        some = ", ".join(map(shown, found.unmatched_locks[:5]))
        text = f"{count(len(found.unmatched_locks), 'lock')} would match no live node: {some}"
        console.print(Text(text, style="yellow"), soft_wrap=True)
    console.print()
    rows = table("node", "now", "then", right=("now", "then"))
    for name, (before, after) in found.counts.items():
        rows.add_row(shown(name), f"{before:,}", f"{after:,}")
    console.print(rows)
    if found.moves:
        console.print()
        _show_moves(console, found.moves)
