"""Fixtures for the tests of jobsync.testing: a queue of each test's own."""

from collections.abc import Iterator

import pytest

from jobsync import CoordinationConfig, JobQueue


@pytest.fixture
def config(server_dsn: str, prefix: str) -> CoordinationConfig:
    return CoordinationConfig(dsn=server_dsn, appname=prefix)


@pytest.fixture
def queue(config: CoordinationConfig) -> Iterator[JobQueue]:
    with JobQueue(config) as queue:
        yield queue
