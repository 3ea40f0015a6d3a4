"""The pytest plugin of jobsync: fixtures for tests of code that enqueues and runs jobs.

pytest loads it in every run where jobsync is installed. So it imports nothing of jobsync until a fixture is asked for,
and has no hooks, options or automatic fixtures.
"""

import os
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from jobsync import CoordinationConfig, JobQueue

DSN_VARIABLE = "JOBSYNC_TEST_DSN"


@pytest.fixture(scope="session")
def jobsync_server() -> Iterator[str]:
    """Give the DSN of a PostgreSQL for tests: `$JOBSYNC_TEST_DSN`, or an embedded server (`jobsync[embedded]`)."""
    named = os.environ.get(DSN_VARIABLE)
    if named:
        yield named
        return
    from jobsync.testing.server import embedded_server  # noqa: PLC0415 - only who asks pays for the import

    with embedded_server() as dsn:
        yield dsn


@pytest.fixture
def jobsync_config(jobsync_server: str) -> "Iterator[CoordinationConfig]":
    """Give a configuration with tables of this test's own (`appname`), which are dropped after it."""
    from jobsync import CoordinationConfig  # noqa: PLC0415
    from jobsync.testing import drop_tables  # noqa: PLC0415

    config = CoordinationConfig(dsn=jobsync_server, appname=f"test_{secrets.token_hex(4)}_")
    yield config
    drop_tables(config)


@pytest.fixture
def job_queue(jobsync_config: "CoordinationConfig") -> "Iterator[JobQueue]":
    """Give an empty queue on the tables of `jobsync_config`."""
    from jobsync import JobQueue  # noqa: PLC0415

    with JobQueue(jobsync_config) as queue:
        yield queue
