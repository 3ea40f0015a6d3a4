"""One member in the test's own hands: every event is sent, and every answer given, by the test.

Model: the driver keeps a clock that moves only when told, remembers what the member published, said, told and asks,
and answers for a database of which the test says what it would say. It decides nothing.
"""

from dataclasses import replace
from typing import Any, TypeVar

from jobsync.core import messages as m
from jobsync.core.errors import DatabaseUnavailable
from jobsync.core.holding import Grant
from jobsync.core.leases import Instant
from jobsync.core.member import Member
from jobsync.core.settings import Settings
from jobsync.core.tokens import TokenSet

Q = TypeVar("Q")
QUIET = m.BeatReply(
    plan_version=1,
    planned=True,
    target=None,
    leader="z",
    live=2,
    elders=2,
    members=2,
    roster="2",
    plan_due=False,
    quarantined=False,
    longest_lease_ms=14_500,
)
ALL = TokenSet.span(0, 10_000)


class Driver:
    """Drives one member by hand."""

    def __init__(self, name: str = "a", *, takes_tokens: bool = True, **settings: Any) -> None:
        self.member = Member(name, Settings(**settings), takes_tokens=takes_tokens)
        self.boot_sec = 100.0
        self.wall_offset_sec = 1e9
        self.standing = m.NOBODY
        self.asked: m.Ask | None = None
        self.sent = self.now()
        self.wake_sec = 0.0
        self.effects: list[m.Effect] = []
        self.facts: list[m.Fact] = []
        self.changes: list[m.Change] = []
        self.drains: list[m.Drain] = []
        self.finished: list[m.Finish] = []
        self.reply = QUIET
        self.granted: tuple[Grant, ...] = ()
        self.scripted: dict[type[m.Question], m.Answer] = {}

    def now(self) -> Instant:
        """Read both clocks."""
        return Instant(self.boot_sec, self.boot_sec + self.wall_offset_sec)

    def believes(self) -> TokenSet:
        """Give what a reader is told at this instant."""
        holding = self.standing.holding
        return holding.tokens if holding.certain_at(self.now()) else TokenSet()

    def kinds(self) -> list[m.FactKind]:
        """List the kinds of what was reported."""
        return [fact.kind for fact in self.facts]

    # --- events --------------------------------------------------------------------------------

    def send(self, event: m.Event) -> list[m.Effect]:
        """Let one event happen; give its effects."""
        self.effects = self.member.step(event)
        for effect in self.effects:
            match effect:
                case m.Publish(standing):
                    self.standing = standing
                case m.Ask():
                    assert self.asked is None, "two questions under way"
                    assert effect.deadline_sec > self.boot_sec, "no time for an answer"
                    self.asked, self.sent = effect, self.now()
                case m.WakeAt(boot_sec):
                    self.wake_sec = boot_sec
                case m.Report(fact):
                    self.facts.append(fact)
                case m.Tell(change):
                    self.changes.append(change)
                case m.Drain():
                    self.drains.append(effect)
                case m.Finish():
                    self.finished.append(effect)
                case _:
                    pass
        return self.effects

    def tick(self, after_sec: float = 0.0) -> list[m.Effect]:
        """Let time pass, then tell the member."""
        self.boot_sec += after_sec
        return self.send(m.Ticked(self.now()))

    def connect(self, *, direct: bool = True, round_trip_sec: float = 0.001, timeline: str = "1") -> None:
        """A session stands."""
        self.send(m.Connected(self.now(), m.Hello(direct, "system", timeline, True, round_trip_sec)))

    def breaks(self) -> None:
        """The session is gone, and the question under way with it."""
        self.asked = None
        self.send(m.Broken(self.now(), "connection reset"))

    def answer(self, answer: m.Answer, *, after_sec: float = 0.001) -> list[m.Effect]:
        """Answer the question under way."""
        assert self.asked is not None, "nothing is asked"
        question, self.asked = self.asked.question, None
        self.boot_sec += after_sec
        return self.send(m.Answered(self.now(), self.sent, question, answer))

    def refuse(self, *, after_sec: float = 0.001) -> list[m.Effect]:
        """Refuse the question under way: a lock is held."""
        assert self.asked is not None, "nothing is asked"
        question, self.asked = self.asked.question, None
        self.boot_sec += after_sec
        return self.send(m.Refused(self.now(), question, "lock not available"))

    # --- longer ways ---------------------------------------------------------------------------

    def routine(self, question: m.Question) -> m.Answer | None:
        """Give the answer of a quiet database; None for what a test has to answer itself."""
        if type(question) in self.scripted:
            return self.scripted[type(question)]
        match question:
            case m.Ping():
                return m.Pong()
            case m.Beat():
                target = self.reply.target if question.known_plan_version != self.reply.plan_version else None
                return replace(self.reply, target=target)
            case m.Watch():
                return m.Sightings(())
            case m.ReadGrants():
                return m.HeldGrants(self.granted)
            case m.Prune():
                return m.Pruned(more=False)
            case _:
                return None

    def until(self, kind: type[Q], *, within_sec: float = 60.0) -> Q:
        """Answer routine questions and let time pass until a question of a kind is asked; give it."""
        end_sec = self.boot_sec + within_sec
        while True:
            if self.asked is not None and isinstance(self.asked.question, kind):
                return self.asked.question
            if self.asked is not None:
                answer = self.routine(self.asked.question)
                assert answer is not None, f"{self.asked.question} instead of {kind.__name__}"
                self.answer(answer)
            else:
                assert self.wake_sec <= end_sec, f"no {kind.__name__} within {within_sec} s"
                self.boot_sec = max(self.boot_sec, self.wake_sec)
                self.tick()

    def idle(self, sec: float) -> list[tuple[float, m.Question]]:
        """Answer routine questions for so long; list what was asked, and when."""
        end_sec = self.boot_sec + sec
        seen: list[tuple[float, m.Question]] = []
        while True:
            if self.asked is not None:
                answer = self.routine(self.asked.question)
                if answer is None:
                    return seen
                seen.append((self.boot_sec, self.asked.question))
                self.answer(answer)
            elif self.wake_sec <= end_sec:
                self.boot_sec = max(self.boot_sec, self.wake_sec)
                self.tick()
            else:
                self.boot_sec = end_sec
                return seen

    def register(self, *, direct: bool = True, round_trip_sec: float = 0.001) -> None:
        """Start, connect, register as incarnation 1 under bind 2."""
        self.send(m.Started(self.now()))
        self.connect(direct=direct, round_trip_sec=round_trip_sec)
        self.until(m.Register)
        self.answer(m.Registration("registered", 1, 2, None, None, 1, False))

    def hold(self, tokens: TokenSet = ALL, *, epoch: int = 3, direct: bool = True) -> None:
        """Register, and be granted tokens."""
        self.register(direct=direct)
        self.reply = replace(self.reply, target=tokens)
        self.until(m.Grow)
        self.granted = (Grant(epoch, tokens),)
        self.answer(m.Growth("granted", self.granted[0]))

    def want(self, target: TokenSet) -> None:
        """Let the next beat bring a new plan."""
        self.reply = replace(self.reply, plan_version=self.reply.plan_version + 1, target=target)
        self.send(m.Notified(self.now(), m.Channel.PLAN))

    def rebind(self, *, bind: int = 9, generation: int = 1, quarantined: bool = False) -> None:
        """A new session, bound."""
        self.until(m.Rebind)
        self.answer(m.Rebound(bind, generation, quarantined))


def unavailable() -> DatabaseUnavailable:
    """Make the error of a session that could not be opened."""
    return DatabaseUnavailable("no route")
