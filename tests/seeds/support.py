"""What users of the older guides bring themselves: a config module, a `database` module, feeds, brokers, a web app.

None of it belongs to jobsync. The tests beside this file make the calls that the guides print, with the same names, the
same arguments and in the same order; waits keep their printed numbers and go by one pace (`jobsync.runtime.clock`).
"""

import queue
import threading
import time as real_time
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import psycopg

from jobsync import Job
from jobsync.runtime.clock import PACE, boot_sec

TOKENS = 60
LIMIT_SEC = 30.0


class PacedTime:
    """The `time` module of an example: `sleep` keeps its printed number, and lasts as the pace says."""

    @staticmethod
    def sleep(seconds: float) -> None:
        real_time.sleep(PACE.lasting_sec(seconds))

    @staticmethod
    def time() -> float:
        return real_time.time()


time = PacedTime()


def config_module(dsn: str, prefix: str, **coordination: Any) -> ModuleType:
    """Make what a user's `config.py` is: a module with `sync.sql` and `sync.coordination`."""
    given = psycopg.conninfo.conninfo_to_dict(dsn)
    module = ModuleType("config")
    module.sync = SimpleNamespace(  # type: ignore[attr-defined]
        sql=SimpleNamespace(
            host=given.get("host", "localhost"),
            port=int(given.get("port") or 5432),
            database=given.get("dbname", "postgres"),
            username=given.get("user", "postgres"),
            password=given.get("password", "postgres"),
            appname=prefix,
        ),
        coordination=SimpleNamespace(**{"total_tokens": TOKENS, **coordination}),
    )
    return module


class Rows:
    """What a data library gives for a query: rows, as records."""

    def __init__(self, names: list[str], rows: list[tuple[Any, ...]]) -> None:
        self._names, self._rows = names, rows

    def to_dict(self, orient: str) -> list[dict[str, Any]]:
        assert orient == "records"
        return [dict(zip(self._names, row, strict=True)) for row in self._rows]


class Database:
    """A third-party `database` module over a psycopg connection, with `%s` placeholders."""

    @staticmethod
    def select(cn: Any, sql: str, *args: object) -> Rows:
        cursor = cn.execute(sql, args)
        return Rows([column.name for column in cursor.description], cursor.fetchall())

    @staticmethod
    def select_scalar(cn: Any, sql: str, *args: object) -> Any:
        return cn.execute(sql, args).fetchone()[0]

    @staticmethod
    def execute(cn: Any, sql: str, *args: object) -> int:
        return int(cn.execute(sql, args).rowcount)


db = Database()


class Until:
    """A `shutdown_requested()`: true once something has come about; fails the test when it does not in time."""

    def __init__(self, condition: Callable[[], object]) -> None:
        self._condition = condition
        self._until_sec = boot_sec() + LIMIT_SEC

    def __call__(self) -> bool:
        assert boot_sec() < self._until_sec, "what the worker waits for does not come about"
        return bool(self._condition())


# --- another node ---------------------------------------------------------------------------------


class Moves:
    """Runs a second node beside a worker: `shutdown_requested` is true when all has come, gone and come back."""

    def __init__(self, there: Callable[[], int], other: Callable[[str], Job], everything: int) -> None:
        self._there, self._other, self._everything = there, other, everything
        self._steps = self._walk()
        self.least = everything
        self._until = Until(lambda: next(self._steps, True))

    def __call__(self) -> bool:
        return self._until()

    def _walk(self) -> Iterator[bool]:
        while self._there() < self._everything:
            yield False
        with self._other("another"):
            while self._there() == self._everything:
                yield False
            self.least = self._there()
        while self._there() < self._everything:
            yield False


# --- a stream server ------------------------------------------------------------------------------


class WebSocketApp:
    """A stand-in for `websocket.WebSocketApp`: one message on opening, then open until it is closed."""

    opened: list["WebSocketApp"]

    def __init__(
        self,
        url: str,
        on_message: Callable[[Any, str], None],
        on_error: Callable[[Any, Exception], None],
        on_close: Callable[[Any], None],
    ) -> None:
        self.url, self.on_message, self.on_error, self.on_close = url, on_message, on_error, on_close
        self.is_over = threading.Event()
        type(self).opened.append(self)

    def run_forever(self) -> None:
        self.on_message(self, '{"price": 1}')
        self.is_over.wait(LIMIT_SEC)

    def close(self) -> None:
        self.is_over.set()


def websocket_module() -> ModuleType:
    """Make a fresh `websocket` module."""
    module = ModuleType("websocket")
    module.WebSocketApp = type("WebSocketApp", (WebSocketApp,), {"opened": []})  # type: ignore[attr-defined]
    return module


class KafkaConsumer:
    """A stand-in for `kafka.KafkaConsumer`: an iterator of messages that ends when it is closed."""

    opened: list["KafkaConsumer"]

    def __init__(self, topic: str, *, bootstrap_servers: list[str], group_id: str, auto_offset_reset: str) -> None:
        self.topic = topic
        self.asked = (bootstrap_servers, group_id, auto_offset_reset)
        self._messages: queue.Queue[str | None] = queue.Queue()
        self._messages.put(f"first of {topic}")
        self.is_closed = False
        type(self).opened.append(self)

    def __iter__(self) -> Iterator[str]:
        while (message := self._messages.get(timeout=LIMIT_SEC)) is not None:
            yield message

    def close(self) -> None:
        self.is_closed = True
        self._messages.put(None)


def kafka_module() -> ModuleType:
    """Make a fresh `kafka` module."""
    module = ModuleType("kafka")
    module.KafkaConsumer = type("KafkaConsumer", (KafkaConsumer,), {"opened": []})  # type: ignore[attr-defined]
    return module


# --- a web app ------------------------------------------------------------------------------------


class Flask:
    """A stand-in for `flask.Flask`: routes that a test may ask, and a `run` that blocks until the app is shut."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.routes: dict[str, Callable[[], Any]] = {}
        self.served: list[tuple[str, int]] = []
        self.is_serving = threading.Event()
        self.is_shut = threading.Event()

    def route(self, path: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
        def keep(function: Callable[[], Any]) -> Callable[[], Any]:
            self.routes[path] = function
            return function

        return keep

    def run(self, host: str, port: int) -> None:
        self.served.append((host, port))
        self.is_serving.set()
        self.is_shut.wait(LIMIT_SEC)

    def get(self, path: str) -> tuple[dict[str, Any], int]:
        body, status = self.routes[path]()
        return body, status


def jsonify(given: dict[str, Any]) -> dict[str, Any]:
    return given
