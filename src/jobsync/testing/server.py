"""An embedded server for tests."""

from collections.abc import Iterator
from contextlib import contextmanager

from jobsync.postgres.embedded import acquire


@contextmanager
def embedded_server() -> Iterator[str]:
    """Hold the embedded server of this user, and give its DSN; it stops when nobody holds it any more.

    Tests share it with whatever else uses `dsn='embedded'`, by tables of their own.
    """
    with acquire() as server:
        yield server.dsn
