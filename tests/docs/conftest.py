"""Fixtures for tests of the documentation."""

import pytest

from tests.docs.stage import Stage
from tests.sql.cluster import schema_dsn
from tests.sql.conftest import busy_cluster


@pytest.fixture
def stage(server_dsn: str, prefix: str) -> Stage:
    """Give a server on which a page can be played, with tables of its own."""
    return Stage(schema_dsn(server_dsn, prefix))


__all__ = ["busy_cluster", "stage"]
