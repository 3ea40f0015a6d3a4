"""A PostgreSQL of the simulation's own: in memory where there is room, quick instead of durable, gone afterwards."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobsync.postgres.embedded import acquire
from jobsync.postgres.keeper import ready_postmaster, wait_for
from jobsync.postgres.virtual_server import VirtualServer, make_quick

ROOM_NEEDED_BYTES = 1_000_000_000
STOP_LIMIT_SEC = 30.0


@contextmanager
def own_server() -> Iterator[str]:
    """Run a server for as long as the block lasts; gives its conninfo.

    Raises ExtraMissing where no PostgreSQL is on the machine.
    """
    memory = Path("/dev/shm")  # noqa: S108 - a directory of our own is made in it
    roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM_NEEDED_BYTES
    home = Path(tempfile.mkdtemp(prefix="jobsync-simulation-", dir=memory if roomy else None))
    home.chmod(0o711)  # As root another account runs the server, and it has to pass through.
    try:
        with acquire(home / "server") as server:
            make_quick(server.dsn)
            yield server.dsn
    finally:
        wait_for(lambda: ready_postmaster(home / "server" / "pgdata") is None, STOP_LIMIT_SEC)
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def own_virtual_server() -> Iterator[VirtualServer]:
    """Run a server for as long as the block lasts, in virtual time."""
    with own_server() as dsn, VirtualServer(dsn) as virtual:
        yield virtual
