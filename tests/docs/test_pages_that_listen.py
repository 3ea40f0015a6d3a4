"""The pages about callbacks, played: a rival joins in the middle, and what it takes is let go of."""

import json
import logging
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Self

from tests.docs.stage import Countdown, Rivalry, Stage

IDS = [f"id-{number}" for number in range(50)]


class Book:
    """What was begun and ended, by whom it is held now."""

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.begun = 0
        self.ended = 0

    def begin(self, name: str) -> None:
        assert name not in self.held, f"{name} begun twice"
        self.held.add(name)
        self.begun += 1

    def end(self, name: str) -> None:
        self.held.remove(name)
        self.ended += 1


def half_is_gone(book: Book, rivalry: Rivalry) -> Callable[[], bool]:
    """Tell when the page has begun with everything and let go of what the rival has."""
    return lambda: book.begun >= len(IDS) and 0 < len(book.held) < len(IDS) and rivalry.over()


def assert_let_go(book: Book) -> None:
    assert book.begun == book.ended == len(IDS)
    assert book.held == set()


def test_callbacks(stage: Stage) -> None:
    book = Book()
    warmed: list[set[int]] = []
    last = [0]

    def enough() -> bool:
        # The page has three workers, one after the other; each is let go of when it has what is its own.
        if book.begun == last[0] + len(IDS):
            last[0] = book.begun
            return True
        return bool(warmed) and last[0] == len(IDS) and len(warmed.pop()) == 60

    stage.play("guide/callbacks.md", until=enough, CUSTOMERS=IDS, begin=book.begin, end=book.end, warm_up=warmed.append)
    assert book.begun == 2 * len(IDS)
    assert any(line.startswith("plan ") and "60 came, 0 went" in line for line in stage.told)


def test_subscriptions(stage: Stage) -> None:
    book = Book()
    stored: list[tuple[str, str]] = []

    @dataclass
    class Feed:
        symbol: str
        on_message: Callable[[str, str], object]

        def close(self) -> None:
            self.on_message(self.symbol, "last words")
            book.end(self.symbol)

    def open_feed(symbol: str, on_message: Callable[[str, str], object]) -> Feed:
        book.begin(symbol)
        on_message(symbol, "hello")
        return Feed(symbol, on_message)

    with Rivalry(stage, lambda: book.begun == len(IDS)) as rivalry:
        stage.play(
            "guide/subscriptions.md",
            until=half_is_gone(book, rivalry),
            SYMBOLS=IDS,
            open_feed=open_feed,
            store=lambda symbol, message: stored.append((symbol, message)),
            log=logging.getLogger(__name__),
        )
    assert_let_go(book)
    assert sorted(symbol for symbol, word in stored if word == "hello") == sorted(IDS)
    # What was still under way while its symbol went is not stored; at the end the page's own are.
    assert 0 < sum(word == "last words" for _, word in stored) < len(IDS)


def test_queue_consumers(stage: Stage) -> None:
    book = Book()
    handled: set[str] = set()

    class Messages:
        def __init__(self, topic: str) -> None:
            self.topic = topic

        def __enter__(self) -> Self:
            book.begin(self.topic)
            return self

        def __exit__(self, *_: object) -> None:
            book.end(self.topic)

        def poll(self, timeout: float) -> str | None:
            threading.Event().wait(timeout / 10)
            return "message"

        def commit(self) -> None:
            handled.add(self.topic)

    with Rivalry(stage, lambda: len(handled) == len(IDS)) as rivalry:
        stage.play(
            "guide/queue-consumers.md",
            until=half_is_gone(book, rivalry),
            TOPICS=IDS,
            subscribe=Messages,
            handle=lambda topic, message: None,
        )
    assert_let_go(book)


def test_background_threads(stage: Stage) -> None:
    polled: set[str] = set()
    with Rivalry(stage, lambda: len(polled) == len(IDS)) as rivalry:
        names: dict[str, Any] = stage.names
        names = stage.play(
            "guide/threads.md",
            until=lambda: rivalry.over() and 0 < len(names["pollers"]) < len(IDS),
            DEVICES=IDS,
            poll=polled.add,
        )
    assert names["pollers"] == {}
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("device-")]


def test_connection_pools(stage: Stage) -> None:
    customers = IDS[:10]
    with Rivalry(stage, lambda: len(stage.names.get("pools", ())) == len(customers)) as rivalry:
        rounds = Countdown(2)
        stage.play(
            "guide/pools.md",
            until=lambda: rivalry.over() and len(stage.names["pools"]) < len(customers) and rounds(),
            CUSTOMERS=customers,
            dsn_of=lambda customer: stage.dsn,
            customers_with_work=lambda: [each for each in customers if each in stage.names["pools"]][:2],
        )
    assert stage.names["pools"] == {}
    assert len(stage.rows("select 1 from sync_audit")) >= 2


def test_caches(stage: Stage) -> None:
    loaded: list[str] = []
    answered: list[tuple[str, str]] = []

    def load(customer: str) -> str:
        loaded.append(customer)
        return customer.upper()

    def kept() -> int:
        return len(stage.names["profiles"].loaded) if "profiles" in stage.names else 0

    with Rivalry(stage, lambda: kept() == len(IDS)) as rivalry:
        stage.play(
            "guide/caches.md",
            until=lambda: rivalry.over() and 0 < kept() < len(IDS) and len(answered) > 0,
            CUSTOMERS=IDS,
            load_profile=load,
            pending_requests=lambda: [SimpleNamespace(customer=IDS[0]), SimpleNamespace(customer=IDS[1])],
            answer=lambda request, profile: answered.append((request.customer, profile)),
        )
    assert set(loaded) == set(IDS)
    assert all(profile == customer.upper() for customer, profile in answered)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_monitoring(stage: Stage) -> None:
    port, seen = free_port(), list[str]()

    def ask() -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
            seen.append(reply.read().decode())
        return any(line.startswith("jobsync_tokens_held{") and line.endswith(" 60.0") for line in seen[-1].splitlines())

    stage.play("operate/monitoring.md", until=ask, PORT=port)
    assert seen


def test_health(stage: Stage) -> None:
    port = free_port()
    answers: dict[str, Any] = {}

    def ask() -> bool:
        for path in ("ready", "live"):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/{path}", timeout=5) as reply:
                    answers[path] = reply.status, json.loads(reply.read())
            except urllib.error.URLError:
                return False
        return True

    stage.play("guide/health.md", until=ask, PORT=port)
    ready = {"status": "ready", "node": "worker-01", "tokens": 60, "jobs": 0, "why": []}
    assert answers["ready"] == (200, ready)
    assert answers["live"] == (200, {"status": "alive"})
    assert stage.told[0] == "worker-01 healthy 60 tokens"
    assert stage.told[-1] == "gone: []"
