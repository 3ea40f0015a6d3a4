"""Options that several commands have."""

from enum import StrEnum
from typing import Annotated

import typer

Dsn = Annotated[
    str | None,
    typer.Option(help="Connection string or URL; 'embedded' for the embedded server. [default: SYNC_* variables]"),
]
Appname = Annotated[str | None, typer.Option(help="Prefix of the fleet's tables. [default: sync_]")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


class Phase(StrEnum):
    """The two phases in which the tables change, before and after a rolling update."""

    PRE = "pre"
    POST = "post"
