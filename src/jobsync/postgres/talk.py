"""Talks with the database: what is said next may depend on the answer, and nothing in it knows how one waits for it.

A talk is a generator that yields statements and is sent their rows. It is carried out on an ordinary connection or on
an asynchronous one, by two functions of a few lines; so an operation is written once for both.
"""

from collections.abc import Awaitable, Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from psycopg import AsyncConnection, AsyncRawCursor, Connection, RawCursor
from psycopg.rows import tuple_row

from jobsync.postgres.statement import Row, Statement

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY ... FROM STDIN, and what is sent: in pieces, each made when the one before is on its way."""

    sql: str
    pieces: Iterable[bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Apart:
    """A statement on another connection than the talk's: it commits at once, whatever becomes of the rest."""

    work: Statement


Step: TypeAlias = Statement | Copy | Apart
Talk: TypeAlias = Generator[Step, list[Row], R]


def say(conn: Connection[Any], step: Statement | Copy) -> list[Row]:
    """Say one thing on a connection, and give the answer; neither its factories nor its pipeline mode matter."""
    with RawCursor(conn, row_factory=tuple_row) as cursor:
        if isinstance(step, Copy):
            with cursor.copy(step.sql) as copy:
                for piece in step.pieces:
                    copy.write(piece)
            return []
        cursor.execute(step.sql, step.args, prepare=False)
        return cursor.fetchall()


async def say_async(conn: AsyncConnection[Any], step: Statement | Copy) -> list[Row]:
    """Do the same on an asynchronous connection."""
    async with AsyncRawCursor(conn, row_factory=tuple_row) as cursor:
        if isinstance(step, Copy):
            async with cursor.copy(step.sql) as copy:
                for piece in step.pieces:
                    await copy.write(piece)
            return []
        await cursor.execute(step.sql, step.args, prepare=False)
        return await cursor.fetchall()


def converse(talk: Talk[R], answer_to: Callable[[Step], list[Row]]) -> R:
    """Carry a talk out; the first thing that goes wrong ends it."""
    try:
        step = next(talk)
        while True:
            step = talk.send(answer_to(step))
    except StopIteration as end:
        result: R = end.value
        return result


async def converse_async(talk: Talk[R], answer_to: Callable[[Step], Awaitable[list[Row]]]) -> R:
    """Do the same where answers are awaited."""
    try:
        step = next(talk)
        while True:
            step = talk.send(await answer_to(step))
    except StopIteration as end:
        result: R = end.value
        return result
