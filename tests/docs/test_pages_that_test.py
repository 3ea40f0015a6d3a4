"""The page about testing, played: its program and its tests are files, and pytest runs them."""

from pathlib import Path

from tests.docs.pages import blocks_of
from tests.testing.test_plugin import run_pytest

PAGE = "guide/testing.md"


def test_the_tests_of_the_page_pass(tmp_path: Path, server_dsn: str) -> None:
    files = {block.title: block.text for block in blocks_of(PAGE) if block.language == "python"}
    assert set(files) == {"mail.py", "test_mail.py"}
    for name, text in files.items():
        assert name is not None
        (tmp_path / name).write_text(text)
    run = run_pytest(tmp_path, "", JOBSYNC_TEST_DSN=server_dsn)
    assert "5 passed" in run.stdout, run.stdout + run.stderr


def test_everything_that_there_is_stands_on_the_page() -> None:
    import jobsync.testing  # noqa: PLC0415

    text = (Path(__file__).parents[2] / "docs" / PAGE).read_text()
    assert [name for name in jobsync.testing.__all__ if name not in text] == []
