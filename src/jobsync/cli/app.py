"""The commands and their options. What they do stands in modules of their own, loaded when a command is called."""

import json
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from jobsync.cli import looking, simulate, steering, upkeep
from jobsync.cli.dashboard import dashboard
from jobsync.cli.given import config_of
from jobsync.cli.jobs import jobs
from jobsync.cli.locks import locks
from jobsync.cli.options import Appname, AsJson, Dsn, Phase
from jobsync.cli.output import say
from jobsync.cli.shared import console as _console
from jobsync.cli.shared import one_line
from jobsync.core.errors import JobsyncError


class OneLineErrors(TyperGroup):
    """Commands whose errors are one line on stderr and exit status 2."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except JobsyncError as error:
            say(one_line(error), err=True)
            raise typer.Exit(2) from None


app = typer.Typer(
    cls=OneLineErrors,
    help="Coordination for fleets of Python workers on PostgreSQL.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


app.add_typer(jobs, name="jobs")
app.add_typer(locks, name="locks")
_READING: tuple[Callable[..., None], ...] = (
    looking.nodes,
    looking.tokens,
    looking.history,
    looking.explain,
    looking.plan,
)
_STEERING: tuple[Callable[..., None], ...] = (steering.cordon, steering.drain, steering.freeze, steering.resume)
_UPKEEP: tuple[Callable[..., None], ...] = (upkeep.doctor, upkeep.prune)
_SHOWING: tuple[Callable[..., None], ...] = (simulate.simulate, dashboard)
for _command in (*_READING, *_STEERING, *_UPKEEP, *_SHOWING):
    app.command()(_command)


@app.command()
def demo(
    *,
    dsn: Annotated[str, typer.Option(help="Database to play in.")] = "embedded",
    workers: Annotated[int, typer.Option(min=3, max=8, help="Workers at the start.")] = 4,
    seconds: Annotated[float, typer.Option(min=4, max=45, help="About how long the files take.")] = 16,
    files: Annotated[int | None, typer.Option(min=50, help="Only so many files. [default: all]")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the demo's tables.")] = False,
    as_json: AsJson = False,
) -> None:
    """Watch a fleet at real work: a kill, a stop, a join, and a verdict. Exit status 0 only if it holds."""
    _demo("jobsync.cli.demo", dsn=dsn, workers=workers, seconds=seconds, files=files, keep=keep, as_json=as_json)


@app.command("demo-queue")
def demo_queue(
    *,
    dsn: Annotated[str, typer.Option(help="Database to play in.")] = "embedded",
    workers: Annotated[int, typer.Option(min=2, max=8, help="Workers at the start.")] = 4,
    seconds: Annotated[float, typer.Option(min=3, max=45, help="About how long the files take.")] = 14,
    files: Annotated[int | None, typer.Option(min=50, help="Only so many files. [default: all]")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the demo's tables.")] = False,
    as_json: AsJson = False,
) -> None:
    """Watch the queue at real work: a kill, a failure, a cancelled job, and a verdict. Exit status 0 if it holds."""
    _demo("jobsync.cli.demo_queue", dsn=dsn, workers=workers, seconds=seconds, files=files, keep=keep, as_json=as_json)


def _demo(module: str, *, keep: bool, as_json: bool, **options: Any) -> None:
    play = import_module(f"{module}.play")
    show = import_module(f"{module}.view").show_outcome
    console = _console()
    try:
        outcome = play.play(play.DemoOptions(keep=keep, **options), console, silent=as_json)
    except KeyboardInterrupt:
        say("interrupted: the workers are stopped and the tables dropped", err=True)
        raise typer.Exit(130) from None
    if as_json:
        say(json.dumps(outcome.as_dict(), indent=2))
    else:
        show(console, outcome, keep=keep)
    raise typer.Exit(0 if outcome.verdict.holds else 1)


@app.command()
def run(  # noqa: PLR0913 - one parameter an option
    *,
    target: Annotated[str, typer.Argument(metavar="MODULE:FUNCTION", help="Called as function(job) in each worker.")],
    workers: Annotated[int, typer.Option(min=1, max=1000, help="How many processes.")] = 1,
    dsn: Dsn = None,
    appname: Appname = None,
    name_prefix: Annotated[
        str | None, typer.Option(help="Names are PREFIX-1, PREFIX-2 ... [default: host and process number]")
    ] = None,
    run_name: Annotated[str | None, typer.Option("--run", help="Work within this run: each task once.")] = None,
    total_tokens: Annotated[int | None, typer.Option(help="Tokens of the cluster. [default: 10000]")] = None,
    minimum_nodes: Annotated[int | None, typer.Option(help="Wait until so many are live. [default: 1]")] = None,
    hash_function: Annotated[str | None, typer.Option(help="double_sha256, sha256 or md5.")] = None,
    heartbeat_interval: Annotated[float | None, typer.Option(help="Seconds. [default: 5]")] = None,
    heartbeat_timeout: Annotated[float | None, typer.Option(help="Seconds. [default: 15]")] = None,
) -> None:
    """Run a function of yours in several worker processes, each with an entered Job of its own.

    SIGTERM and SIGINT are passed on: job.tasks() ends, job.wait() returns. No worker is restarted; one that ends
    badly is reported, and the exit status is then 1.
    """
    options = {
        "dsn": dsn,
        "appname": appname,
        "total_tokens": total_tokens,
        "minimum_nodes": minimum_nodes,
        "hash_function": hash_function,
        "heartbeat_interval_sec": heartbeat_interval,
        "heartbeat_timeout_sec": heartbeat_timeout,
    }
    config_of(options)
    run_fleet = import_module("jobsync.cli.run_fleet").run_fleet
    raise typer.Exit(run_fleet(target, workers, options, name_prefix=name_prefix, run_name=run_name))


@app.command()
def worker(
    *,
    target: Annotated[
        str,
        typer.Argument(metavar="MODULE:ATTRIBUTE", help="A ProcessingWorker, a subclass, or a maker of one."),
    ],
    processes: Annotated[int, typer.Option(min=1, max=1000, help="How many processes.")] = 1,
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Jobs at once in each process. [default: the worker's own]")
    ] = None,
    queues: Annotated[
        str | None, typer.Option(help="Queues to take from, with commas between. [default: the worker's own]")
    ] = None,
    worker_id: Annotated[
        str | None, typer.Option(help="Its name; ID-1, ID-2 ... of several. [default: host, process, start time]")
    ] = None,
    dsn: Dsn = None,
    appname: Appname = None,
) -> None:
    """Run a queue worker of yours, in one process or several.

    SIGTERM and SIGINT stop it well: handlers finish, what did not begin goes back. A second one ends it at once.
    """
    settings = {"dsn": dsn, "appname": appname}
    config_of(settings)
    found = import_module("jobsync.cli.worker")
    options = found.WorkerOptions(
        worker_id=worker_id,
        queues=None if queues is None else tuple(name.strip() for name in queues.split(",") if name.strip()),
        max_concurrent_jobs=concurrency,
    )
    raise typer.Exit(found.run_worker(target, options, settings, processes=processes))


@app.command()
def top(
    *,
    every: Annotated[float, typer.Option(min=0.2, max=60, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one picture and end.")] = False,
    dsn: Dsn = None,
    appname: Appname = None,
    as_json: AsJson = False,
) -> None:
    """Watch the fleet live: nodes, who holds what against the plan, moves in flight, the queue. `q` or Ctrl-C ends it.

    While the database is away it says so, and goes on when it is back. --json and --once print one look; their exit
    status is 0 healthy, 1 not, 2 cannot ask.
    """
    config = config_of({"dsn": dsn, "appname": appname})
    module = import_module("jobsync.cli.top")
    if as_json or once:
        raise typer.Exit(module.print_once(config, as_json=as_json))
    module.watch(config, every)


@app.command()
def status(*, dsn: Dsn = None, appname: Appname = None, as_json: AsJson = False) -> None:
    """Show the fleet: nodes, tokens, latest rebalances. Exit status 0 healthy, 1 not, 2 cannot ask."""
    raise typer.Exit(import_module("jobsync.cli.status").show(dsn, appname, as_json=as_json))


@app.command()
def migrate(
    *,
    dsn: Dsn = None,
    appname: Appname = None,
    phase: Annotated[
        Phase, typer.Option(help="pre: add what is new. post: take away what only older programs need.")
    ] = Phase.PRE,
    print_sql: Annotated[
        bool, typer.Option("--print", help="Print the whole schema as SQL, for an empty database, and change nothing.")
    ] = False,
    from_version: Annotated[
        int | None, typer.Option("--from", help="With --print: the SQL that updates tables of this older version.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create the fleet's tables, or bring them up to this version, in two phases, for a rolling update between them.

    The first phase is safe while workers of older versions run. The second is refused, and names them, while such
    nodes are there. Exit status 0, whether there was anything to do or not; 2 where it was refused: then nothing is
    changed.
    """
    import_module("jobsync.cli.migrating").migrate(
        config_of({"dsn": dsn, "appname": appname}),
        phase,
        print_sql=print_sql,
        from_version=from_version,
        as_json=as_json,
    )
