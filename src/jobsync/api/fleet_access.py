"""What looking at a fleet and steering it stand on: a connection, a prefix, and tables that fit this program."""

from collections.abc import Iterator
from contextlib import contextmanager

from jobsync.core.settings import Settings
from jobsync.postgres.inquiry import Inquiry, inquire
from jobsync.postgres.schema import refuse_misfit, refuse_missing
from jobsync.runtime.place import Doorway


@contextmanager
def way_to(config: Settings) -> Iterator[tuple[Inquiry, str]]:
    """Connect to a fleet's database for as long as the block runs; give the connection, and how to name the place.

    The embedded server is started where `dsn='embedded'` asks for it. Raises DatabaseUnavailable, naming host, port
    and database and never the password, or InvalidSettings for a DSN that is none.
    """
    doorway = Doorway(config)
    try:
        with inquire(doorway.place) as inquiry:
            yield inquiry, doorway.where
    finally:
        doorway.release()


class FleetAccess:
    """The way to a fleet's tables. `where` names the database in messages, without the password."""

    def __init__(self, inquiry: Inquiry, settings: Settings, where: str) -> None:
        self._inquiry = inquiry
        self._prefix = settings.prefix
        self._settings = settings
        self.where = where

    def _require_schema(self) -> None:
        found = self._inquiry.schema(self._prefix)
        refuse_missing(found, self._prefix, self.where)
        refuse_misfit(found, self._prefix)
