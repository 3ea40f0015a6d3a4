"""A fleet's schema to play with: nodes are sessions of the test's own, questions are those of the protocol.

Nothing here decides anything: a `Fleet` sends the product's own statements, with the test in the part of the
member. Targets may be written by hand (`want`), since they grant nothing.
"""

import itertools
import json
import select
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from threading import Barrier, Event
from time import monotonic
from typing import Any, TypeVar

import psycopg
from psycopg import Connection

from jobsync.core import messages as m
from jobsync.core.holding import Grant
from jobsync.core.pool import RIGHT_TO_LEAD, pool_of
from jobsync.core.tokens import TokenSet
from jobsync.postgres.opening import Greeting
from jobsync.postgres.protocol import Protocol
from jobsync.postgres.session import Done, Session, session_conninfo
from jobsync.postgres.statement import Row, Statement, run, statement

SOON_SEC = 10.0
REBINDS = itertools.count(1)  # a node counts its rebinds; one count serves all nodes of all tests

T = TypeVar("T")


def wait_until(condition: Callable[[], T], limit_sec: float = SOON_SEC) -> T:
    """Ask again and again until the answer is true, and give it; fail when the limit has passed."""
    until, pause = monotonic() + limit_sec, Event()
    while not (answer := condition()):
        assert monotonic() < until, "the condition did not come true"
        pause.wait(0.005)
    return answer


def tokens(text: str) -> TokenSet:
    """Read tokens as they are written in tests: '0-9 20-29', both ends included; 'lead' is the right to lead."""
    pieces = [piece.partition("-") for piece in text.split() if piece != "lead"]
    pool = TokenSet.from_ranges((int(first), int(last or first) + 1) for first, _, last in pieces)
    return pool | RIGHT_TO_LEAD if "lead" in text.split() else pool


@dataclass(frozen=True, slots=True)
class Member:
    """One registered node: its session and the identity that its statements bear."""

    conn: Connection[Any]
    who: m.Identity

    @property
    def name(self) -> str:
        return self.who.name


class Fleet:
    """One schema under one prefix, and the connections that a test has opened to it."""

    def __init__(self, dsn: str, prefix: str, stack: ExitStack) -> None:
        self.dsn = dsn
        self.prefix = prefix
        self.protocol = Protocol(prefix, host="here", pid=1, environment=None)
        self._stack = stack
        self.conn = self.connect()

    def connect(self, **options: Any) -> Connection[Any]:
        """Open one more session; it is closed after the test at the latest, and waits for no lock for ever."""
        options = {"options": f"-c statement_timeout={int(SOON_SEC)}s"} | options
        conn = psycopg.connect(self.dsn, autocommit=True, prepare_threshold=None, **options)
        return self._stack.enter_context(conn)

    def spelt(self, text: str) -> str:
        """Put the test's prefix in place of `sync_`."""
        return text.replace("sync_", self.prefix)

    def sql(self, text: str, *args: object, conn: Connection[Any] | None = None) -> list[Row]:
        """Run SQL that is written with the default prefix, `$1` marks its arguments."""
        return run(conn or self.conn, Statement(self.spelt(text), args))

    def value(self, text: str, *args: object, conn: Connection[Any] | None = None) -> Any:
        """Run a query that gives one value."""
        return self.sql(text, *args, conn=conn)[0][0]

    def ask(self, question: m.Question, conn: Connection[Any] | None = None) -> Any:
        """Ask one question of the protocol."""
        rows = run(conn or self.conn, self.protocol.statement_for(question))
        return self.protocol.answer_to(question, rows)

    # --- entering ------------------------------------------------------------------------------

    def register(self, name: str, conn: Connection[Any] | None = None, **settings: Any) -> m.Registration:
        """Ask to be let in."""
        given: dict[str, Any] = {
            "total_tokens": 100,
            "hash_function": "double_sha256",
            "heartbeat_timeout_ms": 15_000,
            "row_lease_ms": 14_500,
            "session_lease_ms": 600,
            "system_id": self.server.system_id,
            "timeline": self.server.timeline,
        } | settings
        answer = self.ask(m.Register(name=name, **given), conn)
        assert isinstance(answer, m.Registration)
        return answer

    def join(self, name: str, conn: Connection[Any] | None = None, **settings: Any) -> Member:
        """Enter under a name, on a session of its own."""
        conn = conn or self.connect()
        answer = self.register(name, conn, **settings)
        assert answer.outcome == "registered"
        assert answer.incarnation is not None
        assert answer.bind is not None
        return Member(conn, m.Identity(name, answer.incarnation, answer.bind))

    def rebind(self, member: Member, conn: Connection[Any] | None = None) -> Member:
        """Continue a node on another session."""
        conn = conn or self.connect()
        answer = self.ask(self.rebinding(member.who, next(REBINDS)), conn)
        return Member(conn, m.Identity(member.name, member.who.incarnation, answer.bind))

    def rebinding(self, who: m.Identity, attempt: int) -> m.Rebind:
        """Give the question with which a node continues on another session."""
        return m.Rebind(who.name, who.incarnation, attempt, 600, self.server.system_id, self.server.timeline)

    # --- another server ------------------------------------------------------------------------

    @cached_property
    def server(self) -> m.Server:
        """The server that is there."""
        greeting = Greeting(*run(self.conn, statement("hello", self.prefix))[0])
        return m.Server(str(greeting.system_id), str(greeting.timeline))

    def fail_over(self, column: str = "timeline") -> None:
        """Play a fail-over: let the rows be another server's."""
        self.sql(f"update sync_meta set {column} = 'another'")

    # --- tokens --------------------------------------------------------------------------------

    def want(self, **targets: str) -> None:
        """Write targets as a plan would."""
        for node, text in targets.items():
            self.sql(
                "insert into sync_target values ($1::text, $2::int4multirange, 1) on conflict (node) "
                "do update set tokens = excluded.tokens",
                node,
                tokens(text).text(),
            )

    def grow(self, member: Member) -> m.Growth:
        """Let a node take what it may."""
        answer = self.ask(m.Grow(member.who), member.conn)
        assert isinstance(answer, m.Growth)
        return answer

    def hold(self, member: Member, text: str) -> Grant:
        """Have a node hold tokens: want them, and grow."""
        self.want(**{member.name: text})
        grant = self.grow(member).grant
        assert grant is not None
        return grant

    def shrink(self, member: Member, text: str, conn: Connection[Any] | None = None) -> m.Answer:
        """Let a node give tokens up."""
        answer: m.Answer = self.ask(m.Shrink(member.who, tokens(text)), conn or member.conn)
        return answer

    def held(self, name: str) -> TokenSet:
        """Read what a node holds, from the view that people see."""
        return TokenSet.of(row[0] for row in self.sql("select token_id from sync_token where node = $1", name))

    def epoch_of(self, token: int) -> int:
        """Read a token's fencing number."""
        return int(self.value("select epoch from sync_token where token_id = $1", token))

    def still_owner(self, member: Member, grant: Grant, token: int, conn: Connection[Any]) -> bool:
        """Ask for a token as the last statement of a user's transaction does."""
        query = "select sync_still_owner($1::text, $2::bigint, $3::bigint, $4::integer)"
        args = member.name, member.who.incarnation, grant.epoch, token
        return bool(self.value(query, *args, conn=conn))

    # --- living and dying ----------------------------------------------------------------------

    def beat(self, member: Member, *, applied: int = 0, known: int = 0, check: bool = False) -> Any:
        """Prove life."""
        return self.ask(m.Beat(member.who, applied, known, check), member.conn)

    def beats(self, name: str) -> int:
        """Read the number that observers watch."""
        return int(self.value("select beats from sync_node where name = $1", name))

    def state(self, name: str) -> str | None:
        """Read a node's state; None when there is no row."""
        rows = self.sql("select state from sync_node where name = $1", name)
        return rows[0][0] if rows else None

    def fence(self, member: Member, rule: str, beats: int | None = None, by: Connection[Any] | None = None) -> bool:
        """Take everything from a node, if the rule's condition still holds."""
        seen = self.beats(member.name) if beats is None else beats
        answer = self.ask(m.Fence(member.who, seen, rule), by)
        assert isinstance(answer, m.FenceReply)
        return answer.done

    def kill(self, conn: Connection[Any]) -> None:
        """End a session from outside, and wait until the server has let go of it."""
        pid = conn.info.backend_pid
        self.sql("select pg_terminate_backend($1::integer)", pid)
        conn.close()
        gone = "select not exists (select from pg_stat_activity where pid = $1::integer)"
        wait_until(lambda: self.value(gone, pid))

    def waits_for_lock(self, conn: Connection[Any]) -> bool:
        """Tell whether a session waits for a lock that another holds."""
        query = "select wait_event_type = 'Lock' from pg_stat_activity where pid = $1::integer"
        return bool(self.value(query, conn.info.backend_pid))

    # --- planning ------------------------------------------------------------------------------

    def inputs(self, *, locks_enabled: bool = True) -> m.PlanInputs:
        """Read what a deal depends on."""
        answer = self.ask(m.ReadPlanInputs(locks_enabled))
        assert isinstance(answer, m.PlanInputs)
        return answer

    def save_plan(self, leader: Member, inputs: m.PlanInputs, targets: dict[str, str], **given: Any) -> int | None:
        """Write a plan; it moves as many tokens as its targets hold unless the test says otherwise."""
        wanted = {node: tokens(text) for node, text in targets.items()}
        plan: dict[str, Any] = {
            "nodes": inputs.nodes,
            "tokenless": inputs.tokenless,
            "reason": "join",
            "nodes_before": len(inputs.targets),
            "tokens_moved": sum(len(pool_of(moved)) for moved in wanted.values()),
            "moves": tuple((None, node, pool_of(moved)) for node, moved in wanted.items()),
        } | given
        question = m.SavePlan(
            me=leader.who,
            plan_version=inputs.plan_version,
            lock_version=inputs.lock_version,
            targets=wanted,
            began_at=inputs.began_at,
            **plan,
        )
        version: int | None = self.ask(question, leader.conn).version
        return version

    def lock(self, task_id: str, token: int, patterns: Iterable[str] = ("%",), **given: Any) -> None:
        """Register a lock by hand; `ends_in_sec` may lie in the past."""
        self.sql(
            "insert into sync_lock (task_id, token_id, node_patterns, created_by, reason, expires_at) "
            "values ($1, $2::integer, $3::jsonb, $4::text, 'test', "
            "clock_timestamp() + $5::float8 * interval '1 second')",
            task_id,
            token,
            json.dumps(list(patterns)),
            given.get("created_by"),
            given.get("ends_in_sec"),
        )


def notices_of(conn: Connection[Any]) -> list[str]:
    """Give a list that fills with the notices that a connection is sent."""
    heard: list[str] = []
    conn.add_notice_handler(lambda diagnostic: heard.append(diagnostic.message_primary or ""))
    return heard


def at_once(workers: int, work: Callable[[int], T]) -> list[T]:
    """Run the same work in threads that set out together; the first error is raised."""
    start = Barrier(workers)

    def one(number: int) -> T:
        start.wait(SOON_SEC)
        return work(number)

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, range(workers)))


# --- the node's own session ------------------------------------------------------------------------


def open_session(dsn: str, **options: Any) -> Session:
    """Open a node's own session as its loop does: waiting on the socket."""
    session = Session(psycopg.conninfo.make_conninfo(session_conninfo(dsn), **options))
    while not session.connected():
        wait_for_socket(session)
    return session


def wait_for_socket(session: Session) -> None:
    """Wait until the session's socket has what it wants."""
    poll = select.poll()
    poll.register(session.fileno, session.wanted_events)
    assert poll.poll(SOON_SEC * 1000), "nothing came from the server"


def outcome(session: Session) -> Done:
    """Drive the operation under way to its end."""
    while (done := session.advance()) is None:
        wait_for_socket(session)
    return done


def perform(session: Session, sql: str, *args: object) -> Done:
    """Run one statement on a node's own session."""
    session.start(Statement(sql, args))
    return outcome(session)
