"""Where a node's database is, the embedded one included: asked for by name, and held as long as the node needs it."""

import logging
from typing import TYPE_CHECKING

from jobsync.core.log_events import Event, marks
from jobsync.core.settings import Settings
from jobsync.postgres.pool import Pool
from jobsync.postgres.reception import Place, place_of

if TYPE_CHECKING:
    from jobsync.postgres.embedded import EmbeddedServer

EMBEDDED = "embedded"
TRANSACTIONS = 8  # Bodies of job.transaction() at one time.
TRANSACTION_WAIT_SEC = 5.0
RECORDERS = 2  # Claims of the application's threads, and the audits written behind.
RECORD_WAIT_SEC = 2.0

log = logging.getLogger("jobsync")


class Doorway:
    """The way to one database: its place, and a hold on the embedded server where that is meant."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._server: EmbeddedServer | None = None
        dsn = settings.dsn
        if dsn == EMBEDDED:
            from jobsync.postgres.embedded import acquire  # noqa: PLC0415 - few start a server

            self._server = acquire()
            dsn = self._server.dsn
            log.info(
                "using the embedded PostgreSQL %s, data in %s",
                self._server.version,
                self._server.data_dir,
                extra=marks(Event.EMBEDDED_IN_USE, directory=str(self._server.data_dir)),
            )
        self.place: Place = place_of(settings, dsn)

    def session_place(self) -> Place:
        """Give the place for the node's own session: direct where the main way goes through a pooler."""
        if self._settings.session_dsn is None:
            return self.place
        return place_of(self._settings, self._settings.session_dsn)

    def transaction_pool(self) -> Pool:
        """Make the pool that is lent to the application."""
        return Pool(
            self.place.conninfo,
            size=TRANSACTIONS,
            wait_sec=TRANSACTION_WAIT_SEC,
            unavailable=self.place.unavailable,
        )

    def record_pool(self) -> Pool:
        """Make the pool for jobsync's own statements that may wait; no body of the application can use it up."""
        return Pool(
            self.place.conninfo,
            size=RECORDERS,
            wait_sec=RECORD_WAIT_SEC,
            unavailable=self.place.unavailable,
        )

    def release(self) -> None:
        """Let go of the embedded server; the last one to do so stops it."""
        if self._server is not None:
            self._server.release()
