"""Fixtures for the examples of the older guides."""

from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from jobsync import Job
from jobsync.runtime.clock import PACE
from tests.api.jobs import query, settings
from tests.seeds.support import TOKENS, config_module

HURRIED = 1 / 240  # Two minutes last half a second.


@pytest.fixture(autouse=True)
def pace(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let printed waits last a small part of their time, but in tests marked slow."""
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setattr(PACE, "factor", HURRIED)


@pytest.fixture
def config(server_dsn: str, prefix: str) -> ModuleType:
    """Give the user's config module, for a fleet that no other test has."""
    return config_module(server_dsn, prefix)


@pytest.fixture
def tasks_table(server_dsn: str, prefix: str) -> Iterator[str]:
    """Give the name of the user's own table of tasks, with twelve of them."""
    table = f"{prefix}tasks"
    query(
        server_dsn,
        f"create table {table} (task_id int primary key, date date, status text, required_node text,"
        " required_resource text, priority text, requires_gpu bool)",
    )
    query(
        server_dsn,
        f"insert into {table} select n, '2024-02-29', 'pending', case when n % 4 = 0 then 'worker-01, worker-%' end,"
        " (array['gpu', 'high_memory', null])[n % 3 + 1], case when n % 2 = 0 then 'high' else 'low' end, n % 3 = 0"
        " from generate_series(1, 12) n",
    )
    yield table
    query(server_dsn, f"drop table {table}")


@pytest.fixture
def other(server_dsn: str, prefix: str) -> Callable[[str], Job]:
    """Give a maker of another node of the same fleet, so that tokens move."""
    return lambda name: Job(name, coordination_config=settings(server_dsn, prefix, total_tokens=TOKENS))
