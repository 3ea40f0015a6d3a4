"""Templates, their words for numbers and times, and the colour of each node."""

import re
from datetime import datetime
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

COLOURS: Final = 60
ASSETS: Final = {"app.css": "text/css", "app.js": "text/javascript", "mark.svg": "image/svg+xml"}
_TIMES: Final = re.compile(r"(<time[^>]*>)[^<]*(</time>)")
_UNITS: Final = (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0))


def span(seconds: float) -> str:
    """Write a duration in its largest sensible unit; the script of the page does the same."""
    for unit, size in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s" if seconds >= 10 else f"{max(0.0, seconds):.1f} s"


def number(value: float) -> str:
    """Write a whole number with its thousands set off."""
    return f"{value:,.0f}".replace(",", "\u202f")


def percent(value: float) -> str:
    """Write a part of one as a percentage."""
    return f"{value:.1%}".replace("%", "\u202f%")


class Colours:
    """A colour for each node, by number: the same for all viewers, as long as the application runs."""

    def __init__(self) -> None:
        self._of: dict[str, int] = {}

    def of(self, node: str | None) -> str:
        """Give the class of a node's colour."""
        if node is None:
            return "nobody"
        return f"c{self._of.setdefault(node, len(self._of)) % COLOURS}"


class Drawing:
    """Makes HTML of what was read."""

    def __init__(self) -> None:
        self.colours = Colours()
        self.assets = {name: files("jobsync.web").joinpath("assets", name).read_bytes() for name in ASSETS}
        self._version = sha256(b"".join(self.assets.values())).hexdigest()[:12]
        self._templates = Environment(
            loader=PackageLoader("jobsync.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {"span": span, "number": number, "percent": percent, "exact": exact}
        self._templates.globals |= {"colour": self.colours.of, "version": self._version}

    def draw(self, name: str, **given: Any) -> str:
        """Draw a template."""
        return self._templates.get_template(name).render(given | {"ago": Ago(given.get("now"))})


class Ago:
    """Writes times as ages, in an element from which the script of the page goes on counting."""

    def __init__(self, now: datetime | None) -> None:
        self._now = now

    def __call__(self, at: datetime, style: str = "ago") -> Markup:
        """Write how long ago an instant is (`ago`), the age alone (`age`), or what is left until it (`left`)."""
        at_sec = at.timestamp()
        passed_sec = 0.0 if self._now is None else self._now.timestamp() - at_sec
        text = {"ago": f"{span(passed_sec)} ago", "age": span(passed_sec), "left": span(-passed_sec)}[style]
        return Markup('<time datetime="{}" data-at="{}" data-style="{}">{}</time>').format(
            at.isoformat(timespec="seconds"), f"{at_sec:.1f}", style, text
        )


def exact(at: datetime) -> str:
    """Write an instant in full, in UTC."""
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")


def is_same(one: str, other: str | None) -> bool:
    """Tell whether two drawings differ in no more than how far the times have run."""
    return other is not None and _TIMES.sub(r"\1\2", one) == _TIMES.sub(r"\1\2", other)
