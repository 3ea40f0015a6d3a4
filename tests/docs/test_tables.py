"""Tables of the documentation that say what the code says."""

import pytest

import jobsync
from bench.spread import IDS, id_sets, row_of_functions, row_of_tokens
from jobsync import recommended_tokens
from jobsync.core.setting_rules import RULES
from jobsync.core.settings import VARIABLES, Settings
from tests.docs.pages import DOCS, cells, marked


def test_every_setting_stands_there_with_its_default() -> None:
    rows = [cells(row) for row in marked("guide/configuration.md", "settings")[2:]]
    written = {name.strip("`"): default.strip("`") for name, default, _ in rows}
    assert written == {name: repr(getattr(Settings, name)) for name in RULES}


def test_every_variable_stands_there_with_its_field() -> None:
    rows = [cells(row) for row in marked("guide/configuration.md", "variables")[2:]]
    assert {variable.strip("`"): name.strip("`") for variable, name in rows} == VARIABLES


def test_the_recommended_tokens_are_those_that_the_function_gives() -> None:
    head, _, *rows = (cells(row) for row in marked("operate/tokens.md", "recommended"))
    nodes = [int(cell.split()[0]) for cell in head[1:]]
    for tasks, *written in rows:
        given = [recommended_tokens(int(tasks.replace(",", "")), each) for each in nodes]
        assert [int(cell.replace(",", "")) for cell in written] == given


@pytest.mark.parametrize("name", ["customer-000001 ...", "random UUIDs"])
def test_the_spread_of_the_functions_is_as_it_was_measured(name: str) -> None:
    assert row_of_functions(name, id_sets(IDS)[name]) in marked("operate/tokens.md", "spread")


def test_the_effect_of_the_number_of_tokens_is_as_it_was_measured() -> None:
    assert row_of_tokens(10_000) in marked("operate/tokens.md", "token counts")


def test_everything_that_can_be_imported_stands_in_the_reference() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md"))
    told = {name for name in jobsync.__all__ if f"::: jobsync.{name}\n" in text or f"`jobsync.{name}`" in text}
    assert told == set(jobsync.__all__)
