"""Administration: look at a fleet, steer it, and set up its schema, without running a node.

Model: `open_cluster` holds one connection; `status` reads nodes, tokens and history in one snapshot of the
database, so the figures belong together. Ages are counted by the database's clock.

Authoritative: the database. A node counts as live while its heartbeat is younger than its own timeout and nobody has
fenced it; the oldest live node leads. Not promised: that a node which died this second is seen as dead already, or
that anything still holds when it is read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jobsync.api.fleet_access import way_to
from jobsync.api.fleet_looks import FleetLooks
from jobsync.api.fleet_status import ClusterStatus, FleetStatus, NodeStatus, Rebalance, read_status
from jobsync.api.fleet_steering import FleetSteering
from jobsync.core.settings import Settings
from jobsync.postgres.inquiry import Inquiry
from jobsync.postgres.schema import awaits_removal
from jobsync.postgres.schema import schema_sql as _schema_sql
from jobsync.postgres.schema import update_sql as _update_sql
from jobsync.postgres.statement import Statement, statement

__all__ = [
    "Cluster",
    "ClusterStatus",
    "NodeStatus",
    "Rebalance",
    "TokenSpan",
    "migrate",
    "open_cluster",
    "read_status",
    "schema_sql",
]


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """The tokens from `first` up to, not including, `end`, which one node holds."""

    node: str
    first: int
    end: int

    @property
    def size(self) -> int:
        """Count the tokens."""
        return self.end - self.first


class Cluster(FleetStatus, FleetLooks, FleetSteering):
    """A fleet to look at and to steer, while `open_cluster` keeps the connection; for one thread at a time."""

    @property
    def inquiry(self) -> Inquiry:
        """The connection, for the rooms of this package."""
        return self._inquiry

    def spans(self) -> tuple[TokenSpan, ...]:
        """List who holds which ranges of tokens, in the order of the tokens."""
        rows = self._inquiry.run(statement("token_spans", self._prefix))
        return tuple(TokenSpan(*row) for row in rows)

    def migrate(self) -> bool:
        """Create the tables or bring them up to this program's version; True if anything was done.

        It only adds: programs of older versions go on, until `finish_migration`. Raises SchemaError where the role may
        not, where the server is too old, where the tables are too new, or where they are in use for too long.
        """
        return self._inquiry.migrate(self._prefix)

    def finish_migration(self) -> bool:
        """Take away what only programs older than this one need; True if there was anything.

        Raises SchemaError, with nothing changed, while nodes of such programs may be alive: the message names them.
        Programs that run no node, but only enqueue jobs or look, cannot be seen.
        """
        return self._inquiry.finish_migration(self._prefix)

    def awaits_removal(self) -> bool:
        """Tell whether the tables still have what only programs older than this one need."""
        return awaits_removal(self._inquiry.schema(self._prefix))

    def execute(self, sql: str, *args: object) -> list[tuple[Any, ...]]:
        """Run one statement of the caller's own, with `$1` placeholders, and give its rows.

        It commits at once. Raises DatabaseUnavailable or JobsyncError.
        """
        return self._inquiry.run(Statement(sql, args))


@contextmanager
def open_cluster(config: Settings) -> Iterator[Cluster]:
    """Connect to the database of a fleet for as long as the block runs.

    The embedded server is started where `dsn='embedded'` asks for it. Raises DatabaseUnavailable, naming host, port
    and database and never the password, or InvalidSettings for a DSN that is none.
    """
    with way_to(config) as (inquiry, where):
        yield Cluster(inquiry, config, where)


def migrate(config: Settings) -> bool:
    """Create or update the schema; see `Cluster.migrate`."""
    with open_cluster(config) as cluster:
        return cluster.migrate()


def schema_sql(appname: str = "sync_") -> str:
    """Give the whole schema with this prefix as one SQL script, for a DBA to read and run on an empty database.

    Raises InvalidSettings for a prefix that is none.
    """
    return _schema_sql(Settings(appname=appname).prefix)


def update_sql(version: int, appname: str = "sync_") -> str:
    """Give the first phase of an update of tables of an older version as one SQL script, for a DBA to read and run.

    Raises InvalidSettings for a prefix that is none, SchemaError for a version from which there is nothing to do.
    """
    return _update_sql(Settings(appname=appname).prefix, version)
