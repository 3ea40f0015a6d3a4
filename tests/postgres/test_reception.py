"""The first visit: what is said of a place that cannot be visited, without a password in it."""

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from jobsync import CoordinationConfig, InvalidSettings, JobQueue, NewJob
from jobsync.api.doctor import diagnose
from jobsync.core.settings import Settings
from jobsync.postgres.reception import place_of

# As people write them, and as libpq reads them: the rest of the password is a host, a port, a database or an option.
UNENCODED = [
    ("postgresql://me:zebraZZ%quokka@127.0.0.1:1/app", ("zebra", "quokka")),
    ("postgresql://me:zebra%00quokka@127.0.0.1:1/app", ("zebra", "quokka")),
    ("postgresql://me:zebra/quokka@127.0.0.1:1/app", ("zebra", "quokka")),
    ("postgresql://me:zebra/quo@kkas@127.0.0.1:1/app", ("zebra", "kkas")),
    ("postgresql://me:zebra@quokka@127.0.0.1:1/app", ("zebra", "quokka")),
    ("host=127.0.0.1 port=1 password=zebra quokka", ("zebra", "quokka")),
    ("host=127.0.0.1 port=1 password=zebra quokka=1", ("zebra",)),
    ("postgresql://me@127.0.0.1:1/app?password=zebra=quokka", ("zebra", "quokka")),
]


def settings(dsn: str) -> Settings:
    return CoordinationConfig(dsn=dsn)


@pytest.mark.parametrize(("dsn", "pieces"), UNENCODED)
def test_of_a_password_that_splits_its_connection_string_nothing_is_told(dsn: str, pieces: tuple[str, ...]) -> None:
    try:
        place = place_of(settings(dsn), dsn)
    except InvalidSettings as error:
        told = str(error)
    else:
        told = f"{place!r} {place.unavailable(f'failed to resolve host {chr(39)}{place.shown}{chr(39)}')}"
    assert not [piece for piece in pieces if piece in told], told


def test_what_is_no_secret_is_named_even_where_it_is_the_password_as_well() -> None:
    dsn = "postgresql://postgres:postgres@db.internal:5433/postgres"
    assert place_of(settings(dsn), dsn).shown == "PostgreSQL at db.internal:5433, database 'postgres', user 'postgres'"


def test_a_mistake_in_a_connection_string_is_named() -> None:
    dsn = "host=127.0.0.1 password='zebra quokka' sslmod=require"
    with pytest.raises(InvalidSettings, match='invalid connection option "sslmod"'):
        place_of(settings(dsn), dsn)


def test_a_database_without_an_encoding_gives_text_and_no_bytes(server_dsn: str, prefix: str) -> None:
    """One that was made under LC_ALL=C is SQL_ASCII, and its sessions speak that unless they ask for another."""
    name = f"{prefix}ascii"
    with psycopg.connect(server_dsn, autocommit=True) as admin:
        admin.execute(f"create database {name} template template0 encoding SQL_ASCII locale 'C'".encode())
        try:
            given = settings(make_conninfo(server_dsn, dbname=name))
            with JobQueue(given) as queue:
                queue.enqueue_many(NewJob("digest", {"number": number}) for number in range(3))
                assert [job.kind for job in queue.list_jobs()] == ["digest"] * 3
            assert any("encoding is SQL_ASCII" in finding.text for finding in diagnose(given).findings)
        finally:
            admin.execute(f"drop database {name} with (force)".encode())
