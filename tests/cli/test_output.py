"""What becomes of a command's words where nobody takes them: a reader that went away, a full disk, another alphabet."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import pytest

from jobsync import CoordinationConfig, JobQueue
from jobsync.api.cluster import migrate
from jobsync.cli import main
from jobsync.cli.output import READER_GONE, UNWRITTEN, as_taken
from jobsync.cli.shared import agreed, shown
from tests.cli.command import clean_environment
from tests.cli.conftest import TWO_NODES, Command

FULL = Path("/dev/full")
READING = (
    "status", "status --json", "status --dsn=nowhere=1 --help", "--help", "nodes", "nodes --json", "tokens", "history",
    "explain key", "plan --without alpha", "locks list --json", "jobs list", "jobs list --json", "jobs counts",
    "doctor", "top --once", "migrate --print",
)  # fmt: skip
needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")


@contextmanager
def reader_gone() -> Iterator[TextIO]:
    """Give the writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    with suppress(BrokenPipeError), os.fdopen(writing, "w") as stream:
        yield stream


@contextmanager
def full_disk() -> Iterator[TextIO]:
    with suppress(OSError), FULL.open("w") as stream:
        yield stream


def status_of(monkeypatch: pytest.MonkeyPatch, line: str, stdout: TextIO | None, stderr: TextIO) -> Any:
    """Run the command in this process, on such streams; give its exit status."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["jobsync", *line.split()])
        patch.setattr(sys, "stdout", stdout)
        patch.setattr(sys, "stderr", stderr)
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code


def test_who_stops_reading_hears_nothing_and_the_status_is_that_of_any_program(
    run: Command, two_nodes: None, server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with JobQueue(CoordinationConfig(dsn=server_dsn, appname=prefix)) as queue:
        queue.enqueue("mail")
    for line in READING:
        with reader_gone() as pipe:
            ended = status_of(monkeypatch, line, pipe, err := io.StringIO())
        assert (ended, err.getvalue()) == (READER_GONE, ""), line


@needs_full
def test_a_full_disk_is_one_line_and_a_status_of_its_own(
    run: Command, two_nodes: None, sql: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for line in ("status", "nodes", "jobs counts --json", "--help"):
        with full_disk() as disk:
            assert status_of(monkeypatch, line, disk, err := io.StringIO()) == UNWRITTEN, line
        assert err.getvalue().startswith("jobsync: standard output cannot be written: No space left on device; ")
        assert err.getvalue().count("\n") == 1
    # What was done is done, and called neither refused nor well.
    err = io.StringIO()
    with full_disk() as disk, reader_gone() as pipe:
        assert status_of(monkeypatch, "cordon alpha", disk, err) == UNWRITTEN
        assert status_of(monkeypatch, "freeze --json", pipe, err) == READER_GONE
    assert sql("select verb from t_steering order by verb") == [("cordon",), ("freeze",)]
    assert "what was done by then stays done" in err.getvalue()


@needs_full
def test_an_error_that_nobody_can_be_told_of_keeps_its_status(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with full_disk() as disk:
        assert status_of(monkeypatch, "cordon nobody", io.StringIO(), disk) == 2
        assert status_of(monkeypatch, "nodes", io.StringIO(), disk) == 1
        assert status_of(monkeypatch, "status --nonsense", io.StringIO(), disk) == 2


def test_processes_end_so_and_say_nothing_at_the_end(server_dsn: str, prefix: str) -> None:
    """The interpreter flushes once more when it ends, and would make 120 of it."""
    migrate(CoordinationConfig(dsn=server_dsn, appname=prefix))
    environment = {**clean_environment(), "SYNC_DSN": server_dsn, "SYNC_SQL_APPNAME": prefix}

    def ends(line: str, stdout: Any = None) -> tuple[int, str]:
        command = ["bash", "-c", line.replace("jobsync", f"exec {sys.executable} -m jobsync")]
        done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, env=environment)
        return done.returncode, done.stderr

    with reader_gone() as pipe:
        assert ends("jobsync status", pipe) == (READER_GONE, "")
        assert ends("jobsync nodes --json", pipe) == (READER_GONE, "")
    status, err = ends("jobsync nodes --json >&-")
    assert (status, err.count("\n")) == (UNWRITTEN, 1)
    assert err.startswith("jobsync: standard output cannot be written: Bad file descriptor; ")
    assert ends("jobsync jobs list <&- 2>&-") == (1, "")


# --- alphabets -------------------------------------------------------------------------------------


def test_what_an_alphabet_lacks_is_written_out(
    run: Command, sql: Callable[[str], Any], server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sql(TWO_NODES.replace("'alpha'", "'Zoë'"))
    with JobQueue(CoordinationConfig(dsn=server_dsn, appname=prefix)) as queue:
        number = queue.enqueue("größe" * 60, {"ö": "日本"})
    monkeypatch.setenv("COLUMNS", "100")
    for line in ("status", "nodes", "top --once", "cordon Zoë", "jobs list", f"jobs show {number}", "--help"):
        page = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        assert status_of(monkeypatch, line, page, io.StringIO()) == 0, line
        page.seek(0)
        text = page.read()
        assert r"Zo\xeb" in text or r"gr\xf6\xdf" in text or line == "--help", line
        if line == "nodes":  # Columns stay columns.
            assert len({each.index(" 50 ") for each in text.splitlines()[1:3]}) == 1, text


def test_pictures_keep_their_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert as_taken("█░·▁▇ ■") == "#-._% #"
    assert shown("x" * 300).endswith("x...")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
    assert as_taken("Zoë 名") == "Zoë \\u540d"


# --- questions -------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """One who sits there and types."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("typed", "does"), [("y\n", True), ("Yes\n", True), ("n\n", False), ("\n", False), ("", False)]
)
@pytest.mark.parametrize("nothing", [None, {"done": 0}])
def test_a_question_is_no_part_of_the_answer(
    typed: str, does: bool, nothing: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    assert agreed("cancel 2 jobs", nothing) is does
    out, err = capsys.readouterr()
    assert err.startswith("Cancel 2 jobs? [y/N] " + ("" if typed else "\n"))  # Nothing is written behind a question.
    assert (json.loads(out) if out else None) == (None if does else nothing)
