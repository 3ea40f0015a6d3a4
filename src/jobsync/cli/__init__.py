"""The `jobsync` command: what people and scripts use of the package from a shell.

Model: every command reads its settings from options and `SYNC_` variables, does its work through `jobsync.api`, and
ends with an exit status: 0 it is well, 1 it is not, 2 it could not be asked or was asked wrongly. Errors are one line
on stderr. Typer and Rich come with the extra `cli`; importing `jobsync` itself needs neither, and worker processes
do not load them.
"""

import sys


def main() -> None:
    """Run the command; say in one line what to install where the extra is missing."""
    try:
        from jobsync.cli.app import app  # noqa: PLC0415 - only the command needs the extra, not its workers

        app()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"typer", "rich"}:
            raise
        sys.exit(f"the jobsync command needs {error.name}, which is not installed: pip install 'jobsync[cli]'")
