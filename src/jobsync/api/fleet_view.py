"""A fleet and its queue at one instant, as the live page and the metrics of a fleet show them.

Model: `FleetReader` holds one connection, on which one round of two statements reads everything; a round costs no more
with a million tokens than with a hundred, since tokens travel as ranges. What follows from what was read (moves in
flight, balance, margins) is worked out here, without asking again; only where something moves, a third statement tells
since when.

Authoritative: the database, at `read_at` by its own clock. A margin that is told here is what the rows say; whether a
node may still answer yes is decided by that node's clock alone. Not promised: that all statements see one instant.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from jobsync.api.fleet_access import way_to
from jobsync.api.moving import Move, Span, dated, moves_between
from jobsync.core.settings import Settings
from jobsync.postgres.fleet_view import FleetRow, QueueRow, read_fleet, read_queue
from jobsync.postgres.inquiry import Inquiry
from jobsync.postgres.schema import refuse_misfit, refuse_missing


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node; `share` and `balance` count tokens held, of all tokens and of the even share (1.0 is even).

    `margin_sec` is what its row lease has left by its row; `lag_sec` the age of its heartbeat.
    """

    name: str
    state: str
    is_live: bool
    is_leader: bool
    takes_tokens: bool
    tokens: int
    wanted: int
    share: float
    balance: float | None
    lag_sec: float
    margin_sec: float
    session_lease_ms: int | None
    created_on: datetime
    version: int
    host: str | None
    pid: int | None
    environment: str | None


@dataclass(frozen=True, slots=True)
class RebalanceView:
    """One distribution that moved something."""

    id: int
    at: datetime
    reason: str
    leader: str
    nodes_before: int
    nodes_after: int
    moved: int
    duration_ms: int
    uncovered_ms: int | None


@dataclass(frozen=True, slots=True)
class SteeringView:
    """What people ask of a node, or of the fleet (`node` None): cordon, drain or freeze."""

    verb: str
    node: str | None
    reason: str | None
    by: str
    at: datetime
    ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class LaneView:
    """One kind of jobs in one queue. Waiting now: `pending` and `retry`; for later: `scheduled` and `backing_off`."""

    queue: str
    kind: str
    pending: int
    retry: int
    scheduled: int
    backing_off: int
    processing: int
    oldest_sec: float | None

    @property
    def waiting(self) -> int:
        """How many could run now."""
        return self.pending + self.retry


@dataclass(frozen=True, slots=True)
class PauseView:
    """A queue of which nothing is taken."""

    queue: str
    at: datetime
    by: str | None


@dataclass(frozen=True, slots=True)
class QueueView:
    """The queue of the fleet. `done_a_minute` and `failed_a_minute` count what ended in the minute before."""

    lanes: tuple[LaneView, ...]
    failed: int
    cancelled: int
    done_a_minute: int
    failed_a_minute: int
    pauses: tuple[PauseView, ...]
    workers: int

    @property
    def waiting(self) -> int:
        """How many could run now."""
        return sum(lane.waiting for lane in self.lanes)

    @property
    def processing(self) -> int:
        """How many run."""
        return sum(lane.processing for lane in self.lanes)

    @property
    def later(self) -> int:
        """How many wait for their time."""
        return sum(lane.scheduled + lane.backing_off for lane in self.lanes)

    @property
    def oldest_sec(self) -> float | None:
        """The age of the oldest that could run now, in seconds."""
        return max((lane.oldest_sec for lane in self.lanes if lane.oldest_sec is not None), default=None)


@dataclass(frozen=True, slots=True)
class FleetView:
    """A fleet at `read_at`. `nodes` come oldest first, `held` and `wanted` in the order of the tokens."""

    where: str
    appname: str
    read_at: datetime
    total_tokens: int | None
    hash_function: str | None
    plan_version: int
    quarantined: bool
    locks: int
    rebalances_an_hour: int
    leader: str | None
    leads_since: datetime | None
    nodes: tuple[NodeView, ...]
    held: tuple[Span, ...]
    wanted: tuple[Span, ...]
    moves: tuple[Move, ...]
    rebalances: tuple[RebalanceView, ...]
    steering: tuple[SteeringView, ...]
    queue: QueueView

    @property
    def active_nodes(self) -> int:
        """How many live nodes take tokens."""
        return sum(node.is_live and node.takes_tokens for node in self.nodes)

    @property
    def tokens_held(self) -> int:
        """How many tokens anybody holds."""
        return sum(span.size for span in self.held)

    @property
    def tokens_unowned(self) -> int:
        """How many tokens no live node holds."""
        live = sum(node.tokens for node in self.nodes if node.is_live)
        return (self.total_tokens or 0) - live

    @property
    def tokens_moving(self) -> int:
        """How many tokens are not where the plan wants them."""
        return sum(move.tokens for move in self.moves)

    @property
    def is_healthy(self) -> bool:
        """Whether live nodes hold all tokens; without nodes that take any, whether anybody lives."""
        if self.active_nodes:
            return self.tokens_unowned == 0
        return any(node.is_live for node in self.nodes)

    @property
    def freeze(self) -> SteeringView | None:
        """The freeze in force, if there is one."""
        return next((each for each in self.steering if each.verb == "freeze"), None)

    def steered(self, node: str) -> SteeringView | None:
        """What is asked of a node, if anything is."""
        return next((each for each in self.steering if each.node == node), None)


class FleetReader:
    """One connection to look at a fleet again and again; make it with `open_reader`, for one thread at a time."""

    def __init__(self, inquiry: Inquiry, settings: Settings, where: str) -> None:
        self._inquiry = inquiry
        self._prefix = settings.prefix
        self.where = where

    def read(self) -> FleetView:
        """Read everything, in one round of two statements, or of three while tokens are on their way.

        Raises SchemaError where the tables are missing or older than this program, DatabaseUnavailable where the
        database is.
        """
        row = read_fleet(self._inquiry.run, self._prefix)
        view = _fleet(row, read_queue(self._inquiry.run, self._prefix), self.where, self._prefix)
        return replace(view, moves=dated(self._inquiry.run, self._prefix, view.moves)) if view.moves else view

    def require_schema(self) -> None:
        """Raise SchemaError where the tables are missing, or this program does not fit them."""
        found = self._inquiry.schema(self._prefix)
        refuse_missing(found, self._prefix, self.where)
        refuse_misfit(found, self._prefix)


@contextmanager
def open_reader(config: Settings) -> Iterator[FleetReader]:
    """Connect to the database of a fleet for as long as the block runs.

    Raises DatabaseUnavailable, naming host, port and database and never the password; SchemaError without tables.
    """
    with way_to(config) as (inquiry, where):
        reader = FleetReader(inquiry, config, where)
        reader.require_schema()
        yield reader


def _time(epoch_sec: float) -> datetime:
    return datetime.fromtimestamp(epoch_sec, UTC)


def _fleet(row: FleetRow, queue: QueueRow, where: str, appname: str) -> FleetView:
    held = tuple(Span(*each) for each in row.held or ())
    wanted = tuple(Span(*each) for each in row.wanted or ())
    nodes = _nodes(row, held, wanted)
    live = frozenset(node.name for node in nodes if node.is_live)
    return FleetView(
        where=where,
        appname=appname,
        read_at=row.read_at,
        total_tokens=row.total_tokens,
        hash_function=row.hash_function,
        plan_version=row.plan_version,
        quarantined=row.quarantined,
        locks=row.locks,
        rebalances_an_hour=row.rebalances_an_hour,
        leader=row.leads,
        leads_since=row.leads_since,
        nodes=nodes,
        held=held,
        wanted=wanted,
        moves=moves_between(held, wanted, live),
        rebalances=tuple(RebalanceView(each[0], _time(each[1]), *each[2:]) for each in row.rebalances or ()),
        steering=tuple(
            SteeringView(verb, node, reason, by, _time(at), None if ends_at is None else _time(ends_at))
            for verb, node, reason, by, at, ends_at in row.steering or ()
        ),
        queue=_queue(queue),
    )


def _nodes(row: FleetRow, held: tuple[Span, ...], wanted: tuple[Span, ...]) -> tuple[NodeView, ...]:
    holds, is_to_hold = _sums(held), _sums(wanted)
    takers = sum(1 for each in row.nodes or () if each[2] and each[11])
    total = row.total_tokens or 0
    even = total / takers if takers else 0.0
    found = []
    for name, state, live, lag, row_lease, session_lease, created, version, host, pid, environment, takes in (
        row.nodes or ()
    ):
        tokens = holds.get(name, 0)
        found.append(
            NodeView(
                name=name,
                state=state if live or state == "fenced" else "silent",
                is_live=live,
                is_leader=name == row.leads,
                takes_tokens=takes,
                tokens=tokens,
                wanted=is_to_hold.get(name, 0),
                share=tokens / total if total else 0.0,
                balance=tokens / even if takes and even else None,
                lag_sec=max(0.0, lag),
                margin_sec=row_lease / 1000 - max(0.0, lag) if live else 0.0,
                session_lease_ms=session_lease,
                created_on=_time(created),
                version=version,
                host=host,
                pid=pid,
                environment=environment,
            )
        )
    return tuple(found)


def _sums(spans: tuple[Span, ...]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for span in spans:
        sums[span.node] = sums.get(span.node, 0) + span.size
    return sums


def _queue(row: QueueRow) -> QueueView:
    return QueueView(
        lanes=tuple(LaneView(*each) for each in row.lanes or ()),
        failed=row.failed,
        cancelled=row.cancelled,
        done_a_minute=row.last_minute[0],
        failed_a_minute=row.last_minute[1],
        pauses=tuple(PauseView(queue, _time(at), by) for queue, at, by in row.pauses or ()),
        workers=row.workers,
    )
