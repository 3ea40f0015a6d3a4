"""Write `docs/reference/command.md` from the commands themselves: `python docs/make_command.py` after a change of any.

What a command does, its options and its exit statuses come from its help; what `--json` prints, from the values that
are printed. Only the order of the sections and the words between them are written here. A command without a section is
an error, not a gap.
"""

import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from jobsync.api import cluster, doctor, fleet_status, fleet_values
from jobsync.cli.app import app
from jobsync.core.queue.stored import AttemptError, StoredJob

PAGE = Path(__file__).parent / "reference" / "command.md"

INTRODUCTION = """\
# The command

<!-- Written by docs/make_command.py from the commands themselves: change them, and run it. -->

`pip install '.[cli]'`. Which fleet is meant is told by `--dsn` and `--appname`, or the
[`SYNC_*` variables](../guide/configuration.md#the-environment); `--dsn embedded` is the embedded server.

**Exit status**, unless a command says otherwise: 0 it is done, or shown; 1 it is not so, or there was nothing to do or
to show; 2 it was asked wrongly, or the database could not be asked. An error is one line on standard error that says
what to do. Three more are of any command:

* 141: whoever read its output went away, as in `jobsync nodes | head -1`. Nothing is said; it is what a shell shows for
  any program that SIGPIPE ends.
* 74: standard output cannot be written: a full disk, or closed (`>&-`). One line on standard error says why. Commands
  that change the fleet or the queue do it before they report: only the report is lost.
* 130: Ctrl-C.

**`--json`** prints one object or list for programs. Its fields are named under each command; none is taken away or
given another meaning without a line in the changelog, and new ones may be added. Times are ISO 8601 texts. Where there
is nothing to show, that is printed, and standard error has no word of it: an empty list; `null` for one job; `done`
false, or 0 of `--all`, which is also what is printed where nobody said yes. With exit status 2 there is nothing else to
read. A question that a command asks stands on standard error.

**Tables** are made and brought up to date by `migrate`, `worker` and `run`, and by the demos in a place of their own.
What only looks or steers makes and changes none: where they are missing, or do not fit, it says so with exit status 2.

**Completion**: `jobsync --install-completion` sets it up for your shell, `jobsync --show-completion` prints it.

**Names and keys are data**: they are shown without markup, and what a terminal would obey is written out. So is what
the encoding of your terminal lacks (`LC_ALL`, `PYTHONIOENCODING`): `Zo\\xeb` in ASCII. JSON is ASCII always.
"""

SECTIONS: dict[str, tuple[str, ...]] = {
    "Looking": ("status", "top", "dashboard", "nodes", "tokens", "locks list", "history", "explain", "plan"),
    "Steering": ("cordon", "drain", "freeze", "resume", "locks add", "locks clear"),
    "The queue": (
        "jobs list", "jobs show", "jobs counts", "jobs retry", "jobs cancel", "jobs pause", "jobs resume",
    ),
    "Upkeep": ("doctor", "migrate", "prune"),
    "Running": ("run", "worker"),
    "Playing": ("demo", "demo-queue", "simulate"),
}  # fmt: skip

BETWEEN = {
    "Steering": """\
What is asked is a row of `sync_steering`, with who asked, when and why, until it is resumed; then with who ended it. It
holds for the name of the node, whoever leads and however often it restarts. The leader plans by it at once, told by a
notification, and at latest with its next beat. `cluster.drain("worker-3")` does the same from Python: see
[Administration](administration.md).

* **cordon**: no new tokens and no new jobs. Its tokens stay, apart from those whose lock prefers another node; its jobs
  run on.
* **drain**: the same, and its tokens go to others, the lead as well; they stay while no other node may take them. Jobs
  that run finish, those that have not begun go back.
* **freeze**: nobody gets new tokens but those of the dead. A node that leaves finds its own again when it is back under
  its name; until then they are nobody's. Jobs as ever.
""",
    "The queue": "See also [Operating the queue](../guide/queue-operations.md).\n",
}

ONE_A_CPU = {"Processes for --seeds.": "one a CPU"}  # By its help: a default that differs between machines.

AFTER = {
    "history": (
        "`settled` counts from the plan until all had arrived; a token that passes between two live nodes stays with "
        "the old one for most of that time. `uncovered` counts from the old owner's own word of when it ceased to "
        "believe in the token. When a process died nobody can say: what it had counts from the last sign of life that "
        "whoever fenced it had seen, a session or a beat. A hand-over belongs to the plan that last changed what its "
        "old owner should hold, however long it takes and whatever is planned for others meanwhile; after a death, to "
        "the first plan made then.\n\n"
        "Each hand-over is a row of `sync_handover`, kept as long as the rebalance. What a node gave up and got back "
        "itself, after a restart that was quicker than a fence for instance, belongs to no rebalance: `explain` shows "
        "it, and the query `uncovered` of the [cheat sheet](../operate/cheatsheet.md). While nodes of schema version 5 "
        "or older run beside newer ones, what those give up is not told: `uncovered` is then at least what it says."
    ),
    "worker": (
        "The target is a `ProcessingWorker`, a subclass of it, or a function without arguments that gives one. The "
        "current directory can be imported from. What is not given is as the module made it."
    ),
}

JSON: dict[str, tuple[str, tuple[type, ...]]] = {
    "status": (
        "an object: ClusterStatus, and `healthy`, `leader`, `live_nodes`, `live_tokenless`, `tokens_live`, `frozen`",
        (cluster.ClusterStatus, cluster.NodeStatus, cluster.Rebalance, fleet_status.Steered),
    ),
    "top": (
        "an object of `healthy`, `status` (as of `status`), `moves` (source, target, tokens) and `queue`",
        (fleet_values.QueuePulse,),
    ),
    "nodes": ("a list of NodeStatus, as in `status`", ()),
    "tokens": ("a list of HeldRange, each with its `size`", (fleet_values.HeldRange,)),
    "locks list": ("a list of LockStatus", (fleet_values.LockStatus,)),
    "history": ("a list of PastRebalance", (fleet_values.PastRebalance, fleet_values.TokenMove)),
    "explain": ("one Explanation; `lock` as in `locks list`", (fleet_values.Explanation, fleet_values.PastOwner)),
    "plan": ("one DryRun", (fleet_values.DryRun,)),
    "cordon": ("an object of `verb`, `node`, `changed`", ()),
    "drain": ("an object of `verb`, `node`, `changed`; with `--wait`: `verb`, `node`, `empty`, `tokens`, `jobs`", ()),
    "freeze": ("an object of `verb`, `node` (null), `changed`", ()),
    "resume": ("an object: `ended`, a list of Steered, as in `status`", ()),
    "locks add": ("an object of `task_id`, `node_patterns`, `created_by`", ()),
    "locks clear": ("an object: `cleared`, how many", ()),
    "doctor": ("one Diagnosis, and `is_well`", (doctor.Diagnosis, doctor.Finding)),
    "prune": ("one Pruned", (fleet_values.Pruned,)),
    "jobs list": ("a list of StoredJob", (StoredJob,)),
    "jobs show": ("one StoredJob, with its `errors`; null where there is none", (AttemptError,)),
    "jobs counts": ("an object: the counts by status, `paused`, `unknown_kinds` (queue, kind, jobs)", ()),
    "jobs retry": ("an object: `done`, true or false; with `--all`, how many", ()),
    "jobs cancel": ("an object: `done`, true or false; with `--all`, how many", ()),
    "jobs pause": ("an object: `done`", ()),
    "jobs resume": ("an object: `done`", ()),
    "migrate": ("an object: `changed`, `awaits_post` (there is a second phase to do); with `--print`: `sql`", ()),
    "demo": ("the verdict", ()),
    "demo-queue": ("the verdict", ()),
}


def commands() -> dict[str, Any]:
    """Give every command by its name; those of a group by both names."""
    found: dict[str, Any] = {}
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        if inner is None:
            found[name] = command
        else:
            found |= {f"{name} {each}": inner[each] for each in inner}
    return found


def page() -> str:
    """Give the whole page."""
    there = commands()
    told = {name for names in SECTIONS.values() for name in names}
    assert told == set(there), f"docs/make_command.py has no section for {sorted(told ^ set(there))}"
    parts = [INTRODUCTION]
    for section, names in SECTIONS.items():
        parts.append(f"## {section}\n")
        parts.extend([BETWEEN[section]] if section in BETWEEN else [])
        parts.extend("\n\n".join(described(name, there[name])) + "\n" for name in names)
    return "\n".join(parts)


def described(name: str, command: Any) -> Iterator[str]:
    """Describe one command."""
    yield f"### {name}"
    yield f"```text\njobsync {' '.join([name, *usage(command)])}\n```"
    yield from (" ".join(paragraph.split()) for paragraph in inspect.cleandoc(command.help).split("\n\n"))
    if name in AFTER:
        yield AFTER[name]
    rows = [row for parameter in command.params if (row := described_parameter(parameter))]
    if rows:
        yield "\n".join(["| | |", "|---|---|", *rows])
    if name in JSON:
        what, values = JSON[name]
        yield f"`--json`: {what}."
        if values:
            yield "\n".join(f"* {value.__name__}: {fields_of(value)}" for value in values)


def usage(command: Any) -> Iterator[str]:
    """Give the arguments, in order, and a place for options."""
    for parameter in command.params:
        if is_argument(parameter):
            yield parameter.metavar or parameter.name.upper()
    yield "[OPTIONS]"


def is_argument(parameter: Any) -> bool:
    """Tell arguments from options."""
    return not parameter.opts[0].startswith("-")


def described_parameter(parameter: Any) -> str:
    """Give a row of the table; the options that every command has are described above."""
    if parameter.name in {"dsn", "appname", "as_json", "help"} and parameter.default in {None, False}:
        return ""
    if is_argument(parameter):
        name = parameter.metavar or parameter.name.upper()
    else:
        name = ", ".join(parameter.opts)
        if not getattr(parameter, "is_flag", False):
            name += f" {parameter.metavar or parameter.name.split('_')[-1].upper()}"
    text = parameter.help or ""
    default = ONE_A_CPU.get(text, parameter.default)
    if default not in {None, False, ""} and not callable(default) and not parameter.required and "[default" not in text:
        text += f" [default: {default:g}]" if isinstance(default, float) else f" [default: {default}]"
    return f"| `{name}` | {text.replace('|', chr(92) + '|')} |"


def fields_of(value: type) -> str:
    """Name the fields of a value."""
    return ", ".join(f"`{field.name}`" for field in dataclasses.fields(value))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
