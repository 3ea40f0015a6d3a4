"""The node's own session: pings that cost nothing, hints that arrive, breaks that are seen."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.conninfo import make_conninfo

from jobsync.core.messages import Hello
from jobsync.postgres.opening import PING, Greeting, open_script
from jobsync.postgres.session import (
    Session,
    SessionBroken,
    is_direct,
    is_lock_conflict,
    is_session_over,
    session_conninfo,
)
from jobsync.postgres.statement import Statement, call, statement
from tests.postgres.support import SOON_SEC, Fleet, open_session, outcome, perform, wait_for_socket, wait_until
from tests.servers import PrivateServer

PINGS = 500


@pytest.fixture
def session(fleet: Fleet) -> Iterator[Session]:
    with closing(open_session(fleet.dsn)) as session:
        yield session


def ping(session: Session) -> None:
    session.start_ping()
    assert outcome(session).error is None


# --- statements ------------------------------------------------------------------------------------


def test_a_statement_gives_its_rows(session: Session) -> None:
    done = perform(session, "select n, n::text from generate_series(1, 3) n")
    assert done.rows == [(1, "1"), (2, "2"), (3, "3")]
    assert done.error is None


def test_a_statement_without_rows_gives_none(session: Session) -> None:
    assert perform(session, "listen nothing").rows == []


def test_a_session_is_busy_until_the_answer_is_there(session: Session) -> None:
    session.start(Statement("select 1"))
    assert session.busy
    outcome(session)
    assert not session.busy


def test_looking_before_anything_arrived_neither_waits_nor_answers(session: Session) -> None:
    session.start(Statement("select pg_sleep(0.05)"))
    assert session.advance() is None
    assert outcome(session).rows == [("",)]


def test_an_error_of_the_server_leaves_the_session_sound(session: Session) -> None:
    done = perform(session, "select 1 / 0")
    assert isinstance(done.error, psycopg.errors.DivisionByZero)
    assert perform(session, "select 1").rows == [(1,)]


def test_a_statement_larger_than_the_sockets_buffers_goes_through(session: Session) -> None:
    text = "x" * 8_000_000
    assert perform(session, "select length($1::text), $1::text", text).rows == [(len(text), text)]


@settings(max_examples=100)
@given(texts=st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=1, max_size=20))
def test_any_text_comes_back_as_it_went(shared_session: Session, texts: list[str]) -> None:
    done = perform(shared_session, "select $1::text, $2::text[]", texts[0], texts)
    assert done.rows == [(texts[0], texts)]


@pytest.fixture(scope="module")
def shared_session(server_dsn: str) -> Iterator[Session]:
    with closing(open_session(server_dsn)) as session:
        yield session


def test_a_database_in_another_encoding_makes_no_difference(session: Session, fleet: Fleet) -> None:
    with closing(open_session(make_conninfo(fleet.dsn, client_encoding="latin1"))) as other:
        assert perform(other, "select $1::text", "𐍈").rows == [("𐍈",)]


def test_none_is_null(session: Session) -> None:
    assert perform(session, "select $1::text is null", None).rows == [(True,)]


@pytest.mark.parametrize("text", ["\0", "a\0b"])
def test_nul_is_refused_before_anything_is_sent(session: Session, text: str) -> None:
    with pytest.raises(psycopg.DataError):
        session.start(Statement("select $1::text", (text,)))
    assert not session.busy
    assert perform(session, "select 1").rows == [(1,)]


# --- pings -----------------------------------------------------------------------------------------


@pytest.fixture
def own_database(fleet: Fleet) -> Iterator[str]:
    """Give the conninfo of a database in which nobody else commits anything."""
    name = f"{fleet.prefix}pings"
    fleet.conn.execute(f"create database {name}".encode())
    yield make_conninfo(fleet.dsn, dbname=name)
    fleet.conn.execute(f"drop database {name} with (force)".encode())


def commits_of(fleet: Fleet, dsn: str, work: Callable[[Session], None]) -> int:
    """Count the transactions of a session in a database of its own: a backend reports them all when it ends."""
    name = f"{fleet.prefix}pings"
    count = "select xact_commit from pg_stat_database where datname = $1"
    before = fleet.value(count, name)
    session = open_session(dsn)
    perform(session, "select 1")
    pid = session.backend_pid
    work(session)
    session.close()
    wait_until(lambda: not fleet.value("select count(*) from pg_stat_activity where pid = $1::integer", pid))
    wait_until(lambda: fleet.value(count, name) > before)
    return int(fleet.value(count, name)) - int(before)


def test_a_ping_costs_no_transaction(fleet: Fleet, own_database: str) -> None:
    def pings(session: Session) -> None:
        for _ in range(PINGS):
            ping(session)

    assert commits_of(fleet, own_database, pings) < 20


def test_a_statement_in_the_pings_place_would_cost_one_each(fleet: Fleet, own_database: str) -> None:
    def statements(session: Session) -> None:
        for _ in range(PINGS):
            perform(session, "select 1")

    assert commits_of(fleet, own_database, statements) >= PINGS


def test_a_ping_runs_no_statement(session: Session, fleet: Fleet) -> None:
    last = "select query, xact_start, query_start from pg_stat_activity where pid = $1::integer"
    perform(session, "select 'the last statement'")
    before = wait_until(lambda: [row for row in fleet.sql(last, session.backend_pid) if row[1] is None])
    ping(session)
    assert fleet.sql(last, session.backend_pid) == before


def test_pings_and_statements_take_turns(session: Session) -> None:
    for number in range(20):
        ping(session)
        assert perform(session, "select $1::integer", number).rows == [(number,)]


# --- hints -----------------------------------------------------------------------------------------


def listen(session: Session, fleet: Fleet) -> None:
    session.start(call("listen", fleet.prefix, "a", types=("text",)))
    assert outcome(session).error is None


def heard(session: Session, count: int) -> list[str]:
    """Wait for notifications as the loop does: on the socket."""
    channels: list[tuple[str, str]] = session.notifications()
    while len(channels) < count:
        wait_for_socket(session)
        session.advance()
        channels += session.notifications()
    return [channel for channel, _ in channels]


def test_a_notification_wakes_an_idle_session(session: Session, fleet: Fleet) -> None:
    listen(session, fleet)
    fleet.sql("select pg_notify($1, '')", fleet.spelt("sync_plan"))
    assert heard(session, 1) == [fleet.spelt("sync_plan")]


def test_what_is_free_wakes_the_node_that_it_is_meant_for_alone(session: Session, fleet: Fleet) -> None:
    listen(session, fleet)
    fleet.sql("select pg_notify(sync_free_channel('b'), '')")
    fleet.sql("select pg_notify(sync_free_channel('a'), '')")
    assert heard(session, 1) == [fleet.value("select sync_free_channel('a')")]


def test_a_notification_that_came_with_a_ping_is_not_lost(session: Session, fleet: Fleet) -> None:
    listen(session, fleet)
    fleet.sql("select pg_notify($1, '')", fleet.spelt("sync_plan"))
    ping(session)
    assert heard(session, 1) == [fleet.spelt("sync_plan")]


def test_a_notification_that_came_with_an_answer_is_not_lost(session: Session, fleet: Fleet) -> None:
    listen(session, fleet)
    session.start(Statement("select pg_notify($1, '')", (fleet.spelt("sync_plan"),)))
    outcome(session)
    assert heard(session, 1) == [fleet.spelt("sync_plan")]


# --- breaks ----------------------------------------------------------------------------------------


def end(fleet: Fleet, session: Session) -> None:
    fleet.sql("select pg_terminate_backend($1::integer)", session.backend_pid)
    gone = "select not exists (select from pg_stat_activity where pid = $1::integer)"
    wait_until(lambda: fleet.value(gone, session.backend_pid))


def until_broken(session: Session, begin: Callable[[], None] = lambda: None) -> None:
    """Go on as the loop does: an answer that says that the session ends counts as well as the break."""
    begin()
    for _ in range(100):
        wait_for_socket(session)
        done = session.advance()
        if done is not None and done.error is not None:
            assert is_session_over(done.error)
            raise SessionBroken(str(done.error))


def test_an_idle_session_that_was_killed_is_broken(session: Session, fleet: Fleet) -> None:
    end(fleet, session)
    with pytest.raises(SessionBroken):
        until_broken(session)


def test_a_session_that_was_killed_before_a_ping_is_broken(session: Session, fleet: Fleet) -> None:
    end(fleet, session)
    with pytest.raises(SessionBroken):
        until_broken(session, session.start_ping)


def test_a_session_that_was_killed_before_a_statement_is_broken(session: Session, fleet: Fleet) -> None:
    end(fleet, session)
    with pytest.raises(SessionBroken):
        until_broken(session, lambda: session.start(Statement("select 1")))


def test_a_session_that_was_killed_in_a_statement_is_broken(session: Session, fleet: Fleet) -> None:
    session.start(Statement("select pg_sleep(60)"))
    wait_until(
        lambda: fleet.value(
            "select state = 'active' from pg_stat_activity where pid = $1::integer", session.backend_pid
        )
    )
    end(fleet, session)
    with pytest.raises(SessionBroken):
        until_broken(session)


def test_a_server_that_is_not_there_is_a_broken_session() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        dsn = make_conninfo(host="127.0.0.1", port=nobody.getsockname()[1], user="x", dbname="x")
        with pytest.raises(SessionBroken):
            open_session(dsn)


def test_a_database_that_is_not_there_is_a_broken_session(fleet: Fleet) -> None:
    with pytest.raises(SessionBroken, match="no_such_database"):
        open_session(fleet.dsn, dbname="no_such_database")


# --- what an error means ---------------------------------------------------------------------------


def test_a_lock_that_another_holds_is_told_from_other_errors(session: Session, fleet: Fleet) -> None:
    fleet.join("a")
    other = fleet.connect()
    with other.transaction():
        fleet.sql("update sync_node set beats = 1", conn=other)
        done = perform(session, fleet.spelt("select 1 from sync_node for update nowait"))
    assert done.error is not None
    assert is_lock_conflict(done.error)
    assert not is_session_over(done.error)


def test_an_error_in_a_statement_is_neither_a_lock_nor_the_end(session: Session) -> None:
    error = perform(session, "select 1 / 0").error
    assert error is not None
    assert not is_lock_conflict(error)
    assert not is_session_over(error)


def test_a_read_only_server_is_the_end_of_the_session(session: Session) -> None:
    perform(session, "set default_transaction_read_only = on")
    error = perform(session, "create table never (x integer)").error
    assert error is not None
    assert is_session_over(error)


# --- the first words on a session ------------------------------------------------------------------


def opened(session: Session, prefix: str) -> Hello:
    """Drive the opening script as the loop does."""
    script = open_script(session, prefix, "a", lambda: 0.0)
    work = next(script)
    while True:
        if work is PING:
            session.start_ping()
        else:
            session.start(work)
        try:
            work = script.send(outcome(session))
        except StopIteration as returned:
            hello: Hello = returned.value
            return hello


def test_the_opening_says_who_is_there(session: Session, fleet: Fleet) -> None:
    hello = opened(session, fleet.prefix)
    system = fleet.value("select system_identifier::text from pg_control_system()")
    assert (hello.direct, hello.system_id, len(hello.timeline)) == (True, system, 8)


def test_after_the_opening_hints_arrive(session: Session, fleet: Fleet) -> None:
    opened(session, fleet.prefix)
    fleet.sql("select pg_notify($1, '')", fleet.spelt("sync_plan"))
    assert heard(session, 1) == [fleet.spelt("sync_plan")]


def test_another_backend_than_the_promised_one_is_no_direct_connection(session: Session) -> None:
    assert not is_direct(session, session.backend_pid + 1, None)


def test_the_own_session_says_who_it_is(session: Session) -> None:
    assert perform(session, "select current_setting('application_name')").rows == [("jobsync",)]


def test_a_name_that_the_user_gave_stays(fleet: Fleet) -> None:
    assert "application_name=mine" in session_conninfo(make_conninfo(fleet.dsn, application_name="mine"))


def relay(source: socket.socket, sink: socket.socket) -> None:
    """Pass on what comes until either side ends."""
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxied(private_server: PrivateServer) -> Iterator[Session]:
    """Give a session through a TCP proxy, which passes everything on as it is."""
    with socket.create_server(("127.0.0.1", 0)) as door, ThreadPoolExecutor(2) as threads:
        session = Session(make_conninfo(private_server.dsn, port=door.getsockname()[1], sslmode="disable"))
        caller = door.accept()[0]
        server = socket.create_connection(("127.0.0.1", private_server.port))
        with closing(caller), closing(server):
            ends = [threads.submit(relay, *pair) for pair in ((caller, server), (server, caller))]
            while not session.connected():
                wait_for_socket(session)
            yield session
            session.close()
            for end_of_relay in ends:
                end_of_relay.result(SOON_SEC)


def test_a_proxy_in_between_is_noticed(proxied: Session) -> None:
    proxied.start(statement("hello", "sync_"))
    greeting = Greeting(*outcome(proxied).rows[0])
    assert greeting.backend_pid == proxied.backend_pid
    assert not is_direct(proxied, greeting.backend_pid, greeting.client_port)


def test_tcp_without_a_proxy_is_direct(private_server: PrivateServer) -> None:
    with closing(open_session(private_server.dsn)) as session:
        session.start(statement("hello", "sync_"))
        greeting = Greeting(*outcome(session).rows[0])
        assert is_direct(session, greeting.backend_pid, greeting.client_port)
