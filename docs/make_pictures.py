"""Draw the pictures of the queue: `python docs/make_pictures.py` after a change of the state table.

With `--screens` it takes over those of the live page, which a browser has taken of a real fleet and left in
`build/screenshots`: `pytest tests/web/test_in_chromium.py -k killed` first.

The states and the words on their arrows come from `jobsync.core.queue.states`; only where they stand on the sheet is
written here. An arrow that the table has and this file has no place for is an error, not a gap.
"""

import shutil
import sys
from collections.abc import Iterable
from html import escape
from pathlib import Path

from jobsync.core.queue.states import NOWHERE, TRANSITIONS

ASSETS = Path(__file__).parent / "assets"
SHOTS = Path(__file__).parent.parent / "build" / "screenshots"
# What a page of the documentation shows of the live page, and what the browser's test calls it.
SCREENS = {
    "dashboard.png": "dashboard.png",
    "dashboard-dark.png": "fleet-dark.png",
    "dashboard-phone.png": "fleet-phone.png",
    "dashboard-queue.png": "queue-light.png",
    "dashboard-job.png": "job.png",
}
MOST_BYTES = 150_000

# Colours as of the command's bar: what waits, what runs, what ended well or not.
TONES = {
    "pending": "#7b838d",
    "processing": "#2f7fb0",
    "retry": "#b47d1f",
    "done": "#5f8a1f",
    "failed": "#b5443c",
    "cancelled": "#84569f",
}
PLACES = {
    "pending": (170, 120),
    "retry": (170, 420),
    "processing": (460, 270),
    "done": (910, 120),
    "failed": (910, 270),
    "cancelled": (910, 420),
}
WIDTH, HEIGHT = 118, 42
# For each arrow: its path, and where its words begin, at which anchor.
ROUTES = {
    (NOWHERE, "pending"): ("M 40 120 L 108 120", (40, 106, "start")),
    ("pending", "processing"): ("M 232 108 C 330 108 420 170 450 246", (348, 132, "start")),
    ("processing", "pending"): ("M 408 246 C 360 206 300 168 234 138", (120, 214, "start")),
    ("retry", "processing"): ("M 232 408 C 300 384 370 340 408 294", (176, 344, "start")),
    ("processing", "retry"): ("M 450 294 C 420 370 340 428 234 432", (398, 392, "start")),
    ("processing", "done"): ("M 522 256 C 640 220 720 150 846 124", (690, 148, "end")),
    ("processing", "failed"): ("M 522 270 L 846 270", (684, 262, "middle")),
    ("processing", "cancelled"): ("M 510 294 C 600 320 740 350 848 400", (770, 336, "start")),
    ("pending", "cancelled"): ("M 108 130 L 60 130 L 60 504 L 922 504 L 922 444", (70, 496, "start")),
    ("retry", "cancelled"): ("M 190 444 L 190 470 L 898 470 L 898 444", (200, 464, "start")),
    ("done", "pending"): ("M 972 112 L 1040 112 L 1040 44 L 170 44 L 170 96", (560, 36, "middle")),
    ("failed", "pending"): ("M 972 262 L 1040 262 L 1040 112", None),
    ("cancelled", "pending"): ("M 972 412 L 1040 412 L 1040 262", None),
    ("done", NOWHERE): ("M 972 132 L 1000 132", (978, 152, "start")),
    ("failed", NOWHERE): ("M 972 282 L 1000 282", (978, 302, "start")),
    ("cancelled", NOWHERE): ("M 972 432 L 1000 432", (978, 452, "start")),
}
STYLE = """
text { font: 13px system-ui, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; fill: #333; }
.state { fill: #fff; font-weight: 600; font-size: 15px; text-anchor: middle; dominant-baseline: central; }
.words { paint-order: stroke; stroke: #fff; stroke-width: 4px; stroke-linejoin: round; }
.small { font-size: 12px; fill: #666; }
path.way { fill: none; stroke: #8a9099; stroke-width: 1.6; stroke-linejoin: round; }
"""
HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">
<style>{style}</style>
<defs>
<marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse">
<path d="M 0 1 L 10 5 L 0 9 z" fill="#8a9099"/></marker></defs>
<rect width="{width}" height="{height}" fill="#fff"/>
"""


def states_picture() -> str:
    """Draw the states of a job and the ways between them."""
    ways: dict[tuple[str, str], list[str]] = {}
    for each in TRANSITIONS:
        ways.setdefault((each.before, each.after), []).append(each.cause + _counted(each.charged, each.crashed))
    label = "The states of a job: " + "; ".join(f"{a} to {b}" for a, b in ways if NOWHERE not in (a, b))
    parts = [HEAD.format(width=1060, height=520, style=STYLE, label=escape(label))]
    words = []
    for way, causes in ways.items():
        path, at = ROUTES[way]
        parts.append(f'<path class="way" d="{path}" marker-end="url(#tip)"/>')
        if way[1] == NOWHERE:
            x, y = path.split()[-2:]
            parts.append(f'<circle cx="{int(x) + 6}" cy="{y}" r="5" fill="#8a9099"/>')
        if at is not None:
            words += _words(causes, *at)
    parts.append('<circle cx="34" cy="120" r="6" fill="#333"/>')
    for state, (x, y) in PLACES.items():
        parts.append(
            f'<rect x="{x - WIDTH // 2}" y="{y - HEIGHT // 2}" width="{WIDTH}" height="{HEIGHT}" rx="8" '
            f'fill="{TONES[state]}"/><text class="state" x="{x}" y="{y}">{state}</text>'
        )
    return "\n".join([*parts, *words, "</svg>", ""])


def _counted(charged: int, crashed: int) -> str:
    """Say what becomes of the two counts, where anything does."""
    counts = [f"{number:+d} {what}" for number, what in ((charged, "attempt"), (crashed, "crash")) if number]
    return f" ({', '.join(counts)})" if counts else ""


def _words(lines: Iterable[str], x: int, y: int, anchor: str) -> list[str]:
    """Write the lines below each other; those on a level arrow stand above and below it."""
    step = 24 if anchor == "middle" else 16
    return [
        f'<text class="words" x="{x}" y="{y + step * number}" text-anchor="{anchor}">{escape(line)}</text>'
        for number, line in enumerate(lines)
    ]


# One worker dies: what happens when, in seconds since the kill (typical figures; `python -m bench` measures them).
KILL_LABEL = "A worker is killed; its jobs begin on another worker in under a second"
KILL_STEPS = (
    (0.0, "worker-1 is killed", "up"),
    (0.02, "its session is gone, the others see", "down"),
    (0.6, "its lease is over: fenced, its jobs taken back", "up"),
    (0.65, "NOTIFY: worker-2 takes it, new epoch", "down"),
)


def kill_picture() -> str:
    """Draw the second in which a worker dies and another takes over."""
    left, scale = 150, 600
    zero = left + 160

    def x(at_sec: float) -> float:
        return zero + at_sec * scale * 0.8

    parts = [HEAD.format(width=980, height=250, style=STYLE, label=KILL_LABEL)]
    for name, y in (("worker-1", 90), ("worker-2", 160)):
        parts.append(f'<text x="20" y="{y + 5}" font-weight="600">{name}</text>')
        parts.append(f'<path class="way" d="M {left - 30} {y} L 950 {y}" stroke-dasharray="2 5"/>')
    parts.append(_run(left, 90, zero - left, "job 17, attempt 1", TONES["processing"]))
    parts.append(_run(x(0.65), 160, 960 - x(0.65), "job 17, attempt 2", TONES["processing"]))
    parts.append(
        f'<rect x="{zero}" y="84" width="{x(0.6) - zero:.0f}" height="12" fill="{TONES["failed"]}" opacity=".25"/>'
    )
    parts.append(
        f'<text class="words small" x="{zero + 12}" y="112">nobody may have it yet: worker-1 might only be slow</text>'
    )
    for number, (at_sec, words, side) in enumerate(KILL_STEPS):
        y = 24 + 20 * (number // 2) if side == "up" else 212 + 20 * (number // 2)
        end = 76 if side == "up" else 174
        parts.append(
            f'<path class="way" d="M {x(at_sec):.0f} {y + (5 if side == "up" else -14)} L {x(at_sec):.0f} {end}"/>'
        )
        parts.append(
            f'<text class="words" x="{x(at_sec) + 6:.0f}" y="{y}" '
            f'text-anchor="start">{at_sec:g} s: {escape(words)}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _run(x: float, y: int, width: float, words: str, tone: str) -> str:
    return (
        f'<rect x="{x:.0f}" y="{y - 14}" width="{width:.0f}" height="28" rx="5" fill="{tone}"/>'
        f'<text x="{x + 10:.0f}" y="{y + 5}" style="fill:#fff">{escape(words)}</text>'
    )


def pictures() -> dict[str, str]:
    """Give every picture by its file name."""
    return {"queue-states.svg": states_picture(), "queue-kill.svg": kill_picture()}


def take_screens() -> None:
    """Take over the pictures of the live page; none that would make the documentation slow to load."""
    for name, shot in SCREENS.items():
        size = (SHOTS / shot).stat().st_size
        if size > MOST_BYTES:
            sys.exit(f"{SHOTS / shot} has {size:,} bytes, more than {MOST_BYTES:,}: take it in a smaller window")
        shutil.copyfile(SHOTS / shot, ASSETS / name)


if __name__ == "__main__":
    if "--screens" in sys.argv[1:]:
        take_screens()
    for name, text in pictures().items():
        (ASSETS / name).write_text(text, encoding="utf-8")
