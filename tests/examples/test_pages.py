"""What is told of the examples is what they are."""

import re
import textwrap

import pytest

from tests.examples.plays import ROOT

GUIDE = (ROOT / "docs" / "guide" / "examples.md").read_text()
README = (ROOT / "examples" / "README.md").read_text()
WORKER = (ROOT / "examples" / "websocket_quotes" / "worker.py").read_text()
QUOTED = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


def test_the_guide_quotes_something() -> None:
    assert len(QUOTED) >= 4


@pytest.mark.parametrize("quoted", QUOTED, ids=lambda text: text.splitlines()[0].strip())
def test_what_the_guide_quotes_stands_in_the_worker(quoted: str) -> None:
    assert any(textwrap.indent(quoted, " " * depth) in WORKER for depth in (0, 4, 8))


def test_every_example_is_listed_in_both_places() -> None:
    names = {path.parent.name for path in (ROOT / "examples").glob("*/play.py")}
    assert names
    for name in names:
        assert f"make example NAME={name}`" in README
        assert f"make example NAME={name}`" in GUIDE


def test_what_the_readme_shows_are_words_that_the_plays_print() -> None:
    promises = re.findall(r"^ok   (.*?)  ", README, re.MULTILINE)
    plays = "".join(path.read_text() for path in (ROOT / "examples").glob("*/play.py"))
    assert len(promises) >= 6
    assert [promise for promise in promises if promise not in plays] == []
