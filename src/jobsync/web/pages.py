"""What each page shows: its live parts, drawn once a snapshot for all viewers."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from jobsync.api.fleet_view import FleetView, NodeView
from jobsync.core.errors import JobsyncError
from jobsync.web.desk import Desk
from jobsync.web.drawing import Drawing
from jobsync.web.lists import NAMES, Asked, Lists, words_of
from jobsync.web.poller import Poller, Snapshot
from jobsync.web.strip import bands, line

PARTS: Final = {
    "fleet": ("notice", "summary", "figures", "strip", "nodes", "moves", "history"),
    "queue": ("notice", "queue_figures", "kinds", "failed", "periodic"),
    "jobs": ("notice", "jobs"),
    "job": ("notice", "job"),
    "locks": ("notice", "locks"),
    "other": ("notice",),
}
FEWEST_POINTS: Final = 8  # With fewer a line says nothing.
STEADY_ROUNDS: Final = 10  # What changes rarely is read again after so many snapshots.


@dataclass(frozen=True, slots=True)
class Row:
    """A node with the instants from which ages are counted."""

    node: NodeView
    beat_at: Any
    lease_until: Any
    steered: Any


class Pages:
    """Draws the parts of pages, and keeps them as long as the snapshot that they were drawn from is the latest."""

    def __init__(self, poller: Poller, drawing: Drawing, desk: Desk) -> None:
        self._poller = poller
        self._drawing = drawing
        self._desk = desk
        self._drawn: dict[tuple[str, bool], tuple[int, dict[str, str]]] = {}
        self._failed: tuple[object, list[Any], str | None] = (None, [], None)
        self._steady: tuple[int, Any, Any] = (-STEADY_ROUNDS, [], {})
        self._reading = asyncio.Lock()
        self._lists = Lists(desk)

    async def parts(
        self, page: str, snapshot: Snapshot, *, may_act: bool, asked: Asked | None = None, at_once: bool = False
    ) -> dict[str, str]:
        """Draw the live parts of a page, by their names; its list by what is asked of it.

        `at_once` reads the list, whosever turn it is, unless the database is away: nobody waits for that a second time.
        """
        drawn = await self._shared_parts(page, snapshot, may_act=may_act)
        if asked is None:
            return drawn
        if at_once and snapshot.error is None:
            found = await self._lists.now(asked)
        else:
            found = await self._lists.latest(asked, is_away=snapshot.error is not None)
        if may_act not in found.drawn:
            view = snapshot.view
            given = words_of(asked, found) | {"may_act": may_act, "now": None if view is None else view.read_at}
            # Where the database is away, the page says so once; the list is as it was.
            given["asked_error"] = None if snapshot.error is not None else given["asked_error"]
            found.drawn[may_act] = self._drawing.draw(f"parts/{page}.html", **given)
        return drawn | {page: found.drawn[may_act]}

    def lacks(self, asked: Asked) -> bool:
        """Tell whether what was asked for by name is not there."""
        return self._lists.lacks(asked)

    def changed(self) -> None:
        """Have whatever is loaded next read anew: something was changed."""
        self._lists.changed()

    async def _shared_parts(self, page: str, snapshot: Snapshot, *, may_act: bool) -> dict[str, str]:
        kept = self._drawn.get((page, may_act))
        if kept is not None and kept[0] == snapshot.number:
            return kept[1]
        if page == "queue":
            await self._read_jobs(snapshot)
        given = self._given(snapshot) | {"may_act": may_act}
        drawn = {name: self._drawing.draw(f"parts/{name}.html", **given) for name in PARTS[page] if name not in NAMES}
        self._drawn[page, may_act] = (snapshot.number, drawn)
        return drawn

    async def _read_jobs(self, snapshot: Snapshot) -> None:
        """Read what the snapshot does not have: failed jobs where their number changed, and what changes rarely."""
        view = snapshot.view
        if view is None or snapshot.error is not None:
            return
        async with self._reading:
            mark = (view.queue.failed, view.queue.failed_a_minute)
            if mark != self._failed[0]:
                found, error = await self._try(self._desk.failed)
                # What could not be read is asked for again; what was seen before is shown until then.
                self._failed = (mark, found, None) if error is None else (None, self._failed[1], error)
            if snapshot.number - self._steady[0] >= STEADY_ROUNDS:
                steady, _ = await self._try(self._desk.steadies)
                if steady is not None:
                    self._steady = (snapshot.number, *steady)

    @staticmethod
    async def _try(ask: Callable[[], Any]) -> tuple[Any, str | None]:
        try:
            return await asyncio.to_thread(ask), None
        except JobsyncError as error:
            return None, str(error)

    def _given(self, snapshot: Snapshot) -> dict[str, Any]:
        view = snapshot.view
        given: dict[str, Any] = {
            "view": view,
            "error": snapshot.error,
            "misfit": snapshot.misfit,
            "now": None if view is None else view.read_at,
        }
        given |= {"failed": self._failed[1], "failed_error": self._failed[2]}
        given |= {"schedules": self._steady[1], "limits": self._steady[2], "waiting_line": "", "done_line": ""}
        if view is None:
            return given | {"rows": [], "held": (), "wanted": ()}
        total = view.total_tokens or 1
        history = list(self._poller.history)
        for node in view.nodes:  # The oldest gets the first colour, whoever is drawn first.
            self._drawing.colours.of(node.name)
        given["rows"] = [_row(view, node) for node in view.nodes]
        given["held"] = bands(view.held, total, 100)
        given["wanted"] = bands(view.wanted, total, 100)
        waiting, done = [point.waiting for point in history], [point.done_a_minute for point in history]
        if len(history) >= FEWEST_POINTS:
            given |= {"waiting_line": line(waiting, 600, 60), "done_line": line(done, 600, 60)}
            given |= {"waiting_most": max(waiting), "done_most": max(done)}
        return given


def _row(view: FleetView, node: NodeView) -> Row:
    beat_at = view.read_at - timedelta(seconds=node.lag_sec)
    return Row(node, beat_at, view.read_at + timedelta(seconds=node.margin_sec), view.steered(node.name))
