"""The invariants of ownership, watched from outside: what no member may ever be seen to do.

Model: the checkers see what the world sees, which is more than any member can: every published holding in true time,
every statement that the database carried out, everything that was told to the application. They take no part in
any decision. The numbers are those of the protocol's list of invariants.

The right to lead is judged like any token, wherever it stands in what is believed; what an application is told, or is
shown, must never name it.

A holding is judged for all instants at once: it stands from its publication until the owner's boot clock ends it,
paused or not. Comparing at each publication with what all others then stand by covers every later instant as well.
"""

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from jobsync.core import messages as m
from jobsync.core.holding import Holding
from jobsync.core.pool import LEADERSHIP, RIGHT_TO_LEAD, pool_of
from jobsync.core.tokens import TokenSet
from tests.core.world_database import State

if TYPE_CHECKING:
    from tests.core.world import Process

STEPS_PER_SEC = 120


class Violated(AssertionError):
    """An invariant does not hold; the message begins with its name."""


@dataclass(slots=True)
class _Seen:
    """What is known of one process."""

    told: TokenSet = field(default_factory=TokenSet)
    second: int = -1
    steps: int = 0


class Checkers:
    """All invariants over one world, less those that are named as unchecked."""

    def __init__(self, unchecked: frozenset[str] = frozenset()) -> None:
        self._unchecked = unchecked
        self._seen: dict[Process, _Seen] = {}
        self._epoch_of: dict[int, int] = {}
        self._fenced: set[tuple[str, int]] = set()
        self._bind_of: dict[str, int] = {}
        self._owners: dict[int, tuple[int, str]] = {}

    def _of(self, process: "Process") -> _Seen:
        return self._seen.setdefault(process, _Seen())

    # --- what members do -----------------------------------------------------------------------

    def stepped(self, process: "Process", at: float, wake_sec: float, now_sec: float) -> None:
        """No busy loop: a step asks to be woken later, and few of them fit in a second."""
        seen = self._of(process)
        seen.steps = seen.steps + 1 if seen.second == int(at) else 1
        seen.second = int(at)
        if seen.steps > STEPS_PER_SEC:
            raise Violated(f"busy: {process.name} takes over {STEPS_PER_SEC} steps in second {seen.second}")
        # While a session is being opened, its deadline wakes the engine.
        opening = process.link is None and wake_sec == inf
        if not opening and not now_sec < wake_sec < inf:
            raise Violated(f"busy: {process.name} at {now_sec} wants to be woken at {wake_sec}")

    def asked(self, process: "Process", question: m.Question) -> None:
        """At most one question is under way."""
        if process.asked is not None:
            raise Violated(f"two questions: {process.name} asks {question} while {process.asked} is under way")

    def published(self, process: "Process", others: list["Process"], state: State, at: float) -> None:
        """I1 at this and every later instant; I2."""
        if process.certain_until() <= at:
            return
        mine = believed(process.standing.holding)
        for other in others:
            if other is process or not other.alive or other.certain_until() <= at:
                continue
            both = mine & believed(other.standing.holding)
            if both:
                raise Violated(f"I1 at {at:.3f}: {process.name} and {other.name} both believe in {both}")
        self._within_grants(process, state, at)

    def _within_grants(self, process: "Process", state: State, at: float) -> None:
        if process.stranger or process.certain_until() <= at:
            return
        holding = process.standing.holding
        extra = believed(holding) - state.held_by(process.name, holding.incarnation)
        if extra:
            raise Violated(f"I2 at {at:.3f}: {process.name} believes in {extra} that the database does not grant")

    def told(self, process: "Process", change: m.Change) -> None:
        """I10: nothing is removed that was not added, nothing added twice; the right to lead is never named."""
        seen = self._of(process)
        if LEADERSHIP in change.removed | change.added or LEADERSHIP in process.standing.holding.tokens:
            raise Violated(f"I10: {process.name} is told of the right to lead as of a token")
        if change.removed - seen.told:
            raise Violated(f"I10: {process.name} is told that {change.removed - seen.told} is removed, it had it not")
        if change.added & (seen.told - change.removed):
            raise Violated(f"I10: {process.name} is told twice that {change.added & seen.told} is added")
        seen.told = (seen.told - change.removed) | change.added

    def settled(self, process: "Process") -> None:
        """I10 after a step: what the application was told is what is believed."""
        if "I10" in self._unchecked:
            return
        standing = process.standing
        tokens = standing.holding.tokens
        if standing.phase is m.Phase.LIVE and tokens and tokens != self._of(process).told:
            raise Violated(f"I10: {process.name} believes in other tokens than its application was told")

    # --- what the database did -----------------------------------------------------------------

    def failed_over(self) -> None:
        """Commits are lost: fences and binds among them; the grants of the standby are the grants now."""
        self._fenced.clear()
        self._bind_of.clear()
        self._owners = {}

    def carried_out(
        self, question: m.Question, answer: m.Answer, state: State, processes: list["Process"], at: float
    ) -> None:
        """I3, I4, I5, I7 and I8 of one statement, then I2 of everybody."""
        self._note_identity(question, answer)
        if isinstance(answer, m.FenceReply) and answer.done and isinstance(question, m.Fence):
            self._fenced.add((question.who.name, question.who.incarnation))
        if isinstance(question, m.Grow | m.Shrink | m.Fence | m.LiftQuarantine) or not self._owners:
            self._moves(question, state)
            for process in processes:
                if process.alive:
                    self._within_grants(process, state, at)

    def _note_identity(self, question: m.Question, answer: m.Answer) -> None:
        if isinstance(answer, m.NotCurrent) or (isinstance(answer, m.Growth) and answer.grant is None):
            return
        if isinstance(question, m.Rebind) and isinstance(answer, m.Rebound):
            if (question.name, question.incarnation) in self._fenced:
                raise Violated(f"I5: {question.name} was fenced and binds again")
            self._bind_of[question.name] = answer.bind
        elif isinstance(answer, m.Registration) and answer.bind is not None and isinstance(question, m.Register):
            self._bind_of[question.name] = answer.bind
        elif isinstance(question, m.Beat | m.Grow | m.Shrink | m.BeginLeave):
            me = question.me
            if (me.name, me.incarnation) in self._fenced:
                raise Violated(f"I5: {me} was fenced and still does {type(question).__name__}")
            if self._bind_of.get(me.name, me.bind) != me.bind:
                raise Violated(f"I8: {type(question).__name__} of {me} under an older bind was carried out")

    def _moves(self, question: m.Question, state: State) -> None:
        owners = _owners(state)
        before, self._owners = self._owners, owners
        for token, (epoch, _) in owners.items():
            if token in before and before[token][0] != epoch:
                raise Violated(f"I7: token {token} passed from {before[token]} to {owners[token]} at once")
            if token not in before:
                if before and not isinstance(question, m.Grow):
                    raise Violated(f"I7: token {token} was granted by {type(question).__name__}")
                if self._epoch_of.get(token, 0) >= epoch and isinstance(question, m.Grow):
                    raise Violated(f"I4: token {token} is granted under {epoch} after {self._epoch_of[token]}")
            self._epoch_of[token] = max(epoch, self._epoch_of.get(token, 0))
        if isinstance(question, m.Shrink | m.Fence):
            name = question.me.name if isinstance(question, m.Shrink) else question.who.name
            strangers = [token for token in before.keys() - owners.keys() if before[token][1] != name]
            if strangers:
                raise Violated(f"I7: tokens {strangers} of others were freed by a statement on {name}")


def believed(holding: Holding) -> TokenSet:
    """Give all that is believed: what is shown, and the right to lead, which only the grants name."""
    led = any(LEADERSHIP in grant.tokens for grant in holding.grants)
    return holding.tokens | RIGHT_TO_LEAD if led else holding.tokens


def _owners(state: State) -> dict[int, tuple[int, str]]:
    """Give (epoch, node) of every granted token."""
    owners: dict[int, tuple[int, str]] = {}
    for epoch, (node, _, tokens) in state.grants.items():
        for token in tokens:
            if token in owners:
                raise Violated(f"I3: token {token} is granted to {owners[token][1]} and to {node}")
            owners[token] = (epoch, node)
    return owners


def converged(processes: list["Process"], state: State, total_tokens: int) -> str | None:
    """I9: say what is not yet as the plan wants it.

    None when every token is held once, by its target, and the oldest live node has the right to lead. Tokens are
    nobody's where no live node takes any.
    """
    alive = [p for p in processes if p.alive and p.standing.phase is m.Phase.LIVE]
    if len({p.name for p in alive}) != len(alive):
        return "two processes live under one name"
    planned = TokenSet.from_ranges([r for tokens in state.targets.values() for r in tokens.ranges])
    if planned != TokenSet.span(LEADERSHIP, total_tokens if state.takers() else 0):
        return f"the plan covers {planned}"
    leaders = [row.name for row in state.live()[:1]]
    if [name for name, target in state.targets.items() if LEADERSHIP in target] != leaders:
        return f"the plan does not let {leaders} lead alone"
    for row in state.live():
        if not row.takes_tokens and pool_of(state.targets.get(row.name, TokenSet())):
            return f"the plan has tokens for {row.name}, which takes none"
    for process in alive:
        target = state.targets.get(process.name)
        held = process.believed_now()
        if target is None or held != target or state.held_by(process.name) != target:
            return f"{process.name} holds {held}, wants {target}"
    names = {p.name for p in alive}
    others = {name for name in set(state.targets) - names if not state.places_are_kept_for(name)}
    return None if names <= set(state.targets) and not others else "the plan is for others"
