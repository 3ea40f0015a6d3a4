"""Fixtures for the tests of the postgres room."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.postgres.support import Fleet


@pytest.fixture
def fleet(server_dsn: str, tables: str) -> Iterator[Fleet]:
    """Give a fleet whose tables stand and are empty; its sessions are closed before others get them."""
    with ExitStack() as stack:
        yield Fleet(server_dsn, tables, stack)
