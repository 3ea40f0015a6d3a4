"""What `job.transaction()` costs on the wire, counted by the server."""

import psycopg

from jobsync import Job
from jobsync.postgres.keeper import log_tail
from tests.api.jobs import settings
from tests.servers import PrivateServer

TURNS = 5


def test_a_transaction_adds_at_most_two_statements_to_a_bare_one(private_server: PrivateServer) -> None:
    with psycopg.connect(private_server.dsn, autocommit=True) as conn:
        conn.execute("create table results (item text)")
        # The node's own session is another role's: what it asks is not counted.
        conn.execute("create role app superuser login; alter role app set log_statement = 'all'")
    app = psycopg.conninfo.make_conninfo(private_server.dsn, user="app")

    def counted() -> int:
        lines = log_tail(private_server._log, lines=100_000).splitlines()
        return sum("LOG:  statement:" in line or "LOG:  execute" in line for line in lines)

    with psycopg.connect(app, autocommit=True) as conn:
        before = counted()
        for number in range(TURNS):
            with conn.transaction():
                conn.execute("insert into results values (%s)", [str(number)])
        bare = counted() - before
    given = settings(app, "sync_", session_dsn=private_server.dsn)
    with Job("n", coordination_config=given, run="r") as job:
        with job.transaction("warm"):
            pass

        def owned(turn: str, *, extra: bool) -> int:
            before = counted()
            for number in range(TURNS):
                with job.transaction(f"{turn}-{number}") as own:
                    own.execute("insert into results values (%s)", [str(number)])
                    if extra:
                        own.execute("select 1")
            return counted() - before

        added = (owned("a", extra=False) - bare) / TURNS
        assert 0 < added <= 2
        assert (owned("b", extra=True) - bare) / TURNS == added + 1, "a third one would not have been noticed"
