"""Where a command's words go, and what becomes of it where nobody takes them.

Model: `main` guards the three streams before any command runs. Whatever is written to standard output then either
arrives or raises OutputLost, which is no OSError, so that neither Typer nor Rich makes an exit status of its own of it.
Standard error is where errors are told: where that cannot be written either, nobody can be told, and the exit status
stands. A character that the stream's encoding lacks is written out, and never an error.
"""

import codecs
import os
import sys
from contextlib import suppress
from typing import Any, Final, TextIO

READER_GONE: Final = 141
"""Exit status where the reader went away, as in `jobsync nodes | head -1`: what a shell shows for SIGPIPE."""

UNWRITTEN: Final = 74
"""Exit status where standard output cannot be written, as on a full disk: EX_IOERR of sysexits.h."""

WRITTEN_OUT: Final = "jobsync-written-out"
"""The codecs' handler of what an encoding lacks."""

# Drawn by some commands; each becomes as many columns, so that pictures keep their shape.
_DRAWN: Final = dict(zip("█■░·▁▂▃▄▅▆▇", "##-._.-=+*%", strict=True)) | {"…": "..."}


class OutputLost(Exception):  # noqa: N818 - it names what happened
    """Standard output did not take what was written to it."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror or str(error))
        self.is_reader_gone = isinstance(error, BrokenPipeError)


class _Out:
    """Standard output; what it cannot write is OutputLost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            raise OutputLost(error) from None

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            raise OutputLost(error) from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Err:
    """Standard error; what it cannot write is lost without a word, since there is nowhere to say it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def guard() -> None:
    """Guard this process's streams; those that the caller closed (`>&-`) are there, and take or give nothing."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull)  # noqa: SIM115, PTH123 - as long as the process
    if sys.stdout is None:
        # Not writable: whoever writes is told so, as with any other stream that takes nothing.
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w")  # noqa: SIM115, PTH123
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=WRITTEN_OUT)
    sys.stdout, sys.stderr = _Out(sys.stdout), _Err(sys.stderr)


def status_of_loss(lost: OutputLost) -> int:
    """Give the exit status, having said what happened where that is news; nothing more is written to stdout."""
    sys.stdout = None  # Python would try again at the end, and complain.
    if lost.is_reader_gone:
        return READER_GONE
    sys.stderr.write(
        f"jobsync: standard output cannot be written: {lost}; the report is lost, what was done by then stays done\n"
    )
    return UNWRITTEN


def say(text: str, *, err: bool = False, end: str = "\n") -> None:
    """Write a line, for whoever reads along."""
    print(text, end=end, file=sys.stderr if err else sys.stdout, flush=True)


def as_taken(text: str) -> str:
    """Give a text as standard output takes it, with what its encoding lacks written out: tables are laid out by it."""
    if text.isascii():
        return text
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, WRITTEN_OUT).decode(encoding)


def _written_out(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    parts = (_DRAWN.get(each) or each.encode("ascii", "backslashreplace").decode() for each in lacking)
    return "".join(parts), error.end


codecs.register_error(WRITTEN_OUT, _written_out)
