"""The benches run: each names functions, tables and words of the schema that no other test would miss there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import steering
from bench.__main__ import BENCHES
from bench.context import Context
from bench.virtual import VirtualFleet
from tests.api.jobs import query
from tests.docs.pages import ROOT

LIMIT_SEC = 600


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(BENCHES) - {"peers"}))  # It installs them.
def test_every_bench_measures_something(name: str, tmp_path: Path) -> None:
    report = tmp_path / "bench.json"
    command = [sys.executable, "-m", "bench", name, "--quick", "--json", str(report)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT_SEC)
    assert report.exists(), done.stderr
    figures = json.loads(report.read_text())["figures"]
    assert figures
    assert not any(figure["reached"].startswith("not measured") for figure in figures), done.stderr


def test_members_without_processes_join_and_leave(server_dsn: str, prefix: str) -> None:
    fleet = VirtualFleet(server_dsn, prefix, 100)
    try:
        for name in "abc":
            fleet.join(name)
        fleet.leave("b")
        assert [len(fleet.held[name]) for name in fleet.names] == [51, 50]  # And the lead.
    finally:
        fleet.close()


def test_what_is_cut_out_of_statements_and_compared_is_there(
    server_dsn: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steering, "CALLS", 1)
    monkeypatch.setattr(Context, "repeats", lambda *_: 2)
    given = iter([f"{prefix}{number}_" for number in range(3)])
    monkeypatch.setattr(Context, "new_prefix", lambda _: next(given))
    figures = steering.steering(Context(server_dsn, tmp_path, quick=True, counts_statements=False))
    assert [figure.n for figure in figures] == [2] * 6
    for number in range(3):  # Each of them is a beat that was heard.
        assert query(server_dsn, f"select beats from {prefix}{number}_node where name = 'node-3'") == [(2,)]
