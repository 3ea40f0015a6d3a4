"""A server in virtual time: a database of its own on the run's server, one a test process."""

import secrets
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from jobsync.postgres.virtual_server import VirtualServer


@pytest.fixture(scope="session")
def make_database(server_dsn: str) -> Iterator[Callable[[], str]]:
    """Give a maker of empty databases; each gives the conninfo of a new one."""
    names: list[str] = []

    def make() -> str:
        names.append(f"simulation_{secrets.token_hex(4)}")
        with psycopg.connect(server_dsn, autocommit=True) as conn:
            conn.execute(f"create database {names[-1]}".encode())
        return make_conninfo(server_dsn, dbname=names[-1])

    yield make
    with psycopg.connect(server_dsn, autocommit=True) as conn:
        for name in names:
            conn.execute(f"drop database {name} with (force)".encode())


@pytest.fixture(scope="session")
def virtual(make_database: Callable[[], str]) -> Iterator[VirtualServer]:
    with VirtualServer(make_database()) as server:
        yield server
