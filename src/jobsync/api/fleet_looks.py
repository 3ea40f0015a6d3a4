"""Looking at a fleet more closely: tokens, history, locks, why a task is where it is, what a plan would move."""

import json
from bisect import bisect_right
from importlib import import_module
from itertools import pairwise
from types import ModuleType
from typing import Any

from jobsync.api.checks import checked_name
from jobsync.api.fleet_access import FleetAccess
from jobsync.api.fleet_values import (
    DryRun,
    Explanation,
    HeldRange,
    LockStatus,
    PastOwner,
    PastRebalance,
    QueuePulse,
    TokenMove,
)
from jobsync.api.moving import Move, dated
from jobsync.core.errors import InvalidArgument
from jobsync.core.hashing import HASH_FUNCTIONS
from jobsync.core.pins import choose
from jobsync.core.tasks import as_task
from jobsync.core.tokens import TokenSet
from jobsync.postgres.locks import LockStatements, lock_row
from jobsync.postgres.overview import list_nodes, read_cluster
from jobsync.postgres.statement import statement

PAST_SHOWN = 20
MOST_HISTORY = 10_000


class FleetLooks(FleetAccess):
    """The part of `Cluster` that looks closely. Everything is read in one snapshot, and nothing is changed."""

    def ranges(self) -> tuple[HeldRange, ...]:
        """Tell for every token who holds it and for whom the plan wants it, in ranges, in the order of the tokens."""
        self._require_schema()
        inquiry, prefix = self._inquiry, self._prefix
        with inquiry.snapshot():
            total = read_cluster(inquiry.run, prefix).total_tokens or 0
            held = inquiry.run(statement("held_ranges", prefix))
            wanted = inquiry.run(statement("wanted_ranges", prefix))
        return tuple(_side_by_side(total, held, wanted))

    def dated(self, moves: tuple[Move, ...]) -> tuple[Move, ...]:
        """Tell since when these moves are under way: the largest hundred, by the latest fifty distributions."""
        return dated(self._inquiry.run, self._prefix, moves)

    def queue_pulse(self) -> QueuePulse:
        """Tell how the queue is at this moment."""
        self._require_schema()
        return QueuePulse(*self._inquiry.run(statement("queue_pulse", self._prefix))[0])

    def history(self, limit: int = 20, *, number: int | None = None) -> tuple[PastRebalance, ...]:
        """List the latest distributions that moved something, newest first; or the one of that number."""
        if not 1 <= limit <= MOST_HISTORY:
            raise InvalidArgument(f"limit={limit} is refused: give 1 to {MOST_HISTORY}")
        self._require_schema()
        rows = self._inquiry.run(statement("history", self._prefix, limit, number))
        return tuple(_past(row) for row in rows)

    def locks(self, like: str | None = None) -> tuple[LockStatus, ...]:
        """List the locks in the order of registration, each with the fallback step that is active now.

        `like`: only those whose task contains this text.
        """
        self._require_schema()
        found = self._locks_now()
        return found if like is None else tuple(lock for lock in found if like in lock.task_id)

    def _locks_now(self) -> tuple[LockStatus, ...]:
        inquiry, prefix = self._inquiry, self._prefix
        rows = [lock_row(row) for row in inquiry.run(LockStatements(prefix).list_all())]
        nodes = list_nodes(inquiry.run, prefix)
        live = [row.name for row in nodes if row.takes_tokens and row.state == "live"]
        deciders: dict[int, str] = {}
        chosen: dict[tuple[str, ...], tuple[int, tuple[str, ...]] | None] = {}
        found = []
        for row in rows:
            patterns = tuple(row.node_patterns)
            if patterns not in chosen:
                chosen[patterns] = choose(patterns, live)
            choice = chosen[patterns]
            found.append(
                LockStatus(
                    row.task_id,
                    row.token_id,
                    patterns,
                    row.reason,
                    row.created_by,
                    row.created_at,
                    row.expires_at,
                    step=None if choice is None else choice[0] + 1,
                    matches=() if choice is None else choice[1],
                    decides=deciders.setdefault(row.token_id, row.task_id) == row.task_id,
                )
            )
        return tuple(found)

    def explain(self, task_id: Any) -> Explanation:
        """Tell who has a task and why: its token, the owner and its fencing epoch, the rule, the past owners.

        Raises InvalidTaskId or InvalidArgument for an id that no task can have, and where no node has ever joined.
        """
        text = as_task(task_id).text
        self._require_schema()
        inquiry, prefix = self._inquiry, self._prefix
        with inquiry.snapshot():
            cluster = read_cluster(inquiry.run, prefix)
            if cluster.total_tokens is None or cluster.hash_function is None:
                raise InvalidArgument("no node has ever joined this fleet, so no task has a token yet: start a node")
            token = HASH_FUNCTIONS[cluster.hash_function](text, cluster.total_tokens)
            owner, epoch, since, intended = inquiry.run(statement("one_token", prefix, token))[0]
            nodes = {row.name: row for row in list_nodes(inquiry.run, prefix)}
            locks = [lock for lock in self._locks_now() if lock.token_id == token and lock.decides]
            past = inquiry.run(statement("token_past", prefix, token, PAST_SHOWN))
            steered = self._planner.read_inputs(inquiry.run, self._settings).steering
        lock = locks[0] if locks else None
        sentences = [_rule(text, lock, owner)]
        if intended is not None and not steered.is_open(intended):
            verb = "drained, and keeps it while nobody else may take it" if intended in steered.drained else "cordoned"
            sentences.append(f"node {intended!r} is {verb}")
        if steered.frozen:
            sentences.append("the fleet is frozen: joins and leaves move nothing")
        return Explanation(
            task_id=text,
            token=token,
            owner=owner,
            owner_is_live=owner in nodes and nodes[owner].active,
            epoch=epoch,
            since=since,
            intended=intended,
            rule="; ".join(sentences),
            lock=lock,
            past=tuple(PastOwner(*row) for row in past),
        )

    # --- a dry run -------------------------------------------------------------------------------

    def plan(self, *, without: tuple[str, ...] = (), joining: tuple[str, ...] = ()) -> DryRun:
        """Make the plan that the leader would make if these nodes left and those joined; write nothing.

        With neither: the plan of this moment, which moves nothing unless one is due. Raises InvalidArgument for a node
        that is not live, or one that joins and is live already.
        """
        without = tuple(dict.fromkeys(checked_name("without", name) for name in without))
        joining = tuple(dict.fromkeys(checked_name("joining", name) for name in joining))
        self._require_schema()
        found: DryRun = self._planner.dry_run(self._inquiry.run, self._settings, without, joining)
        return found

    @property
    def _planner(self) -> ModuleType:
        # Loaded where it is needed: whoever asks how the fleet is need not wait for the planner.
        return import_module("jobsync.api.fleet_plan")


def _rule(text: str, lock: LockStatus | None, owner: str | None) -> str:
    if lock is None and owner is None:
        return "no lock on its token: dealt evenly, and nobody's at this moment"
    if lock is None:
        return "no lock on its token: dealt evenly, staying where it is as nodes come and go"
    whose = "locked" if lock.task_id == text else f"shares its token with task {lock.task_id!r}, which is locked"
    if lock.step is None:
        return f"{whose} to {list(lock.node_patterns)}, which match no live node: dealt as if it were not locked"
    pattern = lock.node_patterns[lock.step - 1]
    return f"{whose}: pattern {lock.step} of {len(lock.node_patterns)}, {pattern!r}, is the first to match a live node"


def _past(row: tuple[Any, ...]) -> PastRebalance:
    number, at, reason, leader, before, after, moved, duration_ms, version, moves_text, settled_ms, uncovered_ms = row
    moves = [(move["from"], move["to"], TokenSet.parse(move["tokens"])) for move in json.loads(moves_text)]
    return PastRebalance(
        id=number,
        triggered_at=at,
        reason=reason,
        leader=leader,
        nodes_before=before,
        nodes_after=after,
        tokens_moved=moved,
        duration_ms=duration_ms,
        settled_ms=settled_ms,
        uncovered_ms=uncovered_ms,
        plan_version=version,
        moves=tuple(TokenMove(source, target, len(tokens), tokens.ranges) for source, target, tokens in moves),
    )


def _side_by_side(total: int, held: list[tuple[Any, ...]], wanted: list[tuple[Any, ...]]) -> list[HeldRange]:
    """Cut the line wherever the holder or the plan changes; what is nobody's in both is told as well."""
    edges = {0, total} | {edge for row in (*held, *wanted) for edge in row[1:3]}
    cuts = sorted(edge for edge in edges if 0 <= edge <= total)
    holders, plan = _Line(held), _Line(wanted)
    found = []
    for first, end in pairwise(cuts):
        holder, wish = holders.at(first), plan.at(first)
        node, epoch, since = (holder[0], holder[3], holder[4]) if holder else (None, None, None)
        found.append(HeldRange(first, end, node, wish[0] if wish else None, epoch, since))
    return found


class _Line:
    """Ranges in order, to be asked which of them covers a token."""

    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self._rows = rows
        self._starts = [row[1] for row in rows]

    def at(self, token: int) -> tuple[Any, ...] | None:
        place = bisect_right(self._starts, token) - 1
        return self._rows[place] if place >= 0 and token < self._rows[place][2] else None
