"""Lock patterns mean in Python what LIKE means in SQL, so that people can ask the database what a lock matches."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import Connection

from jobsync.core.errors import InvalidArgument
from jobsync.core.pins import LikePattern
from jobsync.postgres.statement import Statement, run

# Few letters, so that patterns and names meet often; and what other languages of patterns make something of.
FEW = st.text(alphabet="ab%_\\", max_size=8)
ODD = st.text(alphabet="aAé𐍈%_\\\n\r .*+?[](){}^$|-/'\"\u2028\x01", max_size=8)
ANY = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=6)
TEXT = st.one_of(FEW, ODD, ANY)


@pytest.fixture(scope="module")
def conn(server_dsn: str) -> Iterator[Connection[Any]]:
    with psycopg.connect(server_dsn, autocommit=True) as conn:
        yield conn


def like(conn: Connection[Any], pairs: list[tuple[str, str]]) -> list[bool]:
    """Ask PostgreSQL whether each name is like its pattern."""
    query = (
        "select name like pattern from unnest($1::text[], $2::text[]) with ordinality u (pattern, name, n) order by n"
    )
    return [row[0] for row in run(conn, Statement(query, ([p for p, _ in pairs], [n for _, n in pairs])))]


def is_valid(pattern: str) -> bool:
    try:
        LikePattern(pattern)
    except InvalidArgument:
        return False
    return True


PAIRS = st.lists(st.tuples(TEXT.filter(is_valid), TEXT), min_size=40, max_size=80)


@settings(max_examples=25)
@given(pairs=PAIRS)
def test_patterns_match_what_postgresql_says_they_match(conn: Connection[Any], pairs: list[tuple[str, str]]) -> None:
    assert [LikePattern(pattern).matches(name) for pattern, name in pairs] == like(conn, pairs)


@settings(max_examples=15)
@given(names=st.lists(st.text(alphabet="ab%_\\", min_size=1, max_size=10), min_size=20, max_size=30), data=st.data())
def test_patterns_made_from_names_match_what_postgresql_says(
    conn: Connection[Any], names: list[str], data: st.DataObject
) -> None:
    def blurred(name: str) -> str:
        marks = data.draw(
            st.lists(st.sampled_from(["as it is", "%", "_", "escaped"]), min_size=len(name), max_size=len(name))
        )
        spelt = {"%": "%", "_": "_"}
        return "".join(
            spelt.get(mark, f"\\{letter}" if letter in "%_\\" else letter)
            for mark, letter in zip(marks, name, strict=True)
        )

    pairs = [(blurred(name), name) for name in names]
    answers = like(conn, pairs)
    assert any(answers)
    assert [LikePattern(pattern).matches(name) for pattern, name in pairs] == answers


@pytest.mark.parametrize("pattern", ["\\", "a\\", "%\\", "a\\\\\\"])
def test_a_pattern_that_is_refused_is_refused_by_postgresql_too(conn: Connection[Any], pattern: str) -> None:
    assert not is_valid(pattern)
    with pytest.raises(psycopg.errors.InvalidEscapeSequence):
        like(conn, [(pattern, name) for name in ("a", "a\\", "b", "a\\b")])
