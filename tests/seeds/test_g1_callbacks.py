"""The first usage guide: callbacks, the helper methods, and what the guide advises for both."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest

from jobsync import Job, Task
from tests.api.jobs import eventually
from tests.seeds.support import TOKENS, Moves, time

# --- Basic Callback Usage -------------------------------------------------------------------------


def test_callbacks_that_use_the_job_by_its_name(config: ModuleType, other: Callable[[str], Job]) -> None:
    all_possible_tasks = list(range(100))
    running: set[object] = set()

    def handle_tokens_added(token_ids: set[int]) -> None:
        for token_id in token_ids:
            for task_id in job.get_task_ids_for_token(token_id, all_possible_tasks):
                running.add(task_id)

    def handle_tokens_removed(token_ids: set[int]) -> None:
        for token_id in token_ids:
            for task_id in job.get_task_ids_for_token(token_id, all_possible_tasks):
                running.remove(task_id)

    shutdown_requested = Moves(lambda: len(running), other, len(all_possible_tasks))
    with Job(
        node_name="worker-01",
        config=config,
        on_tokens_added=handle_tokens_added,
        on_tokens_removed=handle_tokens_removed,
    ) as job:
        while not shutdown_requested():
            time.sleep(1)
    assert shutdown_requested.least < len(all_possible_tasks)
    assert running == set(all_possible_tasks), "nothing is called at exit"


# --- Helper Methods for Callback Implementation ---------------------------------------------------


def test_the_helper_methods(config: ModuleType, other: Callable[[str], Job]) -> None:
    all_task_ids = [f"task-{number}" for number in range(200)]
    with Job("worker-01", config) as job, other("another"):
        eventually(lambda: 0 < len(job.my_tokens) < TOKENS)
        my_tasks = job.get_my_task_ids(all_task_ids)
        assert my_tasks == [each for each in all_task_ids if job.can_claim_task(Task(each))]
        assert 0 < len(my_tasks) < 200
        tokens = {job.task_to_token(each) for each in all_task_ids}
        token_id = max(tokens)
        tasks_in_token = job.get_task_ids_for_token(token_id, all_task_ids)
        assert tasks_in_token == [each for each in all_task_ids if job.task_to_token(each) == token_id]
        task_id = "customer-12345"
        token = job.task_to_token(task_id)
        my_tokens = job.my_tokens
        assert job.can_claim_task(Task(task_id)) == (token in my_tokens)
        assert job.token_version > 0


# --- Callback Best Practices ----------------------------------------------------------------------


@contextmanager
def entered(config: ModuleType, **callbacks: Callable[[set[int]], object]) -> Iterator[Job]:
    with Job("worker-01", config, **callbacks) as job:  # type: ignore[arg-type]
        yield job


def test_heavy_work_goes_to_another_thread(config: ModuleType) -> None:
    loaded: set[int] = set()

    def on_tokens_added(token_ids: set[int]) -> None:
        def background_work() -> None:
            for token_id in token_ids:
                loaded.add(token_id)

        thread = threading.Thread(target=background_work)
        thread.daemon = True
        thread.start()

    with entered(config, on_tokens_added=on_tokens_added):
        eventually(lambda: len(loaded) == TOKENS)


def test_exceptions_are_handled_token_by_token(config: ModuleType) -> None:
    started: list[int] = []
    failed: list[str] = []

    def start_subscription(token_id: int) -> None:
        if token_id % 10 == 0:
            raise ConnectionError(f"no feed for {token_id}")
        started.append(token_id)

    def on_tokens_added(token_ids: set[int]) -> None:
        for token_id in token_ids:
            try:
                start_subscription(token_id)
            except Exception as error:
                failed.append(str(error))

    with entered(config, on_tokens_added=on_tokens_added):
        eventually(lambda: len(started) + len(failed) == TOKENS)
    assert len(failed) == TOKENS // 10


class OverlapAwareHandler:
    """Keeps under a lock which tokens are active, and starts none twice."""

    def __init__(self) -> None:
        self.active_tokens: set[int] = set()
        self.lock = threading.Lock()
        self.order: list[str] = []

    def on_tokens_removed(self, token_ids: set[int]) -> None:
        with self.lock:
            self.order.append("removed")
            for token_id in token_ids:
                assert token_id in self.active_tokens
                self.active_tokens.discard(token_id)

    def on_tokens_added(self, token_ids: set[int]) -> None:
        with self.lock:
            self.order.append("added")
            for token_id in token_ids:
                assert token_id not in self.active_tokens
                self.active_tokens.add(token_id)


def test_shared_state_under_a_lock_and_removed_before_added(
    config: ModuleType, other: Callable[[str], Job], caplog: pytest.LogCaptureFixture
) -> None:
    handler = OverlapAwareHandler()
    moves = Moves(lambda: len(handler.active_tokens), other, TOKENS)
    with entered(config, on_tokens_added=handler.on_tokens_added, on_tokens_removed=handler.on_tokens_removed) as job:
        while not moves():
            time.sleep(1)
        assert handler.active_tokens == job.my_tokens
    assert handler.order[:2] == ["added", "removed"]
    assert "raised" not in caplog.text


def test_the_time_that_a_callback_takes_is_measured(config: ModuleType) -> None:
    durations_ms: list[int] = []

    def on_tokens_added(token_ids: set[int]) -> None:
        start = time.time()
        for token_id in token_ids:
            assert 0 <= token_id < TOKENS
        durations_ms.append(int((time.time() - start) * 1000))

    with entered(config, on_tokens_added=on_tokens_added):
        eventually(lambda: durations_ms)
