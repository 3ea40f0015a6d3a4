"""The picture of `jobsync top`: a function of one look, a width and a height.

The strip is all tokens as one band: above as the plan wants it, below as it is held, so that a hand-over that is stuck
is seen at once. It is drawn from ranges: its cost grows with these, never with the number of tokens.
"""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from jobsync.api.fleet_status import NodeStatus
from jobsync.api.fleet_values import HeldRange
from jobsync.api.moving import Move
from jobsync.cli.demo.view import LOST, TONES
from jobsync.cli.fleet_view import table
from jobsync.cli.shared import count, shown
from jobsync.cli.status_view import span, state_of, summary
from jobsync.cli.top import Look

LABEL = 6
MOVES_SHOWN = 4
NAME_SHOWN = 28


def picture(look: Look | None, error: str | None, width: int, height: int | None) -> RenderableType:
    """Draw; `height` None: everything, however long."""
    lines: list[RenderableType] = []
    if error is not None:
        lines += [_cut(Text(f"the database cannot be asked: {shown(error)}", style=f"bold {LOST}"), width)]
        lines += [Text("trying again; below is what was seen last" if look else "trying again", style="dim")]
    if look is None:
        return Group(*(lines or [Text("looking ...", style="dim")]), _footer())
    tones = {node.name: TONES[place % len(TONES)] for place, node in enumerate(look.status.nodes)}
    lines += [
        _cut(Text.assemble(*summary(look.status)), width),
        _cut(Text(look.status.where, style="dim"), width),
        Text(),
    ]
    lines += [_strip("plan", [each.intended for each in look.ranges], look.ranges, tones, width)]
    lines += [_strip("held", [each.node for each in look.ranges], look.ranges, tones, width)]
    moves = _moves(look, width)
    below = [_queue(look), *_history(look, width)]
    rows = None if height is None else max(1, height - len(lines) - len(moves) - len(below) - 6)
    lines += [*moves, Text(), _nodes(look.status.nodes, tones, rows, width), Text(), *below]
    if height is not None:  # A picture that is printed once has no keys.
        lines.append(_footer())
    return Group(*lines)


def _footer() -> Text:
    return Text("q quits", style="dim")


def _cut(line: Text, width: int) -> Text:
    line.no_wrap, line.overflow = True, "ellipsis"
    line.truncate(width, overflow="ellipsis")
    return line


def cells(names: Sequence[str | None], ranges: Sequence[HeldRange], columns: int) -> list[str | None]:
    """Say for each column of the strip whose tokens most of its part are."""
    total = ranges[-1].end if ranges else 0
    if not total:
        return []
    shares: list[dict[str | None, float]] = [{} for _ in range(columns)]
    for name, each in zip(names, ranges, strict=True):
        first, last = each.first * columns // total, (each.end * columns - 1) // total
        for column in range(first, last + 1):
            low, high = column * total / columns, (column + 1) * total / columns
            covered = min(high, each.end) - max(low, each.first)
            shares[column][name] = shares[column].get(name, 0) + covered
    return [max(share, key=lambda name: share[name]) if share else None for share in shares]


def _strip(
    label: str, names: Sequence[str | None], ranges: Sequence[HeldRange], tones: dict[str, str], width: int
) -> Text:
    line = Text(f"{label:{LABEL}}", style="dim")
    for name in cells(names, ranges, max(1, width - LABEL)):
        if name is None:
            line.append("·", style=LOST)
        else:
            line.append("█", style=tones.get(name, LOST))
    return line


def _moves(look: Look, width: int) -> list[Text]:
    lines = []
    for move in look.moves[:MOVES_SHOWN]:
        text = f"{'moving':{LABEL}} {shown(move.source)} to {shown(move.target)}: {count(move.tokens, 'token')}"
        lines.append(_cut(Text(f"{text}, {move.phase}{_age(move, look)}", style="yellow"), width))
    if len(look.moves) > MOVES_SHOWN:
        lines.append(Text(f"{'':{LABEL}} and {len(look.moves) - MOVES_SHOWN} more moves", style="yellow"))
    return lines or [Text("nothing moves", style="dim")]


def _age(move: Move, look: Look) -> str:
    if move.since is None:
        return ""
    return f" for {'over ' if move.is_older else ''}{span(look.age_sec(move) or 0.0)}"


def _nodes(nodes: Sequence[NodeStatus], tones: dict[str, str], rows: int | None, width: int) -> RenderableType:
    made: Table = table("", "node", "state", "tokens", "share", "beat", right=("tokens", "share", "beat"))
    wide = width >= 100
    if wide:
        made.add_column("process", no_wrap=True, overflow="ellipsis")
    in_order = sorted(nodes, key=lambda node: not node.is_live)
    for node in in_order[:rows]:
        holds = node.takes_tokens or node.tokens
        row: list[Text | str] = [
            Text("█", style=tones[node.name] if node.is_live else "dim"),
            _cut(Text(shown(node.name)), NAME_SHOWN),
            Text(*state_of(node)),
            f"{node.tokens:,}" if holds else "none",
            f"{node.share:.1%}" if holds else "",
            f"{span(node.heartbeat_age_sec)} ago",
        ]
        if wide:
            row.append(f"{shown(node.host, nobody='?')}:{node.pid or '?'}")
        made.add_row(*row, style="" if node.is_live else "dim")
    left = len(in_order) - len(in_order[:rows])
    return Group(made, Text(f"and {count(left, 'more node')}", style="dim")) if left else made


def _queue(look: Look) -> Text:
    queue = look.queue
    oldest = "" if queue.oldest_sec is None else f" (oldest {span(queue.oldest_sec)})"
    come = "" if look.rate_in is None else f", {look.rate_in:,.0f}/s come"
    line = Text(f"queue  {queue.waiting:,} wait{oldest}, {queue.running:,} run, {queue.later:,} later")
    line.append(f"; {queue.ended / 10:,.0f}/s end{come}; {count(queue.workers, 'worker')}", style="dim")
    if queue.failed:
        line.append(f"; {queue.failed:,} failed in 10 s", style=LOST)
    return line


def _history(look: Look, width: int) -> list[Text]:
    lines = []
    for each in look.status.rebalances:
        age = span((look.status.read_at - each.triggered_at).total_seconds())
        text = f"{age:>8} ago  {shown(each.reason)}: {count(each.tokens_moved, 'token')}, by {shown(each.leader)}"
        lines.append(_cut(Text(text, style="dim"), width))
    return lines
