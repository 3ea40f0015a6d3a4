"""Where a node's database is, the embedded one included: asked for by name, and held as long as the node needs it.

What runs the embedded server, and the pools, are loaded by those who use them: who looks at a fleet needs neither.
"""

import logging
from typing import TYPE_CHECKING

from jobsync.core.settings import Settings
from jobsync.postgres.reception import Place, place_of

if TYPE_CHECKING:
    from jobsync.postgres.embedded import EmbeddedServer
    from jobsync.postgres.pool import Pool

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
        self._where: str | None = None
        dsn = settings.dsn
        if dsn == EMBEDDED:
            from jobsync.core.log_events import Event, marks  # noqa: PLC0415 - see above
            from jobsync.postgres.embedded import acquire  # noqa: PLC0415

            self._server = acquire()
            dsn = self._server.dsn
            self._where = f"the embedded PostgreSQL, data in {self._server.data_dir}"
            log.info(
                "using the embedded PostgreSQL %s, data in %s",
                self._server.version,
                self._server.data_dir,
                extra=marks(Event.EMBEDDED_IN_USE, directory=str(self._server.data_dir)),
            )
        self.place: Place = place_of(settings, dsn)

    @property
    def where(self) -> str:
        """Name the database for people, without the password."""
        return self.place.shown if self._where is None else self._where

    def session_place(self) -> Place:
        """Give the place for the node's own session: direct where the main way goes through a pooler."""
        if self._settings.session_dsn is None:
            return self.place
        return place_of(self._settings, self._settings.session_dsn)

    def transaction_pool(self) -> "Pool":
        """Make the pool that is lent to the application."""
        return self._pool(TRANSACTIONS, TRANSACTION_WAIT_SEC)

    def record_pool(self) -> "Pool":
        """Make the pool for jobsync's own statements that may wait; no body of the application can use it up."""
        return self._pool(RECORDERS, RECORD_WAIT_SEC)

    def _pool(self, size: int, wait_sec: float) -> "Pool":
        from jobsync.postgres.pool import Pool  # noqa: PLC0415 - see above

        return Pool(self.place.conninfo, size=size, wait_sec=wait_sec, unavailable=self.place.unavailable)

    def release(self) -> None:
        """Let go of the embedded server; the last one to do so stops it."""
        if self._server is not None:
            self._server.release()
