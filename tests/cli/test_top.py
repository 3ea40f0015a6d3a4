"""`jobsync top`: the picture, one look, a database that goes and comes back, and a terminal that is left as it was."""

import io
import json
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from rich.console import Console

from jobsync.api.cluster import open_cluster
from jobsync.api.fleet_values import HeldRange
from jobsync.api.moving import Move
from jobsync.cli import top
from jobsync.cli.top_view import cells, picture
from jobsync.core.errors import DatabaseUnavailable
from tests.api.jobs import eventually, settings
from tests.cli.conftest import Command

Sql = Callable[[str], list[tuple[Any, ...]]]


def drawn(look: top.Look | None, error: str | None = None, *, width: int = 80, height: int | None = 24) -> list[str]:
    """Draw, and read what stands on the screen."""
    console = Console(width=width, height=height or 100, record=True, file=io.StringIO(), markup=False)
    console.print(picture(look, error, width, height))
    return console.export_text().splitlines()


@pytest.fixture
def look(two_nodes: None, server_dsn: str, prefix: str) -> top.Look:
    with open_cluster(settings(server_dsn, prefix)) as cluster:
        return top.look_at(cluster).after(None)


def span(first: int, end: int, node: str | None) -> HeldRange:
    return HeldRange(first, end, node, node, 1, None)


def test_a_column_of_the_strip_is_whose_tokens_most_of_it_are() -> None:
    ranges = [span(0, 250_000, "a"), span(250_000, 700_000, None), span(700_000, 1_000_000, "b")]
    assert cells(["a", None, "b"], ranges, 10) == ["a", "a", "a", None, None, None, None, "b", "b", "b"]
    assert cells(["a", None, "b"], [span(0, 1, "a"), span(1, 2, None), span(2, 3, "b")], 6) == [
        "a", "a", None, None, "b", "b"
    ]  # fmt: skip
    assert cells([], [], 10) == []


@pytest.mark.parametrize("width", [80, 120])
def test_the_picture_shows_the_fleet_and_fits_the_screen(look: top.Look, width: int) -> None:
    lines = drawn(look, width=width)
    assert lines[0].startswith("healthy: 100 of 100 tokens held by 2 live nodes")
    strips = [line for line in lines if line.startswith(("plan ", "held "))]
    assert [len(line) for line in strips] == [width, width]
    assert "nothing moves" in lines
    assert any(line.split()[1:4] == ["alpha", "leads", "50"] for line in lines)
    assert any(line.startswith("queue  0 wait, 0 run, 0 later") for line in lines)
    assert lines[-1] == "q quits"
    assert len(lines) <= 24
    assert max(map(len, lines)) <= width


def test_moves_in_flight_are_told_with_phase_and_age(look: top.Look) -> None:
    began = look.status.read_at - timedelta(hours=3)
    moves = (
        Move("alpha", "beta", 50, 0, "being handed over", began),
        Move(None, "beta", 9, 50, "to be taken", began, is_older=True),
        Move("alpha", None, 1, 60, "not placed"),
        Move("x" * 200, "y" * 200, 1, 70, "being handed over", began),
    )
    ranges = (look.ranges[0], replace(look.ranges[1], node=None))
    lines = drawn(replace(look, moves=moves, ranges=ranges))
    assert "moving alpha to beta: 50 tokens, being handed over for 3 h" in lines
    assert "moving nobody to beta: 9 tokens, to be taken for over 3 h" in lines
    assert "moving alpha to nobody: 1 token, not placed" in lines
    assert max(map(len, lines)) <= 80
    assert "·" in next(line for line in lines if line.startswith("held "))


def test_many_nodes_are_cut_to_the_screen_and_evil_names_are_written_out(look: top.Look) -> None:
    one = look.status.nodes[0]
    many = tuple(replace(one, name=f"n{n}-[red]\x1b[31m" + "x" * 60) for n in range(200))
    lines = drawn(replace(look, status=replace(look.status, nodes=many)))
    assert len(lines) <= 24
    assert any("more nodes" in line for line in lines)
    assert any("n0-[red]\\x1b[31m" in line for line in lines)
    assert max(map(len, lines)) <= 80


def test_a_dead_database_is_said_above_what_was_seen_last(look: top.Look) -> None:
    assert "cannot be asked: gone" in drawn(None, "gone")[0]
    lines = drawn(look, "gone")
    assert "seen last" in lines[1]
    assert any("alpha" in line for line in lines)


def test_the_watcher_goes_on_when_the_database_is_back(
    look: top.Look, server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_away = True

    @contextmanager
    def flickering(config: Any) -> Any:
        if is_away:
            raise DatabaseUnavailable("away")
        with open_cluster(config) as cluster:
            yield cluster

    monkeypatch.setattr(top, "open_cluster", flickering)
    watcher = top.Watcher(settings(server_dsn, prefix), 0.01)
    watcher.start()
    try:
        eventually(lambda: watcher.error == "away")
        is_away = False
        eventually(lambda: watcher.error is None and watcher.latest is not None and watcher.latest.rate_in is not None)
    finally:
        watcher.stop()


@pytest.mark.usefixtures("two_nodes")
def test_one_look_is_printed_for_people_and_for_programs(run: Command, sql: Sql) -> None:
    once = run("top", "--once").stdout
    assert (once.startswith("healthy: 100 of 100"), "q quits" in once) == (True, False)
    sql("delete from t_grant where epoch = 12")
    sql(
        "insert into t_handover (tokens, from_node, uncovered_at) "
        "values ('{[50,100)}', 'beta', clock_timestamp() - interval '5 min')"
    )
    assert "nobody to beta: 50 tokens, to be taken for 5 min" in run("top", "--once").stdout
    result = run("top", "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["healthy"]) == (1, False)
    (move,) = found["moves"]
    assert (move["source"], move["target"], move["tokens"], move["phase"]) == (None, "beta", 50, "to be taken")
    assert 300 <= move["age_sec"] < 420, "since the tokens have no owner, by the database's clock"
    assert found["queue"]["waiting"] == 0


def test_without_a_terminal_it_says_what_to_use(run: Command) -> None:
    result = run("top")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "--once" in result.stderr


@pytest.mark.usefixtures("two_nodes")
def test_the_terminal_is_left_as_it_was(server_dsn: str, prefix: str) -> None:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    command = [sys.executable, "-m", "jobsync", "top", "--dsn", server_dsn, "--appname", prefix]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"})
    seen = b""
    while b"alpha" not in seen:
        seen += os.read(ours, 65536)
    assert not termios.tcgetattr(theirs)[3] & termios.ECHO
    os.write(ours, b"q")
    assert process.wait(30) == 0
    assert termios.tcgetattr(theirs) == before
    os.close(theirs)
    with suppress(OSError):  # Whatever is left to read, and then the end.
        while True:
            seen += os.read(ours, 65536)
    assert seen.count(b"\x1b[?1049h") == seen.count(b"\x1b[?1049l") == 1
    assert seen.count(b"\x1b[?25h") >= 1
    os.close(ours)
