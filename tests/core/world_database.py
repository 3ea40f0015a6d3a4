"""What the database would answer: the SQL functions of the protocol, told again in a few lines of Python.

Model: one statement is one method and one transaction. Rows are plain values; a whole `State` can be copied, which
is how a standby falls behind. Time is the world's true time, since the database's clock decides nothing. What the
SQL enforces (incarnation, bind, state, beats, quarantine, one owner a token) is enforced here in `_current` and in
the methods; the flags in `Rules` switch single rules off, so that tests can show that each is needed.

Not promised: that this is the SQL. Tests of the statements on a real server hold that end.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import assert_never

from jobsync.core import messages as m
from jobsync.core.holding import Grant
from jobsync.core.pool import LEADERSHIP
from jobsync.core.steering import FREE, Steering
from jobsync.core.tokens import TokenSet


@dataclass(frozen=True, slots=True)
class Rules:
    """The database's rules; a mutation switches one off."""

    compares_bind: bool = True
    compares_incarnation: bool = True
    compares_beats: bool = True
    quarantines: bool = True
    counts_generations: bool = True


@dataclass(slots=True)
class Row:
    """One row of sync_node."""

    name: str
    created: float
    heard: float
    incarnation: int
    bind: int
    row_lease_ms: int
    session_lease_ms: int | None
    session: int
    postmaster: int
    state: str = "live"
    beats: int = 0
    rebind_attempt: int = 0
    applied_version: int = 0
    takes_tokens: bool = True


@dataclass(slots=True)
class State:
    """All tables: what a fail-over may roll back."""

    nodes: dict[str, Row] = field(default_factory=dict)
    grants: dict[int, tuple[str, int, TokenSet]] = field(default_factory=dict)  # epoch: node, incarnation, tokens
    targets: dict[str, TokenSet] = field(default_factory=dict)
    planned_tokenless: set[str] = field(default_factory=set)  # whose target was made for a node that takes none
    locks: list[tuple[int, str, tuple[str, ...]]] = field(default_factory=list)
    agreed: tuple[int, str] | None = None
    plan_version: int = 0
    lock_version: int = 0
    planned_lock_version: int = 0
    generation: int = 1
    server: tuple[str, str] | None = None
    quarantined: bool = False
    steering: Steering = FREE

    def held_by(self, name: str, incarnation: int | None = None) -> TokenSet:
        """Unite the grants of a node, or of one incarnation of it."""
        pieces = [
            piece
            for who, inc, tokens in self.grants.values()
            if who == name and incarnation in (None, inc)
            for piece in tokens.ranges
        ]
        return TokenSet.from_ranges(pieces)

    def live(self) -> list[Row]:
        """List the live nodes in the order in which they lead: drained last, takers of tokens first, then by age."""
        live = [n for n in self.nodes.values() if n.state == "live"]
        return sorted(live, key=lambda n: (n.name in self.steering.drained, not n.takes_tokens, _age(n)))

    def places_are_kept_for(self, name: str) -> bool:
        """Whether a target without a live node is as it should be: a frozen fleet keeps it, unless its node is dead."""
        row = self.nodes.get(name)
        return self.steering.frozen and (row is None or row.state != "fenced")

    def takers(self) -> list[Row]:
        """List the live nodes that take tokens, oldest first."""
        return [n for n in self.live() if n.takes_tokens]

    def target_of(self, row: Row) -> TokenSet | None:
        """Give what the plan wants for a node, if it was made for one of its kind."""
        fits = row.takes_tokens is (row.name not in self.planned_tokenless)
        return self.targets.get(row.name) if fits else None


class Database:
    """A server with its sessions; `answer` is one statement."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.state = State()
        self.sessions: set[int] = set()
        self.postmaster = 1
        self.timeline = 1
        self.now = 0.0
        self.hints: list[m.Channel] = []
        self._numbers = 0

    # --- the server itself ---------------------------------------------------------------------

    def restart(self) -> None:
        """End all sessions."""
        self.sessions.clear()
        self.postmaster += 1

    def fail_over(self, standby: State) -> None:
        """Go on from an older copy. Numbers are not given twice, as if the sequence's WAL had arrived."""
        self.restart()
        self.timeline += 1
        self.state = deepcopy(standby)

    def pin(self, token: int, task: str, *patterns: str) -> None:
        """Lock a task to nodes."""
        self.state.locks.append((token, task, patterns))
        self.state.lock_version += 1
        self.hints.append(m.Channel.PLAN)

    def steer(self, **given: object) -> None:
        """Change what people ask of the fleet."""
        self.state.steering = replace(self.state.steering, **given)  # type: ignore[arg-type]
        self.state.lock_version += 1
        self.hints.append(m.Channel.PLAN)

    # --- statements ----------------------------------------------------------------------------

    def answer(self, question: m.Question, session: int) -> m.Answer:  # noqa: C901 - one case a question
        """Carry one question out and answer it; `hints` collects the notifications."""
        match question:
            case m.Register():
                return self._register(question, session)
            case m.Rebind():
                return self._rebind(question, session)
            case m.ReadGrants(name, incarnation):
                mine = [
                    Grant(epoch, tokens)
                    for epoch, (who, inc, tokens) in sorted(self.state.grants.items())
                    if who == name and (inc == incarnation or not self.rules.compares_incarnation)
                ]
                return m.HeldGrants(tuple(mine))
            case m.Beat():
                return self._beat(question)
            case m.Watch(name):
                return self._sightings(lambda other: other != name)
            case m.WatchForEntry(only):
                return self._sightings(lambda other: only in (None, other))
            case m.Fence():
                return m.FenceReply(self._fence(question))
            case m.Grow(me):
                return self._grow(me)
            case m.Shrink(me, tokens):
                return self._shrink(me, tokens)
            case m.ReadPlanInputs(locks_enabled):
                return self._plan_inputs(locks_enabled)
            case m.SavePlan():
                return m.PlanSaved(self._save_plan(question))
            case m.LiftQuarantine(generation):
                if self.state.generation == generation and self.state.quarantined:
                    self.state.quarantined = False
                    self.hints.append(m.Channel.FREE)
                return m.QuarantineLifted()
            case m.BeginLeave(me):
                return self._begin_leave(me)
            case m.Leave(me):
                return self._leave(me)
            case m.HearJobs():
                return m.JobsHeard()
            case m.Prune():
                return m.Pruned(more=False)
            case m.Ping():
                return m.Pong()
            case _:
                assert_never(question)

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _current(self, me: m.Identity, *states: str) -> Row | None:
        row = self.state.nodes.get(me.name)
        if row is None or row.state not in (states or ("live", "leaving")):
            return None
        if self.rules.compares_incarnation and row.incarnation != me.incarnation:
            return None
        if self.rules.compares_bind and self.rules.compares_incarnation and row.bind != me.bind:
            return None
        return row

    def _seen(self, row: Row) -> bool:
        return row.session in self.sessions

    def _recognise(self, system_id: str, timeline: str) -> None:
        state = self.state
        if state.server != (system_id, timeline):
            if state.server is not None:
                state.generation = self._number() if self.rules.counts_generations else state.generation
                state.quarantined = self.rules.quarantines
            state.server = (system_id, timeline)

    def _register(self, q: m.Register, session: int) -> m.Registration:
        state = self.state
        if state.agreed != (q.total_tokens, q.hash_function):
            if any(n.state != "fenced" for n in state.nodes.values()):
                total, name = state.agreed or (None, None)
                return m.Registration("mismatch", None, None, total, name, None, None)
            state.targets.clear()
            state.planned_tokenless.clear()
            state.agreed = (q.total_tokens, q.hash_function)
        self._recognise(q.system_id, q.timeline)
        old = state.nodes.get(q.name)
        if old is not None and old.state != "fenced" and self.rules.compares_incarnation:
            return m.Registration("held", None, None, None, None, state.generation, state.quarantined)
        row = Row(
            q.name,
            self.now,
            self.now,
            self._number(),
            self._number(),
            q.row_lease_ms,
            q.session_lease_ms,
            session,
            self.postmaster,
            beats=0 if old is None else old.beats + 1,
            takes_tokens=q.takes_tokens,
        )
        state.nodes[q.name] = row
        self.hints.append(m.Channel.PLAN)
        return m.Registration("registered", row.incarnation, row.bind, None, None, state.generation, state.quarantined)

    def _rebind(self, q: m.Rebind, session: int) -> m.Answer:
        row = self.state.nodes.get(q.name)
        if row is None or row.state == "fenced":
            return m.NotCurrent()
        if self.rules.compares_incarnation and row.incarnation != q.incarnation:
            return m.NotCurrent()
        if row.rebind_attempt >= q.attempt:
            return m.NotCurrent()
        row.rebind_attempt = q.attempt
        row.bind, row.beats, row.heard = self._number(), row.beats + 1, self.now
        row.session, row.postmaster, row.session_lease_ms = session, self.postmaster, q.session_lease_ms
        self._recognise(q.system_id, q.timeline)
        return m.Rebound(row.bind, self.state.generation, self.state.quarantined)

    def _beat(self, q: m.Beat) -> m.Answer:
        state, me = self.state, self._current(q.me)
        if me is None:
            return m.NotCurrent()
        me.beats, me.heard = me.beats + 1, self.now
        me.applied_version = max(me.applied_version, q.applied_version)
        there = [n for n in state.nodes.values() if n.state != "fenced"]
        live, takers = state.live(), state.takers()
        there_take = [n for n in there if n.takes_tokens]
        elders = [n for n in there if _age(n) < _age(me) and self._seems_well(n)]
        target = state.target_of(me)
        return m.BeatReply(
            plan_version=state.plan_version,
            planned=target is not None,
            target=target if q.known_plan_version != state.plan_version else None,
            leader=live[0].name if live else None,
            live=len(takers),
            elders=min(2, len(elders)),
            members=len(there),
            roster=f"{len(there_take)}:{sum(n.incarnation for n in there_take)}:{len(takers)}",
            plan_due=state.lock_version != state.planned_lock_version
            or any(n.name not in state.targets for n in live)
            or any(not state.places_are_kept_for(name) for name in set(state.targets) - {n.name for n in live})
            or any(state.target_of(n) is None for n in live)
            or (bool(live) and LEADERSHIP not in state.targets[live[0].name]),
            quarantined=state.quarantined,
            longest_lease_ms=max(n.row_lease_ms for n in there),
        )

    def _seems_well(self, n: Row) -> bool:
        if n.session_lease_ms is None:
            return n.heard > self.now - n.row_lease_ms / 1000
        return self._seen(n)

    def _sightings(self, wanted: Callable[[str], bool]) -> m.Sightings:
        return m.Sightings(
            tuple(
                m.Sighting(
                    m.Identity(n.name, n.incarnation, n.bind),
                    n.beats,
                    n.row_lease_ms,
                    n.session_lease_ms,
                    n.session_lease_ms is not None and n.postmaster == self.postmaster and not self._seen(n),
                    n.state == "leaving",
                )
                for n in self.state.nodes.values()
                if n.state != "fenced" and wanted(n.name)
            )
        )

    def _fence(self, q: m.Fence) -> bool:
        row = self.state.nodes.get(q.who.name)
        if row is None or row.state == "fenced" or (row.incarnation, row.bind) != (q.who.incarnation, q.who.bind):
            return False
        if q.rule == "A" and row.beats != q.beats and self.rules.compares_beats:
            return False
        if q.rule == "B" and (row.session_lease_ms is None or row.postmaster != self.postmaster or self._seen(row)):
            return False
        self.state.grants = {e: g for e, g in self.state.grants.items() if g[0] != row.name}
        row.state = "fenced"
        self.hints += [m.Channel.PLAN, m.Channel.FREE]
        return True

    def _grow(self, me: m.Identity) -> m.Growth:
        row = self._current(me, "live")
        if row is None:
            return m.Growth("fenced", None)
        if self.state.quarantined:
            return m.Growth("quarantined", None)
        want = self.state.target_of(row) or TokenSet()
        for _, _, tokens in self.state.grants.values():
            want -= tokens
        if not want:
            return m.Growth("nothing", None)
        grant = Grant(self._number(), want)
        self.state.grants[grant.epoch] = (me.name, me.incarnation, want)
        return m.Growth("granted", grant)

    def _shrink(self, me: m.Identity, give: TokenSet) -> m.Answer:
        if self._current(me) is None:
            return m.NotCurrent()
        kept = {
            e: (who, inc, tokens - give if who == me.name else tokens)
            for e, (who, inc, tokens) in self.state.grants.items()
        }
        self.state.grants = {e: g for e, g in kept.items() if g[2]}
        self.hints.append(m.Channel.FREE)
        return m.Shrunk()

    def _plan_inputs(self, locks_enabled: bool) -> m.PlanInputs:
        state = self.state
        assert state.agreed is not None
        return m.PlanInputs(
            plan_version=state.plan_version,
            lock_version=state.lock_version,
            total_tokens=state.agreed[0],
            began_at="",
            nodes=tuple(n.name for n in state.live()),
            fenced=frozenset(n.name for n in state.nodes.values() if n.state == "fenced"),
            targets=dict(state.targets),
            locks=tuple(state.locks) if locks_enabled else (),
            tokenless=frozenset(n.name for n in state.live() if not n.takes_tokens),
            planned_tokenless=frozenset(state.planned_tokenless),
            steering=state.steering,
        )

    def _save_plan(self, q: m.SavePlan) -> int | None:
        state = self.state
        if self._current(q.me, "live") is None or state.plan_version != q.plan_version:
            return None
        another_leads = any(
            LEADERSHIP in tokens and LEADERSHIP not in state.targets.get(node, TokenSet())
            for node, tokens in q.targets.items()
        )
        state.plan_version += q.tokens_moved > 0 or another_leads
        state.planned_lock_version = q.lock_version
        state.targets = {node: t for node, t in state.targets.items() if node in q.nodes} | dict(q.targets)
        kept = state.planned_tokenless & set(q.nodes) - set(q.targets)
        state.planned_tokenless = kept | (q.tokenless & set(q.targets))
        self.hints.append(m.Channel.PLAN)
        return state.plan_version

    def _begin_leave(self, me: m.Identity) -> m.Answer:
        row = self._current(me)
        if row is None:
            return m.NotCurrent()
        row.state, row.beats, row.heard = "leaving", row.beats + 1, self.now
        self.hints.append(m.Channel.PLAN)
        return m.LeaveBegun(len(self.state.takers()))

    def _leave(self, me: m.Identity) -> m.Answer:
        # A trigger keeps the row of whoever still holds tokens; the function then says that it was not current.
        if self._current(me) is None or self.state.held_by(me.name):
            return m.NotCurrent()
        del self.state.nodes[me.name]
        self.hints.append(m.Channel.PLAN)
        return m.Left()


def _age(n: Row) -> tuple[float, str]:
    return n.created, n.name
