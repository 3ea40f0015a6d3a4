"""`jobsync doctor` and `prune`: what keeps a fleet and its tables well."""

from importlib import import_module
from typing import Annotated

import typer

from jobsync.cli.given import config_of
from jobsync.cli.options import Appname, AsJson, Dsn
from jobsync.cli.output import say
from jobsync.cli.shared import NOTHING, as_plain, asked, console, count, say_json


def doctor(*, dsn: Dsn = None, appname: Appname = None, as_json: AsJson = False) -> None:
    """Examine the server, the way to it, the tables, the fleet and the queue; each problem comes with its remedy.

    It changes nothing. Exit status 0 all is well, 1 there are problems, 2 the database could not be asked.
    """
    found = import_module("jobsync.api.doctor").diagnose(config_of({"dsn": dsn, "appname": appname}))
    if as_json:
        say_json(as_plain(found) | {"is_well": found.is_well})
    else:
        import_module("jobsync.cli.doctor_view").show_diagnosis(console(), found)
    raise typer.Exit(0 if found.is_well else NOTHING)


def prune(
    *,
    jobs_older_than: Annotated[
        float, typer.Option(metavar="DAYS", min=0, help="Delete jobs that ended longer ago, in days.")
    ] = 7.0,
    keep_jobs: Annotated[bool, typer.Option("--keep-jobs", help="Leave the queue alone.")] = False,
    dsn: Dsn = None,
    appname: Appname = None,
    as_json: AsJson = False,
) -> None:
    """Delete what is past its retention now, as the leader and the workers do every hour. Safe while workers run.

    Claims, audits, history and dead nodes by the retentions of the settings; ended jobs by --jobs-older-than.
    """
    with asked(dsn, appname) as cluster:
        done = cluster.prune(jobs_older_than_days=None if keep_jobs else jobs_older_than)
    if as_json:
        say_json(done)
    else:
        days, jobs = count(done.days, "day"), count(done.jobs, "ended job")
        say(f"pruned: old rows in {count(done.bites, 'bite')}, {days} of claims and audits, {jobs}")
