"""The only room that knows psycopg: SQL in files, and the connections it runs on.

Theory of operation. The database is the truth about ownership, and says so in SQL: exclusivity is a constraint.
Each step of the protocol is one statement, one transaction, and one function of the schema (`functions/*.sql`),
which checks under a row lock that its caller is still who he was. Other statements stand in `statements/*.sql`,
tables in `migrations/*.sql`; all of them are valid SQL as they stand, with the prefix `sync_`.

Two kinds of connection. The *session* is the node's own: one operation at a time, never waiting for a lock nor
inside libpq, watched by others as its sign of life. The *pool* is for everything that may wait, and starts at
zero. Neither relies on session state, so a pooler may stand in between; behind one, the session lease is off.

Not promised: that a statement whose connection broke was not carried out. Its outcome is unknown, and the rows
are read.
"""

from typing import TYPE_CHECKING, Final

from jobsync.core.first_use import at_first_use

if TYPE_CHECKING:
    from jobsync.postgres.overview import list_nodes
    from jobsync.postgres.reception import connect
    from jobsync.postgres.records import Records

__all__ = [
    "Records",
    "connect",
    "list_nodes",
]

# What the api uses once a job is entered, and no sooner: see "What is loaded when" in ARCHITECTURE.md.
_HOMES: Final = {
    "jobsync.postgres.overview": "list_nodes",
    "jobsync.postgres.reception": "connect",
    "jobsync.postgres.records": "Records",
}

if not TYPE_CHECKING:  # A type checker that saw it would take every name for one of these.
    __getattr__ = at_first_use(globals(), _HOMES)
