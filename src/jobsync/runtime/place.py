"""Where a node's database is, the embedded one included: asked for by name, and held as long as the node needs it."""

import logging

from jobsync.core.settings import Settings
from jobsync.postgres.embedded import EmbeddedServer, acquire
from jobsync.postgres.pool import Pool
from jobsync.postgres.reception import Place, place_of

EMBEDDED = "embedded"
POOL_SIZE = 8
POOL_WAIT_SEC = 5.0

log = logging.getLogger("jobsync")


class Doorway:
    """The way to one database: its place, and a hold on the embedded server where that is meant."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._server: EmbeddedServer | None = None
        dsn = settings.dsn
        if dsn == EMBEDDED:
            self._server = acquire()
            dsn = self._server.dsn
            log.info("using the embedded PostgreSQL %s, data in %s", self._server.version, self._server.data_dir)
        self.place: Place = place_of(settings, dsn)

    def session_place(self) -> Place:
        """Give the place for the node's own session: direct where the main way goes through a pooler."""
        if self._settings.session_dsn is None:
            return self.place
        return place_of(self._settings, self._settings.session_dsn)

    def pool(self) -> Pool:
        """Make the pool for everything that may wait."""
        return Pool(
            self.place.conninfo,
            size=POOL_SIZE,
            wait_sec=POOL_WAIT_SEC,
            unavailable=self.place.unavailable,
        )

    def release(self) -> None:
        """Let go of the embedded server; the last one to do so stops it."""
        if self._server is not None:
            self._server.release()
