"""Fixtures for the tests of the api's room."""

import pytest

# Here programs make their tables themselves, or are killed while they may write.
BARE = {"test_job_enter", "test_cluster", "test_exits", "test_termination", "test_compat", "test_settings_effects"}


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """Give the prefix of tables that stand, as new; of none in modules that have to do with making them."""
    module = request.module.__name__.rpartition(".")[2]
    found: str = request.getfixturevalue("bare_prefix" if module in BARE else "tables")
    return found
