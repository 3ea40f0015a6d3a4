"""Talks on a connection of the application's own: what they write exists if and only if its transaction commits.

Model: the talk goes on within the transaction that is open; where none is, and the connection is not in autocommit,
one is opened and left open, as any statement of the application would; in autocommit it commits at once. A talk that
fails leaves nothing behind, and the transaction usable. Nothing that the application set matters to it, or is changed
by it: search path, role, factories, prepared statements, pipeline mode.

Errors of the database come as psycopg's own, since the application may have to see which they are.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from psycopg import AsyncConnection, Connection, pq

from jobsync.core.errors import InvalidArgument
from jobsync.postgres.statement import Row, Statement, statement
from jobsync.postgres.talk import Apart, Step, Talk, converse, converse_async, say, say_async

R = TypeVar("R")
BEGIN = Statement("select 1")  # Any statement begins a transaction where autocommit is off.


def checked_connection(connection: object) -> Connection[Any]:
    """Give what is an open psycopg connection; refuse what is not."""
    if not isinstance(connection, Connection):
        raise _refused(connection, "Connection")
    return _open(connection)


def checked_async_connection(connection: object) -> AsyncConnection[Any]:
    """Give what is an open asynchronous psycopg connection; refuse what is not."""
    if not isinstance(connection, AsyncConnection):
        raise _refused(connection, "AsyncConnection")
    return _open(connection)


def can_copy(connection: Connection[Any] | AsyncConnection[Any]) -> bool:
    """Tell whether COPY is possible: not in pipeline mode."""
    return connection.pgconn.pipeline_status == pq.PipelineStatus.OFF


def on_borrowed(
    connection: Connection[Any], prefix: str, schema: str, talk: Talk[R], apart: Callable[[Statement], list[Row]]
) -> R:
    """Carry a talk out in the connection's transaction."""

    def answer_to(step: Step) -> list[Row]:
        return apart(step.work) if isinstance(step, Apart) else say(connection, step)

    if _must_begin(connection):
        say(connection, BEGIN)
    with connection.transaction():
        return converse(_in_schema(prefix, schema, talk), answer_to)


async def on_borrowed_async(
    connection: AsyncConnection[Any],
    prefix: str,
    schema: str,
    talk: Talk[R],
    apart: Callable[[Statement], Awaitable[list[Row]]],
) -> R:
    """Do the same on an asynchronous connection."""

    async def answer_to(step: Step) -> list[Row]:
        return await (apart(step.work) if isinstance(step, Apart) else say_async(connection, step))

    if _must_begin(connection):
        await say_async(connection, BEGIN)
    async with connection.transaction():
        return await converse_async(_in_schema(prefix, schema, talk), answer_to)


def _in_schema(prefix: str, schema: str, talk: Talk[R]) -> Talk[R]:
    found = yield statement("enter_schema", prefix, schema)
    result = yield from talk
    yield statement("leave_schema", prefix, *found[0][:2])
    return result


def _must_begin(connection: Connection[Any] | AsyncConnection[Any]) -> bool:
    return not connection.autocommit and connection.info.transaction_status == pq.TransactionStatus.IDLE


C = TypeVar("C", Connection[Any], AsyncConnection[Any])


def _open(connection: C) -> C:
    if connection.closed:
        raise InvalidArgument("connection is closed: give one whose transaction is to store the job")
    if connection.info.transaction_status == pq.TransactionStatus.INERROR:
        raise InvalidArgument(
            "the connection's transaction has failed before, and can only be rolled back: nothing is stored"
        )
    return connection


def _refused(connection: object, wanted: str) -> InvalidArgument:
    return InvalidArgument(
        f"connection is a {type(connection).__module__}.{type(connection).__qualname__}: give a psycopg.{wanted} "
        "(SQLAlchemy's: session.connection().connection.driver_connection)"
    )
