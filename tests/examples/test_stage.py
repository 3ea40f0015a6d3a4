"""What the examples stand on: nothing is left over, however a play ends."""

import signal

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest
from psycopg import sql

from examples.stage import Check, verdict
from tests.api.jobs import eventually
from tests.examples.plays import schemas, start_play

NAME = "gpu_pool"


@pytest.mark.chaos
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_play_that_is_ended_takes_its_processes_with_it(server_dsn: str, number: signal.Signals) -> None:
    with start_play(NAME, server_dsn) as process:
        assert process.stdout is not None
        assert "all four nodes live" in process.stdout.readline()
        children = psutil.Process(process.pid).children(recursive=True)
        # Other plays may be under way on the server: the workers know which schema is theirs.
        schema = children[0].environ()["SYNC_DSN"].partition("search_path=")[2].rstrip("'")
        assert schema in schemas(server_dsn, NAME)
        process.send_signal(number)
        process.stdout.read()
    assert len(children) == 4
    eventually(lambda: not any(child.is_running() for child in children), "no process is left over")
    assert process.returncode != 0
    if number == signal.SIGTERM:
        assert schema not in schemas(server_dsn, NAME)
    else:
        drop(server_dsn, schema)


def drop(dsn: str, schema: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("set client_min_messages = error")
        conn.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(schema)))


def test_one_broken_promise_breaks_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = Check("one", holds=True, figures="1"), Check("two", holds=False, figures="2")
    assert verdict([good, good]) == 0
    assert "The verdict holds." in capsys.readouterr().out
    assert verdict([good, bad]) == 1
    assert "BAD  two" in capsys.readouterr().out
