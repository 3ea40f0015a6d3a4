"""Users' transactions with a check of ownership: what `job.transaction()` does, over virtual time.

Each reads a token's counter, works for a while, asks whether the token is still its node's under the epoch of its
claim, and writes the counter and commits, at once or a little later. PostgreSQL holds the lock of the check until then.
If the process stands still, or lets too much time pass, the server ends the transaction.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobsync.core.holding import Fence
from jobsync.core.pool import LEADERSHIP

if TYPE_CHECKING:
    from jobsync.simulation.process import Process
    from jobsync.simulation.world import World

IDLE_LIMIT_SEC = 5.0  # idle_in_transaction_session_timeout of a connection that is lent


@dataclass(eq=False, slots=True)
class Work:
    """One transaction under way."""

    process: "Process"
    token: int
    fence: Fence
    read: int
    user: int
    over: bool = False


class Users:
    """Applications that write."""

    def __init__(self, world: "World") -> None:
        self.committed = 0
        self.turned_away = 0
        self._world = world
        self._busy: set[int] = set()

    def begin(self, process: "Process", token: int) -> None:
        """Begin to work on a token, if its process answers yes for it, and nobody else in there works on it."""
        world = self._world
        fence = process.standing.holding.fence_of(token)
        if process.paused or token not in process.held_now() or token == LEADERSHIP or token in self._busy or not fence:
            return
        work = Work(process, token, fence, world.checks.written(token), -1)
        user = world.server.lend(work)
        if user is None:
            return
        work.user = user
        self._busy.add(token)
        self._later(work, lambda: self._check(work))
        world.agenda.after(IDLE_LIMIT_SEC, lambda: self._end(work, commit=False))

    def _later(self, work: Work, act: Callable[[], None]) -> None:
        random = self._world.random
        self._world.agenda.after(random.choice((0.01, 0.5, 2.0, 4.0)) * random.random(), lambda: self._go_on(work, act))

    def _go_on(self, work: Work, act: Callable[[], None]) -> None:
        if work.over:
            return
        if not work.process.alive:
            self._end(work, commit=False)
        elif work.process.paused or work.process.cut_until_sec > self._world.agenda.now_sec:
            self._later(work, act)
        else:
            act()

    def _check(self, work: Work) -> None:
        if self._world.server.still_owner(work.user, work, work.process.name, work.fence, work.token):
            self._later(work, lambda: self._end(work, commit=True))
        else:
            self.turned_away += 1
            self._end(work, commit=False)

    def _end(self, work: Work, *, commit: bool) -> None:
        if work.over:
            return
        work.over = True
        self._busy.discard(work.token)
        world = self._world
        if world.server.give_back(work.user, work, commit=commit) and commit:
            world.agenda.note(work.process.label, f"wrote token {work.token} under epoch {work.fence.epoch}")
            world.checks.wrote(work.token, work.fence.epoch, read=work.read)
            self.committed += 1
