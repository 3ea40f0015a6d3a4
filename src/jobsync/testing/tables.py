"""The tables of one test: thrown away after it; and the database's time."""

from datetime import datetime

from jobsync.api.cluster import open_cluster
from jobsync.core.errors import InvalidArgument
from jobsync.core.settings import Settings
from jobsync.postgres.statement import statement

DEFAULT_PREFIX = Settings().prefix


def drop_tables(config: Settings) -> None:
    """Drop everything that bears this configuration's prefix (`appname`): tables, view, functions, sequences.

    Refuses the default prefix, which may be the real one's. What still uses the tables is waited for 10 seconds.
    """
    if config.prefix == DEFAULT_PREFIX:
        raise InvalidArgument(f"the tables {config.prefix}* are not dropped: give tests an appname of their own")
    with open_cluster(config) as cluster:
        cluster.execute(
            "select set_config('lock_timeout', '10s', false), set_config('client_min_messages', 'error', false)"
        )
        for (drop,) in cluster.execute(statement("list_traces", config.prefix).sql):
            cluster.execute(drop)


def database_now(config: Settings) -> datetime:
    """Read the database's clock."""
    with open_cluster(config) as cluster:
        now: datetime = cluster.execute("select clock_timestamp()")[0][0]
        return now
