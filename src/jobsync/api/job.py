"""`Job`: one node of the fleet, as an application uses it.

A job is entered with `with`. From then on it answers, locally and from any thread, which tasks are this node's *now*.
The answer is evaluated at the instant of the question on the node's own clocks, so a process that was paused, cut
off or fenced answers no. Not promised: that the answer still holds an instant later, when the caller acts on it. For
effects in the database there is `transaction`, which decides by locks and not by clocks.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date, datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeAlias

from jobsync.api.claim import Claim
from jobsync.api.config import FROM_ENVIRONMENT, Unset, resolve
from jobsync.api.lock_methods import LockMethods
from jobsync.api.signals import StopSignals
from jobsync.api.status import JobStatus
from jobsync.api.task_date import date_of, local_today
from jobsync.api.tasks_loop import Source, TaskLoop
from jobsync.api.token_index import TokenIndex, TokenMemo
from jobsync.core.errors import CoordinationDisabled, DatabaseUnavailable, InvalidArgument, NotRunning, OwnershipLost
from jobsync.core.hashing import HASH_FUNCTIONS
from jobsync.core.holding import Fence, Holding
from jobsync.core.settings import Settings
from jobsync.core.tasks import OneOrMany, Task, TaskId, as_task, tasks_of
from jobsync.core.tokens import TokenSet
from jobsync.postgres.overview import list_nodes
from jobsync.postgres.records import Records
from jobsync.runtime.answers import make_owns
from jobsync.runtime.callbacks import Listener
from jobsync.runtime.ledger import Ledger
from jobsync.runtime.lock_desk import LockDesk
from jobsync.runtime.node import Node
from jobsync.runtime.solo import SoloLedger, SoloNode
from jobsync.runtime.transactions import owned_transaction
from jobsync.runtime.visitor import Visitor

log = logging.getLogger("jobsync")

Owns: TypeAlias = Callable[[Task | TaskId], bool]

AWAY_SEC = 0.5
MOST_NAME_BYTES = 500

AnyNode: TypeAlias = Node | SoloNode | Visitor


class Job(LockMethods):
    """One node in one process: registers, owns tokens, works on the tasks that hash to them, hands over, leaves.

    `node_name` must be unique among the live nodes of a fleet. `environment` is a label for logs. `coordination_config`
    gives the settings; None makes the job stand alone; omitted, `config` and the environment decide.
    `date` (date, datetime or ISO text) is the day worked for, by default the database's date at enter. `wait_on_enter`
    None waits only until the node has its first tokens; a number of seconds is a grace period, waited in full.
    `run` names a batch within which each task is done once. `observer` joins nothing and only looks.
    `handle_signals` turns SIGTERM and SIGINT into `stop()` while the job is entered in the main thread.

    `on_tokens_added(set)`, `on_tokens_removed(set)` and `on_rebalance()` (or `on_rebalance(event)`) are called on one
    background thread, never two at once, removed before added. `lock_provider(job)` runs once, before the node
    joins; with `clear_existing_locks` the locks that this name created before are cleared in the same change.

    Raises InvalidArgument or InvalidSettings at once for bad arguments. Entering raises DatabaseUnavailable,
    SchemaError, NodeNameInUse, ConfigMismatch or EnterTimeout.
    """

    def __init__(  # noqa: PLR0913 - the keyword arguments of the contract
        self,
        node_name: str,
        environment: str | None = None,
        config: object = None,
        *,
        coordination_config: Settings | Unset | None = FROM_ENVIRONMENT,
        date: "date | datetime | str | None" = None,
        wait_on_enter: float | None = None,
        lock_provider: "Callable[[Job], object] | None" = None,
        clear_existing_locks: bool = False,
        on_rebalance: Callable[..., object] | None = None,
        on_tokens_added: Callable[[set[int]], object] | None = None,
        on_tokens_removed: Callable[[set[int]], object] | None = None,
        run: str | None = None,
        observer: bool = False,
        handle_signals: bool = False,
    ) -> None:
        self._name = _checked_name("node_name", node_name)
        self._run = None if run is None else _checked_name("run", run)
        self._environment = None if environment is None else _checked_name("environment", environment)
        self._settings = resolve(coordination_config, config, os.environ)
        self._given_date = date_of(date)
        self._wait_sec = _checked_wait(wait_on_enter)
        self._lock_provider = lock_provider
        self._clear_existing_locks = clear_existing_locks
        self._desk: LockDesk | None = None
        self._lock_desk = self._running_lock_desk
        self._is_observer = observer
        self._listener = Listener(node_name, on_tokens_added, on_tokens_removed, on_rebalance)
        self._signals = StopSignals(self.stop) if handle_signals else None
        settings = self._settings or Settings()
        hash_function, total = HASH_FUNCTIONS[settings.hash_function], settings.total_tokens
        self._hash_function = hash_function
        self._tokens_by_text = TokenMemo(lambda text: hash_function(text, total))
        self._index = TokenIndex(lambda text: hash_function(text, total))
        self._token_of_text = self._tokens_by_text.__getitem__
        self._total_tokens = total
        self._prefix = settings.prefix
        self._stop = threading.Event()
        self._lock = threading.RLock()
        self._entered = False
        self._node: AnyNode | None = None
        self._ledger: Ledger | SoloLedger | None = None
        self._records = Records(self._prefix, node_name)
        self._added: dict[str, None] = {}
        self._loops: list[TaskLoop] = []
        self._owns: Owns = self._not_running
        self._body_began = False
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
        if self._signals is not None:
            self._signals.install()
        self._listener.entered.set()
        return self

    def _enter(self) -> None:
        if self._settings is None:
            self._enter_alone()
        elif self._is_observer:
            visitor = self._node = Visitor(self._name, self._settings)
            self._desk = LockDesk(visitor.pool, self._prefix, self._name)
            today = visitor.receive()
            self._ledger = self._new_ledger(visitor, self._given_date or today)
        else:
            self._enter_fleet(self._settings)

    def _enter_alone(self) -> None:
        node = self._node = SoloNode(self._name, Settings())
        self._ledger = SoloLedger(self._given_date or local_today())
        self._owns = self._first_question(make_owns(node.engine, self._hash_function, self._total_tokens))
        node.callbacks.add(self._listener, None, 0)
        node.enter()

    def _enter_fleet(self, settings: Settings) -> None:
        node = self._node = Node(self._name, settings, environment=self._environment)
        today = node.receive()
        day = self._given_date or today
        if self._run is not None:
            day = self._enter_run(node, self._run)
        ledger = self._ledger = self._new_ledger(node, day)
        self._desk = LockDesk(node.pool, self._prefix, self._name)
        self._register_own_locks(self._desk)
        node.callbacks.add(self._listener, None, 0)
        node.add_ledger(ledger)
        self._owns = self._first_question(make_owns(node.engine, self._hash_function, self._total_tokens))
        node.enter(wait_sec=self._wait_sec)

    def _register_own_locks(self, desk: LockDesk) -> None:
        """Clear and register in one change, before the node joins."""
        if self._lock_provider is None and not self._clear_existing_locks:
            return
        with desk.one_change():
            if self._clear_existing_locks:
                desk.clear_own()
            if self._lock_provider is not None:
                self._lock_provider(self)

    def _running_lock_desk(self) -> LockDesk | None:
        self._running()
        if self._desk is None:
            log.info("node %r stands alone: locks bind nothing here, and none are kept", self._name)
        return self._desk

    def _enter_run(self, node: Node, run: str) -> date:
        while True:
            rows = node.pool.run(self._records.enter_run(run, self._given_date))
            if rows:
                day = rows[0][0]
                assert isinstance(day, date)
                return day

    def _new_ledger(self, node: Node | Visitor, day: date) -> Ledger:
        return Ledger(
            node.pool,
            self._records,
            day=day,
            run_name=self._run,
            incarnation=lambda: node.incarnation,
            token_of=self._tokens_by_text.__getitem__,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit()

    def _exit(self) -> None:
        """Leave, once; a second call, even from a signal handler in the middle of the first, returns at once."""
        node, self._node = self._node, None
        ledger, self._ledger = self._ledger, None
        self._stop.set()
        if self._signals is not None:
            self._signals.restore()
        if node is None:
            return
        node.callbacks.remove(self._listener)
        try:
            for loop in self._loops:
                loop.close()
        finally:
            if ledger is not None:
                ledger.close(patience_sec=2.0)
            node.leave()
            self._owns = self._not_running
            self.__dict__.pop("can_claim_task", None)
            self._day = ledger.day if ledger is not None else None

    _day: date | None = None
    _pid = 0

    def stop(self) -> None:
        """Ask the job to end, from any thread or signal handler: `tasks()` yields no more, `wait` returns True."""
        self._stop.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until `stop()` is called, at most `timeout` seconds; True if it was."""
        self._touch()
        return self._stop.wait(timeout)

    # --- who am I ------------------------------------------------------------------------------

    @property
    def node_name(self) -> str:
        """The node's name."""
        return self._name

    @property
    def environment(self) -> str | None:
        """The label given; it selects nothing."""
        return self._environment

    @property
    def run(self) -> str | None:
        """The run worked in, or None."""
        return self._run

    @property
    def date(self) -> "date":
        """The day worked for. Within a run it was fixed at the run's first entry."""
        if self._ledger is not None:
            return self._ledger.day
        day = self._day or self._given_date
        if day is None:
            raise NotRunning(f"job {self._name!r} takes its date from the database at enter: use it inside `with`")
        return day

    @property
    def tables(self) -> dict[str, str]:
        """The names of the tables, by key: Node, Token, Lock, Claim, Audit, Rebalance."""
        return {key: f"{self._prefix}{key.lower()}" for key in ("Node", "Token", "Lock", "Claim", "Audit", "Rebalance")}

    @property
    def my_tokens(self) -> TokenSet:
        """The tokens owned now, as a read-only set; empty while the lease is not certain."""
        self._touch()
        node = self._node
        return TokenSet() if node is None else node.tokens

    @property
    def token_version(self) -> int:
        """The number of the distribution that the node knows."""
        return 0 if self._node is None else self._node.engine.standing.plan_version

    def am_i_leader(self) -> bool:
        """Whether this node is the oldest live one, as far as it knows: advisory, it excludes nobody."""
        self._touch()
        node = self._node
        return node is not None and node.holding is not None and node.engine.standing.leader == self._name

    def am_i_healthy(self) -> bool:
        """Whether the lease is certain, the engine alive, the database's last reply young and no callback stuck."""
        self._touch()
        return self._node is not None and self._node.is_healthy()

    def status(self) -> JobStatus:
        """Give all of it as one value."""
        node = self._running()
        standing = node.engine.standing
        return JobStatus(
            node_name=self._name,
            environment=self._environment,
            date=self.date,
            run=self._run,
            coordinated=self._settings is not None,
            phase=standing.phase.value,
            connected=standing.connected,
            healthy=self.am_i_healthy(),
            leader=standing.leader,
            am_i_leader=self.am_i_leader(),
            live_nodes=standing.live,
            tokens_owned=len(node.tokens),
            total_tokens=self._total_tokens,
            token_version=standing.plan_version,
            session_lease_ms=standing.session_lease_ms,
        )

    def get_coordination_status(self) -> dict[str, Any]:
        """Give `status()` as a dict."""
        return asdict(self.status())

    def get_active_nodes(self) -> list[dict[str, Any]]:
        """List the live nodes, oldest first, as dicts with name, created_on and last_heartbeat."""
        node = self._running()
        if isinstance(node, SoloNode):
            return [{"name": self._name, "created_on": None, "last_heartbeat": None}]
        rows = list_nodes(node.pool.run, self._prefix)
        return [
            {"name": row.name, "created_on": row.created_on, "last_heartbeat": row.last_heartbeat}
            for row in rows
            if row.active
        ]

    def get_dead_nodes(self) -> list[str]:
        """Name the nodes that are known and not live: fenced, or silent for longer than their timeout."""
        node = self._running()
        if isinstance(node, SoloNode):
            return []
        return [row.name for row in list_nodes(node.pool.run, self._prefix) if not row.active]

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """The live nodes; the same as `get_active_nodes()`."""
        return self.get_active_nodes()

    # --- whose task is it ----------------------------------------------------------------------

    def can_claim_task(self, task: Task | TaskId) -> bool:
        """Tell whether this node owns the task's token now. Local, no query, safe from any thread.

        False as soon as the node's own lease is not certain. In a run this is necessary, not sufficient: the
        claim decides (`add_task`, `tasks`).
        """
        return self._owns(task)

    def task_to_token(self, task: Task | TaskId) -> int:
        """Give the token that a task hashes to."""
        return self._tokens_by_text[as_task(task).text]

    def get_my_task_ids(self, ids: Iterable[TaskId | Task]) -> list[TaskId]:
        """Give those of the ids that this node owns now, in order."""
        self._touch()
        held = self.my_tokens
        token_of = self._tokens_by_text
        return [task.id for task in tasks_of(ids) if token_of[task.text] in held]

    def get_task_ids_for_token(self, token: int, ids: Iterable[TaskId | Task]) -> list[TaskId]:
        """Give those of the ids that hash to one token, in order; cheap to call for every token over one list."""
        self._touch()
        return self._index.ids_for_token(token, ids)

    # --- claims and audits ---------------------------------------------------------------------

    def add_task(self, task: Task | TaskId) -> bool:
        """Claim a task and remember it for `write_audit()`; False when it is not this node's.

        Without a run the claim is written within 50 ms (a kill may lose it); in a run it is durable before this
        returns, and False when somebody else has or had it.
        """
        text = as_task(task).text
        ledger = self._recording()
        if not self.can_claim_task(task):
            log.debug("node %r: task %r is another node's", self._name, text)
            return False
        if self._run is None:
            ledger.claim_soon(text)
        elif text not in ledger.claim_now([text]):
            log.debug("node %r: task %r is claimed or done by another node in run %r", self._name, text, self._run)
            return False
        self._added[text] = None
        return True

    def set_claim(self, task: OneOrMany) -> list[TaskId]:
        """Record claims of one task or many, durably; give the ids that are this node's."""
        tasks = list(tasks_of(task))
        claimed = self._recording().claim_now([each.text for each in tasks]) if tasks else set()
        return [each.id for each in tasks if each.text in claimed]

    def write_audit(self) -> None:
        """Mark all tasks that `add_task` remembered as done, for the date and the run.

        A database that is away gets them when it is back.
        """
        ledger = self._recording()
        texts, self._added = list(self._added), {}
        if texts:
            ledger.done(texts)
            ledger.flush()

    def get_audit(self) -> list[dict[str, Any]]:
        """List what is done for the date (in a run: within the run) as dicts with node, task_id, item and date."""
        ledger = self._recording()
        if isinstance(ledger, SoloLedger):
            rows: Iterable[tuple[Any, ...]] = [(self._name, item, day) for item, day in ledger.audits.items()]
        else:
            ledger.flush()
            rows = self._pool().run(self._records.read_audit(ledger.day, self._run))
        return [{"node": node, "task_id": item, "item": item, "date": day} for node, item, day in rows]

    def get_incomplete_tasks(self, older_than: timedelta = timedelta(minutes=5)) -> list[Task]:
        """List tasks claimed for the date (and the run) by an incarnation that is gone, and never audited.

        Gone is a node that died, left, or was restarted under its name. `older_than` is the least age of the claim.
        """
        ledger = self._recording()
        if isinstance(ledger, SoloLedger):
            return []
        rows = self._pool().run(self._records.incomplete(ledger.day, self._run, older_than.total_seconds()))
        return [Task(item) for (item,) in rows]

    def tasks(self, ids: Source) -> TaskLoop:
        """Iterate over the tasks of `ids` that this node owns and has durably claimed.

        A task is recorded done when the loop comes back for the next one. Leaving the loop early leaves the task in
        hand not done; under `with job.tasks(ids) as tasks:` it and the unstarted rest are released at once, otherwise
        at the next `tasks()` call or at exit. In a run a list, or a callable that gives a fresh iterator, is
        walked again until every id is done by somebody, or `stop()`; a one-shot iterator is walked once, so what
        other nodes lose after it has passed is left to the next walk.
        """
        self._recording()
        for loop in self._loops:
            loop.close()
        loop = TaskLoop(_LoopDesk(self), ids)
        self._loops = [loop]
        return loop

    def claim(self, task: Task | TaskId) -> Claim:
        """Claim a task durably and give the claim with its fencing number, for stores elsewhere.

        Raises OwnershipLost when the task is not this node's, or in a run when somebody else has or had it.
        """
        given = as_task(task)
        ledger = self._recording()
        token = self._token_of_text(given.text)
        holding = self._running().holding
        fence = None if holding is None else holding.fence_of(token)
        # The fence is taken first: if the token is lost before the claim is written, the claim is refused.
        if fence is None or given.text not in ledger.claim_now([given.text]):
            raise OwnershipLost(
                f"task {given.text!r} is not node {self._name!r}'s to claim (token {token}): another node "
                "owns, has or had it"
            )
        return Claim(given, token, fence.epoch, self._run, fence.incarnation)

    @contextmanager
    def transaction(self, task: Task | TaskId | Claim, *, repeat: bool = False) -> Iterator[Any]:
        """Lend a psycopg connection in a transaction that commits together with the audit of the task, or not at all.

        Raises OwnershipLost when the task is not this node's any more, and AlreadyDone when it is audited already in
        the run (without a run: for the date) unless `repeat`; then nothing is written. This is the exactly-once path.
        Given a `Claim`, the transaction commits only under the epoch of that claim.
        Raises CoordinationDisabled for a job that stands alone.
        """
        ledger = self._recording()
        node = self._running()
        if not isinstance(node, Node) or not isinstance(ledger, Ledger):
            raise CoordinationDisabled("transaction() needs a node of a fleet: this job stands alone, or only observes")
        text = task.task.text if isinstance(task, Claim) else as_task(task).text
        token = self._token_of_text(text)
        fence = Fence(task.incarnation, task.epoch) if isinstance(task, Claim) else self._fence_of(text, token)
        try:
            with owned_transaction(
                node, ledger, self._records, text=text, token=token, fence=fence, repeat=repeat
            ) as conn:
                yield conn
        except OwnershipLost:
            for loop in self._loops:
                loop.note_lost(text)
            raise
        for loop in self._loops:
            loop.note_recorded(text)

    def _fence_of(self, text: str, token: int) -> Fence | None:
        """Give the right under which a task in hand was taken up, or else the one held now."""
        for loop in self._loops:
            if (fence := loop.fence_in_hand(text)) is not None:
                return fence
        holding = self._running().holding
        return None if holding is None else holding.fence_of(token)

    # --- helpers -------------------------------------------------------------------------------

    def _touch(self) -> None:
        """The body has begun to use the job: the first callback may come."""
        if not self._body_began:
            self._body_began = True
            self._listener.body_began.set()

    def _running(self) -> AnyNode:
        self._touch()
        node = self._node
        if node is None:
            raise NotRunning(f"job {self._name!r} is not entered: use it inside its `with` block")
        if os.getpid() != self._pid:
            raise NotRunning(f"job {self._name!r} belongs to the process that entered it: enter another in this child")
        return node

    def _recording(self) -> Ledger | SoloLedger:
        self._running()
        assert self._ledger is not None
        return self._ledger

    def _pool(self) -> Any:
        node = self._running()
        assert not isinstance(node, SoloNode)
        return node.pool

    def _first_question(self, owns: Owns) -> Owns:
        """Note at the first question that the body has begun, and cost the later ones nothing.

        From then on the answering function stands in for the method, which would only call it: a call is a fifth of
        the answer's cost. A subclass that has a method of its own keeps it.
        """

        def ask(task: Task | TaskId) -> bool:
            self._touch()
            self._owns = owns
            if type(self).can_claim_task is Job.can_claim_task:
                self.__dict__["can_claim_task"] = owns
            return owns(task)

        return ask

    def _not_running(self, task: Task | TaskId) -> bool:
        as_task(task)  # A bad id is refused here as well.
        return False


class _LoopDesk:
    """What a `tasks()` loop asks of its job."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._node = job._running()  # noqa: SLF001 - the desk is a part of the job
        self._ledger = job._recording()  # noqa: SLF001
        self._stop = job._stop  # noqa: SLF001
        self.token_of_text: Callable[[str], int] = job._tokens_by_text.__getitem__  # noqa: SLF001

    def holding_now(self) -> Holding | None:
        return self._node.holding

    def take_in_hand(self, token: int) -> None:
        self._node.hands.take(token)

    def put_back(self, token: int) -> None:
        self._node.hands.put_back(token)

    def claim_batch(self, texts: list[str]) -> set[str]:
        return self._while_away(lambda: self._ledger.claim_now(texts), set())

    def release_batch(self, texts: list[str]) -> None:
        self._ledger.release(texts)

    def record_done(self, texts: list[str]) -> None:
        self._ledger.done(texts)

    def done_by_anybody(self, texts: list[str]) -> set[str]:
        ledger = self._ledger
        assert isinstance(ledger, Ledger)
        return self._while_away(lambda: ledger.done_by_anybody(texts), set())

    def _while_away(self, ask: Callable[[], set[str]], nothing: set[str]) -> set[str]:
        """Ask until the database answers, or the job is stopped: a database that is away for a while ends no loop."""
        while not self.stopping:
            try:
                return ask()
            except DatabaseUnavailable as error:
                log.warning("node %r: the loop waits for the database: %s", self._node.name, error)
                self.pause(AWAY_SEC)
        return nothing

    def pause(self, seconds: float) -> bool:
        self.require_running()
        return self._stop.wait(seconds)

    def require_running(self) -> None:
        self._node.require_running()

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()

    @property
    def in_run(self) -> bool:
        return self._ledger.run_name is not None


def _checked_name(what: str, name: object) -> str:
    if not isinstance(name, str) or not name:
        raise InvalidArgument(f"{what}={name!r} is no name: give a non-empty text")
    if len(name.encode("utf-8", "surrogatepass")) > MOST_NAME_BYTES:
        raise InvalidArgument(f"{what}={name[:40]!r}... is too long: give at most {MOST_NAME_BYTES} bytes")
    if "\0" in name:
        raise InvalidArgument(f"{what}={name!r} holds a NUL character, which PostgreSQL cannot store")
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidArgument(f"{what}={name!r} holds half a surrogate pair, which PostgreSQL cannot store") from None
    return name


def _checked_wait(wait_sec: object) -> float | None:
    if wait_sec is None:
        return None
    if isinstance(wait_sec, bool) or not isinstance(wait_sec, int | float) or not 0 <= wait_sec < float("inf"):
        raise InvalidArgument(f"wait_on_enter={wait_sec!r} is refused: give seconds, 0 or more, or None")
    return float(wait_sec)
