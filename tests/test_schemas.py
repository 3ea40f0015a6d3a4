"""Schemas that serve one test after the other come back as new, or not at all."""

import secrets

import psycopg
import pytest

from tests import schemas
from tests.conftest import drop_all
from tests.schemas import Schemas


def test_what_a_test_leaves_in_its_tables_is_gone_and_numbers_begin_anew(server_dsn: str) -> None:
    served = Schemas(server_dsn)
    prefix = served.lend(f"t_{secrets.token_hex(4)}_")
    with psycopg.connect(server_dsn, autocommit=True) as conn:
        look = f"select nextval('{prefix}epoch'), (select count(*) from {prefix}target), m::text from {prefix}meta m"
        new = conn.execute(look.encode()).fetchone()
        conn.execute(f"update {prefix}meta set plan_version = 7".encode())
        conn.execute(f"insert into {prefix}target (node, tokens, plan_version) values ('a', '{{}}', 7)".encode())
    assert served.take_back(prefix)
    assert served.lend("another_") == prefix
    with psycopg.connect(server_dsn, autocommit=True) as conn:
        assert conn.execute(look.encode()).fetchone() == new
    drop_all(server_dsn, prefix)


@pytest.mark.parametrize(
    "change",
    [
        "alter table {}node drop column pid",
        "create table {}mine ()",
        "alter function {}fence cost 7",
        "alter table {}node disable trigger all",
        "alter table {}node add check (name <> 'x')",
    ],
)
def test_a_schema_that_was_changed_does_not_serve_again(server_dsn: str, prefix: str, change: str) -> None:
    served = Schemas(server_dsn)
    served.lend(prefix)
    with psycopg.connect(server_dsn, autocommit=True) as conn:
        conn.execute(change.replace("{}", prefix).encode())
    assert not served.take_back(prefix)


def test_a_schema_whose_sessions_are_not_over_does_not_serve_again(
    server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schemas, "SESSIONS_END_WITHIN_SEC", 0.1)
    served = Schemas(server_dsn)
    served.lend(prefix)
    with psycopg.connect(server_dsn, autocommit=True) as conn:
        conn.execute(f"select from {prefix}node".encode())
        assert not served.take_back(prefix)
