"""The first usage guide: resources that follow the tokens, with jobs of one name nested in one process."""

import json
import logging
import queue
import sys
import threading
from collections import defaultdict
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from jobsync import Job, Task
from tests.api.jobs import eventually, query
from tests.seeds.support import TOKENS, Moves, Until, kafka_module, time, websocket_module

logger = logging.getLogger("worker")
SYMBOLS = [f"SYM-{number}" for number in range(30)]


# --- the managers ---------------------------------------------------------------------------------


class Subscriptions:
    """What the managers of the guide share: one resource a task, opened and closed with the tokens."""

    def __init__(self, job: Job, everything: list[str]) -> None:
        self.job = job
        self.everything = everything
        self.open_now: dict[str, Any] = {}
        self.threads: dict[str, threading.Thread] = {}
        self.lock = threading.Lock()
        self.shutdown = False
        self.messages: defaultdict[str, list[Any]] = defaultdict(list)

    def on_tokens_added(self, token_ids: set[int]) -> None:
        with self.lock:
            for token_id in token_ids:
                for each in self.job.get_task_ids_for_token(token_id, self.everything):
                    if each not in self.open_now:
                        self.begin(str(each))

    def on_tokens_removed(self, token_ids: set[int]) -> None:
        with self.lock:
            for token_id in token_ids:
                for each in self.job.get_task_ids_for_token(token_id, self.everything):
                    if each in self.open_now:
                        self.open_now.pop(str(each)).close()
                        del self.threads[str(each)]

    def close_all(self) -> None:
        self.shutdown = True
        with self.lock:
            for resource in self.open_now.values():
                resource.close()
            self.open_now.clear()
            self.threads.clear()

    def begin(self, each: str) -> None:
        self.open_now[each] = self.opened(each)
        thread = threading.Thread(target=self.work, args=(each, self.open_now[each]), name=f"feed-{each}")
        thread.daemon = True
        thread.start()
        self.threads[each] = thread

    def opened(self, each: str) -> Any:
        raise NotImplementedError

    def work(self, each: str, resource: Any) -> None:
        raise NotImplementedError


class WebSocketManager(Subscriptions):
    def opened(self, each: str) -> Any:
        import websocket  # type: ignore[import-not-found]  # noqa: PLC0415 - the user's own library

        return websocket.WebSocketApp(
            f"wss://stream.example.com/quotes/{each}",
            on_message=lambda ws, msg: self.messages[each].append(json.loads(msg)),
            on_error=lambda ws, err: logger.error("%s: %s", each, err),
            on_close=lambda ws: logger.warning("%s closed", each),
        )

    def work(self, each: str, resource: Any) -> None:
        resource.run_forever()


class KafkaConsumerManager(Subscriptions):
    def opened(self, each: str) -> Any:
        from kafka import KafkaConsumer  # type: ignore[import-not-found]  # noqa: PLC0415 - the user's own library

        return KafkaConsumer(
            each, bootstrap_servers=["kafka:9092"], group_id="my-consumer-group", auto_offset_reset="latest"
        )

    def work(self, each: str, resource: Any) -> None:
        for message in resource:
            if self.shutdown or each not in self.open_now:
                break
            self.messages[each].append(message)


def nested_worker(
    config: ModuleType,
    node_name: str,
    make_manager: Callable[[Job], Subscriptions],
    make_end: Callable[[Subscriptions], Callable[[], bool]],
) -> Subscriptions:
    """Run a worker as the guide builds it: a manager is given the outer job, an inner one of its name the callbacks."""
    with Job(node_name, "production", config) as job:
        manager = make_manager(job)
        shutdown_requested = make_end(manager)
        with Job(
            node_name=node_name,
            config=config,
            on_tokens_added=manager.on_tokens_added,
            on_tokens_removed=manager.on_tokens_removed,
        ) as job:  # noqa: PLW2901 - the guide binds the same name again
            try:
                while not shutdown_requested():
                    time.sleep(1)
            finally:
                manager.close_all()
    return manager


def test_websocket_subscriptions_follow_the_tokens(
    config: ModuleType,
    other: Callable[[str], Job],
    monkeypatch: pytest.MonkeyPatch,
    server_dsn: str,
    prefix: str,
) -> None:
    websocket = websocket_module()
    monkeypatch.setitem(sys.modules, "websocket", websocket)
    manager = nested_worker(
        config,
        "ws-worker-01",
        lambda job: WebSocketManager(job, SYMBOLS),
        lambda manager: Moves(lambda: len(manager.open_now), other, len(SYMBOLS)),
    )
    urls = [app.url for app in websocket.WebSocketApp.opened]
    assert {f"wss://stream.example.com/quotes/{symbol}" for symbol in SYMBOLS} == set(urls)
    assert len(urls) > len(SYMBOLS), "some went to the other node and came back"
    eventually(lambda: set(manager.messages) == set(SYMBOLS))
    assert all(app.is_over.is_set() for app in websocket.WebSocketApp.opened)
    assert query(server_dsn, f"select name from {prefix}node") == []


def test_queue_consumers_follow_the_tokens(
    config: ModuleType, other: Callable[[str], Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = kafka_module()
    monkeypatch.setitem(sys.modules, "kafka", kafka)
    all_topics = ["topic-1", "topic-2", "topic-3", "topic-4"]
    manager = nested_worker(
        config,
        "kafka-worker-01",
        lambda job: KafkaConsumerManager(job, all_topics),
        lambda manager: Moves(lambda: len(manager.open_now), other, len(all_topics)),
    )
    consumers = kafka.KafkaConsumer.opened
    assert {consumer.topic for consumer in consumers} == set(all_topics)
    assert all(consumer.asked == (["kafka:9092"], "my-consumer-group", "latest") for consumer in consumers)
    assert all(consumer.is_closed for consumer in consumers)
    eventually(lambda: set(manager.messages) == set(all_topics))


class BackgroundProcessor:
    """One thread and one queue a token, as in the guide."""

    def __init__(self, job: Job, all_task_ids: list[str]) -> None:
        self.job = job
        self.all_task_ids = all_task_ids
        self.threads: dict[int, threading.Thread] = {}
        self.queues: dict[int, queue.Queue[Any]] = {}
        self.lock = threading.Lock()
        self.processed: list[str] = []
        self.shutdown = False

    def on_tokens_added(self, token_ids: set[int]) -> None:
        with self.lock:
            for token_id in token_ids:
                if token_id in self.threads:
                    continue
                self.queues[token_id] = queue.Queue()
                thread = threading.Thread(target=self.process, args=(self.queues[token_id],), name=f"t-{token_id}")
                thread.daemon = True
                thread.start()
                self.threads[token_id] = thread
                for task_id in self.job.get_task_ids_for_token(token_id, self.all_task_ids):
                    self.queues[token_id].put(task_id)

    def on_tokens_removed(self, token_ids: set[int]) -> None:
        with self.lock:
            for token_id in token_ids:
                if token_id in self.queues:
                    self.queues.pop(token_id).put(None)
                self.threads.pop(token_id, None)

    def process(self, tasks: "queue.Queue[Any]") -> None:
        while not self.shutdown:
            try:
                task_id = tasks.get(timeout=1)
            except queue.Empty:
                continue
            if task_id is None:
                break
            self.processed.append(task_id)

    def close_all(self) -> None:
        self.shutdown = True
        with self.lock:
            for tasks in self.queues.values():
                tasks.put(None)
            self.queues.clear()
            self.threads.clear()


def test_a_background_thread_for_each_token(config: ModuleType, other: Callable[[str], Job]) -> None:
    all_task_ids = [f"task-{number}" for number in range(200)]
    with Job("processor-01", "production", config) as job:
        processor = BackgroundProcessor(job, all_task_ids)
        with Job(
            node_name="processor-01",
            config=config,
            on_tokens_added=processor.on_tokens_added,
            on_tokens_removed=processor.on_tokens_removed,
        ) as job:  # noqa: PLW2901
            shutdown_requested = Moves(lambda: len(processor.threads), other, TOKENS)
            try:
                while not shutdown_requested():
                    time.sleep(1)
                eventually(lambda: set(processor.processed) == set(all_task_ids))
            finally:
                processor.close_all()
    assert shutdown_requested.least < TOKENS


class TokenBasedCache:
    """Data of customers, kept for the tokens that are owned, as in the guide."""

    def __init__(self, job: Job, all_customer_ids: list[int]) -> None:
        self.job = job
        self.all_customer_ids = all_customer_ids
        self.cached_data: dict[object, str] = {}
        self.loaded = 0
        self.lock = threading.Lock()

    def load(self, customer_id: object) -> str:
        self.loaded += 1
        return f"data of {customer_id}"

    def on_tokens_added(self, token_ids: set[int]) -> None:
        with self.lock:
            for token_id in token_ids:
                for customer_id in self.job.get_task_ids_for_token(token_id, self.all_customer_ids):
                    self.cached_data.setdefault(customer_id, self.load(customer_id))

    def on_tokens_removed(self, token_ids: set[int]) -> None:
        with self.lock:
            for token_id in token_ids:
                for customer_id in self.job.get_task_ids_for_token(token_id, self.all_customer_ids):
                    self.cached_data.pop(customer_id, None)

    def get_data(self, customer_id: object) -> str:
        with self.lock:
            if customer_id not in self.cached_data:
                self.cached_data[customer_id] = self.load(customer_id)
            return self.cached_data[customer_id]


def test_a_cache_that_is_warm_for_what_is_owned(config: ModuleType) -> None:
    all_customer_ids = list(range(100))
    requests: list[tuple[int, str]] = []
    with Job("cached-worker-01", "production", config) as job:
        cache = TokenBasedCache(job, all_customer_ids)
        with Job(
            node_name="cached-worker-01",
            config=config,
            on_tokens_added=cache.on_tokens_added,
            on_tokens_removed=cache.on_tokens_removed,
        ) as job:  # noqa: PLW2901
            eventually(lambda: len(cache.cached_data) == 100)
            shutdown_requested = Until(lambda: len(requests) >= 6)
            while not shutdown_requested():
                for customer_id in (7, 8, 9):
                    if job.can_claim_task(Task(customer_id)):
                        requests.append((customer_id, cache.get_data(customer_id)))
                time.sleep(1)
    assert requests[:3] == [(7, "data of 7"), (8, "data of 8"), (9, "data of 9")]
    assert cache.loaded == 100, "every request was served from the warm cache"
