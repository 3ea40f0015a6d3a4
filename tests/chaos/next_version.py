"""The next version of this program, made from this one: a copy of the package with one schema version more.

What is new in it is what a real version may bring: a table, a column, and another function in the place of one that
every hand-over calls; its removal takes that one away.
"""

import os
import shutil
from pathlib import Path

import jobsync
from jobsync.postgres.schema import latest_version

NEXT = latest_version() + 1

MIGRATION = """
alter table sync_node add column zone text not null default 'here';
create table sync_zone (zone text primary key);
"""
REMOVAL = "drop function if exists sync_grow;\n"
CALL = 'call("grow",'


def make_next_version(directory: Path) -> Path:
    """Write the package; give the directory that has to stand first in PYTHONPATH."""
    package = directory / "jobsync"
    shutil.copytree(Path(jobsync.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    sql = package / "postgres"
    (sql / "migrations" / f"{NEXT:04}_zones.sql").write_text(MIGRATION)
    (sql / "removals" / f"{NEXT:04}_grow.sql").write_text(REMOVAL)
    grow = sql / "functions" / "grow.sql"
    grow.with_stem("grow_anew").write_text(grow.read_text().replace("sync_grow", "sync_grow_anew"))
    grow.unlink()
    protocol = sql / "protocol.py"
    text = protocol.read_text()
    assert CALL in text
    protocol.write_text(text.replace(CALL, 'call("grow_anew",'))
    return directory


def environment_of(directory: Path) -> dict[str, str]:
    """Give an environment in which `python -m jobsync` is the version in this directory."""
    return {**os.environ, "PYTHONPATH": str(directory)}
