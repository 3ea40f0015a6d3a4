"""Nodes that take no tokens on a real server: entering, dying, and hearing that jobs may have become free."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from jobsync import Job
from jobsync.api.cluster import read_status
from jobsync.core.errors import ConfigMismatch, EnterTimeout, NodeNameInUse
from jobsync.core.messages import Phase
from jobsync.runtime.clock import boot_sec
from jobsync.runtime.node import Node
from tests.api.jobs import TOKENS, eventually, query, settings
from tests.children import Child

WORKER = """
import sys, threading
from jobsync import CoordinationConfig
from jobsync.runtime.node import Node
config = CoordinationConfig(dsn=sys.argv[1], appname=sys.argv[2], total_tokens=int(sys.argv[4]))
node = Node(sys.argv[3], config, environment=None, takes_tokens=False)
node.receive()
node.join()
node.wait_until_in(wait_sec=None, stop=threading.Event())
print("in", flush=True)
sys.stdin.read()
"""
# Leases that a slow machine does not let run out: no session ends in these tests but by their own hand.
PATIENT: dict[str, Any] = {"session_lease_sec": 10, "heartbeat_timeout_sec": 30}
START = Callable[..., Node]


@pytest.fixture
def start(server_dsn: str, prefix: str) -> Iterator[START]:
    """Give a maker of nodes that are in; they take no tokens unless it is said. All of them leave after the test."""
    with ExitStack() as leaving:

        def make(name: str, *, takes_tokens: bool = False, **given: Any) -> Node:
            node = Node(name, settings(server_dsn, prefix, **given), environment=None, takes_tokens=takes_tokens)
            leaving.callback(node.leave)
            enter(node)
            return node

        yield make


def enter(node: Node) -> None:
    node.receive()
    node.join()
    never: Any = threading.Event()  # A node asks it for `is_set` and no more.
    node.wait_until_in(wait_sec=None, stop=never)


class Ear:
    """Counts what it hears."""

    def __init__(self) -> None:
        self.heard = 0
        self.threads: set[str] = set()

    def __call__(self) -> None:
        self.threads.add(threading.current_thread().name)
        self.heard += 1


# --- in the fleet ----------------------------------------------------------------------------


def test_it_enters_alone_waits_for_nobody_and_leads(start: START) -> None:
    node = start("w", minimum_nodes=5, token_distribution_timeout_sec=30)
    assert node.engine.standing.phase is Phase.LIVE
    eventually(lambda: node.engine.standing.leader == "w")
    assert node.is_healthy()
    assert len(node.tokens) == 0


def test_a_job_does_not_count_it_among_the_nodes_that_it_waits_for(start: START) -> None:
    start("w")
    with pytest.raises(EnterTimeout, match="saw 1"):
        start("a", takes_tokens=True, minimum_nodes=2, token_distribution_timeout_sec=1)


def test_a_job_that_joins_workers_has_all_tokens_when_it_is_in(start: START, server_dsn: str, prefix: str) -> None:
    worker = start("w")
    with Job("a", coordination_config=settings(server_dsn, prefix)) as job:
        assert len(job.my_tokens) == TOKENS
        eventually(lambda: job.status().leader == "a")
    assert len(worker.tokens) == 0


def test_whoever_is_not_let_in_is_told_so(start: START, server_dsn: str, prefix: str) -> None:
    start("o")
    with psycopg.connect(server_dsn) as conn:
        conn.execute(f"lock table {prefix}node in exclusive mode".encode())
        began_sec = boot_sec()
        with pytest.raises(EnterTimeout, match="was not let into the fleet within 1 s"):
            start("w", token_distribution_timeout_sec=1)
        assert boot_sec() - began_sec >= 1


@pytest.mark.parametrize("observer", ["worker", "job"])
def test_a_killed_worker_is_fenced_long_before_its_heartbeat_is_old(
    start: START, server_dsn: str, prefix: str, observer: str
) -> None:
    start("o", takes_tokens=observer == "job", heartbeat_timeout_sec=60, heartbeat_interval_sec=20)
    arguments = [sys.executable, "-c", WORKER, server_dsn, prefix, "w", str(TOKENS)]
    with Child(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "in\n"
        finally:
            process.kill()
    state = f"select state from {prefix}node where name = 'w'"
    eventually(lambda: query(server_dsn, state) == [("fenced",)], limit_sec=10)


def test_a_worker_is_refused_the_name_of_a_live_job(start: START) -> None:
    start("x", takes_tokens=True)
    with pytest.raises(NodeNameInUse):
        start("x")


def test_a_worker_with_another_total_of_tokens_is_refused(start: START) -> None:
    start("a", takes_tokens=True)
    with pytest.raises(ConfigMismatch):
        start("w", total_tokens=TOKENS + 1)


def test_the_status_of_the_fleet_tells_who_takes_none(start: START, server_dsn: str, prefix: str) -> None:
    config = settings(server_dsn, prefix)
    start("w")
    alone = read_status(config)
    assert (alone.is_healthy, alone.live_nodes, alone.live_tokenless, alone.leader) == (True, 0, 1, "w")
    start("a", takes_tokens=True)
    eventually(lambda: read_status(config).tokens_live == TOKENS)
    both = read_status(config)
    assert (both.is_healthy, both.live_nodes, both.live_tokenless) == (True, 1, 1)
    assert [(node.name, node.takes_tokens) for node in both.nodes] == [("w", False), ("a", True)]


# --- hearing of jobs -------------------------------------------------------------------------


def notify(dsn: str, prefix: str) -> None:
    query(dsn, f"select pg_notify('{prefix}job', '')")


@pytest.mark.parametrize("takes_tokens", [True, False])
def test_a_node_that_runs_already_hears_of_jobs(start: START, server_dsn: str, prefix: str, takes_tokens: bool) -> None:
    node, first, second = start("n", takes_tokens=takes_tokens, **PATIENT), Ear(), Ear()
    assert not node.hears_jobs
    node.listen_for_jobs(first)
    eventually(lambda: node.hears_jobs and first.heard == 1, "it is told once, when listening begins")
    node.listen_for_jobs(second)
    notify(server_dsn, prefix)
    eventually(lambda: (first.heard, second.heard) == (2, 1))
    assert first.threads == {"jobsync-n"}


def test_whoever_asked_before_the_node_joined_hears(server_dsn: str, prefix: str) -> None:
    node, ear = Node("n", settings(server_dsn, prefix, **PATIENT), environment=None, takes_tokens=False), Ear()
    with ExitStack() as leaving:
        leaving.callback(node.leave)
        node.listen_for_jobs(ear)
        assert not node.hears_jobs
        enter(node)
        eventually(lambda: node.hears_jobs and ear.heard == 1)
    assert not node.hears_jobs


def test_after_the_last_listener_the_session_listens_no_more(start: START, server_dsn: str, prefix: str) -> None:
    node, stays, goes = start("n", **PATIENT), Ear(), Ear()
    node.listen_for_jobs(stays)
    node.listen_for_jobs(goes)
    eventually(lambda: node.hears_jobs and stays.heard == 1)
    before = goes.heard
    node.unlisten_for_jobs(goes)
    notify(server_dsn, prefix)
    eventually(lambda: stays.heard == 2)
    assert goes.heard == before
    node.unlisten_for_jobs(stays)
    eventually(lambda: not node.hears_jobs)
    node.unlisten_for_jobs(stays)  # Whoever is not listening may say so again.


def test_after_a_break_of_the_session_it_hears_again_and_is_told_once(
    start: START, server_dsn: str, prefix: str
) -> None:
    node, ear = start("n", **PATIENT), Ear()
    node.listen_for_jobs(ear)
    eventually(lambda: node.hears_jobs and ear.heard == 1)
    bound = f"select bind from {prefix}node"
    before = query(server_dsn, bound)
    query(server_dsn, f"select pg_terminate_backend(backend_pid) from {prefix}node")
    eventually(lambda: query(server_dsn, bound) != before and node.hears_jobs and ear.heard == 2)
    notify(server_dsn, prefix)
    eventually(lambda: ear.heard == 3)


def test_the_death_of_another_node_is_heard_of(start: START, server_dsn: str, prefix: str) -> None:
    node, ear = start("n", **PATIENT), Ear()
    node.listen_for_jobs(ear)
    eventually(lambda: node.hears_jobs and ear.heard == 1)
    arguments = [sys.executable, "-c", WORKER, server_dsn, prefix, "w", str(TOKENS)]
    with Child(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert ear.heard == 1  # Nobody needs to look for jobs because a worker came.
        process.kill()
    eventually(lambda: ear.heard == 2)


def test_a_listener_that_fails_harms_nobody(start: START, server_dsn: str, prefix: str) -> None:
    node, ear = start("n", **PATIENT), Ear()

    def fails() -> None:
        raise RuntimeError("deaf")

    node.listen_for_jobs(fails)
    node.listen_for_jobs(ear)
    eventually(lambda: node.hears_jobs)
    notify(server_dsn, prefix)
    eventually(lambda: ear.heard >= 1)
    assert node.is_healthy()


def test_behind_a_pooler_nobody_hears(start: START, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobsync.postgres.opening.is_direct", lambda *_: False)
    node, ear = start("n", **PATIENT), Ear()
    node.listen_for_jobs(ear)
    replied = node.engine.standing.last_reply
    eventually(lambda: node.engine.standing.last_reply != replied)
    assert not node.hears_jobs
    assert ear.heard == 0
