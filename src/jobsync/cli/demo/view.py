"""What a person sees of the demo: a live picture at a terminal, plain lines anywhere else.

A view is told of events as they happen (`say`) and shown snapshots (`show`); it decides nothing. The picture fits
80 columns and 24 lines.
"""

import time
from collections import Counter, deque
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jobsync.cli.demo.fleet import Fleet
from jobsync.cli.demo.verdict import Outcome, Verdict
from jobsync.cli.demo.watch import Snapshot

# Calm tones that can be told apart on dark and on light ground, one a worker.
TONES = ("#4f9fcf", "#8fb54f", "#d09a3e", "#a678c8", "#3fb0a0", "#c86f5a", "#7f8fd9", "#b5a642")
LOST = "#d0564f"
NEWS_SHOWN = 7
PLAIN_EVERY = 0.1


class View(Protocol):
    """What the demo asks of either view."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def say(self, text: str) -> None:
        """Tell of something that happens now."""

    def show(self, snapshot: Snapshot) -> None:
        """Show how things are."""


class SilentView:
    """Shows nothing, for `--json`."""

    def __init__(self) -> None:
        self._start_sec = time.perf_counter()

    def __enter__(self) -> Self:
        self._start_sec = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def say(self, text: str) -> None:
        """Say nothing."""

    def show(self, snapshot: Snapshot) -> None:
        """Show nothing."""


class PlainView(SilentView):
    """One line for each thing that happens, and one for each tenth of the files."""

    def __init__(self, console: Console, files: int) -> None:
        super().__init__()
        self._console = console
        self._files = files
        self._told = 0

    def say(self, text: str) -> None:
        """Write the line."""
        at_sec = time.perf_counter() - self._start_sec
        self._console.print(f"{at_sec:6.2f} s  {text}", markup=False, highlight=False, soft_wrap=True)

    def show(self, snapshot: Snapshot) -> None:
        """Write how far the work is, where another tenth is done."""
        tenth = int(snapshot.ended / self._files / PLAIN_EVERY)
        if tenth > self._told:
            self._told = tenth
            status = snapshot.status
            self.say(
                f"{snapshot.ended} of {self._files} files; {status.live_nodes} workers, {status.leader} leads, "
                f"{status.tokens_live:,} of {snapshot.total_tokens:,} tokens held",
            )


class LiveView(SilentView):
    """A picture that is drawn anew with every snapshot."""

    def __init__(self, console: Console, fleet: Fleet, files: int) -> None:
        super().__init__()
        self._console = console
        self._fleet = fleet
        self._files = files
        self._news: deque[Text] = deque(maxlen=NEWS_SHOWN)
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._picture: RenderableType = Text()

    def __enter__(self) -> Self:
        self._live.start()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        # The last picture stays above the verdict; after a Ctrl-C nothing does.
        if kind is None:
            self._console.print(self._picture)

    def say(self, text: str) -> None:
        """Add a line to the news."""
        at_sec = time.perf_counter() - self._start_sec
        line = Text.assemble((f"{at_sec:5.1f} s  ", "dim"), text)
        line.no_wrap = True
        line.overflow = "ellipsis"
        self._news.append(line)

    def show(self, snapshot: Snapshot) -> None:
        """Draw."""
        self._picture = Padding(
            Group(
                self._workers(snapshot), Text(), self._tokens(snapshot), self._progress(snapshot), Text(), *self._news
            ),
            (0, 1),
        )
        self._live.update(self._picture, refresh=True)

    # --- the parts -----------------------------------------------------------------------------

    def _tone(self, name: str) -> str:
        return tone_of(list(self._fleet.workers), name)

    def _workers(self, snapshot: Snapshot) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), expand=True, header_style="dim", pad_edge=False)
        table.add_column("worker", no_wrap=True)
        table.add_column("", no_wrap=True, width=17)
        table.add_column("tokens", justify="right", no_wrap=True, width=6)
        table.add_column("files", justify="right", no_wrap=True, width=5)
        table.add_column("at work on", no_wrap=True, overflow="ellipsis", ratio=1)
        for name in self._fleet.workers:
            self._add_worker(table, snapshot, name)
        return table

    def _add_worker(self, table: Table, snapshot: Snapshot, name: str) -> None:
        state = self._fleet.state_of(name)
        ended, item = snapshot.files.get(name, (0, ""))
        works = state == "working"
        leads = works and snapshot.status.leader == name
        tokens = snapshot.tokens_of(name)
        table.add_row(
            Text.assemble(("■ ", self._tone(name) if works or tokens else "dim"), (name, "" if works else "dim")),
            Text("leads", style="bold") if leads else Text("" if works else state, style=_state_style(state)),
            Text(f"{tokens:,}" if tokens else "-", style="" if works else LOST if tokens else "dim"),
            Text(f"{ended:,}", style="" if works else "dim"),
            Text(item if works and ended < self._files else "", style="dim"),
        )

    def _tokens(self, snapshot: Snapshot) -> Text:
        cells = owners_by_cell(snapshot, self._width)
        strip = Text("tokens  ", style="dim")
        for owner in cells:
            if owner is None:
                strip.append("·", style=LOST)
            elif self._fleet.state_of(owner).startswith("killed"):
                strip.append("░", style=LOST)
            else:
                strip.append("█", style=self._tone(owner))
        held = snapshot.tokens_of(*(name for name in self._fleet.workers if name != self._fleet.killed))
        strip.append(f"  {held:>6,}", style="" if held == snapshot.total_tokens else f"bold {LOST}")
        return strip

    def _progress(self, snapshot: Snapshot) -> Table:
        row = Table.grid()
        bar = ProgressBar(
            total=self._files,
            completed=snapshot.ended,
            width=self._width,
            complete_style="#8a9099",
            finished_style="#8fb54f",
        )
        row.add_row(Text("files   ", style="dim"), bar, Text(f"  {snapshot.ended:>6,}"))
        return row

    @property
    def _width(self) -> int:
        return max(10, self._console.width - 19)


def tone_of(names: Sequence[str], name: str) -> str:
    """Give a worker's colour: the same throughout a demo."""
    return TONES[names.index(name) % len(TONES)] if name in names else "dim"


def owners_by_cell(snapshot: Snapshot, cells: int) -> list[str | None]:
    """Divide all tokens into so many cells and name the owner of most of each; None: most have no owner."""
    total = max(1, snapshot.total_tokens)
    found: list[Counter[str | None]] = [
        Counter({None: total * (i + 1) // cells - total * i // cells}) for i in range(cells)
    ]
    for span in snapshot.spans:
        for cell in range(span.first * cells // total, min(cells - 1, (span.end - 1) * cells // total) + 1):
            start, end = total * cell // cells, total * (cell + 1) // cells
            size = max(0, min(end, span.end) - max(start, span.first))
            found[cell][span.node] += size
            found[cell][None] -= size
    return [counter.most_common(1)[0][0] for counter in found]


def _state_style(state: str) -> str:
    return LOST if state.startswith(("killed", "failed")) else "dim"


def show_verdict(console: Console, verdict: Verdict) -> None:
    """Write the verdict: one line a promise, then the word."""
    console.print()
    width = max(len(check.promise) for check in verdict.checks)
    for check in verdict.checks:
        mark = Text("ok  " if check.holds else "BAD ", style="green" if check.holds else f"bold {LOST}")
        line = Text.assemble(mark, f"{check.promise:<{width}}  ", check.figures)
        console.print(line, highlight=False, soft_wrap=True)
    word = Text("The verdict holds.", "bold green") if verdict.holds else Text("The verdict is broken.", f"bold {LOST}")
    console.print()
    console.print(word)


def show_outcome(console: Console, outcome: Outcome, *, keep: bool) -> None:
    """Write what was done and the verdict."""
    totals = outcome.totals
    console.print()
    console.print(
        f"{outcome.files:,} files in {outcome.took_sec:.1f} s: {totals.lines:,} lines, {totals.functions:,} functions, "
        f"{totals.imports:,} imports.",
        highlight=False,
    )
    show_verdict(console, outcome.verdict)
    for line in outcome.complaints:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if keep:
        console.print(f"The tables {outcome.prefix}* are kept.", style="dim", highlight=False)
