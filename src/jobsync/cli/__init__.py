"""The `jobsync` command: what people and scripts use of the package from a shell.

Model: every command reads its settings from options and `SYNC_` variables, does its work through `jobsync.api`, and
ends with an exit status: 0 it is well, 1 it is not, 2 it could not be asked or was asked wrongly; 74 and 141 are of
whoever was to take its output (`output`), 130 of Ctrl-C. Errors are one line on stderr. Typer and Rich come with the
extra `cli`; importing `jobsync` itself needs neither, and worker processes do not load them. `jobsync status`, which is
called most, is done without them, too.
"""

import gc
import sys

OBJECTS_BETWEEN_SEARCHES = 50_000


def main() -> None:
    """Run the command, and end the process with its exit status."""
    # A third of what a command costs is Python's search for garbage: while modules are loaded, and again at the end,
    # when all of it goes anyway. Most live half a second and make less than this; those that live long are searched.
    gc.set_threshold(OBJECTS_BETWEEN_SEARCHES, 10, 10)
    from jobsync.cli.output import OutputLost, guard, status_of_loss  # noqa: PLC0415 - after the above

    guard()
    try:
        try:
            _run()
        finally:
            sys.stdout.flush()
            gc.freeze()
    except OutputLost as lost:
        sys.exit(status_of_loss(lost))
    except KeyboardInterrupt:
        sys.exit(130)


def _run() -> None:
    """Run the command; say in one line what to install where the extra is missing."""
    if sys.argv[1:2] == ["status"]:
        _status(sys.argv[2:])
    try:
        from jobsync.cli.app import app  # noqa: PLC0415 - only the command needs the extra, not its workers

        app()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"typer", "rich"}:
            raise
        sys.exit(f"the jobsync command needs {error.name}, which is not installed: pip install 'jobsync[cli]'")


def _status(arguments: list[str]) -> None:
    """End the process with the status of the fleet; come back where Typer has to read the options."""
    from jobsync.cli.status import asked_alone, run_alone  # noqa: PLC0415 - see `main`

    asked = asked_alone(arguments)
    if asked is not None:
        sys.exit(run_alone(asked))
