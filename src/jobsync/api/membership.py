"""Being in the fleet: how a job is entered and left, and what all its methods stand on."""

import logging
import os
import threading
from collections.abc import Callable
from datetime import date, datetime
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeGuard

from jobsync import postgres, runtime
from jobsync.api.checks import checked_callback, checked_flag, checked_name, checked_seconds
from jobsync.api.config import FROM_ENVIRONMENT, SettingsSource, resolve
from jobsync.api.signals import STOP_SIGNALS
from jobsync.api.task_date import date_of, local_today
from jobsync.api.tasks_loop import TaskLoop
from jobsync.api.token_index import TokenIndex, TokenMemo
from jobsync.core.errors import CoordinationDisabled, NotRunning
from jobsync.core.hashing import HASH_FUNCTIONS
from jobsync.core.log_events import Event, marks
from jobsync.core.settings import Settings
from jobsync.core.tasks import Task, TaskId, as_task
from jobsync.core.tokens import TokenSet
from jobsync.runtime.listener import Listener
from jobsync.runtime.waiting import Flag

if TYPE_CHECKING:
    from jobsync.api.tracing.process import Tracing

log = logging.getLogger("jobsync")

LEAVE_MOST_SEC = 15.0  # Beside the hand-over: the last audits, and the good-byes.

AnyNode: TypeAlias = "runtime.Node | runtime.SoloNode | runtime.Visitor"
AnyLedger: TypeAlias = "runtime.Ledger | runtime.SoloLedger"
Day: TypeAlias = date  # For where a parameter is called `date`.
Owns: TypeAlias = Callable[[Task | TaskId], bool]


def _tracing_of(settings: Settings) -> "Tracing | None":
    """Give the process's tracing where it is asked for; nothing of it is loaded where it is not."""
    if not settings.tracing:
        return None
    from jobsync.api.tracing.process import tracing  # noqa: PLC0415

    return tracing()


class Membership:
    """The state of a job, its beginning and its end."""

    def __init__(  # noqa: PLR0913 - the keyword arguments of the contract
        self,
        node_name: str,
        environment: str | None = None,
        *,
        coordination_config: SettingsSource = FROM_ENVIRONMENT,
        date: "date | datetime | str | None" = None,
        wait_on_enter: float | None = None,
        lock_provider: Callable[[Any], object] | None = None,
        clear_existing_locks: bool = False,
        on_rebalance: Callable[..., object] | None = None,
        on_tokens_added: Callable[[set[int]], object] | None = None,
        on_tokens_removed: Callable[[set[int]], object] | None = None,
        run: str | None = None,
        observer: bool = False,
        handle_signals: bool = False,
    ) -> None:
        self._name = checked_name("node_name", node_name)
        self._run = None if run is None else checked_name("run", run)
        self._environment = None if environment is None else checked_name("environment", environment)
        resolved = resolve(coordination_config, os.environ)
        self._settings = resolved.settings if resolved.coordinated else None
        self._is_unconfigured = not resolved.configured
        self._given_date = date_of(date)
        self._wait_sec = checked_seconds("wait_on_enter", wait_on_enter)
        self._lock_provider = checked_callback("lock_provider", lock_provider, 1)
        self._clear_existing_locks = checked_flag("clear_existing_locks", clear_existing_locks)
        self._desk: runtime.LockDesk | None = None
        self._is_observer = checked_flag("observer", observer)
        self._listener = Listener(
            node_name,
            checked_callback("on_tokens_added", on_tokens_added, 1),
            checked_callback("on_tokens_removed", on_tokens_removed, 1),
            checked_callback("on_rebalance", on_rebalance, 0, 1),
        )
        self._handles_signals = handle_signals
        settings = self._standing_alone_with = resolved.settings
        self._tracing = _tracing_of(settings)
        self._task_spans = None if self._tracing is None else self._tracing.task_spans(node_name, self._run)
        hash_function, total = HASH_FUNCTIONS[settings.hash_function], settings.total_tokens
        self._hash_function = hash_function
        self._tokens_by_text = TokenMemo(lambda text: hash_function(text, total))
        self._index = TokenIndex(lambda text: hash_function(text, total))
        self._token_of_text = self._tokens_by_text.__getitem__
        self._total_tokens = total
        self._prefix = settings.prefix
        self._stop = Flag()
        self._lock = threading.RLock()
        self._entered = self._leaving = False
        self._left = Flag()
        self._leaver: int | None = None
        self._pid = 0
        self._day: Day | None = None
        self._node: AnyNode | None = None
        self._ledger: AnyLedger | None = None
        self._added: dict[str, None] = {}
        self._adding, self._auditing = set[str](), set[str]()  # In a run: on the way there, and from there.
        self._loops: list[TaskLoop] = []
        self._before_leave: list[Callable[[], Callable[[], None]]] = []
        self._leaving_most_sec = self._standing_alone_with.handover_sec * 2 + LEAVE_MOST_SEC
        self._owns: Owns = self._not_running
        self._body_began = False
        self._asked_before = False
        if self._run is not None and self._settings is None:
            raise CoordinationDisabled(
                f"run={run!r} needs coordination: a run is what several nodes share; pass a configuration"
            )

    # --- entering and leaving ------------------------------------------------------------------

    def __enter__(self) -> Self:
        with self._lock:
            if self._entered:
                raise NotRunning(f"job {self._name!r} is entered already: make another Job for another `with`")
            self._entered = True
            self._pid = os.getpid()
            try:
                self._enter()
            except BaseException:
                self._exit()
                raise
        if self._handles_signals:
            STOP_SIGNALS.begin(self, self.stop)
        self._listener.entered.set()
        return self

    def _enter(self) -> None:
        if self._settings is None:
            self._enter_alone()
        elif self._is_observer:
            visitor = self._node = runtime.Visitor(self._name, self._settings)
            self._desk = runtime.LockDesk(visitor.pool, self._prefix, self._name)
            today = visitor.receive()
            self._ledger = self._new_ledger(visitor, self._given_date or today)
        else:
            self._enter_fleet(self._settings)

    def _enter_alone(self) -> None:
        if self._is_unconfigured:
            log.warning(
                "job %r stands alone and owns every task, since nothing is configured: neither coordination_config nor "
                "a config, nor any SYNC_ variable; if that is meant, say coordination_config=None",
                self._name,
                extra=marks(Event.NOTHING_CONFIGURED, node=self._name),
            )
        node = self._node = runtime.SoloNode(self._name, self._standing_alone_with)
        self._ledger = runtime.SoloLedger(self._given_date or local_today())
        self._owns = runtime.make_owns(node.engine, self._hash_function, self._total_tokens)
        node.callbacks.add(self._listener)
        node.enter()

    def _enter_fleet(self, settings: Settings) -> None:
        with runtime.NODES.entering(self._name, settings, environment=self._environment) as (node, is_new):
            self._node = node
            self._node_is_known(node)
            if self._tracing is not None:
                self._tracing.attach(node)
            today = node.receive()
            day = self._given_date or today
            if self._run is not None:
                day = self._enter_run(node, self._run)
            ledger = self._ledger = self._new_ledger(node, day)
            self._desk = runtime.LockDesk(node.pool, self._prefix, self._name)
            self._register_own_locks(self._desk)
            if is_new:
                # Its first assignment is this job's first call; whoever joins it later is told the sum at the end.
                node.callbacks.add(self._listener)
            node.add_ledger(ledger)
            node.on_end.append(self._stop.set)
            self._owns = runtime.make_owns(node.engine, self._hash_function, self._total_tokens)
            node.join()
        # The wait may be a grace of minutes: other jobs of the name may come and go meanwhile.
        node.wait_until_in(wait_sec=self._wait_sec, stop=self._stop)
        if not is_new:
            node.callbacks.add(self._listener)

    def _node_is_known(self, node: "runtime.Node") -> None:
        """Let what watches the node begin, before it joins."""

    def _register_own_locks(self, desk: "runtime.LockDesk") -> None:
        """Clear and register in one change, before the node joins."""
        if self._lock_provider is None and not self._clear_existing_locks:
            return
        with desk.one_change():
            if self._clear_existing_locks:
                desk.clear_own()
            if self._lock_provider is not None:
                self._lock_provider(self)

    def _lock_desk(self) -> "runtime.LockDesk | None":
        self._running()
        if self._desk is None:
            log.info(
                "node %r stands alone: locks bind nothing here, and none are kept",
                self._name,
                extra=marks(Event.LOCKS_NOT_KEPT, node=self._name),
            )
        return self._desk

    def _enter_run(self, node: "runtime.Node", run: str) -> date:
        day: date = node.pool.run(self._records.enter_run(run, self._given_date))[0][0]
        if self._given_date not in {None, day}:
            log.warning(
                "job %r: run %r was begun for %s, which stands for all who enter it; the given date %s has no effect",
                self._name,
                run,
                day,
                self._given_date,
                extra=marks(Event.RUN_DATE_STANDS, node=self._name, run=run),
            )
        return day

    def _new_ledger(self, node: "runtime.Node | runtime.Visitor", day: date) -> "runtime.Ledger":
        return runtime.Ledger(
            node.pool,
            self._records,
            day=day,
            run_name=self._run,
            incarnation=lambda: node.incarnation,
            token_of=self._tokens_by_text.__getitem__,
            rivals=lambda: node.ledgers,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit()

    def _exit(self) -> None:
        """Leave, once.

        A second call returns at once from within the first, as from a signal handler or a callback; in any other
        thread it returns when the first has left, so that the process does not end under it. The node answers for its
        tokens until it has handed them over: others take them the sooner after its last yes.
        """
        if self._leaving:
            self._await_leaver()
            return
        self._leaving, self._leaver = True, threading.get_ident()
        self._stop.set()
        STOP_SIGNALS.end(self)
        try:
            if self._node is not None and os.getpid() == self._pid:
                self._leave(self._node)
        finally:
            # In a forked child this is all: the node, and every socket of it, is the parent's.
            self._day = self._ledger.day if self._ledger is not None else None
            self._node = self._ledger = None
            self._owns = self._not_running
            self.__dict__.pop("can_claim_task", None)
            if self._tracing is not None:
                self._tracing.flush()
            self._left.set()

    def _await_leaver(self) -> None:
        thread = threading.current_thread()
        # The job's own threads are waited for by the one that leaves.
        if thread.ident != self._leaver and os.getpid() == self._pid and not thread.name.startswith("jobsync-"):
            self._left.wait(self._leaving_most_sec)

    def _stops_before_leaving(self, ask: Callable[[], Callable[[], None]], most_sec: float) -> None:
        """Have something that lives by the node asked to end before it leaves; `ask` gives the function that waits."""
        self._before_leave.append(ask)
        self._leaving_most_sec += most_sec

    def _forgets(self, ask: Callable[[], Callable[[], None]]) -> None:
        """Ask it no more: it has ended."""
        if ask in self._before_leave:
            self._before_leave.remove(ask)

    def _leave(self, node: AnyNode) -> None:
        for wait in [ask() for ask in tuple(self._before_leave)]:
            wait()
        node.callbacks.remove(self._listener)
        try:
            for loop in self._loops:
                loop.close()
        finally:
            try:
                if self._ledger is not None:
                    self._ledger.close(patience_sec=2.0)
            finally:
                self._leave_node(node)

    def _leave_node(self, node: AnyNode) -> None:
        if not self._is_member(node):
            node.leave()
            return
        if isinstance(self._ledger, runtime.Ledger):
            node.remove_ledger(self._ledger)
        if self._stop.set in node.on_end:
            node.on_end.remove(self._stop.set)
        runtime.NODES.leave(node)

    def stop(self) -> None:
        """Ask the job to end, from any thread or signal handler: `tasks()` yields no more, `wait` returns True."""
        self._stop.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until `stop()` is called, at most `timeout` seconds; True if it was.

        Raises what ended the node, if it ended by itself.
        """
        timeout = checked_seconds("timeout", timeout)
        if not self._entered or os.getpid() != self._pid:
            self._running()
        self._touch()
        stopped = self._stop.wait(timeout)
        if self._node is not None:
            self._node.require_running()
        return stopped

    # --- helpers -------------------------------------------------------------------------------

    def _touch(self) -> None:
        """The body has begun to use the job: the first callback may come. What `lock_provider` does is not the body."""
        if not self._body_began and self._listener.entered.is_set():
            self._body_began = True
            self._listener.body_began.set()

    def _held_tokens(self) -> TokenSet:
        self._touch()
        return TokenSet() if self._node is None else self._node.tokens

    def _running(self) -> AnyNode:
        self._touch()
        node = self._node
        if node is None:
            raise NotRunning(f"job {self._name!r} is not entered: use it inside its `with` block")
        if os.getpid() != self._pid:
            raise NotRunning(f"job {self._name!r} belongs to the process that entered it: enter another in this child")
        return node

    def _is_member(self, node: "AnyNode | None") -> TypeGuard["runtime.Node"]:
        """Tell whether a node of this job is one of a fleet; asking its class would load what only those need."""
        return node is not None and self._settings is not None and not self._is_observer

    @cached_property
    def _records(self) -> "postgres.Records":
        return postgres.Records(self._prefix, self._name)

    def _working(self) -> AnyLedger:
        """Give the ledger of a job that may own tasks."""
        self._running()
        if self._is_observer:
            raise CoordinationDisabled(
                f"job {self._name!r} only observes: it owns no task; enter one without observer=True"
            )
        return self._recording()

    def _recording(self) -> AnyLedger:
        self._running()
        assert self._ledger is not None
        return self._ledger

    def _pool(self) -> Any:
        node = self._running()
        assert not isinstance(node, runtime.SoloNode)
        return node.pool

    def _not_running(self, task: Task | TaskId) -> bool:
        as_task(task)  # A bad id is refused here as well.
        return False
