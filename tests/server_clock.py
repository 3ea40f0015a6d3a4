"""A PostgreSQL whose clock can be set while it runs, by libfaketime (Debian: apt-get install faketime).

Only the time of day is moved; what the server measures durations by goes on. Its processes read the setting anew every
second, so a step comes to each of them at a moment of its own, as on no real machine: worse weather than life.
"""

from pathlib import Path

LIBRARIES = [*Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), *Path("/usr/lib/faketime").glob("libfaketime.so.1")]


def why_no_clock() -> str | None:
    """Say why clocks cannot be set here; None if they can."""
    return None if LIBRARIES else "no libfaketime here: apt-get install faketime"


class ServerClock:
    """How far a server's clock is off; the server gets `environment` when it starts."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "clock"
        self.offset_sec = 0.0
        self.set_to(0.0)
        self.environment = {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set_to(self, offset_sec: float) -> None:
        """Set the clock so many seconds ahead, or back."""
        self.offset_sec = offset_sec
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{offset_sec:+.3f}s\n")
        fresh.chmod(0o644)
        fresh.rename(self._file)  # Nobody reads half of it.
