# ruff: noqa: SIM117 - who enters first matters, and reads better one below the other.
"""Callbacks of an `AsyncJob`: plain or async, on the loop that entered it, in order, never two at once."""

import asyncio
import logging
import threading
from contextvars import ContextVar
from typing import Any

import pytest

from jobsync import AsyncJob, RebalanceEvent
from jobsync.api.async_bridge import LoopBridge
from tests.api.async_jobs import eventually, run_async
from tests.api.jobs import settings

WHO: ContextVar[str] = ContextVar("WHO")


class LoopRecorder:
    """Takes note of what was called, and complains when two calls overlap or come from elsewhere."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, frozenset[int]]] = []
        self.errors: list[str] = []
        self._inside = False

    def enter(self, kind: str, tokens: set[int]) -> None:
        if self._inside:
            self.errors.append(f"{kind} overlaps another call")
        if threading.current_thread() is not threading.main_thread():
            self.errors.append(f"{kind} came from {threading.current_thread().name}")
        self._inside = True
        self.calls.append((kind, frozenset(tokens)))

    def leave(self) -> None:
        self._inside = False

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.calls]

    @property
    def token_kinds(self) -> list[str]:
        return [kind for kind, tokens in self.calls if tokens]

    def plain(self) -> dict[str, Any]:
        def added(tokens: set[int]) -> None:
            self.enter("added", tokens)
            self.leave()

        def removed(tokens: set[int]) -> None:
            self.enter("removed", tokens)
            self.leave()

        def rebalance() -> None:
            self.enter("rebalance", set())
            self.leave()

        return {"on_tokens_added": added, "on_tokens_removed": removed, "on_rebalance": rebalance}

    def asynchronous(self) -> dict[str, Any]:
        async def call(kind: str, tokens: set[int]) -> None:
            self.enter(kind, tokens)
            await asyncio.sleep(0.01)
            self.leave()

        async def added(tokens: set[int]) -> None:
            await call("added", tokens)

        async def removed(tokens: set[int]) -> None:
            await call("removed", tokens)

        async def rebalance(event: RebalanceEvent) -> None:
            assert isinstance(event, RebalanceEvent)
            await call("rebalance", set())

        return {"on_tokens_added": added, "on_tokens_removed": removed, "on_rebalance": rebalance}


@pytest.mark.parametrize("kind", ["plain", "asynchronous"])
def test_they_run_on_the_loop_in_order_one_at_a_time(server_dsn: str, prefix: str, kind: str) -> None:
    async def body() -> None:
        config = settings(server_dsn, prefix)
        heard = LoopRecorder()
        async with AsyncJob("a", coordination_config=config, **getattr(heard, kind)()) as a:
            await eventually(lambda: heard.kinds == ["added", "rebalance"])
            first = len(heard.calls)
            async with AsyncJob("b", coordination_config=config) as b:
                await eventually(lambda: len(b.my_tokens) == 50)
                # A change of the members alone is a rebalance too, with no tokens.
                await eventually(lambda: heard.token_kinds[1:] == ["removed"] and heard.kinds[-1] == "rebalance")
            await eventually(lambda: len(a.my_tokens) == 100 and heard.token_kinds[2:] == ["added"])
            await eventually(lambda: heard.kinds[-1] == "rebalance")
        assert heard.errors == []
        assert [len(tokens) for _, tokens in heard.calls[first:] if tokens] == [50, 50]

    run_async(body())


def test_a_handover_waits_for_an_async_removed_callback(server_dsn: str, prefix: str) -> None:
    events: list[str] = []

    async def body() -> None:
        async def removed(tokens: set[int]) -> None:
            assert not set(a.my_tokens) & tokens
            events.append("removing")
            await asyncio.sleep(0.3)
            events.append("removed")

        def added(tokens: set[int]) -> None:
            events.append("added")

        config = settings(server_dsn, prefix)
        async with AsyncJob("a", coordination_config=config, on_tokens_removed=removed) as a:
            async with AsyncJob("b", coordination_config=config, on_tokens_added=added):
                await eventually(lambda: "added" in events)
        assert events == ["removing", "removed", "added"]

    run_async(body())


def test_an_error_is_logged_and_changes_nothing_else(
    server_dsn: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def raises(tokens: set[int]) -> None:
        await asyncio.sleep(0)
        raise KeyError("of the callback")

    def exits() -> None:
        raise SystemExit

    async def body() -> None:
        config = settings(server_dsn, prefix)
        async with AsyncJob("a", coordination_config=config, on_tokens_added=raises, on_rebalance=exits) as job:
            await eventually(lambda: "on_rebalance raised" in caplog.text)
            assert len(job.my_tokens) == 100

    with caplog.at_level(logging.ERROR, "jobsync"):
        run_async(body())
    assert "on_tokens_added raised" in caplog.text
    assert "of the callback" in caplog.text
    assert "Traceback" in caplog.text


def test_the_first_call_finds_the_name_bound_by_as() -> None:
    """The body never awaits before it is called, and the loop is busy just when the body begins."""

    async def one() -> None:
        seen = []

        def added(tokens: set[int]) -> None:
            seen.append(len(job.my_tokens))  # NameError until `as` has bound it.

        async def busy() -> None:
            while not seen:
                await asyncio.sleep(0)

        crowd = [asyncio.create_task(busy()) for _ in range(5)]
        async with AsyncJob("a", coordination_config=None, on_tokens_added=added) as job:
            await eventually(lambda: seen)
        await asyncio.gather(*crowd)
        assert seen == [10_000]

    async def body() -> None:
        for _ in range(20):
            await one()

    run_async(body())


def test_none_is_called_before_the_body_has_its_name_however_late_that_is() -> None:
    async def body() -> None:
        calls: list[str] = []
        bridge = LoopBridge()
        bridge.open(asyncio.get_running_loop())
        on_loop = bridge.callback(calls.append)
        calling = asyncio.create_task(asyncio.to_thread(on_loop, "called"))
        await asyncio.sleep(0.1)
        assert calls == []
        bridge.let_callbacks_begin()
        assert calls == []
        await calling
        assert calls == ["called"]

    run_async(body())


def test_they_see_the_context_of_who_entered() -> None:
    seen = []

    async def added(tokens: set[int]) -> None:
        seen.append(WHO.get())

    async def body() -> None:
        WHO.set("me")
        async with AsyncJob("a", coordination_config=None, on_tokens_added=added):
            await eventually(lambda: seen)

    run_async(body())
    assert seen == ["me"]


def test_none_is_called_at_exit_or_after_and_no_thread_stays(server_dsn: str, prefix: str) -> None:
    async def body() -> None:
        heard = LoopRecorder()
        before = set(threading.enumerate())  # Pools of earlier tests may stay as long as the process.
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix), **heard.asynchronous()):
            assert any(each.name.startswith("jobsync-") for each in set(threading.enumerate()) - before)
        assert "removed" not in heard.kinds
        await eventually(lambda: not [e for e in set(threading.enumerate()) - before if e.name.startswith("jobsync-")])
        told = list(heard.calls)
        await asyncio.sleep(0.1)
        assert heard.calls == told

    run_async(body())


def test_a_callback_that_hangs_holds_a_handover_up_only_for_its_bound(server_dsn: str, prefix: str) -> None:
    async def hangs(tokens: set[int]) -> None:
        await asyncio.Event().wait()

    async def body() -> None:
        config = settings(server_dsn, prefix, handover_timeout_sec=0.3)
        async with AsyncJob("a", coordination_config=config, on_tokens_removed=hangs):
            async with AsyncJob("b", coordination_config=config) as b:
                await eventually(lambda: len(b.my_tokens) == 50)

    run_async(body())


# --- leading ---------------------------------------------------------------------------------------


def test_leading_from_a_loop(server_dsn: str, prefix: str) -> None:
    async def body() -> None:
        config = settings(server_dsn, prefix)
        async with AsyncJob("a", coordination_config=config) as a:
            async with AsyncJob("b", coordination_config=config) as b:
                async with a.leader() as lead:
                    assert lead.held
                    assert not lead.lost.is_set()
                    assert await lead.wait(0.01) is False
                    with pytest.raises(TimeoutError):
                        async with b.leader(timeout=0.05):
                            pytest.fail("two lead")
                    waiting = asyncio.create_task(enter_and_leave(b))
                    await asyncio.sleep(0.05)
                    waiting.cancel()
                    await asyncio.wait((waiting,))
                    assert waiting.cancelled()
                    lost = asyncio.create_task(lead.wait())
                    a.stop()
                    assert await lost is True
                await eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("jobsync-gain")])
                assert lead.epoch > 0

    run_async(body())


async def enter_and_leave(job: AsyncJob) -> None:
    async with job.leader():
        pass


def test_a_singleton_may_be_a_coroutine_function_or_a_plain_one(server_dsn: str, prefix: str) -> None:
    seen: list[tuple[str, bool]] = []

    async def body() -> None:
        job = AsyncJob("a", coordination_config=settings(server_dsn, prefix))
        main = threading.main_thread()

        @job.singleton
        async def once(lead: Any) -> None:
            seen.append(("async", threading.current_thread() is main))
            while not await lead.wait(10):
                pass
            seen.append(("async ended", lead.held))

        @job.singleton(every=0.01)
        def often() -> None:
            seen.append(("plain", threading.current_thread() is main))

        async with job:
            await eventually(lambda: ("async", True) in seen and seen.count(("plain", False)) > 3)
        assert ("async ended", True) in seen, "it is waited for while the job leaves"

    run_async(body())
