"""The operator guide, and what the README says of deployments: the printed workers as real processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.api.jobs import eventually, query
from tests.seeds.support import TOKENS

ROOT = Path(__file__).parents[2]
UNWOUND = 128 + signal.SIGTERM

Start = Callable[[str, str], "subprocess.Popen[str]"]


@pytest.fixture
def start(server_dsn: str, prefix: str) -> Iterator[Start]:
    """Give a starter of workers: their settings come from the environment."""
    environment = {**os.environ, "SYNC_DSN": server_dsn, "SYNC_SQL_APPNAME": prefix, "SYNC_TOTAL_TOKENS": str(TOKENS)}
    started: list[subprocess.Popen[str]] = []

    def begin(form: str, node_name: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.seeds.worker_main", form, "--node-name", node_name],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env=environment,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n", process.communicate(timeout=30)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=30)


@pytest.fixture
def owners(server_dsn: str, prefix: str) -> Callable[[], dict[str, int]]:
    return lambda: dict(query(server_dsn, f"SELECT node, COUNT(*) FROM {prefix}token GROUP BY node"))


@pytest.fixture
def names(server_dsn: str, prefix: str) -> Callable[[], list[str]]:
    def listed() -> list[str]:
        return [name for (name,) in query(server_dsn, f"SELECT name FROM {prefix}node ORDER BY created_on")]

    return listed


def ended(process: "subprocess.Popen[str]", number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
    process.send_signal(number)
    output, errors = process.communicate(timeout=30)
    assert number is signal.SIGINT or "Traceback" not in errors, errors
    return process.returncode, output


@pytest.mark.parametrize(
    ("form", "status", "said"),
    [
        ("readme", UNWOUND, ""),
        ("audited", UNWOUND, ""),
        ("callbacks", UNWOUND, "closed, some open\n"),
        ("nested", UNWOUND, "closed\n"),
        ("web", UNWOUND, ""),
        ("graceful", 0, ""),
    ],
)
def test_sigterm_lets_a_printed_worker_leave_gracefully(
    start: Start,
    owners: Callable[[], dict[str, int]],
    names: Callable[[], list[str]],
    form: str,
    status: int,
    said: str,
) -> None:
    stays = start("callbacks", "worker-02")
    goes = start(form, "worker-01")
    eventually(lambda: owners() == {"worker-01": TOKENS // 2, "worker-02": TOKENS // 2})
    assert ended(goes) == (status, said)
    assert names() == ["worker-02"], "the row is gone when the process is"
    eventually(lambda: owners() == {"worker-02": TOKENS})
    assert stays.poll() is None


@pytest.mark.parametrize("form", ["callbacks", "graceful"])
def test_an_interrupt_from_the_keyboard_is_graceful_too(
    start: Start, names: Callable[[], list[str]], form: str
) -> None:
    status, _ = ended(start(form, "worker-01"), signal.SIGINT)
    assert status == (0 if form == "graceful" else -signal.SIGINT)
    assert names() == []


def test_a_worker_that_still_waits_for_its_fleet_can_be_ended(start: Start, names: Callable[[], list[str]]) -> None:
    worker = start("waiting", "worker-01")
    eventually(lambda: names_or_nothing(names) == ["worker-01"])
    assert ended(worker) == (UNWOUND, "")
    assert names() == []


def names_or_nothing(names: Callable[[], list[str]]) -> list[str]:
    """Give the names, or none while the tables are not there yet."""
    try:
        return names()
    except Exception:
        return []


def test_an_initial_deployment_is_verified_by_the_printed_queries(
    start: Start, owners: Callable[[], dict[str, int]], names: Callable[[], list[str]], server_dsn: str, prefix: str
) -> None:
    for node_name in ("worker-01", "worker-02", "worker-03"):
        start("readme", node_name)
    assert names() == ["worker-01", "worker-02", "worker-03"]
    eventually(lambda: sorted(owners().values()) == [TOKENS // 3] * 3)
    by_node = f"SELECT node, COUNT(*) FROM {prefix}claim GROUP BY node"
    eventually(lambda: len(query(server_dsn, by_node)) == 3)


def test_a_rolling_update_moves_everything_to_the_new_workers(
    start: Start, owners: Callable[[], dict[str, int]], names: Callable[[], list[str]]
) -> None:
    old = [start("readme", node_name) for node_name in ("worker-v1-01", "worker-v1-02")]
    for node_name in ("worker-v2-01", "worker-v2-02"):
        start("readme", node_name)
    eventually(lambda: sorted(owners().values()) == [TOKENS // 4] * 4)
    for process in old:
        process.send_signal(signal.SIGTERM)
    assert [process.wait(30) for process in old] == [UNWOUND, UNWOUND]
    assert sorted(names()) == ["worker-v2-01", "worker-v2-02"]
    eventually(lambda: owners() == {"worker-v2-01": TOKENS // 2, "worker-v2-02": TOKENS // 2})


def test_the_printed_handler_may_interrupt_the_worker_anywhere(start: Start, names: Callable[[], list[str]]) -> None:
    for _ in range(8):
        assert ended(start("graceful", "worker-01")) == (0, "")
        assert names() == []
