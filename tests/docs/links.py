"""Check a built site: every link and anchor leads somewhere on it, and nothing is fetched from elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}


@dataclass
class Page(HTMLParser):
    """What one page links to, fetches, and can be linked to by."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors.update(value for name in ("id", "name") if (value := given.get(name)))
        if tag == "a" and (target := given.get("href")):
            self.links.append(target)
        if tag in FETCHED and (target := given.get(FETCHED[tag])):
            self.fetched.append(target)


def problems(site: Path) -> list[str]:
    """List what is wrong with the site, a sentence each."""
    pages = {path: read(path) for path in site.rglob("*.html")}
    found = []
    for path, page in sorted(pages.items()):
        where = path.relative_to(site)
        for target in page.fetched:
            if urlsplit(target).scheme not in {"", "data"} or target.startswith("/"):
                found.append(f"{where} fetches {target} from elsewhere")
        found += [
            f"{where} {wrong}" for target in page.links + page.fetched for wrong in wrong_with(target, path, pages)
        ]
    return found


def wrong_with(target: str, page: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """Say what is wrong with one link of a page, if anything is."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc:
        return
    file = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if target.startswith("/"):
        yield f"links to {target}, which is only right at the root of a server"
    elif not file.is_file():
        yield f"links to {target}, which is not there"
    elif parts.fragment and file in pages and unquote(parts.fragment) not in pages[file].anchors | {"__top"}:
        yield f"links to {target}, which has no such anchor"


def read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page
