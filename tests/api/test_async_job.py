"""`AsyncJob`: entering, leaving, asking, and what happens to calls that are cancelled."""

import asyncio
import os
import signal
import threading
from datetime import timedelta

import pytest

from jobsync import AsyncJob, CoordinationDisabled, DatabaseUnavailable, EnterTimeout, InvalidTaskId, Job, NotRunning
from jobsync.runtime.ledger import Ledger
from tests.api.async_jobs import cancelled, eventually, held_claims, run_async
from tests.api.jobs import query, settings


def nodes_in(dsn: str, prefix: str) -> list[str]:
    return [name for (name,) in query(dsn, f"select name from {prefix}node order by name")]


# --- entering and leaving --------------------------------------------------------------------------


def test_entering_joins_and_leaving_leaves(server_dsn: str, prefix: str) -> None:
    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix)) as job:
            assert len(job.my_tokens) == 100
            assert job.am_i_leader()
            assert job.am_i_healthy()
            assert nodes_in(server_dsn, prefix) == ["a"]
        assert len(job.my_tokens) == 0
        assert not job.can_claim_task("x")
        assert nodes_in(server_dsn, prefix) == []

    run_async(body())


def test_an_error_in_the_body_leaves_gracefully_and_passes(server_dsn: str, prefix: str) -> None:
    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix)):
            raise KeyError

    with pytest.raises(KeyError):
        run_async(body())
    assert nodes_in(server_dsn, prefix) == []


def test_a_cancelled_body_leaves_gracefully(server_dsn: str, prefix: str) -> None:
    async def body() -> None:
        inside = asyncio.Event()

        async def work() -> None:
            async with AsyncJob("a", coordination_config=settings(server_dsn, prefix)):
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await inside.wait()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()  # Once more, while it leaves.
        await asyncio.wait((task,))
        assert task.cancelled()
        assert nodes_in(server_dsn, prefix) == []

    run_async(body())


def test_entering_that_is_cancelled_leaves_nothing_behind(server_dsn: str, prefix: str) -> None:
    async def body() -> None:
        config = settings(server_dsn, prefix, minimum_nodes=2, token_distribution_timeout_sec=50)
        job = AsyncJob("a", coordination_config=config)
        task = asyncio.create_task(job.__aenter__())
        await eventually(lambda: has_table(server_dsn, prefix) and nodes_in(server_dsn, prefix) == ["a"])
        await cancelled(task)
        assert nodes_in(server_dsn, prefix) == []
        assert not [each.name for each in threading.enumerate() if each.name == "jobsync-a"]

    run_async(body(), limit_sec=30)


def test_entering_that_is_cancelled_at_once_leaves_nothing_behind(server_dsn: str, prefix: str) -> None:
    async def body() -> None:
        task = asyncio.create_task(AsyncJob("a", coordination_config=settings(server_dsn, prefix)).__aenter__())
        await asyncio.sleep(0)
        await cancelled(task)
        assert not has_table(server_dsn, prefix) or nodes_in(server_dsn, prefix) == []

    run_async(body(), limit_sec=30)


def has_table(dsn: str, prefix: str) -> bool:
    return query(dsn, "select to_regclass(%s) is not null", f"{prefix}node") == [(True,)]


def test_what_keeps_a_job_out_is_raised(server_dsn: str, prefix: str) -> None:
    async def body() -> None:
        config = settings(server_dsn, prefix, minimum_nodes=2, token_distribution_timeout_sec=0.3)
        with pytest.raises(EnterTimeout, match="2 live nodes"):
            async with AsyncJob("a", coordination_config=config):
                pytest.fail("it entered")
        with pytest.raises(DatabaseUnavailable):
            async with AsyncJob("a", coordination_config=settings("host=127.0.0.1 port=1 dbname=x", prefix)):
                pytest.fail("it entered")

    run_async(body())


def test_the_loop_runs_on_while_a_job_enters_and_leaves(server_dsn: str, prefix: str) -> None:
    async def body() -> None:
        loop, longest_sec, over = asyncio.get_running_loop(), 0.0, asyncio.Event()

        async def tick() -> None:
            nonlocal longest_sec
            before = loop.time()
            while not over.is_set():
                await asyncio.sleep(0.001)
                longest_sec, before = max(longest_sec, loop.time() - before), loop.time()

        ticking = asyncio.create_task(tick())
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix), wait_on_enter=1.5):
            pass
        over.set()
        await ticking
        assert longest_sec < 1.0

    run_async(body())


def test_two_jobs_share_one_loop(server_dsn: str, prefix: str) -> None:
    async def body() -> None:
        config = settings(server_dsn, prefix)
        async with AsyncJob("a", coordination_config=config) as a, AsyncJob("b", coordination_config=config) as b:
            await eventually(lambda: len(a.my_tokens) == len(b.my_tokens) == 50)
            assert not set(a.my_tokens) & set(b.my_tokens)
            assert [row["name"] for row in await a.nodes] == ["a", "b"]
            assert await b.get_active_nodes() == await a.nodes

    run_async(body())


def test_stand_alone_touches_no_database() -> None:
    async def body() -> None:
        async with AsyncJob("a", coordination_config=None) as job:
            assert await job.add_task("x")
            await job.write_audit()
            assert [row["item"] for row in await job.get_audit()] == ["x"]
            with pytest.raises(CoordinationDisabled):
                async with job.transaction("x"):
                    pytest.fail("the body ran")

    run_async(body())


# --- asking ----------------------------------------------------------------------------------------


def test_claims_audits_locks_and_lists(server_dsn: str, prefix: str) -> None:
    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix), environment="test") as job:
            assert await job.add_task("x")
            assert await job.set_claim(["y", "z"]) == ["y", "z"]
            assert (await job.claim("c")).task.id == "c"
            await job.write_audit()
            assert [row["task_id"] for row in await job.get_audit()] == ["x"]
            assert await job.get_incomplete_tasks(timedelta(0)) == []
            await job.register_lock("gpu", "a%", reason="why")
            await job.register_task_locks_bulk([("m", ["a", "b"])])
            assert [row["task_id"] for row in await job.list_locks()] == ["gpu", "m"]
            assert await job.clear_locks_by_creator("a") == 2
            assert await job.get_dead_nodes() == []
            assert job.get_my_task_ids(["x", "y"]) == ["x", "y"]
            assert job.get_task_ids_for_token(job.task_to_token("x"), ["x"]) == ["x"]
            assert (job.node_name, job.environment, job.run) == ("a", "test", None)
            assert job.tables["Node"] == f"{prefix}node"
            assert job.get_coordination_status()["loop_blocked_sec"] == 0.0
            assert job.token_version >= 1

    run_async(body())


def test_errors_are_the_same(server_dsn: str, prefix: str) -> None:
    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix)) as job:
            with pytest.raises(InvalidTaskId):
                await job.add_task(1.5)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="unexpected"):
                await job.get_audit(unexpected=1)  # type: ignore[call-arg]

    run_async(body())


def test_wait_ends_by_stop_and_by_its_time() -> None:
    async def body() -> None:
        async with AsyncJob("a", coordination_config=None) as job:
            assert await job.wait(0.01) is False
            waiting = asyncio.create_task(job.wait())
            await asyncio.sleep(0)
            await asyncio.to_thread(job.stop)
            assert await waiting is True
            assert await job.wait() is True

    run_async(body())


def test_a_signal_stops_the_job_and_its_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)

    async def body() -> None:
        async with AsyncJob("a", coordination_config=None, handle_signals=True) as job:
            os.kill(os.getpid(), signal.SIGTERM)
            assert await job.wait(20)
        assert signal.getsignal(signal.SIGTERM) == before

    run_async(body())


def test_a_lock_provider_may_be_plain_or_async(server_dsn: str, prefix: str) -> None:
    async def on_loop(job: AsyncJob) -> None:
        assert asyncio.get_running_loop()
        assert job.node_name == "a"
        await job.register_lock("x", "a")

    def plain(job: Job) -> None:
        job.register_lock("y", "a")

    async def body() -> None:
        config = settings(server_dsn, prefix)
        for provider in (on_loop, plain):
            async with AsyncJob("a", coordination_config=config, lock_provider=provider) as job:
                pass
        async with AsyncJob("a", coordination_config=config) as job:
            assert [row["task_id"] for row in await job.list_locks()] == ["x", "y"]

    run_async(body())


def test_a_lock_provider_that_raises_or_is_cancelled_keeps_the_job_out(server_dsn: str, prefix: str) -> None:
    began = asyncio.Event()

    async def raises(job: AsyncJob) -> None:
        raise KeyError

    async def hangs(job: AsyncJob) -> None:
        began.set()
        await asyncio.Event().wait()

    async def body() -> None:
        config = settings(server_dsn, prefix)
        with pytest.raises(KeyError):
            async with AsyncJob("a", coordination_config=config, lock_provider=raises):
                pytest.fail("it entered")
        task = asyncio.create_task(AsyncJob("a", coordination_config=config, lock_provider=hangs).__aenter__())
        await began.wait()
        await cancelled(task)
        assert nodes_in(server_dsn, prefix) == []

    run_async(body())


# --- where it may be called ------------------------------------------------------------------------


def test_with_and_for_say_how_to_do_better() -> None:
    with pytest.raises(NotRunning, match="async with"), AsyncJob("a", coordination_config=None):
        pass

    async def body() -> None:
        async with AsyncJob("a", coordination_config=None) as job:
            with pytest.raises(Exception, match="async for"):
                for _ in job.tasks(["x"]):
                    pass

    run_async(body())


def test_calls_from_elsewhere_are_refused() -> None:
    job = AsyncJob("a", coordination_config=None)
    with pytest.raises(NotRunning, match="no event loop runs here"):
        job.tasks(["x"])

    async def before() -> None:
        with pytest.raises(NotRunning, match="not entered"):
            await job.get_audit()

    async def body() -> None:
        async with job:
            errors: list[BaseException] = []
            await asyncio.to_thread(elsewhere, job, errors)
            assert [type(error) for error in errors] == [NotRunning, NotRunning, NotRunning]
            assert "another event loop" in str(errors[0])
            assert job.can_claim_task("x")
            with pytest.raises(NotRunning, match="entered already"):
                await job.__aenter__()
        for call in (job.get_audit, job.write_audit):
            with pytest.raises(NotRunning):
                await call()

    def elsewhere(job: AsyncJob, errors: list[BaseException]) -> None:
        async def ask() -> None:
            for call in (job.get_audit, job.write_audit, lambda: job.__aexit__(None, None, None)):
                try:
                    await call()
                except BaseException as error:
                    errors.append(error)

        asyncio.run(ask())

    run_async(before())
    run_async(body())


# --- cancelled calls -------------------------------------------------------------------------------


def test_a_cancelled_add_task_keeps_its_claim_and_is_not_taken_for_done(server_dsn: str, prefix: str) -> None:
    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix), run="r") as job:
            with held_claims(server_dsn, prefix) as claims:
                adding = asyncio.create_task(job.add_task("x"))
                await eventually(claims.is_waited_for)
                await cancelled(adding)
            await eventually(lambda: query(server_dsn, f"select item from {prefix}claim") == [("x",)])
            await job.write_audit()
            assert await job.get_audit() == []
            assert await job.add_task("x")
            await job.write_audit()
            assert [row["item"] for row in await job.get_audit()] == ["x"]

    run_async(body())


def test_a_cancelled_write_audit_is_written_all_the_same(
    server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, opened = threading.Event(), threading.Event()
    done = Ledger.done

    def held(self: Ledger, items: list[str]) -> None:
        reached.set()
        assert opened.wait(20)
        done(self, items)

    async def body() -> None:
        async with AsyncJob("a", coordination_config=settings(server_dsn, prefix)) as job:
            assert await job.add_task("x")
            monkeypatch.setattr(Ledger, "done", held)
            writing = asyncio.create_task(job.write_audit())
            await eventually(reached.is_set)
            await cancelled(writing)
            threading.Timer(0.3, opened.set).start()  # It leaves at once: what is under way is waited for.

    run_async(body())
    assert query(server_dsn, f"select count(*) from {prefix}audit") == [(1,)]
