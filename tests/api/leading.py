"""What the tests of leading share."""

from tests.api.jobs import query

LIMIT_SEC = 20.0


def fence(dsn: str, prefix: str, name: str) -> None:
    """Take everything from a node, as an observer who waited long enough does."""
    done = query(
        dsn, f"select {prefix}fence(name, incarnation, bind, beats, 'A', null) from {prefix}node where name = %s", name
    )
    assert done == [(True,)]
