"""`jobsync status`, apart from Typer: monitors and impatient people call it often, and it is to be there at once.

`asked_alone` reads the few options that it has; whatever else stands on the line, help and mistakes included, is left
to Typer, which calls the same `show`. A test holds which modules that loads, and that both ways read alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jobsync.api.fleet_status import read_status
from jobsync.cli.given import config_of
from jobsync.cli.output import say
from jobsync.cli.shared import one_line, say_json
from jobsync.core.errors import JobsyncError


@dataclass(slots=True)
class Asked:
    """What the command line says."""

    dsn: str | None = None
    appname: str | None = None
    as_json: bool = False


def asked_alone(arguments: Sequence[str]) -> Asked | None:
    """Read the options of `jobsync status`; None: leave it to Typer."""
    asked = Asked()
    rest = iter(arguments)
    for argument in rest:
        option, equals, value = argument.partition("=")
        if argument == "--json":
            asked.as_json = True
            continue
        given = value if equals else next(rest, None)
        if option not in {"--dsn", "--appname"} or given is None:
            return None
        if option == "--dsn":
            asked.dsn = given
        else:
            asked.appname = given
    return asked


def run_alone(asked: Asked) -> int:
    """Do it and give the exit status; an error is one line."""
    try:
        return show(asked.dsn, asked.appname, as_json=asked.as_json)
    except JobsyncError as error:
        say(one_line(error), err=True)
        return 2


def show(dsn: str | None, appname: str | None, *, as_json: bool) -> int:
    """Ask and print; give the exit status: 0 healthy, 1 not. Raises JobsyncError where it cannot ask."""
    found = read_status(config_of({"dsn": dsn, "appname": appname}))
    if as_json:
        from jobsync.cli.status_json import status_as_dict  # noqa: PLC0415 - one of the two is needed

        say_json(status_as_dict(found))
    else:
        from jobsync.cli.plain import Paper  # noqa: PLC0415
        from jobsync.cli.status_view import show_status  # noqa: PLC0415

        show_status(Paper(), found)
    return 0 if found.is_healthy else 1
