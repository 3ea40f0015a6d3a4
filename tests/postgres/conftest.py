"""Fixtures for the tests of the postgres room."""

from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest

from jobsync.postgres.schema import ensure_schema
from tests.postgres.support import Fleet


@pytest.fixture
def fleet(server_dsn: str, prefix: str) -> Iterator[Fleet]:
    """Give a fleet whose tables stand and are empty; its sessions are closed before they are dropped."""
    with psycopg.connect(server_dsn, autocommit=True) as conn:
        ensure_schema(conn, prefix)
    with ExitStack() as stack:
        yield Fleet(server_dsn, prefix, stack)
    with psycopg.connect(server_dsn, autocommit=True) as conn:
        # Sequences of identity columns can only go with their tables, so these go before all else.
        conn.execute(f"drop table {prefix}lock, {prefix}rebalance cascade".encode())
