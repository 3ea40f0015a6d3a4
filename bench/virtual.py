"""Members of a fleet without processes: the real deal and the real SQL, driven on one connection.

What a year of joins and leaves does to the tables is done here in seconds: each member is registered, planned for,
shrunk, grown and taken out by the same statements, built by the same code, that a node's engine uses.
"""

import time
from dataclasses import dataclass, field

import psycopg

from jobsync import TokenSet
from jobsync.core import messages as m
from jobsync.core.planning import make_plan
from jobsync.core.pool import pool_of
from jobsync.postgres.opening import Greeting
from jobsync.postgres.protocol import Protocol
from jobsync.postgres.schema import ensure_schema
from jobsync.postgres.statement import run, statement

TIMEOUT_MS = 15_000


@dataclass(slots=True)
class Times:
    """Milliseconds that the steps of one change took."""

    read: float = 0.0
    deal: float = 0.0
    save: float = 0.0
    shrinks: list[float] = field(default_factory=list)
    grows: list[float] = field(default_factory=list)
    moved: int = 0

    @property
    def database(self) -> float:
        """The deal's database part: reading its inputs and writing the plan."""
        return self.read + self.save


class VirtualFleet:
    """Members by name, with what each holds."""

    def __init__(self, dsn: str, prefix: str, total_tokens: int) -> None:
        self.conn = psycopg.connect(dsn, autocommit=True)
        ensure_schema(self.conn, prefix)
        self.prefix = prefix
        self._total_tokens = total_tokens
        self._server = Greeting(*run(self.conn, statement("hello", prefix))[0])
        self._protocol = Protocol(prefix, host="bench", pid=0, environment=None)
        self._identities: dict[str, m.Identity] = {}
        self.held: dict[str, TokenSet] = {}

    @property
    def names(self) -> list[str]:
        """The members, oldest first."""
        return list(self._identities)

    def close(self) -> None:
        """End the connection."""
        self.conn.close()

    def ask(self, question: m.Question) -> tuple[m.Answer, float]:
        """Perform one question; give its answer and the milliseconds that it took."""
        began = time.perf_counter()
        answer = self._protocol.answer_to(question, run(self.conn, self._protocol.statement_for(question)))
        return answer, (time.perf_counter() - began) * 1000

    def register(self, name: str) -> None:
        """Let a member in; it holds nothing yet."""
        where = str(self._server.system_id), str(self._server.timeline)
        answer, _ = self.ask(m.Register(name, self._total_tokens, "double_sha256", TIMEOUT_MS, TIMEOUT_MS, 600, *where))
        assert isinstance(answer, m.Registration)
        assert answer.incarnation is not None
        assert answer.bind is not None
        self._identities[name] = m.Identity(name, answer.incarnation, answer.bind)
        self.held[name] = TokenSet()

    def plan(self) -> tuple[Times, dict[str, TokenSet]]:
        """Read, deal and save as a leader does; give the times and the targets that changed."""
        times = Times()
        inputs, times.read = self.ask(m.ReadPlanInputs(locks_enabled=True))
        assert isinstance(inputs, m.PlanInputs)
        began = time.perf_counter()
        plan = make_plan(inputs)
        times.deal = (time.perf_counter() - began) * 1000
        leader = self._identities[inputs.nodes[0]]
        saved, times.save = self.ask(
            m.SavePlan(
                leader, inputs.plan_version, inputs.lock_version, plan.nodes, plan.changed, plan.reason,
                plan.nodes_before, plan.tokens_moved, plan.moves, inputs.began_at,
            )
        )  # fmt: skip
        assert isinstance(saved, m.PlanSaved)
        assert saved.version is not None
        times.moved = plan.tokens_moved
        return times, plan.changed

    def follow(self, targets: dict[str, TokenSet], times: Times) -> None:
        """Have each member give up what it is to hold no more, then take what is free."""
        for name, target in targets.items():
            if self.held[name] - target:
                times.shrinks.append(self.shrink(name, self.held[name] - target))
        for name, target in targets.items():
            if target - self.held[name]:
                times.grows.append(self.grow(name))
                assert self.held[name] == target

    def shrink(self, name: str, tokens: TokenSet) -> float:
        """Give tokens up; the milliseconds that it took."""
        answer, took = self.ask(m.Shrink(self._identities[name], tokens))
        assert isinstance(answer, m.Shrunk)
        self.held[name] = self.held[name] - tokens
        return took

    def grow(self, name: str) -> float:
        """Take what is wanted and free; the milliseconds that it took."""
        answer, took = self.ask(m.Grow(self._identities[name]))
        assert isinstance(answer, m.Growth)
        if answer.grant is not None:
            self.held[name] = self.held[name] | answer.grant.tokens
        return took

    def join(self, name: str) -> Times:
        """Let a member in, plan, and have everybody follow."""
        self.register(name)
        times, targets = self.plan()
        self.follow(targets, times)
        return times

    def leave(self, name: str) -> Times:
        """Let a member go as a node goes: announce it, wait for successors, hand over, delete the row."""
        who = self._identities[name]
        self.ask(m.BeginLeave(who))
        times, targets = self.plan()
        times.shrinks.append(self.shrink(name, self.held[name]))
        self.follow(targets, times)
        self.forget(name)
        return times

    def forget(self, name: str) -> None:
        """Delete the row of a member that holds nothing."""
        answer, _ = self.ask(m.Leave(self._identities.pop(name)))
        assert isinstance(answer, m.Left)
        del self.held[name]

    def vanish(self) -> None:
        """Empty the fleet and leave the plan: whoever enters under a member's name finds a share wanted for it."""
        for name in self.names:
            self.shrink(name, self.held[name])
        for name in self.names:
            self.forget(name)

    @property
    def pieces(self) -> int:
        """The ranges held, over all members."""
        return sum(pool_of(tokens).pieces for tokens in self.held.values())
