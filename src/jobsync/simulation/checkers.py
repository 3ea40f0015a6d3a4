"""The invariants of ownership, watched from outside: what no fleet may ever be seen to do.

Model: the checkers are told what each process would answer, and until when by itself; what each application was told;
and, after each statement, what the database shows. They see more than any member can, they decide nothing, and they
share no state with what they judge. The numbers are those of the protocol's list of invariants (PROTOCOL 7).

I1   at no instant two processes answer yes for one token, the right to lead included
I2   what a process answers yes for is granted to its incarnation
I3   grants are disjoint
I4   the epoch of a token grows with every owner
I5   a fenced incarnation changes nothing any more
I6   nobody is fenced who still answers yes
I7   tokens change hands by grow, shrink and fence alone, and nobody else's by one of these
I8   no statement of an older session of a node changes a row
I9   after the faults every token is held once, by whom the plan names, and the shares are even (`rest.py`)
I10  what an application was told is what its node believes
I11  what was written in a transaction with a check of ownership was written by the owner, and no write was lost
I12  a plan obeys what people ask of nodes and of the fleet (`steered.py`)
I13  at no instant two processes believe in tokens of pools of unlike sizes

A belief is judged for all instants at once: it stands from its publication until the owner's boot clock ends it.
Comparing at each publication with what all others then stand by covers every later instant as well.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from jobsync.core.pool import LEADERSHIP, RIGHT_TO_LEAD
from jobsync.core.tokens import TokenSet

STEPS_PER_SEC = 150


class Violated(AssertionError):  # noqa: N818 - named for what happened
    """An invariant does not hold; the message begins with its name."""


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A node as the database shows it."""

    name: str
    incarnation: int
    bind: int
    state: str
    beats: int
    takes_tokens: bool


@dataclass(frozen=True, slots=True)
class GrantRow:
    """A grant as the database shows it."""

    epoch: int
    node: str
    incarnation: int
    tokens: TokenSet


@dataclass(frozen=True, slots=True)
class Shown:
    """What the database shows: its nodes in the order in which they lead, and its grants by epoch."""

    nodes: tuple[NodeRow, ...] = ()
    grants: tuple[GrantRow, ...] = ()

    def node(self, name: str) -> NodeRow | None:
        """Give the row of a name."""
        return next((row for row in self.nodes if row.name == name), None)

    def granted(self, name: str, incarnation: int) -> TokenSet:
        """Unite the grants of an incarnation."""
        return union(grant.tokens for grant in self.grants if (grant.node, grant.incarnation) == (name, incarnation))


@dataclass(frozen=True, slots=True)
class Sent:
    """A statement as it was sent: its kind, the node that it speaks for or of, and the tokens that it names."""

    kind: str
    name: str = ""
    incarnation: int | None = None
    bind: int | None = None
    tokens: TokenSet | None = None
    attempt: int | None = None


@dataclass(slots=True)
class _Watched:
    """What is known of one process."""

    name: str
    total_tokens: int
    incarnation: int = 0
    belief: TokenSet = field(default_factory=TokenSet)
    until_sec: float = float("-inf")
    stranger: bool = False
    told: TokenSet = field(default_factory=TokenSet)
    second: int = -1
    steps: int = 0


class Checkers:
    """All invariants but I9 and I12 over one world."""

    def __init__(self) -> None:
        self.shown = Shown()
        self._watched: dict[int, _Watched] = {}
        self._newest_epoch: dict[int, int] = {}
        self._fenced: set[tuple[str, int]] = set()
        self._attempts: dict[tuple[str, int], int] = {}
        self._effects: dict[int, tuple[int, int]] = {}

    def _of(self, process: int) -> _Watched:
        return self._watched[process]

    # --- processes -----------------------------------------------------------------------------

    def born(self, process: int, name: str, total_tokens: int) -> None:
        """A process begins, which takes the pool to have so many tokens."""
        self._watched[process] = _Watched(name, total_tokens)

    def died(self, process: int) -> None:
        """A process is gone, and answers nothing any more."""
        self._watched.pop(process, None)

    def answers(self, process: int, incarnation: int, belief: TokenSet, until_sec: float, now_sec: float) -> None:
        """From now on, and by itself until an instant of true time, a process answers yes for these (I1, I2, I13)."""
        mine = self._of(process)
        mine.incarnation, mine.belief, mine.until_sec = incarnation, belief, until_sec
        if until_sec <= now_sec or not belief:
            return
        for number, other in self._watched.items():
            if number != process and other.until_sec > now_sec and other.belief:
                both = belief & other.belief
                if both:
                    raise Violated(f"I1: {mine.name}#{process} and {other.name}#{number} both believe in {both}")
                if mine.total_tokens != other.total_tokens:
                    sizes = f"{mine.total_tokens} and {other.total_tokens} tokens"
                    raise Violated(f"I13: {mine.name}#{process} and {other.name}#{number} believe in pools of {sizes}")
        self._within_grants(process, mine, now_sec)

    def _within_grants(self, process: int, mine: _Watched, now_sec: float) -> None:
        if mine.stranger or mine.until_sec <= now_sec or not mine.belief:
            return
        extra = mine.belief - self.shown.granted(mine.name, mine.incarnation)
        if extra:
            raise Violated(f"I2: {mine.name}#{process} believes in {extra}, which the database does not grant it")

    def read_rows(self, process: int) -> None:
        """A process knows the rows of the server that serves now."""
        if process in self._watched:
            self._of(process).stranger = False

    def told(self, process: int, removed: TokenSet, added: TokenSet) -> None:
        """An application is told: nothing is removed that was not added, nothing added twice (I10)."""
        mine = self._of(process)
        if LEADERSHIP in removed | added:
            raise Violated(f"I10: {mine.name}#{process} is told of the right to lead as of a token")
        if removed - mine.told:
            raise Violated(f"I10: {mine.name}#{process} is told that {removed - mine.told} is removed, it had it not")
        if added & (mine.told - removed):
            raise Violated(f"I10: {mine.name}#{process} is told twice that {added & mine.told} is added")
        mine.told = (mine.told - removed) | added

    def stepped(self, process: int, now_sec: float, *, pool: TokenSet, live: bool) -> None:
        """A process took a step: it is told of what it believes (I10), and it does not spin."""
        mine = self._watched.get(process)
        if mine is None:
            return
        mine.steps = mine.steps + 1 if mine.second == int(now_sec) else 1
        mine.second = int(now_sec)
        if mine.steps > STEPS_PER_SEC:
            raise Violated(f"busy: {mine.name}#{process} takes over {STEPS_PER_SEC} steps in one second")
        if live and pool and pool != mine.told:
            raise Violated(f"I10: {mine.name}#{process} believes in {pool}, its application was told of {mine.told}")

    # --- the database --------------------------------------------------------------------------

    def carried_out(self, sent: Sent, *, done: bool, shown: Shown, now_sec: float) -> None:
        """One statement was carried out, and this is what the database shows now (I2 to I8)."""
        before, self.shown = self.shown, shown
        if before == shown:
            return
        self._no_stale_author(sent, before)
        if before.grants != shown.grants:
            self._disjoint()
            self._moved(sent, before)
        if sent.kind == "Fence" and done and sent.incarnation is not None:
            self._fenced.add((sent.name, sent.incarnation))
            self._nobody_there(sent, now_sec)
        if before.grants != shown.grants:
            for process, mine in self._watched.items():
                self._within_grants(process, mine, now_sec)

    def _no_stale_author(self, sent: Sent, before: Shown) -> None:
        """I5 and I8: what changes rows comes from the incarnation and the session that the rows name."""
        if sent.incarnation is None:
            return
        row = before.node(sent.name)
        if sent.kind != "Fence" and (sent.name, sent.incarnation) in self._fenced:
            raise Violated(f"I5: {sent.name} was fenced as incarnation {sent.incarnation}, and still does {sent.kind}")
        if row is None or row.incarnation != sent.incarnation:
            raise Violated(f"I5: {sent.kind} of {sent.name} as incarnation {sent.incarnation} changed rows of {row}")
        if sent.bind is not None and row.bind != sent.bind:
            raise Violated(f"I8: {sent.kind} of {sent.name} under bind {sent.bind} changed rows of {row}")
        if sent.attempt is not None:
            newest = self._attempts.get((sent.name, sent.incarnation), 0)
            if sent.attempt <= newest:
                raise Violated(f"I8: {sent.name} is bound by attempt {sent.attempt} after attempt {newest}")
            self._attempts[sent.name, sent.incarnation] = sent.attempt

    def _disjoint(self) -> None:
        seen = TokenSet()
        for grant in self.shown.grants:
            if seen & grant.tokens:
                raise Violated(f"I3: {seen & grant.tokens} is granted twice")
            seen |= grant.tokens

    def _moved(self, sent: Sent, before: Shown) -> None:
        """I4 and I7: who may change which grants."""
        old = {grant.epoch: grant for grant in before.grants}
        new = {grant.epoch: grant for grant in self.shown.grants}
        for epoch in sorted(new.keys() - old.keys()):
            grant = new[epoch]
            if sent.kind != "Grow" or grant.node != sent.name:
                raise Violated(f"I7: {sent.kind} of {sent.name} made {grant}")
            for token in grant.tokens:
                if self._newest_epoch.get(token, 0) >= epoch:
                    raise Violated(f"I4: token {token} is granted under {epoch} after {self._newest_epoch[token]}")
                self._newest_epoch[token] = epoch
        for epoch, grant in old.items():
            after = new.get(epoch)
            if after == grant:
                continue
            lost = grant.tokens if after is None else grant.tokens - after.tokens
            if sent.kind not in ("Shrink", "Fence") or grant.node != sent.name:
                raise Violated(f"I7: {sent.kind} of {sent.name} changed {grant}")
            if sent.kind == "Shrink" and sent.tokens is not None and lost - sent.tokens:
                raise Violated(f"I7: {sent.name} gave up {sent.tokens} and lost {lost}")
            if after is not None and (after.tokens - grant.tokens or sent.kind == "Fence"):
                raise Violated(f"I7: {sent.kind} of {sent.name} made {after} of {grant}")

    def _nobody_there(self, fence: Sent, now_sec: float) -> None:
        """I6: whoever is fenced has stopped answering yes, by its own clock."""
        for process, mine in self._watched.items():
            there = (mine.name, mine.incarnation) == (fence.name, fence.incarnation)
            if there and not mine.stranger and mine.until_sec > now_sec and mine.belief:
                raise Violated(f"I6: {mine.name}#{process} is fenced and still believes in {mine.belief}")

    def rolled_back(self, shown: Shown, *, stranger: bool, effects: dict[int, tuple[int, int]]) -> None:
        """The server goes on from older rows: what was fenced or written since is forgotten."""
        self.shown = shown
        self._effects = effects
        if stranger:
            self._fenced.clear()
            self._attempts.clear()
            for mine in self._watched.values():
                mine.stranger = True

    # --- users' transactions ---------------------------------------------------------------------

    def effects(self) -> dict[int, tuple[int, int]]:
        """Copy what users have written: by token the count of writes, and the epoch of the last one."""
        return dict(self._effects)

    def written(self, token: int) -> int:
        """Read a token's counter, as a user's transaction does at its beginning."""
        return self._effects.get(token, (0, 0))[0]

    def wrote(self, token: int, epoch: int, *, read: int) -> None:
        """A user's transaction that read the counter commits, its ownership checked under this epoch (I11)."""
        count, newest = self._effects.get(token, (0, 0))
        if count != read:
            raise Violated(f"I11: a write on token {token} under epoch {epoch} loses {count - read} other writes")
        if epoch < newest:
            raise Violated(f"I11: a write on token {token} under epoch {epoch} comes after one under {newest}")
        if not any(grant.epoch == epoch and token in grant.tokens for grant in self.shown.grants):
            raise Violated(f"I11: a write on token {token} under epoch {epoch}, which holds it no more")
        self._effects[token] = (count + 1, epoch)


def union(sets: Iterable[TokenSet]) -> TokenSet:
    """Unite token sets."""
    pieces = [piece for tokens in sets for piece in tokens.ranges]
    return TokenSet.from_ranges(pieces)


def believed(tokens: TokenSet, *, leads: bool) -> TokenSet:
    """Give all that is believed: the pool's tokens, and the right to lead."""
    return tokens | RIGHT_TO_LEAD if leads else tokens
