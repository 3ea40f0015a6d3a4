"""The network between processes and the server: it delays, loses, breaks, and hands things over too late.

As in life, what was sent is carried out even if the sender has given up, unless the server ended the session first; a
server may lose a session whose client lives, and the other way round.
"""

from typing import TYPE_CHECKING

from jobsync.core import messages as m
from jobsync.core.errors import DatabaseUnavailable
from jobsync.core.leases import Instant
from jobsync.simulation.checkers import Violated
from jobsync.simulation.server import Session, SessionOver

if TYPE_CHECKING:
    from jobsync.simulation.process import Process
    from jobsync.simulation.world import World

TRIP_SEC = 0.0005
KNOCK_SEC = 1.0
FROZEN_CHANCE = 0.004
LOST_HINT_CHANCE = 0.1
PONG = m.Pong()


class Network:
    """Ways between processes and the server."""

    def __init__(self, world: "World", *, direct: bool) -> None:
        self.direct = direct
        self.calm = True
        self.trip_sec = TRIP_SEC
        self.slow_sec = 0.0
        self.refusal_chance = 0.0
        self.frozen_chance = FROZEN_CHANCE
        self._world = world

    def _trip(self, process: "Process") -> float:
        wait_sec = max(0.0, process.cut_until_sec - self._world.agenda.now_sec)
        return wait_sec + self.trip_sec * (1 if self.calm else self._world.random.uniform(1, 10))

    def _slowness(self) -> float:
        if not self.slow_sec:
            return 0.0
        return self.slow_sec * (1 if self.calm else self._world.random.random())

    # --- connecting ------------------------------------------------------------------------------

    def connect(self, process: "Process") -> None:
        """Open a session, or fail to."""
        world = self._world
        blocked_sec = max(process.cut_until_sec, world.server.down_until_sec) - world.agenda.now_sec
        if blocked_sec > 0:
            world.agenda.after(min(KNOCK_SEC, blocked_sec), lambda: process.deliver(_no_route))
        else:
            world.agenda.after(2 * self._trip(process), lambda: self._arrive(process))

    def _arrive(self, process: "Process") -> None:
        server = self._world.server
        if server.down_until_sec > self._world.agenda.now_sec:
            process.deliver(_no_route)
            return
        session = server.open(process.name)
        hello = m.Hello(
            self.direct, server.system_id, str(server.timeline), durable=True, round_trip_sec=2 * self.trip_sec
        )

        def connected(now: Instant) -> m.Event:
            process.session, process.asked = session, None
            return m.Connected(now, hello)

        if process.alive:
            process.deliver(connected)
        else:
            server.hang_up(session)

    # --- questions and answers -------------------------------------------------------------------

    def ask(self, process: "Process", question: m.Question, deadline_sec: float) -> None:
        """Send a question on its way."""
        world, session = self._world, process.session
        if session is None:
            raise Violated(f"no session: {process.label} asks {question} all the same")
        if process.asked is not None:
            raise Violated(f"two questions: {process.label} asks {question} while {process.asked} is under way")
        process.asked = question
        sent = process.now()
        session.pending += 1
        server_sec = self._slowness()
        if not self.calm and world.random.random() < self.frozen_chance:
            server_sec += world.random.uniform(0.5, 5.0)
        world.agenda.after(self._trip(process) + server_sec, lambda: self._carry_out(process, session, question, sent))

        def is_waited_for() -> bool:
            return process.asked is question and process.session is session

        def give_up(now: Instant) -> m.Event | None:
            if not is_waited_for():
                return None
            if process.stale is not None:
                world.server.hang_up(process.stale)
            process.stale, process.session, process.asked = session, None, None
            return m.Broken(now, f"no answer to {type(question).__name__} in time")

        world.agenda.after(
            process.clock.when(deadline_sec) - world.agenda.now_sec,
            lambda: process.deliver(give_up) if is_waited_for() else None,
        )

    def _carry_out(self, process: "Process", session: Session, question: m.Question, sent: Instant) -> None:
        world, server = self._world, self._world.server
        if (down_sec := server.down_until_sec - world.agenda.now_sec) > 0 and server.has(session):
            # A pooler that kept its client keeps what it said, too.
            world.agenda.after(down_sec, lambda: self._carry_out(process, session, question, sent))
            return
        session.pending -= 1
        if not server.has(session):
            return
        answer: m.Answer | None = None
        refused = self.refusal_chance > 0 and world.random.random() < self.refusal_chance
        if not refused or isinstance(question, m.Ping):
            try:
                answer, notified = server.answer(question, session)
            except SessionOver:
                server.end(session)
                if process.session is session:
                    self.break_client(process)
                return
            world.saw(process.label, question, answer)
            self.spread(notified)
        server.finished(session)

        def answered(now: Instant) -> m.Event | None:
            if process.asked is not question or process.session is not session:
                return None
            process.asked = None
            if answer is None:
                return m.Refused(now, question, "a lock is held")
            if isinstance(answer, m.Registration | m.Rebound) and process.stale is not None:
                server.hang_up(process.stale)
                process.stale = None
            return m.Answered(now, sent, question, answer)

        world.agenda.after(self._trip(process) + self._slowness(), lambda: process.deliver(answered))

    def spread(self, notified: list[tuple[str, str]]) -> None:
        """Carry notifications to whoever listens; some get lost."""
        if not self.direct:
            return
        for channel, payload in notified:
            kind = m.Channel.PLAN if channel.endswith("plan") else m.Channel.FREE
            for process in self._world.processes:
                session = process.session
                if session is None or channel not in session.channels or not self._world.server.has(session):
                    continue
                if self.calm or self._world.random.random() > LOST_HINT_CHANCE:
                    self._hint(process, kind, payload)

    def _hint(self, process: "Process", kind: m.Channel, payload: str) -> None:
        self._world.agenda.after(
            self._trip(process), lambda: process.deliver(lambda now: m.Notified(now, kind, payload))
        )

    # --- what breaks -----------------------------------------------------------------------------

    def break_client(self, process: "Process", *, server_notices_sec: float = 0.001) -> None:
        """End a session on the client's side."""
        session = process.session

        def broken(now: Instant) -> m.Event | None:
            if session is None or process.session is not session:
                return None
            process.session = process.asked = None
            self._world.agenda.after(server_notices_sec, lambda: self._world.server.hang_up(session))
            return m.Broken(now, "connection reset")

        process.deliver(broken)

    def reset_server_side(self, process: "Process") -> None:
        """End a session on the server's side, as a middlebox's RST does: its client hears nothing."""
        if process.session is not None:
            self._world.server.end(process.session)

    def break_all(self) -> None:
        """Let every client hear that the server went away."""
        for process in list(self._world.processes):
            self.break_client(process)


class HealthyNetwork(Network):
    """A network without faults: a ping, which no row knows of, goes to the server and back as one event."""

    def ask(self, process: "Process", question: m.Question, deadline_sec: float) -> None:
        """Send a question on its way."""
        session = process.session
        if session is None or not isinstance(question, m.Ping):
            super().ask(process, question, deadline_sec)
            return
        process.asked = question
        sent = process.now()

        def back() -> None:
            if process.asked is question and process.session is session and self._world.server.has(session):
                self._world.saw(process.label, question, PONG)
                process.asked = None
                process.deliver(lambda now: m.Answered(now, sent, question, PONG))

        self._world.agenda.after(2 * self.trip_sec, back)


def _no_route(now: Instant) -> m.Event:
    return m.ConnectFailed(now, DatabaseUnavailable("no route"))
