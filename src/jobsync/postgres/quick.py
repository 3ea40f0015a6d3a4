"""One statement on a session that is the caller's alone, at the price of libpq: prepared once, sent, waited for.

A cursor of the driver costs a fifth of a small commit. This does the same work for arguments that are texts and
numbers, which every server reads in one way, and leaves the rest to a cursor. A signal's exception ends the wait and
leaves the session in the middle of the statement: `is_idle` of its keeper tells, and it is thrown away.
"""

import select
from typing import Any

import psycopg
from psycopg import Connection, pq
from psycopg.adapt import Transformer

from jobsync.postgres.statement import Row, Statement

WAIT_MS = 10_000
_SIMPLE = frozenset((str, int, type(None)))


class Quick:
    """The statements that one session knows."""

    def __init__(self, conn: Connection[Any]) -> None:
        self._pg = conn.pgconn
        self._names: dict[str, bytes] = {}
        self._transformer = Transformer.from_context(conn)
        self._poller = select.poll()
        self._poller.register(self._pg.socket, select.POLLIN)

    @staticmethod
    def can_say(work: Statement) -> bool:
        """Whether all arguments are texts, whole numbers, or null."""
        return _SIMPLE.issuperset(map(type, work.args))

    def say(self, work: Statement) -> list[Row]:
        """Execute a statement that commits by itself; give its rows."""
        values = [None if value is None else str(value).encode() for value in work.args]
        name = self._names.get(work.sql) or self._prepared(work.sql)
        self._pg.send_query_prepared(name, values)
        return self._rows(self._answer())

    def _prepared(self, sql: str) -> bytes:
        name = f"jobsync_{len(self._names)}".encode()
        self._pg.send_prepare(name, sql.encode())
        self._rows(self._answer())
        self._names[sql] = name
        return name

    def _answer(self) -> pq.abc.PGresult:
        """Wait for the one result of what was sent."""
        pg = self._pg
        while pg.flush():
            self._poller.modify(pg.socket, select.POLLIN | select.POLLOUT)
            self._poller.poll(WAIT_MS)
            self._poller.modify(pg.socket, select.POLLIN)
            pg.consume_input()
        last: pq.abc.PGresult | None = None
        while True:
            while pg.is_busy():
                self._poller.poll(WAIT_MS)
                pg.consume_input()
            result = pg.get_result()
            if result is None:
                break
            last = result
        assert last is not None
        return last

    def _rows(self, result: pq.abc.PGresult) -> list[Row]:
        if result.status == pq.ExecStatus.COMMAND_OK:
            return []
        if result.status != pq.ExecStatus.TUPLES_OK:
            raise psycopg.errors.error_from_result(result, encoding="utf-8")
        self._transformer.set_pgresult(result)
        return self._transformer.load_rows(0, result.ntuples, tuple)
