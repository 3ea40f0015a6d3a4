"""What the site needs beyond its pages: the documents that stand at the root of the checkout, and guides to come.

The built site stands alone: it opens from a folder without a network. MkDocs reads pages from `docs/` alone;
ARCHITECTURE.md, CHANGELOG.md and CONTRIBUTING.md stay where people expect them and are shown as pages of the site,
their links turned to where the same things are on it. Guides and decisions that the navigation does not name are
added to their sections, in the order of their file names.
"""

import inspect
import posixpath
import re
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

from jobsync import AsyncJob, Job

ROOT_PAGES = {
    "ARCHITECTURE.md": "project/architecture.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "README.md": "index.md",
}
SHIM_ELSEWHERE = "https://unpkg.com/iframe-worker/shim"
SHIM = "assets/iframe-worker.js"
AWAITED_MARK = "<!-- what is awaited -->"
HOW = {"tasks": "`async for`", "leader": "`async with`", "transaction": "`async with`", "singleton": "`@`"}
CHEATSHEET_MARK = "<!-- the cheat sheet -->"
DIAGRAMS = "assets/diagrams"
_MERMAID = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Complete the sections that grow by files of their own."""
    docs = Path(config.docs_dir)
    guides = section(config.nav or [], "Guide")
    add_missing(guides, docs, "guide", elsewhere=section(config.nav or [], "Queue"))
    add_missing(section(section(config.nav or [], "Project"), "Decisions"), docs, "decisions")
    # A 404 page and a sitemap need to know where the site will stand; this one may stand anywhere.
    config.theme.static_templates -= {"404.html", "sitemap.xml"}
    return config


def section(nav: list[Any], title: str) -> list[Any]:
    """Find a section of the navigation."""
    found: list[Any] = next(entry[title] for entry in nav if isinstance(entry, dict) and title in entry)
    return found


def add_missing(entries: list[Any], docs: Path, folder: str, elsewhere: Iterable[Any] = ()) -> None:
    """Add the pages of a folder that are neither there yet nor in another section."""
    listed = [*entries, *elsewhere]
    named = {page for entry in listed for page in (entry.values() if isinstance(entry, dict) else [entry])}
    pages = sorted(f"{folder}/{path.name}" for path in (docs / folder).glob("*.md"))
    entries.extend(page for page in pages if page not in named)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Bring in the documents of the root."""
    root = Path(config.config_file_path).parent
    for name, page in ROOT_PAGES.items():
        if page.startswith("project/"):
            text = (root / name).read_text(encoding="utf-8")
            files.append(File.generated(config, page, content=drawn(site_links(text, page), root)))
    return files


def drawn(text: str, root: Path) -> str:
    """Put pictures in the place of Mermaid diagrams, which a browser could draw only with a library from elsewhere.

    The pictures are Mermaid's own output, saved under the hash of the diagram's text. A diagram that was changed since
    is shown as the text that it is, until its picture is drawn anew.
    """

    def picture(diagram: re.Match[str]) -> str:
        name = f"{DIAGRAMS}/{sha256(diagram.group(1).encode()).hexdigest()[:12]}.svg"
        there = (root / "docs" / name).is_file()
        return f"![diagram](../{name}){{ .diagram }}" if there else diagram.group(0).replace("mermaid", "text", 1)

    return _MERMAID.sub(picture, text)


def site_links(text: str, page: str) -> str:
    """Turn the links of a document of the root into links from a page of the site."""

    def turned(link: re.Match[str]) -> str:
        target, anchor = link.group(1), link.group(2) or ""
        on_site = ROOT_PAGES.get(target, target.removeprefix("docs/"))
        if on_site.endswith("/"):
            on_site += "README.md"
        return f"]({posixpath.relpath(on_site, posixpath.dirname(page))}{anchor})"

    return _LINK.sub(turned, text)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Write out what is drawn from other files: the cheat sheet, and the table of what is awaited."""
    if CHEATSHEET_MARK in markdown:
        sheet = Path(config.config_file_path).with_name("sql") / "Cheatsheet.sql"
        return markdown.replace(CHEATSHEET_MARK, written_out(sheet.read_text(encoding="utf-8")))
    return markdown.replace(AWAITED_MARK, "\n".join(awaited_table()))


def awaited_table() -> Iterator[str]:
    """List the public names of AsyncJob: how each is called there, and what its namesake of Job says in one line."""
    yield "| name | how | |\n|---|---|---|"
    for name in sorted(name for name in dir(AsyncJob) if not name.startswith("_")):
        if getattr(getattr(Job, name), "__name__", name) != name:
            continue  # An older name of another method.
        found = inspect.getattr_static(AsyncJob, name)
        says = (inspect.getdoc(getattr(Job, name)) or "").partition("\n\n")[0].replace("\n", " ").replace("|", "\\|")
        how = "`await`" if inspect.iscoroutinefunction(getattr(AsyncJob, name)) else "at once"
        if isinstance(found, property):
            how = "`await`" if inspect.iscoroutinefunction(found.fget) else "at once"
        yield f"| [`{name}`][jobsync.Job.{name}] | {HOW.get(name, how)} | {says} |"


def written_out(sheet: str) -> str:
    """Turn the sheet's sections and names into headings, its comments into sentences, and show each statement."""
    lines, fenced = [], False
    for line in sheet[sheet.index("-- === ") :].splitlines():
        is_code = bool(line.strip()) and not line.startswith("--")
        if is_code != fenced and (is_code or not line.strip()):
            lines.append("```sql" if is_code else "```")
            fenced = is_code
        if line.startswith("-- === "):
            lines.append(f"## {line.removeprefix('-- === ').removesuffix(' ===')}")
        elif line.startswith("-- name: "):
            lines.append(f"### {line.removeprefix('-- name: ').replace('-', ' ').capitalize()}\n")
        else:
            lines.append(line.removeprefix("-- ") if not is_code else line)
    return "\n".join([*lines, "```" if fenced else ""])


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:  # noqa: ARG001 - MkDocs names the arguments
    """Let the search of a site that is read from files find its shim on the site itself."""
    return output.replace(SHIM_ELSEWHERE, get_relative_url(SHIM, page.url))


def on_post_build(config: MkDocsConfig) -> None:
    """Remove the theme's template of a sitemap, which is copied as it is once nothing renders it."""
    Path(config.site_dir, "sitemap.xml").unlink(missing_ok=True)
