"""The simulated server: PostgreSQL's rows and functions, under sessions, restarts and fail-overs made up.

A statement is carried out in one instant, on a session that the server still has. The sessions stand in a table that
the product's SQL sees in the place of PostgreSQL's own list; process ids are given anew after every restart, as an
operating system does.
"""

import json
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random

from jobsync.core import messages as m
from jobsync.core.holding import Fence
from jobsync.core.tokens import TokenSet
from jobsync.postgres.protocol import Protocol
from jobsync.postgres.statement import Row, Statement, call, load_sql
from jobsync.postgres.virtual_server import PREFIX, USERS, Performed, Surroundings, VirtualServer
from jobsync.simulation.agenda import Agenda
from jobsync.simulation.checkers import Checkers, GrantRow, NodeRow, Sent, Shown, Violated
from jobsync.simulation.clocks import DatabaseClock
from jobsync.simulation.steered import PlanShown, disobeyed, plan_shown

READS = m.Watch | m.WatchForEntry | m.ReadGrants | m.ReadPlanInputs | m.Prune | m.HearJobs
UNSYNCED = m.Shrink | m.SavePlan  # Their commits need not wait for the disk (decision 9).
PIDS = range(100, 400)
SHOW = Statement(load_sql("virtual", "show", PREFIX))
SHOW_PLAN = Statement(load_sql("virtual", "show_plan", PREFIX))
SHOW_UNCOVERED = Statement(load_sql("virtual", "show_uncovered", PREFIX))
WRITTEN_AHEAD = 32  # PostgreSQL logs a sequence that many numbers ahead.


@dataclass(eq=False, slots=True)
class Session:
    """One session of the server."""

    pid: int
    era: int
    node: str
    channels: frozenset[str] = frozenset()
    pending: int = 0
    closing: bool = False
    read: PlanShown | None = None  # what was there when its node read what it is to plan from


@dataclass(frozen=True, slots=True)
class Copy:
    """All rows at one instant, and what users had written by then."""

    rows: str
    effects: dict[int, tuple[int, int]] = field(default_factory=dict)


class SessionOver(Exception):  # noqa: N818 - named for what happened
    """The server said that the asking session is of no more use."""


class SimulatedServer:
    """One database server, and what it is asked."""

    def __init__(self, virtual: VirtualServer, agenda: Agenda, checks: Checkers, random: Random) -> None:
        self.sessions: dict[int, Session] = {}
        self.era = 0
        self.timeline = 1
        self.down_until_sec = 0.0
        self.clock = DatabaseClock(random)
        self.loses_unsynced = False
        self.shows = True  # to the judges, after every statement
        self.pids = PIDS
        self._virtual = virtual
        self._agenda = agenda
        self._checks = checks
        self._random = random
        self._protocol = Protocol(PREFIX, host="virtual", pid=0, environment=None)
        self._boot_sec = self.clock.read(0.0)
        self._unsynced: list[Copy] = []
        self._channels: dict[str, frozenset[str]] = {}
        self._user_of: dict[int, object] = {}

    @property
    def statements(self) -> int:
        """How many statements the real server has carried out so far."""
        return self._virtual.statements

    @property
    def system_id(self) -> str:
        """The identity of the server's data."""
        return "virtual"

    # --- sessions ------------------------------------------------------------------------------

    def open(self, node: str) -> Session:
        """Make a session that listens to the hints meant for a node."""
        pid = self._random.choice([pid for pid in self.pids if pid not in self.sessions])
        session = Session(pid, self.era, node)
        self.sessions[pid] = session
        self._virtual.open_session(pid, self._now())
        if node not in self._channels:
            self._rows(call("listen", PREFIX, node, types=("text",)))
            ((channel,),) = self._rows(call("free_channel", PREFIX, node, types=("text",)))
            self._channels[node] = frozenset({f"{PREFIX}plan", channel})
        session.channels = self._channels[node]
        return session

    def has(self, session: Session) -> bool:
        """Whether the server still has this session."""
        return self.sessions.get(session.pid) is session

    def end(self, session: Session) -> None:
        """End a session at once."""
        if self.has(session):
            del self.sessions[session.pid]
            self._virtual.close_sessions([session.pid])

    def hang_up(self, session: Session) -> None:
        """End a session as its client's good-bye does: what is under way in the backend is still carried out."""
        session.closing = True
        if not session.pending:
            self.end(session)

    def finished(self, session: Session) -> None:
        """A backend is done with one statement."""
        if session.closing and not session.pending:
            self.end(session)

    # --- statements ----------------------------------------------------------------------------

    def answer(self, question: m.Question, session: Session) -> tuple[m.Answer | None, list[tuple[str, str]]]:
        """Carry one question out; None where a lock was held. Gives the notifications as well."""
        if isinstance(question, m.Ping):
            return m.Pong(), []
        if self.loses_unsynced and isinstance(question, UNSYNCED):
            self._unsynced.append(self.copy())
        judged = self.shows and not isinstance(question, READS)
        done = self._perform(self._protocol.statement_for(question), session.pid, SHOW if judged else None)
        if done.over:
            raise SessionOver
        if done.error is not None and not done.busy:
            raise Violated(f"SQL: {type(question).__name__} failed: {done.error}")
        if done.busy:
            return None, []
        if not isinstance(question, (*UNSYNCED.__args__, *READS.__args__)):
            self._unsynced.clear()
        rows = sorted(done.rows, key=repr) if isinstance(question, m.Watch | m.WatchForEntry) else done.rows
        answer = self._protocol.answer_to(question, rows)
        if judged:
            self._show(sent_of(question), done.seen, done=not isinstance(answer, m.FenceReply) or answer.done)
        if self.shows:
            self._judge_plan(answer, session)
        return answer, done.notified

    def _judge_plan(self, answer: m.Answer, session: Session) -> None:
        """Let a plan obey what its maker could read (I12)."""
        match answer:
            case m.PlanInputs():
                session.read = self.show_plan()
            case m.PlanSaved(version=version) if version is not None and session.read is not None:
                if said := disobeyed(session.read, self.show_plan()):
                    raise Violated(f"I12: by the plan of {session.node}, {said}")

    def change(self, kind: str, work: Statement) -> list[tuple[str, str]]:
        """Carry out what somebody else asks of the database: an operator, an application."""
        done = self._perform(work, 0)
        if done.error is not None and not done.busy:
            raise Violated(f"SQL: {kind} failed: {done.error}")
        self._unsynced.clear()
        self._show(Sent(kind), self._rows(SHOW), done=True)
        return done.notified

    def read(self, question: m.Question) -> m.Answer:
        """Ask for something out of turn, for a judge."""
        return self._protocol.answer_to(question, self._rows(self._protocol.statement_for(question)))

    def _rows(self, work: Statement) -> list[Row]:
        done = self._perform(work, 0)
        if done.error is not None:
            raise Violated(f"SQL: {work.sql} failed: {done.error}")
        return done.rows

    def _perform(self, work: Statement, pid: int, look: Statement | None = None) -> Performed:
        return self._virtual.perform(work, self._surroundings(pid), look)

    def _surroundings(self, pid: int) -> Surroundings:
        return Surroundings(self._now(), pid, self._boot_sec, self.system_id, str(self.timeline))

    def _now(self) -> float:
        return self.clock.read(self._agenda.now_sec)

    def look(self, work: Statement) -> list[Row]:
        """Look something up in the database, beside all that is simulated."""
        return self._rows(work)

    def _show(self, sent: Sent, seen: list[Row], *, done: bool) -> None:
        self._checks.carried_out(sent, done=done, shown=_shown(seen), now_sec=self._agenda.now_sec)

    def show(self) -> Shown:
        """Look at what the database shows now."""
        return _shown(self._rows(SHOW))

    def show_plan(self) -> PlanShown:
        """Look at the plan of now, and what it has to obey."""
        return plan_shown(self._rows(SHOW_PLAN))

    def false_records(self) -> str:
        """Say which tokens are written down as uncovered that have an owner, or twice; empty when none are."""
        return "; ".join(f"hand-over {number} of {tokens}" for number, tokens in self._rows(SHOW_UNCOVERED))

    # --- users' transactions ---------------------------------------------------------------------

    def lend(self, owner: object) -> int | None:
        """Begin a user's transaction, if a connection is free."""
        for user in range(USERS):
            if user not in self._user_of:
                self._user_of[user] = owner
                return user
        return None

    def still_owner(self, user: int, owner: object, name: str, fence: Fence, token: int) -> bool:
        """Check ownership in a user's transaction, and hold on to it until that ends."""
        if self._user_of.get(user) is not owner:
            return False
        args = (name, fence.incarnation, fence.epoch, token)
        work = call("still_owner", PREFIX, *args, types=("text", "bigint", "bigint", "integer"))
        done = self._virtual.ask_user(user, work)
        return done.error is None and bool(done.rows[0][0])

    def give_back(self, user: int, owner: object, *, commit: bool) -> bool:
        """End a user's transaction; False if the server has ended it before."""
        if self._user_of.get(user) is not owner:
            return False
        del self._user_of[user]
        self._virtual.end_user(user, commit=commit)
        return True

    def abort_users(self) -> None:
        """End all users' transactions, as the server does when it stops."""
        for user in sorted(self._user_of):
            self._virtual.end_user(user, commit=False)
        self._user_of.clear()

    # --- what befalls a server ---------------------------------------------------------------------

    def copy(self) -> Copy:
        """Copy all rows, as a standby does."""
        return Copy(self._virtual.copy_rows(), self._checks.effects())

    def restart(self, *, down_sec: float, crash: bool) -> None:
        """End all sessions. A crash of the machine loses commits that no one has waited for the disk with."""
        lost = self._unsynced and crash
        kept = self._random.choice(self._unsynced) if lost else None
        self._start_anew(down_sec)
        if kept is not None:
            self._put_back(kept, ahead=WRITTEN_AHEAD, stranger=False)

    def fail_over(self, standby: Copy, *, down_sec: float, keeps_clients: bool = False) -> None:
        """Let a standby take over, with what it had. A pooler may keep its clients, who hear nothing of it."""
        kept = dict(self.sessions) if keeps_clients else {}
        self.timeline += 1
        self._start_anew(down_sec)
        for session in kept.values():
            self.sessions[session.pid] = session
            self._virtual.open_session(session.pid, self._now())
        ahead = self._random.choice((0, self._random.randint(0, WRITTEN_AHEAD)))
        self._put_back(standby, ahead=ahead, stranger=True)

    def _start_anew(self, down_sec: float) -> None:
        self.abort_users()
        self._virtual.close_sessions(list(self.sessions))
        self.sessions.clear()
        self._unsynced.clear()
        self.era += 1
        self.down_until_sec = self._agenda.now_sec + down_sec
        self._boot_sec = self._now()

    def _put_back(self, copy: Copy, *, ahead: int, stranger: bool) -> None:
        self._virtual.put_rows_back(copy.rows, numbers_ahead=ahead)
        for session in self.sessions.values():
            session.read = None  # A plan that was made from lost rows wastes work; it is made again.
        self._checks.rolled_back(self.show(), stranger=stranger, effects=dict(copy.effects))


def _shown(seen: list[Row]) -> Shown:
    ((nodes, grants),) = seen
    return Shown(tuple(NodeRow(*row) for row in json.loads(nodes)), _grants(grants))


@lru_cache(maxsize=256)
def _grants(text: str) -> tuple[GrantRow, ...]:
    """Read grants; most statements change none."""
    return tuple(GrantRow(epoch, node, inc, TokenSet.parse(tokens)) for epoch, node, inc, tokens in json.loads(text))


def sent_of(question: m.Question) -> Sent:
    """Say who sends a question, and what about, in the checkers' words."""
    kind = type(question).__name__
    match question:
        case m.Register(name=name):
            return Sent(kind, name)
        case m.Rebind(name=name, incarnation=incarnation, attempt=attempt):
            return Sent(kind, name, incarnation, attempt=attempt)
        case m.Fence(who=who):
            return Sent(kind, who.name, who.incarnation, who.bind)
        case m.Shrink(me=me, tokens=tokens):
            return Sent(kind, me.name, me.incarnation, me.bind, tokens)
        case m.Beat(me=me) | m.Grow(me=me) | m.SavePlan(me=me) | m.BeginLeave(me=me) | m.Leave(me=me):
            return Sent(kind, me.name, me.incarnation, me.bind)
        case _:
            return Sent(kind)
