"""Read the pages of the documentation: the fenced blocks of code, and tables between marks."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)(?P<options>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
_TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: where it stands, in which language, under which title, and its text."""

    page: str
    line: int
    language: str
    title: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """List all pages, as paths below docs/; what the site takes from the root is named by that."""
    return sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


def blocks_of(page: str) -> list[Block]:
    """List the fenced blocks of a page in order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        title = _TITLE.search(match["options"])
        found.append(
            Block(
                page=page,
                line=text.count("\n", 0, match.start()) + 2,
                language=match["language"],
                title=title and title.group(1),
                text=textwrap.dedent(match["text"]),
            )
        )
    return found


def blocks_in(language: str) -> list[Block]:
    """List the blocks of all pages that are written in a language."""
    return [block for page in pages() for block in blocks_of(page) if block.language == language]


def marked(page: str, mark: str) -> list[str]:
    """Give the lines between `<!-- MARK -->` and `<!-- end of MARK -->`."""
    text = (DOCS / page).read_text(encoding="utf-8")
    _, _, rest = text.partition(f"<!-- {mark} -->\n")
    inside, end, _ = rest.partition(f"<!-- end of {mark} -->")
    assert end, f"{page} has no part marked {mark!r}"
    return inside.strip().splitlines()


def cells(row: str) -> list[str]:
    """Split a row of a table."""
    return [cell.strip() for cell in row.strip().strip("|").split("|")]
