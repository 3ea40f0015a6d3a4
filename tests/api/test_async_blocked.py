"""A blocked event loop: no token is lost, a hand-over that is due goes by its bound, and it is reported."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from jobsync import AsyncJob, Job
from jobsync.api import async_watch
from jobsync.runtime.clock import boot_sec
from jobsync.runtime.engine import Engine
from tests.api.async_jobs import eventually, run_async
from tests.api.jobs import eventually as eventually_plain
from tests.api.jobs import in_thread, query, settings

# Far shorter than the block: whoever beats on the loop is dead long before it is over.
QUICK: dict[str, Any] = {"heartbeat_interval_sec": 0.3, "heartbeat_timeout_sec": 1.0, "handover_timeout_sec": 0.5}


class Onlooker:
    """Asks a job from another thread, all the time, how many tokens it has."""

    def __init__(self, job: AsyncJob) -> None:
        self._job = job
        self.fewest = len(job.my_tokens)
        self.asked = 0
        self.longest_blocked_sec = 0.0
        self._over = threading.Event()

    def look(self) -> None:
        while not self._over.wait(0.005):
            self.fewest = min(self.fewest, len(self._job.my_tokens))
            self.longest_blocked_sec = max(self.longest_blocked_sec, self._job.status().loop_blocked_sec)
            self.asked += 1

    @contextmanager
    def looking(self) -> Iterator[None]:
        with in_thread(self.look):
            yield
            self._over.set()


def epochs(dsn: str, prefix: str) -> list[Any]:
    return query(dsn, f"select node, epoch, tokens::text from {prefix}grant order by epoch")


async def kept_while_blocked(
    dsn: str, prefix: str, block_sec: float, *, is_told: Callable[[], bool] = lambda: True, **given: Any
) -> bool:
    """Block the loop of one of two nodes; tell whether that node had all its tokens all the time.

    `is_told`: whether the end of the blocking was told, which the watch does with its next look.
    """
    config = settings(dsn, prefix, **given)
    with Job("b", coordination_config=config) as b:
        async with AsyncJob("a", coordination_config=config) as a:
            await eventually(lambda: len(a.my_tokens) == len(b.my_tokens) == 50)
            before, onlooker = epochs(dsn, prefix), Onlooker(a)
            with onlooker.looking():
                time.sleep(block_sec)
            kept = onlooker.fewest == 50 and epochs(dsn, prefix) == before
            assert onlooker.asked > 10
            if kept:
                await eventually(a.am_i_healthy)
                blocked_sec = a.status().loop_blocked_sec
                assert block_sec - 1.5 < blocked_sec < block_sec + 1.5
                assert onlooker.longest_blocked_sec > block_sec - 1.5, "it is told while it lasts"
                assert a.get_coordination_status()["loop_blocked_sec"] == blocked_sec
                assert b.status().loop_blocked_sec == 0.0
                await eventually(is_told)
            return kept


def blocked_for(text: str) -> list[float]:
    """Give the seconds of which the log tells."""
    words = "the event loop was blocked for "
    return [float(line.split(words)[1].split(" s")[0]) for line in text.splitlines() if words in line]


def test_a_blocked_loop_loses_no_token_and_is_reported(
    server_dsn: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "jobsync"):
        told = lambda: bool(blocked_for(caplog.text))  # noqa: E731
        kept = run_async(kept_while_blocked(server_dsn, prefix, 3.5, is_told=told, **QUICK))
    assert kept
    assert [2.0 < sec < 5.0 for sec in blocked_for(caplog.text)] == [True]
    assert "does not run for" in caplog.text


def test_control_beats_on_the_loop_lose_the_tokens(
    server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Break the rule: let the engine of the asynchronous job wait for the loop. The same check has to find it."""

    async def body() -> bool:
        loop, wait = asyncio.get_running_loop(), Engine._wait

        def wait_for_the_loop(engine: Engine) -> None:
            if engine._member.name == "a" and not loop.is_closed():
                passed = threading.Event()
                loop.call_soon_threadsafe(passed.set)
                passed.wait(20)
            wait(engine)

        monkeypatch.setattr(Engine, "_wait", wait_for_the_loop)
        kept = await kept_while_blocked(server_dsn, prefix, 3.5, **QUICK)
        return kept

    assert not run_async(body())


def test_a_handover_that_is_due_goes_by_its_bound(server_dsn: str, prefix: str) -> None:
    removed: list[set[int]] = []

    async def on_removed(tokens: set[int]) -> None:
        removed.append(tokens)

    waited_sec = 0.0

    def second() -> None:
        nonlocal waited_sec
        began_sec = boot_sec()
        with Job("b", coordination_config=settings(server_dsn, prefix, **QUICK)) as b:
            eventually_plain(lambda: len(b.my_tokens) == 50)
            waited_sec = boot_sec() - began_sec
            assert removed == [], "the loop is blocked still"
            over.wait(20)

    over = threading.Event()

    async def body() -> None:
        config = settings(server_dsn, prefix, **QUICK)
        async with AsyncJob("a", coordination_config=config, on_tokens_removed=on_removed) as a:
            with in_thread(second):
                block_until(lambda: waited_sec > 0)
                assert len(a.my_tokens) == 50
                await eventually(lambda: removed)
                assert len(removed[0]) == 50
                over.set()

    run_async(body())
    assert waited_sec < 8


def block_until(condition: Any) -> None:
    """Block the loop, as a bad citizen would, for as long as it takes."""
    eventually_plain(condition)


class DeafLoop:
    """Looks to the watch like an event loop that does not run until it is told to."""

    def __init__(self) -> None:
        self._given: list[Callable[[], None]] = []

    def call_soon_threadsafe(self, function: Callable[[], None]) -> None:
        self._given.append(function)

    def run(self) -> None:
        while self._given:
            self._given.pop()()


@pytest.mark.parametrize(("jump_sec", "counts"), [(60.0, False), (0.5, True)])
def test_a_pause_of_the_process_is_not_taken_for_a_blocked_loop(
    monkeypatch: pytest.MonkeyPatch, jump_sec: float, counts: bool
) -> None:
    """The watch's own clock jumps, as it does after SIGSTOP: it counts two of its own intervals, no more."""
    ticks = [0.0, 0.5, 1.0 + jump_sec] if jump_sec > 1 else [0.5 * tick for tick in range(8)]
    left = list(ticks)

    def next_tick() -> float:
        return left.pop(0) if left else ticks[-1]

    class QuickEvent(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            return super().wait(0.001)

    loop = DeafLoop()
    watch = async_watch.LoopWatch("a", loop)  # type: ignore[arg-type]
    watch._stop = QuickEvent()
    monkeypatch.setattr(async_watch, "boot_sec", next_tick)
    watch.start()
    eventually_plain(lambda: not left)
    loop.run()
    watch.stop()
    watch._thread.join(20)
    assert (watch.longest_sec > 0) == counts


@pytest.mark.slow
def test_a_loop_that_was_blocked_for_30_s_loses_no_token(
    server_dsn: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "jobsync"):
        kept = run_async(kept_while_blocked(server_dsn, prefix, 30.0), limit_sec=120)
    assert kept
    assert [28 < sec < 32 for sec in blocked_for(caplog.text)] == [True]
