"""What a person sees of the demo: a live picture at a terminal, plain lines anywhere else.

A view is told of events as they happen (`say`) and shown snapshots (`show`); it decides nothing. The picture fits
80 columns and 24 lines.
"""

import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from jobsync.cli.demo.fleet import Fleet
from jobsync.cli.demo.view import LOST, show_verdict, tone_of
from jobsync.cli.demo_queue.scenario import Scenario
from jobsync.cli.demo_queue.verdict import Outcome
from jobsync.cli.demo_queue.watch import InHand, Snapshot

# By status, in the order in which the bar shows them.
STATUS_TONES = {
    "done": "#8fb54f",
    "processing": "#4f9fcf",
    "retry": "#d09a3e",
    "cancelled": "#a678c8",
    "failed": LOST,
    "pending": "#5a616a",
}
NEWS_SHOWN = 6
PLAIN_EVERY = 0.1
SPARKS = "▁▂▃▄▅▆▇█"
SPARK_SEC = 0.5


class View(Protocol):
    """What the demo asks of either view."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def say(self, text: str) -> None:
        """Tell of something that happens now."""

    def show(self, snapshot: Snapshot, scenario: Scenario) -> None:
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

    def show(self, snapshot: Snapshot, scenario: Scenario) -> None:
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

    def show(self, snapshot: Snapshot, scenario: Scenario) -> None:  # noqa: ARG002 - a line tells events as they come
        """Write how far the work is, where another tenth is done."""
        tenth = int(snapshot.done / self._files / PLAIN_EVERY)
        if tenth > self._told:
            self._told = tenth
            self.say(f"{snapshot.done} of {self._files} files; {in_words(snapshot.counts)}")


class LiveView(SilentView):
    """A picture that is drawn anew with every snapshot."""

    def __init__(self, console: Console, fleet: Fleet, items: Mapping[int, str]) -> None:
        super().__init__()
        self._console = console
        self._fleet = fleet
        self._items = items
        self._news: deque[Text] = deque(maxlen=NEWS_SHOWN)
        self._seen: list[tuple[float, int]] = []
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

    def show(self, snapshot: Snapshot, scenario: Scenario) -> None:
        """Draw."""
        self._seen.append((snapshot.at_sec - self._start_sec, snapshot.done))
        parts: list[RenderableType] = [
            self._workers(snapshot, scenario),
            Text(),
            self._bar(snapshot),
            Padding(in_words(snapshot.counts, coloured=True), (0, 0, 0, 7)),
            self._speed(),
            Text(),
            *self._news,
        ]
        self._picture = Padding(Group(*parts), (0, 1))
        self._live.update(self._picture, refresh=True)

    # --- the parts -----------------------------------------------------------------------------

    def _workers(self, snapshot: Snapshot, scenario: Scenario) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), expand=True, header_style="dim", pad_edge=False)
        table.add_column("worker", no_wrap=True)
        table.add_column("", no_wrap=True, width=17)
        table.add_column("done", justify="right", no_wrap=True, width=5)
        table.add_column("ahead", justify="right", no_wrap=True, width=5)
        table.add_column("runs", no_wrap=True, overflow="ellipsis", ratio=1)
        for name in self._fleet.workers:
            self._add_worker(table, snapshot, scenario, name)
        return table

    def _add_worker(self, table: Table, snapshot: Snapshot, scenario: Scenario, name: str) -> None:
        state = self._fleet.state_of(name)
        hand = snapshot.in_hand.get(name, InHand())
        works = state == "working"
        tone = tone_of(list(self._fleet.workers), name)
        runs = Text(", ".join(self._items.get(job, "?") for job in hand.running), style="dim")
        if scenario.kill is not None and scenario.kill.worker == name:
            runs = _taken_over(scenario)
        table.add_row(
            Text.assemble(("■ ", tone if works else LOST), (name, "" if works else LOST)),
            Text("" if works else state, style=LOST if state.startswith(("killed", "failed")) else "dim"),
            Text(f"{snapshot.done_by.get(name, 0):,}", style="" if works else "dim"),
            Text(f"{hand.ahead:,}" if hand.ahead else "-", style="" if works else LOST if hand.held else "dim"),
            runs,
        )

    def _bar(self, snapshot: Snapshot) -> Text:
        bar = Text("jobs   ", style="dim")
        total = max(1, sum(snapshot.counts.values()))
        for status, cells in cells_by_status(snapshot.counts, max(10, self._console.width - 17)).items():
            bar.append(("·" if status == "pending" else "█") * cells, style=STATUS_TONES[status])
        bar.append(f" {1 - snapshot.open / total:>6.1%}", style="bold" if snapshot.open == 0 else "")
        return bar

    def _speed(self) -> Text:
        rates = speeds(self._seen, SPARK_SEC)
        shown = rates[-max(10, self._console.width - 26) :]
        top = max([1.0, *shown])
        line = Text("speed  ", style="dim")
        line.append("".join(SPARKS[min(7, int(8 * rate / top))] for rate in shown), style=STATUS_TONES["done"])
        line.append(f" {rates[-1] if rates else 0:.0f} a second")
        return line


def _taken_over(scenario: Scenario) -> Text:
    kill = scenario.kill
    assert kill is not None, "somebody was killed"
    begun, lost = len(scenario.taken_over_ms), len(kill.jobs)
    if scenario.is_settling:
        return Text(f"{begun} of {lost} begun again", style=f"bold {LOST}")
    slowest_ms = max(scenario.taken_over_ms.values(), default=0.0)
    return Text(f"{begun} of {lost} begun again, after {slowest_ms:.0f} ms", style=LOST)


def cells_by_status(counts: Mapping[str, int], cells: int) -> dict[str, int]:
    """Divide so many cells among the statuses, in the bar's order; what there is has a cell at least."""
    present = {status: counts[status] for status in STATUS_TONES if counts.get(status)} or {"pending": 1}
    spare, total = cells - len(present), sum(present.values())
    found = {status: 1 + spare * count // total for status, count in present.items()}
    found[max(present, key=lambda status: present[status])] += cells - sum(found.values())
    return found


def speeds(seen: list[tuple[float, int]], every_sec: float) -> list[float]:
    """Turn looks (seconds, done so far) into jobs a second, one figure for each whole interval."""
    found: list[float] = []
    since_sec, since_done = seen[0] if seen else (0.0, 0)
    for at_sec, done in seen:
        if at_sec - since_sec >= every_sec:
            found.append((done - since_done) / (at_sec - since_sec))
            since_sec, since_done = at_sec, done
    return found


def in_words(counts: Mapping[str, int], *, coloured: bool = False) -> Text:
    """Write how many jobs have which status; those that none has, if they are good news, are left out."""
    line = Text()
    for status in ("pending", "processing", "retry", "done", "cancelled", "failed"):
        if counts.get(status) or status in {"pending", "processing", "done"}:
            if line:
                line.append(" · ")
            line.append(f"{counts.get(status, 0):,} {status}", style=STATUS_TONES[status] if coloured else "")
    return line


def show_outcome(console: Console, outcome: Outcome, *, keep: bool) -> None:
    """Write what was done and the verdict."""
    console.print()
    console.print(
        f"{outcome.files:,} files, {outcome.size_bytes / 1e6:.1f} MB, measured in {outcome.took_sec:.1f} s.",
        highlight=False,
    )
    show_verdict(console, outcome.verdict)
    for line in outcome.complaints:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if keep:
        console.print(f"The tables {outcome.prefix}* are kept.", style="dim", highlight=False)
