"""The demo as a user starts it, and its parts."""

import json
import os
import re
import signal
from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest
from rich.console import Console

from jobsync import CoordinationConfig
from jobsync.api.cluster import ClusterStatus, TokenSpan, open_cluster
from jobsync.cli.demo import stdlib
from jobsync.cli.demo.play import pace_ms
from jobsync.cli.demo.verdict import Check, Verdict
from jobsync.cli.demo.view import owners_by_cell, show_verdict
from jobsync.cli.demo.watch import Snapshot
from tests.cli.command import call, start, wait_for

SHORT = ("--files", "120", "--seconds", "5")


def next_line(lines: Iterator[str], seen: list[str]) -> str:
    seen.append(next(lines))
    return seen[-1]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def traces(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as conn:
        rows = conn.execute(
            "select relname from pg_class where relname like 'demo\\_%' "
            "union all select proname from pg_proc where proname like 'demo\\_%'"
        ).fetchall()
    return [name for (name,) in rows]


def test_the_demo_holds_and_leaves_nothing_behind(server_dsn: str) -> None:
    status, out, err = call("demo", "--dsn", server_dsn, "--json", *SHORT)
    verdict = json.loads(out)
    broken = [check for check in verdict["checks"] if not check["holds"]]
    assert (status, broken, verdict["holds"], err) == (0, [], True, "")
    assert verdict["files"] == 120
    assert not [name for name in traces(server_dsn) if name.startswith(verdict["prefix"])]


def test_an_interrupted_demo_stops_its_workers_and_drops_its_tables(server_dsn: str) -> None:
    with start("demo", "--dsn", server_dsn, *SHORT) as demo:
        assert demo.stdout is not None
        lines = iter(demo.stdout.readline, "")
        seen: list[str] = []
        wait_for(lambda: "deals" in next_line(lines, seen))
        found = re.search(r"tables (demo_\w+_)\*", "".join(seen))
        assert found is not None
        with open_cluster(CoordinationConfig(dsn=server_dsn, appname=found[1])) as cluster:
            pids = [node.pid for node in cluster.status().nodes if node.pid is not None]
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=30)
    assert demo.returncode == 130
    assert pids
    assert not [pid for pid in pids if is_alive(pid)]
    assert not [name for name in traces(server_dsn) if name.startswith(found[1])]


@pytest.mark.slow
def test_output_that_is_no_terminal_is_plain_lines(server_dsn: str) -> None:
    with start("demo", "--dsn", server_dsn, *SHORT) as demo:
        assert demo.stdout is not None
        lines = iter(demo.stdout.readline, "")
        seen: list[str] = []
        wait_for(lambda: re.search(r"\d+ of 120 files", next_line(lines, seen)))
        demo.send_signal(signal.SIGTERM)
        demo.communicate(timeout=30)
        assert demo.returncode == 128 + signal.SIGTERM
    assert "\x1b" not in "".join(seen)
    assert any(re.fullmatch(r" *\d+\.\d\d s  4 workers start\n", line) for line in seen)


def test_the_input_is_the_standard_library_without_test_suites() -> None:
    files = stdlib.module_files()
    assert len(files) > 400
    assert {"json/decoder.py", "ast.py"} <= set(files)
    assert not [name for name in files if "site-packages" in name or name.startswith("test/")]


def test_a_limit_takes_the_first_files() -> None:
    assert stdlib.module_files(3) == stdlib.module_files()[:3]


def test_lines_functions_and_imports_are_counted() -> None:
    source = b"import os, sys\nfrom a import b\nclass C:\n    def f(self): pass\n    async def g(self): pass"
    assert stdlib.count(source) == stdlib.Counts(lines=5, functions=2, imports=3)


def test_what_is_no_python_has_its_lines_counted_alone() -> None:
    assert stdlib.count(b"print 'old'\n") == stdlib.Counts(lines=1, functions=0, imports=0)


def test_the_pace_spreads_the_files_over_the_time_wanted() -> None:
    # 100 files by 4, 80 by 3, 60 by 2 and 160 by 3 workers: 25 + 26.67 + 30 + 53.33 files in a row.
    assert round(pace_ms(400, 4, 13.5)) == 100


def snapshot(*spans: TokenSpan) -> Snapshot:
    status = ClusterStatus(
        where="", appname="", read_at=datetime(2026, 1, 1, tzinfo=UTC), total_tokens=100, hash_function=None,
        plan_version=1, schema_version=1, quarantined=False, tokens_held=0, locks=0, nodes=(), rebalances=(),
    )  # fmt: skip
    return Snapshot(at_sec=0.0, status=status, spans=spans, files={})


def test_the_strip_names_the_owner_of_most_of_each_cell() -> None:
    spans = (TokenSpan("a", 0, 27), TokenSpan("b", 27, 60))
    assert owners_by_cell(snapshot(*spans), 5) == ["a", "b", "b", None, None]


def test_the_strip_copes_with_more_cells_than_tokens() -> None:
    assert set(owners_by_cell(snapshot(TokenSpan("a", 0, 100)), 200)) <= {"a", None}


def test_a_broken_promise_is_plain_to_see() -> None:
    console = Console(record=True, width=80, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    show_verdict(console, Verdict((Check("kept", holds=True, figures="1"), Check("broken", holds=False, figures="2"))))
    console.file.close()
    assert console.export_text().split("\n")[1:5] == ["ok  kept    1", "BAD broken  2", "", "The verdict is broken."]
