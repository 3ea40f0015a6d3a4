"""A job that only looks and steers: it registers nothing, holds nothing and waits for nobody."""

from datetime import date

from jobsync.core.messages import NOBODY
from jobsync.core.settings import Settings
from jobsync.core.tokens import TokenSet
from jobsync.postgres.pool import Pool
from jobsync.postgres.reception import receive
from jobsync.runtime.callbacks import Callbacks
from jobsync.runtime.hands import InHand
from jobsync.runtime.ledger import Ledger
from jobsync.runtime.place import Doorway


class IdleEngine:
    """Looks to readers like an engine that is in no fleet."""

    standing = NOBODY


class Visitor:
    """A connection to the fleet's database, for administration."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self.settings = settings
        self.hands = InHand()
        self.callbacks = Callbacks(name)
        self.engine = IdleEngine()
        self._doorway = Doorway(settings)
        self.pool: Pool = self._doorway.record_pool()

    def receive(self) -> date:
        """Visit the database: the schema stands afterwards; give its date."""
        return receive(self._doorway.place, self.settings.prefix)

    def leave(self) -> bool:
        """Close all connections."""
        self.pool.close()
        self._doorway.release()
        return True

    holding = None
    ledgers: tuple[Ledger, ...] = ()
    tokens = TokenSet()
    incarnation = 0

    def require_running(self) -> None:
        """Serve what a visitor can: it owns no task, so nothing of a node is required."""

    def is_healthy(self) -> bool:
        """Nothing is held, so nothing can be certain."""
        return False

    def why_unhealthy(self) -> tuple[str, ...]:
        """Say that it is no member."""
        return ("it only observes, and is no node of the fleet",)

    ended_badly = False
