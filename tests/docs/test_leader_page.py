"""The page about leading, played: each block does what it says."""

import threading
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from jobsync import Job
from tests.api.jobs import eventually
from tests.docs.pages import blocks_of
from tests.docs.stage import Stage

PAGE = "guide/leader.md"


class Feed:
    """Gives one item a read."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def read(self) -> list[str]:
        return ["item"]


@pytest.fixture
def user() -> SimpleNamespace:
    """The functions that the page takes for granted, and what they were called with."""
    feed = Feed()

    @contextmanager
    def open_feed() -> Any:
        yield feed
        feed.closed.set()

    deleted, rolled = threading.Event(), threading.Event()
    return SimpleNamespace(deleted=deleted, stored=[], rolled=rolled, feed=feed, open_feed=open_feed)


def play(stage: Stage, user: SimpleNamespace) -> dict[str, Any]:
    def roll_up_statistics() -> None:
        user.rolled.set()
        stage.names["job"].stop()

    return stage.play(
        PAGE,
        delete_old_sessions=user.deleted.set,
        open_feed=user.open_feed,
        store=user.stored.append,
        roll_up_statistics=roll_up_statistics,
    )


def test_the_block_runs_and_ends_with_the_job(stage: Stage, user: SimpleNamespace) -> None:
    play(stage, user)
    assert user.rolled.is_set()


def test_every_worker_of_a_web_server_joins_and_one_of_them_works(stage: Stage, user: SimpleNamespace) -> None:
    names = play(stage, user)
    (server,) = [block for block in blocks_of(PAGE) if block.title]
    hooks: dict[str, Any] = {}
    exec(compile(server.text.replace("from fleet import join", ""), str(server), "exec"), hooks)
    hooks["join"] = names["join"]
    worker = SimpleNamespace(pid=1)
    hooks["post_worker_init"](worker)
    job: Job = hooks["jobs"][1]
    assert job.node_name.startswith("web-")
    eventually(lambda: user.deleted.is_set() and len(user.stored) > 2)
    hooks["worker_exit"](None, worker)
    assert user.feed.closed.is_set()
    assert hooks["jobs"] == {}
    hooks["worker_exit"](None, worker)


def test_a_store_refuses_an_older_leader(stage: Stage, user: SimpleNamespace) -> None:
    names = play(stage, user)
    stage.rows("create table front_page (report text, epoch bigint)")
    stage.rows("insert into front_page values ('', 0)")

    class Connection:
        def execute(self, query: str, args: tuple[object, ...]) -> SimpleNamespace:
            return SimpleNamespace(rowcount=len(stage.rows(query + " returning 1", *args)))

    old, new = SimpleNamespace(epoch=5), SimpleNamespace(epoch=9)
    assert [names["publish"](Connection(), each.epoch, each) for each in (old, new, old, new)] == [
        True,
        True,
        False,
        True,
    ]
    assert stage.rows("select report from front_page") == [("9",)]
