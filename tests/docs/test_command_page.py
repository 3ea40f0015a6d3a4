"""The page of the command is what the commands say."""

import runpy

from tests.docs.pages import DOCS

MADE = runpy.run_path(str(DOCS / "make_command.py"))


def test_the_page_is_up_to_date() -> None:
    assert MADE["page"]() == MADE["PAGE"].read_text(encoding="utf-8"), "run: python docs/make_command.py"


def test_every_command_is_described_and_its_options_say_what_they_are() -> None:
    for name, command in MADE["commands"]().items():
        assert command.help, name
        for parameter in command.params:
            assert parameter.help, (name, parameter.name)


def test_every_command_that_prints_json_says_what() -> None:
    for name, command in MADE["commands"]().items():
        has_json = any("--json" in parameter.opts for parameter in command.params)
        assert has_json == (name in MADE["JSON"]), name
