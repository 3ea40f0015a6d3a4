"""The embedded server: one for all who ask, as long as anybody holds it, whatever happens to whom."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import psycopg
import pytest

from jobsync.core.errors import DatabaseUnavailable, ExtraMissing, InvalidArgument, InvalidSettings
from jobsync.postgres import keeper
from jobsync.postgres.binaries import WHEEL, Account, account_for, find_binaries
from jobsync.postgres.embedded import _closed_parent, acquire, default_data_dir
from jobsync.postgres.keeper import Home, is_postmaster, open_lock, read_postmaster, try_lock, wait_for
from tests.conftest import drop_all
from tests.servers import PrivateServer, as_account, new_dir

SOON_SEC = 10.0
SRC = Path(keeper.__file__).parents[2]

# A process that holds the server until its standard input ends; it tells what it joined.
HOLDER = """
import sys, json
from pathlib import Path
from jobsync.postgres.embedded import acquire
from jobsync.postgres.keeper import Home, read_postmaster
with acquire(Path(sys.argv[1])) as server:
    joined = read_postmaster(Home(server.data_dir).pgdata)
    print(json.dumps({"pid": joined.pid, "dsn": server.dsn}), flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="session")
def made_home(run_dir: Path) -> Path:
    """Give the home of a server that was made, filled with a table of one row, and stopped."""
    home = new_dir(run_dir, "made")
    with acquire(home) as server:
        execute(server.dsn, "create table thing as select 42 as answer")
    until_stopped(home)
    return home


@pytest.fixture
def empty_home(run_dir: Path) -> Iterator[Path]:
    """Give a directory where no server has been."""
    home = new_dir(run_dir, "home")
    yield home
    until_stopped(home)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def home(made_home: Path, empty_home: Path) -> Path:
    """Give the home of a server that is stopped, with a table `thing`; cheaper than making one each time."""
    subprocess.run(["cp", "-a", f"{made_home}/.", str(empty_home)], check=True)
    return empty_home


class Holder:
    """Another process that holds the server."""

    def __init__(self, home: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def wait_joined(self) -> int:
        """Wait until it holds the server, and give the server's process number."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the holder failed; its traceback is in the captured output"
        return int(json.loads(line)["pid"])

    def close(self) -> None:
        """Let it end by itself."""
        self.process.communicate(timeout=SOON_SEC)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=SOON_SEC)


@pytest.fixture
def hold() -> Iterator[Callable[[Path], Holder]]:
    """Give a maker of processes that hold a server."""
    with contextlib.ExitStack() as stack:

        def start(home: Path) -> Holder:
            holder = Holder(home)
            stack.callback(holder.kill)
            return holder

        yield start


def execute(dsn: str, text: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as conn:
        cursor = conn.execute(text.encode())
        return cursor.fetchall() if cursor.description else []


def answer(dsn: str) -> object:
    return execute(dsn, "select answer from thing")[0][0]


def socket_dir_of(dsn: str) -> Path:
    return Path(str(psycopg.conninfo.conninfo_to_dict(dsn)["host"]))


def server_pid(home: Path) -> int:
    found = read_postmaster(Home(home).pgdata)
    assert found is not None, "no server runs"
    return found.pid


def kill_server(home: Path) -> int:
    """Kill the server, wait until it is dead (a signal takes its time), and give its number."""
    killed = server_pid(home)
    os.kill(killed, signal.SIGKILL)
    assert wait_for(lambda: not is_postmaster(killed, Home(home).pgdata), SOON_SEC)
    return killed


def keeper_process(home: Path) -> psutil.Process:
    """Find the keeper of a server that it started itself."""
    parent = psutil.Process(server_pid(home)).parent()
    assert parent is not None
    assert "keeper.py" in " ".join(parent.cmdline())
    return parent


def is_free(home: Path, lock: str) -> bool:
    """Say whether nobody holds the lock, in any way."""
    descriptor = open_lock(Home(home).lock(lock))
    try:
        return try_lock(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


def until_stopped(home: Path) -> None:
    """Wait until the server has ended and its keeper with it."""
    assert wait_for(lambda: is_free(home, "keeper"), SOON_SEC), "the keeper is still there"
    assert not (Home(home).pgdata / "postmaster.pid").exists(), "the keeper left without stopping the server"


def run_python(script: str, *arguments: str, cwd: str | None = None, uid: int | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=cwd,
        user=uid,
        env=os.environ | {"HOME": "/nonexistent"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- joining ---------------------------------------------------------------------------------


def test_eight_processes_that_begin_at_once_share_one_server(empty_home: Path, hold: Callable[[Path], Holder]) -> None:
    holders = [hold(empty_home) for _ in range(8)]
    assert {holder.wait_joined() for holder in holders} == {server_pid(empty_home)}


def test_two_directories_are_two_servers(home: Path, make_private_home: Callable[[], Path]) -> None:
    other = make_private_home()
    with acquire(home) as one, acquire(other) as two:
        execute(one.dsn, "update thing set answer = 43")
        assert (answer(one.dsn), answer(two.dsn)) == (43, 42)


@pytest.fixture
def make_private_home(made_home: Path, run_dir: Path) -> Iterator[Callable[[], Path]]:
    """Give a maker of further homes."""
    made: list[Path] = []

    def make() -> Path:
        made.append(new_dir(run_dir, "home"))
        subprocess.run(["cp", "-a", f"{made_home}/.", str(made[-1])], check=True)
        return made[-1]

    yield make
    for home in made:
        until_stopped(home)
        shutil.rmtree(home, ignore_errors=True)


def test_the_server_says_where_its_data_lie_and_what_version_it_is(home: Path) -> None:
    with acquire(home) as server:
        assert server.data_dir == home
        assert (home / "pgdata" / "PG_VERSION").read_text().strip() == server.version
        assert str(execute(server.dsn, "show server_version")[0][0]).startswith(find_binaries().version)


def test_the_environment_names_the_directory(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBSYNC_EMBEDDED_DIR", str(home))
    with acquire() as server:
        assert server.data_dir == home


def test_by_default_the_directory_is_named_after_the_major_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOBSYNC_EMBEDDED_DIR", raising=False)
    assert default_data_dir().parts[-2:] == ("jobsync", f"postgres-{find_binaries().major}")


# --- leaving ---------------------------------------------------------------------------------


def test_the_server_stays_while_one_process_of_two_holds_it(home: Path, hold: Callable[[Path], Holder]) -> None:
    first, second = hold(home), hold(home)
    first.wait_joined(), second.wait_joined()
    first.close()
    assert not is_free(home, "holders")
    assert is_postmaster(server_pid(home), Home(home).pgdata)


def test_the_last_process_to_end_stops_the_server(home: Path, hold: Callable[[Path], Holder]) -> None:
    first, second = hold(home), hold(home)
    first.wait_joined(), second.wait_joined()
    first.close()
    second.close()
    until_stopped(home)


def test_the_server_stops_when_its_only_holder_is_killed(home: Path, hold: Callable[[Path], Holder]) -> None:
    holder = hold(home)
    holder.wait_joined()
    holder.process.send_signal(signal.SIGKILL)
    until_stopped(home)


def test_holds_within_a_process_are_counted(home: Path) -> None:
    first, second = acquire(home), acquire(home)
    first.release()
    assert not is_free(home, "holders")
    second.release()
    until_stopped(home)


def test_releasing_twice_does_not_take_the_hold_of_another(home: Path) -> None:
    first, second = acquire(home), acquire(home)
    first.release()
    first.release()
    assert not is_free(home, "holders")
    second.release()


def test_a_forked_child_does_not_release_the_hold_of_its_parent(home: Path) -> None:
    script = """
import os, sys, fcntl
from pathlib import Path
from jobsync.postgres import embedded, keeper
server = embedded.acquire(Path(sys.argv[1]))
child = os.fork()
if child == 0:
    server.release()
    os._exit(0)
os.waitpid(child, 0)
again = keeper.open_lock(keeper.Home(server.data_dir).lock("holders"))
print(keeper.try_lock(again, fcntl.LOCK_EX))
"""
    assert run_python(script, str(home)) == "False"


def test_whoever_comes_while_the_server_is_stopping_gets_a_running_one(home: Path) -> None:
    for _ in range(5):
        with acquire(home) as server:
            assert answer(server.dsn) == 42
        # Let the keeper begin to stop it; the next holder comes in the middle of that.
        assert wait_for(lambda: not can_share(home), SOON_SEC, poll_sec=0.002)


def can_share(home: Path) -> bool:
    """Say whether a new holder would get its lock at once: not while the keeper is stopping the server."""
    descriptor = open_lock(Home(home).lock("holders"))
    try:
        return try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def test_data_survive_a_stop_and_a_start(home: Path) -> None:
    with acquire(home) as server:
        execute(server.dsn, "update thing set answer = 43")
    until_stopped(home)
    with acquire(home) as server:
        assert answer(server.dsn) == 43


# --- accidents -------------------------------------------------------------------------------


@pytest.mark.chaos
def test_a_killed_server_comes_back_with_its_data_while_it_is_held(home: Path) -> None:
    with acquire(home) as server:
        execute(server.dsn, "update thing set answer = 43")
        killed = kill_server(home)
        pgdata = Home(home).pgdata
        assert wait_for(
            lambda: (found := keeper.ready_postmaster(pgdata)) is not None and found.pid != killed, SOON_SEC
        )
        assert answer(server.dsn) == 43


@pytest.mark.chaos
def test_acquiring_a_server_that_was_just_killed_waits_until_it_is_back(home: Path) -> None:
    with acquire(home):
        kill_server(home)
        with acquire(home) as again:
            assert answer(again.dsn) == 42


@pytest.mark.chaos
def test_a_server_whose_keeper_was_killed_is_adopted_and_stopped_in_the_end(home: Path) -> None:
    with acquire(home):
        orphan = server_pid(home)
        keeper_process(home).kill()
        assert wait_for(lambda: is_free(home, "keeper"), SOON_SEC)
        with acquire(home) as again:
            assert answer(again.dsn) == 42
            assert server_pid(home) == orphan
    until_stopped(home)


@pytest.mark.chaos
def test_a_server_and_a_keeper_that_were_both_killed_are_replaced(home: Path) -> None:
    with acquire(home) as server:
        execute(server.dsn, "update thing set answer = 43")
        keeper_process(home).kill()
        kill_server(home)
        assert wait_for(lambda: is_free(home, "keeper"), SOON_SEC)
        with acquire(home) as again:
            assert answer(again.dsn) == 43


@pytest.mark.chaos
def test_a_server_comes_back_when_the_last_child_of_the_killed_one_has_let_go(home: Path) -> None:
    with acquire(home) as server, psycopg.connect(server.dsn) as conn:
        child = conn.info.backend_pid
        os.kill(child, signal.SIGSTOP)
        try:
            kill_server(home)
            # More often than a server that dies for other reasons is started again.
            refusals = keeper.QUICK_DEATHS_LIMIT + 2
            log = Home(home).log
            assert wait_for(lambda: log.read_text().count("is still in use") > refusals, 2 * SOON_SEC)
        finally:
            os.kill(child, signal.SIGCONT)
        with acquire(home) as again:
            assert answer(again.dsn) == 42


@pytest.mark.chaos
def test_a_keeper_gives_up_a_server_that_keeps_dying_and_the_next_who_asks_gets_a_new_one(home: Path) -> None:
    pgdata = Home(home).pgdata

    def is_given_up() -> bool:
        found = keeper.ready_postmaster(pgdata)
        if found is not None:
            os.kill(found.pid, signal.SIGKILL)
        return is_free(home, "keeper")

    with acquire(home):
        assert wait_for(is_given_up, 2 * SOON_SEC)
        assert "giving up" in Home(home).log.read_text()
        with acquire(home) as again:
            assert answer(again.dsn) == 42


@pytest.mark.chaos
def test_terminating_the_keeper_stops_the_server(home: Path) -> None:
    with acquire(home):
        keeper_process(home).terminate()
        until_stopped(home)


def test_a_stale_pid_file_with_the_number_of_another_process_is_no_obstacle(home: Path) -> None:
    pgdata = Home(home).pgdata
    with acquire(home):
        files = {name: (pgdata / name).read_text() for name in ("postmaster.pid", ".s.PGSQL.5432.lock")}
    until_stopped(home)
    # The worst case: the number now belongs to a living process of the very account that runs the server.
    stranger = as_account(account_for(pgdata), ["/bin/sleep", "600"], log=Home(home).log)
    for name, text in files.items():
        (pgdata / name).write_text(f"{stranger.pid}\n" + text.partition("\n")[2])
        shutil.chown(pgdata / name, pgdata.stat().st_uid, pgdata.stat().st_gid)
    try:
        with acquire(home) as server:
            assert answer(server.dsn) == 42
    finally:
        stranger.kill()
        stranger.wait()


def test_a_half_made_data_directory_is_made_anew(empty_home: Path) -> None:
    (empty_home / "holders.lock").touch()
    (empty_home / "pgdata.new").mkdir()
    (empty_home / "pgdata.new" / "PG_VERSION").write_text("18\n")
    with acquire(empty_home) as server:
        assert execute(server.dsn, "select current_database()") == [("jobsync",)]


@pytest.mark.chaos
def test_a_server_whose_directory_was_deleted_ends(run_dir: Path, made_home: Path) -> None:
    home = new_dir(run_dir, "home")
    subprocess.run(["cp", "-a", f"{made_home}/.", str(home)], check=True)
    with acquire(home):
        server, minder = psutil.Process(server_pid(home)), keeper_process(home)
        shutil.rmtree(home)
        assert wait_for(lambda: not server.is_running(), SOON_SEC)
        assert wait_for(lambda: not minder.is_running(), SOON_SEC)


# --- surroundings ----------------------------------------------------------------------------


def test_nothing_listens_on_tcp(home: Path) -> None:
    with acquire(home):
        assert psutil.Process(server_pid(home)).net_connections(kind="inet") == []


def test_the_socket_can_be_reached_by_the_account_of_the_server_alone(home: Path) -> None:
    with acquire(home) as server:
        directory = socket_dir_of(server.dsn)
        assert directory.stat().st_mode & 0o077 == 0


def test_settings_are_durable_and_text_is_utf8_in_the_c_locale(home: Path) -> None:
    names = ("fsync", "synchronous_commit", "full_page_writes", "max_connections", "server_encoding")
    with acquire(home) as server:
        found = [execute(server.dsn, f"show {name}")[0][0] for name in names]
        (locale,) = execute(server.dsn, "select datcollate from pg_database where datname = 'jobsync'")[0]
    assert [*found, locale] == ["on", "on", "on", "200", "UTF8", "C"]


def test_it_starts_from_a_directory_that_was_deleted(home: Path) -> None:
    script = """
import os, sys, tempfile, shutil
gone = tempfile.mkdtemp()
os.chdir(gone)
shutil.rmtree(gone)
from pathlib import Path
from jobsync.postgres.embedded import acquire
with acquire(Path(sys.argv[1])) as server:
    print(server.version)
"""
    assert run_python(script, str(home)) == find_binaries().major


def test_it_starts_from_a_directory_that_the_server_may_not_read(home: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    script = "import sys, pathlib; from jobsync.postgres import embedded as e; "
    script += "print(e.acquire(pathlib.Path(sys.argv[1])).version)"
    assert run_python(script, str(home), cwd=str(tmp_path)) == find_binaries().major


def test_a_path_too_long_for_a_socket_is_served_all_the_same(run_dir: Path, made_home: Path) -> None:
    home = new_dir(run_dir, "x" * 120)
    subprocess.run(["cp", "-a", f"{made_home}/.", str(home)], check=True)
    with acquire(home) as server:
        assert answer(server.dsn) == 42
        socket_dir = socket_dir_of(server.dsn)
    until_stopped(home)
    shutil.rmtree(home)
    socket_dir.rmdir()


def test_programs_that_only_their_owner_can_reach_are_of_use(
    empty_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = find_binaries({}).bin_dir.parents[1]
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for tree in wheel.parent.glob(f"{WHEEL}*"):
        if tree.suffix != ".dist-info":
            subprocess.run(["cp", "-a", str(tree), str(closed)], check=True)
    monkeypatch.setenv("JOBSYNC_PG_BIN", str(closed / WHEEL / "pginstall" / "bin"))
    with acquire(empty_home) as server:
        assert execute(server.dsn, "select 42") == [(42,)]
    shutil.rmtree(closed)


# --- what is refused -------------------------------------------------------------------------


def test_without_any_postgresql_the_error_says_what_to_install() -> None:
    with pytest.raises(ExtraMissing, match=r"pip install 'jobsync\[embedded\]'"):
        find_binaries({"PATH": ""}, wheel="no_such_package", installed=())


def test_an_installation_on_the_path_serves_where_there_is_no_wheel() -> None:
    bin_dir = find_binaries().bin_dir
    assert find_binaries({"PATH": str(bin_dir)}, wheel="no_such_package").bin_dir == bin_dir


def test_a_wrong_directory_of_programs_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"JOBSYNC_PG_BIN is '.*nowhere'"):
        find_binaries({"JOBSYNC_PG_BIN": str(tmp_path / "nowhere")})


def test_programs_that_are_too_old_are_refused(tmp_path: Path) -> None:
    for name in ("initdb", "postgres"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 13.9'\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(InvalidSettings, match="14 or newer"):
        find_binaries({"JOBSYNC_PG_BIN": str(tmp_path)})


def test_a_directory_that_holds_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(InvalidArgument, match="not empty"):
        acquire(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_server_that_does_not_start_shows_the_end_of_its_log(home: Path) -> None:
    with (home / "pgdata" / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = on\n")
    with pytest.raises(DatabaseUnavailable, match=r"unrecognized configuration parameter .no_such_setting"):
        acquire(home)


def test_a_directory_that_the_account_of_the_server_may_not_enter_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    nobody_we_are = Account("somebody", os.geteuid() + 1, os.getegid() + 1)
    assert f"'somebody', which runs it, may not enter {str(closed)!r}" in _closed_parent(
        Home(closed / "home"), nobody_we_are
    )


def test_a_failed_start_holds_nothing(home: Path) -> None:
    with (home / "pgdata" / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = on\n")
    with pytest.raises(DatabaseUnavailable):
        acquire(home)
    assert is_free(home, "holders")


def test_data_of_another_major_version_are_refused_with_a_way_out(home: Path) -> None:
    (home / "pgdata" / "PG_VERSION").write_text("13\n")
    with pytest.raises(DatabaseUnavailable, match="JOBSYNC_PG_BIN to the bin directory of PostgreSQL 13"):
        acquire(home)


# --- the server that tests may break ---------------------------------------------------------


@pytest.mark.chaos
def test_a_private_server_survives_being_killed(private_server: PrivateServer) -> None:
    execute(private_server.dsn, "create table thing as select 42 as answer")
    private_server.kill()
    private_server.start()
    assert answer(private_server.dsn) == 42


def test_a_private_server_keeps_its_port_over_a_restart(private_server: PrivateServer) -> None:
    dsn = private_server.dsn
    private_server.restart("immediate")
    assert execute(dsn, "select 1") == [(1,)]


def test_a_private_server_takes_settings(make_private_server: Callable[..., PrivateServer]) -> None:
    server = make_private_server(settings={"max_connections": "17"})
    assert execute(server.socket_dsn, "show max_connections") == [("17",)]


@pytest.mark.parametrize("way", ["dsn", "socket_dsn"])
def test_a_private_server_may_ask_for_a_password(make_private_server: Callable[..., PrivateServer], way: str) -> None:
    server = make_private_server(user="somebody", password="s3 'cret")
    assert execute(getattr(server, way), "select current_user") == [("somebody",)]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(getattr(server, way), password="wrong")


def test_what_bears_the_prefix_is_dropped_after_the_test(server_dsn: str) -> None:
    execute(
        server_dsn,
        """
        create table t_00000000_a (id serial primary key, kind int);
        create view t_00000000_b as select * from t_00000000_a;
        create function t_00000000_c(x int) returns int language sql as 'select x';
        create sequence t_00000000_d;
        create type t_00000000_e as enum ('one');
        create table tx00000000_a ();
        """,
    )
    drop_all(server_dsn, "t_00000000_")
    left = execute(
        server_dsn,
        "select relname::text from pg_class where relname like 't_00000000%' union "
        "select proname::text from pg_proc where proname like 't_00000000%' union "
        "select typname::text from pg_type where typname like 't_00000000%'",
    )
    execute(server_dsn, "drop table tx00000000_a")
    assert left == [("tx00000000_a",)]
