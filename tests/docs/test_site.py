"""The site is built strictly, leads nowhere that is not there, and stands alone."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.docs.links import problems
from tests.docs.pages import DOCS, ROOT

SENTENCES = {"index.html": "What is guaranteed", "reference/job.html": "get_incomplete_tasks", "glossary.html": "fence"}
REACHED = ("project/architecture", "project/changelog", "project/contributing", "benchmarks", "decisions/README")


def build(site: Path, config: Path = ROOT / "mkdocs.yml") -> subprocess.CompletedProcess[str]:
    """Build the site as `make docs` does. Not quietly: MkDocs counts only the warnings that it shows."""
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(site)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_site_is_built_and_every_link_leads_somewhere(tmp_path: Path) -> None:
    built = build(tmp_path)
    assert built.returncode == 0, built.stderr
    assert problems(tmp_path) == []
    for page, sentence in SENTENCES.items():
        assert sentence in (tmp_path / page).read_text(encoding="utf-8")
    home = (tmp_path / "index.html").read_text(encoding="utf-8")
    for name in REACHED:
        assert (tmp_path / f"{name}.html").is_file() or (tmp_path / "decisions/index.html").is_file()
        assert name.split("/")[0] in home
    assert_nothing_of_this_machine(tmp_path)


def assert_nothing_of_this_machine(site: Path) -> None:
    """No absolute path of the checkout, and no host that things are fetched from, stands in what was written."""
    for path in site.rglob("*"):
        if path.suffix in {".html", ".js", ".json", ".css"} and "javascripts" not in path.parts:
            text = path.read_text(encoding="utf-8")
            assert str(ROOT) not in text, path
            assert "unpkg.com" not in text, path


def test_a_page_with_a_link_to_nowhere_is_not_built(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text("# Here\n\n[there](nowhere.md) and [here](#nothing)\n", encoding="utf-8")
    rules = re.search(r"^validation:\n(?:  .*\n)+", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert rules
    config = tmp_path / "mkdocs.yml"
    config.write_text(f"site_name: x\n{rules.group(0)}", encoding="utf-8")
    built = build(tmp_path / "site", config)
    assert built.returncode == 1
    assert "nowhere.md" in built.stderr
    assert "#nothing" in built.stderr


def test_the_checker_finds_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<a href="b.html#there">ok</a> <a href="b.html#gone">1</a> <a href="c.html">2</a> <a href="/b.html">3</a>'
        '<script src="https://cdn.example/x.js"></script> <a href="https://example.org">ok</a>',
        encoding="utf-8",
    )
    (tmp_path / "b.html").write_text('<h2 id="there">b</h2> <a href="a.html">ok</a>', encoding="utf-8")
    assert [problem.split()[-3:] for problem in problems(tmp_path)] == [
        ["https://cdn.example/x.js", "from", "elsewhere"],
        ["no", "such", "anchor"],
        ["is", "not", "there"],
        ["of", "a", "server"],
    ]


def test_no_page_bears_a_path_of_this_machine() -> None:
    for path in [*DOCS.rglob("*.md"), ROOT / "mkdocs.yml", *(ROOT / "sql").iterdir()]:
        if path.is_file():
            assert str(ROOT) not in path.read_text(encoding="utf-8"), path
