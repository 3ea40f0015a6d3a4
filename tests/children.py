"""Processes that a test starts, and that do not outlive it."""

import subprocess
from types import TracebackType


class Child(subprocess.Popen[str]):
    """A process that is killed where its block ends by an error.

    `Popen` waits there for the process to end by itself: a check that failed would wait for ever instead of telling.
    """

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Kill it if the block failed; wait for it in any case."""
        if kind is not None:
            self.kill()
        super().__exit__(kind, error, traceback)
