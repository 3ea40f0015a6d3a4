"""`AsyncJob`: one node of the fleet, as an asyncio program uses it.

It stands on a `Job`: names, parameters, texts and behaviour come from there. Questions that are answered from what is
known here are passed straight through and need no `await`. What may wait for the database or another thread is a
coroutine, and runs in threads of the job's own. The lease is kept by the same engine thread as always: no beat depends
on the application's event loop.
"""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from jobsync.api.async_leader import AsyncLeaderMethods
from jobsync.api.async_mirror import awaited, described_by, local, local_property
from jobsync.api.async_tasks_loop import AsyncSource, AsyncTaskLoop
from jobsync.api.claim import Claim
from jobsync.api.health import Health
from jobsync.api.job import Job
from jobsync.api.status import JobStatus
from jobsync.core.tasks import Task, TaskId
from jobsync.core.tokens import TokenSet
from jobsync.postgres.async_pool import AsyncPool
from jobsync.runtime.async_transactions import owned_transaction_async

if TYPE_CHECKING:
    from jobsync.api.health_server import HealthServer


@described_by(Job)
class AsyncJob(AsyncLeaderMethods):
    """For asyncio: enter with `async with`, await what may wait, iterate with `async for`.

    Callbacks are plain functions or coroutine functions, and run on the event loop that entered the job, never two at
    once. An async `lock_provider` runs there too and is given this job; a plain one runs in the entering thread and is
    given a `Job`. Signals are handled only by `handle_signals=True`. Leaving is graceful when the body is cancelled.
    Calls from another event loop, or from outside one, raise NotRunning.
    """

    # --- answered at once ----------------------------------------------------------------------

    node_name = local_property[str](Job.node_name)
    environment = local_property[str | None](Job.environment)
    run = local_property[str | None](Job.run)
    date = local_property[dt.date](Job.date)
    tables = local_property[dict[str, str]](Job.tables)
    my_tokens = local_property[TokenSet](Job.my_tokens)
    token_version = local_property[int](Job.token_version)

    can_claim_task = local(Job.can_claim_task)
    task_to_token = local(Job.task_to_token)
    get_my_task_ids = local(Job.get_my_task_ids)
    get_task_ids_for_token = local(Job.get_task_ids_for_token)
    am_i_leader = local(Job.am_i_leader)
    expose_metrics = local(Job.expose_metrics)
    stop = local(Job.stop)

    @described_by(Job.am_i_healthy)
    def am_i_healthy(self) -> bool:
        """False too while the event loop has been blocked for as long as a hand-over waits."""
        # A loop that is blocked for longer than a hand-over waits is a stuck callback to come.
        watch = self._watch
        is_stuck = watch is not None and watch.blocked_now_sec >= self._job.handover_sec
        return self._job.am_i_healthy() and not is_stuck

    @described_by(Job.health)
    def health(self) -> Health:
        """An event loop that is blocked is told as well."""
        watch, health = self._watch, self._job.health()
        blocked_sec = 0.0 if watch is None else watch.blocked_now_sec
        if blocked_sec < self._job.handover_sec:
            return health
        return health.but(f"its event loop has not run for {blocked_sec:.1f} s: something on it blocks")

    @described_by(Job.serve_health)
    def serve_health(self, port: int, *, host: str = "", metrics: bool = False) -> "HealthServer":
        """The thread answers while the event loop is blocked, too."""
        return self._job.serve_health_of(self.health, port, host=host, metrics=metrics)

    @described_by(Job.status)
    def status(self) -> JobStatus:
        """`loop_blocked_sec` tells whether the event loop was blocked."""
        blocked_sec = 0.0 if self._watch is None else self._watch.longest_sec
        return replace(self._job.status(), healthy=self.am_i_healthy(), loop_blocked_sec=blocked_sec)

    @described_by(Job.get_coordination_status)
    def get_coordination_status(self) -> dict[str, Any]:
        """`loop_blocked_sec` is in it."""
        return asdict(self.status())

    # --- awaited -------------------------------------------------------------------------------

    set_claim = awaited(Job.set_claim)
    get_audit = awaited(Job.get_audit)
    get_incomplete_tasks = awaited(Job.get_incomplete_tasks)
    claim = awaited(Job.claim)
    get_active_nodes = awaited(Job.get_active_nodes)
    get_dead_nodes = awaited(Job.get_dead_nodes)
    register_lock = register_task_lock = awaited(Job.register_lock)
    register_locks_bulk = register_task_locks_bulk = awaited(Job.register_locks_bulk)
    list_locks = awaited(Job.list_locks)
    clear_locks_by_creator = awaited(Job.clear_locks_by_creator)
    clear_all_locks = awaited(Job.clear_all_locks)

    @property
    @described_by(Job.nodes)
    async def nodes(self) -> list[dict[str, Any]]:
        """To be awaited: `await job.nodes`."""
        return await self.get_active_nodes()

    @described_by(Job.wait)
    async def wait(self, timeout: float | None = None) -> bool:
        """Blocks this coroutine alone."""
        self._require_loop()
        self._job.wait(0)
        try:
            async with asyncio.timeout(timeout):
                await self._stopped.wait()
        except TimeoutError:
            pass
        return self._job.wait(0)

    @described_by(Job.add_task)
    async def add_task(self, task: Task | TaskId) -> bool:
        """A caller who is cancelled meanwhile has no yes, and the task is not remembered for `write_audit()`.

        In a run its claim may stand all the same; asked again, this node has it.
        """
        self._require_loop()
        job = self._job
        if not job.claims_wait:
            return job.add_task(task)
        with job.one_adding(task) as is_first:
            claimed = is_first and await self._waited(lambda: job.claim_to_add(task))
            # Remembered in the step in which the caller gets his yes: a caller who was cancelled before it has not
            # begun the task, and must not find it audited. Its claim stands; asked again, it is this node's again.
            if claimed:
                job.remember(task)
        return claimed

    @described_by(Job.write_audit)
    async def write_audit(self) -> None:
        """A caller who is cancelled meanwhile loses nothing: writing goes on."""
        self._require_loop()
        job = self._job
        texts = job.take_added()
        await self._waited(lambda: job.audit(texts))

    # --- loops and transactions ----------------------------------------------------------------

    @described_by(Job.tasks)
    def tasks(self, ids: AsyncSource) -> AsyncTaskLoop:
        """Here the loop is `async for`, under `async with` where it may end early.

        `ids` may also be an async iterable, or a function, plain or async, that gives either. Iterators run on the
        event loop, in the task that iterates.
        `stop()` ends a loop that waits for its next id. One consumer a loop; a step that was cancelled is taken up by
        the next.
        """
        self._require_loop()
        self._job.require_worker()
        self._tasks = AsyncTaskLoop(self._job, ids, name=self._job.node_name, before=self._tasks)
        return self._tasks

    @described_by(Job.transaction)
    @asynccontextmanager
    async def transaction(self, task: Task | TaskId | Claim, *, repeat: bool = False) -> AsyncIterator[Any]:
        """The connection is a psycopg AsyncConnection on this event loop.

        A body that is cancelled is rolled back; cancelled while it commits, whether it did shows when the task is
        tried again.
        """
        self._require_loop()
        work = self._job.owned_work(task, repeat=repeat)
        if self._pool is None:
            self._pool = AsyncPool(work.node.transactions.terms)
        if not work.ledger.day_is_seen_to:
            await self._waited(work.ledger.see_to_day)
        with self._job.outcome_noted(work.text):
            async with owned_transaction_async(work, self._pool) as conn:
                yield conn
