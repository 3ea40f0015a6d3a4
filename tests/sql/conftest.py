"""Fixtures for tests of SQL that people run."""

import secrets
from collections.abc import Iterator

import pytest

from tests.conftest import drop_all
from tests.sql.cluster import Cluster, live_cluster, put_to_work


@pytest.fixture(scope="module")
def busy_cluster(server_dsn: str) -> Iterator[Cluster]:
    """Give three live nodes with locks, work and a past, to look at; what a test changes it rolls back."""
    prefix = f"t_{secrets.token_hex(4)}_"
    with live_cluster(server_dsn, prefix) as cluster:
        put_to_work(cluster)
        yield cluster
    drop_all(server_dsn, prefix)


@pytest.fixture
def own_cluster(server_dsn: str, prefix: str) -> Iterator[Cluster]:
    """Give three live nodes that this test has for itself."""
    with live_cluster(server_dsn, prefix) as cluster:
        yield cluster
