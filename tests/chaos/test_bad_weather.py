"""Real processes and real servers in bad weather: whatever happens, no token is owned twice, and all are owned again.

What each process answered is on file in times of the boot clock; `Fleet.assert_exclusive` judges it when all is over.
Bounds on time are those of the contract with room for a busy machine; the figures themselves are measured elsewhere.
"""

import logging
import signal
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from jobsync import CoordinationConfig, DatabaseUnavailable, Job, JobsyncError, SchemaError
from jobsync.runtime.clock import boot_sec
from tests.api.jobs import eventually, query
from tests.chaos.fleet import Fleet, Sample, Worker, gaps, intervals, overlaps
from tests.chaos.points import AFTER_COMMIT
from tests.servers import PrivateServer

pytestmark = pytest.mark.chaos

QUICK = {"heartbeat_interval_sec": 0.4, "heartbeat_timeout_sec": 1.5}
SESSION_LEASE_SEC = 0.6
BUSY_SEC = 1.5  # What a busy machine may add to a bound.


@pytest.fixture
def fleet(server_dsn: str, prefix: str, tmp_path: Path) -> Fleet:
    return Fleet(server_dsn, prefix, tmp_path)


def wait_for_a_moment(seconds: float) -> None:
    """Let the weather last: the length of the fault itself, not a wait for something to happen."""
    threading.Event().wait(seconds)


def epochs(dsn: str, prefix: str) -> dict[int, int]:
    return dict(query(dsn, f"select token_id, epoch from {prefix}token"))


def assert_kept(worker: Worker, mask: int, since_sec: float) -> None:
    """Fail if the worker ever answered no for tasks that it held, from an instant on."""
    lost = [s for s in worker.samples if s.before_sec >= since_sec and s.mask & mask != mask]
    assert not lost, f"{worker.name} answered no {len(lost)} times, first {lost[0].before_sec - since_sec:.3f} s in"


def mask_of(fleet: Fleet, worker: Worker) -> int:
    held = worker.ask("status")["held"]
    return sum(1 << number for number, task in enumerate(fleet.questions) if task in held)


# --- the judge has teeth -------------------------------------------------------------------------


def samples(*answers: tuple[float, int]) -> list[Sample]:
    return [Sample(at_sec, at_sec + 0.0001, mask) for at_sec, mask in answers]


def test_the_judge_finds_an_overlap() -> None:
    one, other = samples((1.0, 1), (1.1, 1), (1.2, 1)), samples((1.15, 1), (1.3, 1))
    assert [found[:3] for found in overlaps([("a", one), ("b", other)], 1)] == [(0, "a", "b")]


def test_the_judge_accepts_a_handover() -> None:
    one, other = samples((1.0, 1), (1.1, 1), (1.2, 0)), samples((1.1, 0), (1.15, 1), (1.3, 1))
    assert overlaps([("a", one), ("b", other)], 1) == []


def test_the_judge_ends_an_interval_where_the_process_fell_silent() -> None:
    assert intervals(samples((1.0, 1), (1.1, 1), (9.0, 1), (9.1, 1)), 0) == [(1.0001, 1.1), (9.0001, 9.1)]


def test_the_judge_finds_the_gaps_between_two_instants() -> None:
    one = samples(*((1.0 + step / 10, 1) for step in range(11)))
    other = samples(*((2.6 + step / 10, 1) for step in range(15)), *((8.0 + step / 10, 1) for step in range(5)))
    ((began_sec, ended_sec),) = gaps([one, other], 0, 1.5, 3.5)
    assert (began_sec, round(ended_sec, 3)) == (2.0, 2.6)
    assert list(gaps([one, other], 0, 1.2, 1.8)) == [], "what comes later is of no account"
    assert list(gaps([one, other], 0, 3.0, 6.0)) == [(4.0, 6.0)], "nobody answers at the end"


def test_the_judge_convicts_a_node_that_believes_beyond_its_lease(server_dsn: str, prefix: str, tmp_path: Path) -> None:
    with Fleet(server_dsn, prefix, tmp_path, **QUICK) as fleet:
        (bad,) = fleet.start("bad", mutant="leases")
        (good,) = fleet.start("good")
        bad.signal(signal.SIGSTOP)
        fleet.wait_until_owned([good])
        resumed_sec = bad.signal(signal.SIGCONT)
        eventually(lambda: len([s for s in bad.samples[-50:] if s.before_sec > resumed_sec]) > 20)
        with pytest.raises(AssertionError, match="owned twice"):
            fleet.assert_exclusive()


# --- processes die -------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["leader", pytest.param("follower", marks=pytest.mark.slow)])
def test_the_tokens_of_a_killed_node_are_taken_over_in_about_a_second(fleet: Fleet, victim: str) -> None:
    with fleet:
        workers = fleet.start("w0", "w1", "w2", "w3")
        gone = workers.pop(0 if victim == "leader" else 3)
        killed_sec = gone.kill()
        fleet.wait_until_owned(workers)
        assert fleet.seconds_to_cover(killed_sec, workers) < 1.0 + BUSY_SEC
        fleet.assert_exclusive()


def test_leader_and_deputy_killed_together_are_replaced_within_a_beat_and_a_second(
    server_dsn: str, prefix: str, tmp_path: Path
) -> None:
    with Fleet(server_dsn, prefix, tmp_path, heartbeat_interval_sec=1) as fleet:
        workers = fleet.start("w0", "w1", "w2", "w3")
        killed_sec = workers[0].signal(signal.SIGKILL)
        workers[1].kill()
        fleet.wait_until_owned(workers[2:])
        assert fleet.seconds_to_cover(killed_sec, workers[2:]) < 1 + 1.0 + BUSY_SEC
        fleet.assert_exclusive()


@pytest.mark.slow
def test_others_keep_their_tokens_without_a_flicker_when_a_node_is_killed(fleet: Fleet) -> None:
    with fleet:
        gone, *others = fleet.start("w0", "w1", "w2")
        masks = [mask_of(fleet, worker) for worker in others]
        killed_sec = gone.kill()
        fleet.wait_until_owned(others)
        for worker, mask in zip(others, masks, strict=True):
            assert_kept(worker, mask, killed_sec)


def test_a_terminated_node_hands_over_and_leaves_no_row(fleet: Fleet, server_dsn: str, prefix: str) -> None:
    with fleet:
        gone, other = fleet.start("w0", "w1")
        gone.signal(signal.SIGTERM)
        fleet.wait_until_owned([other])
        assert gone.process.wait(10) == 0
        assert query(server_dsn, f"select name from {prefix}node") == [("w1",)]
        fleet.assert_exclusive()


def test_a_process_killed_after_its_commit_repeats_nothing(server_dsn: str, prefix: str, tmp_path: Path) -> None:
    table, ids = f"{prefix}results", [f"job-{number}" for number in range(60)]
    query(server_dsn, f"create table {table} (item text)")
    with Fleet(server_dsn, prefix, tmp_path) as fleet:
        first, second = fleet.start("w0", "w1", run="r")
        assert first.ask("arm", point=AFTER_COMMIT, after=4, stops=False) == {"armed": AFTER_COMMIT}
        first.order("work", ids=ids, table=table)
        assert first.hear() == {"reached": AFTER_COMMIT}
        first.kill()
        assert second.ask("work", ids=ids, table=table) == {"done": True, "errors": []}
    assert query(server_dsn, f"select item, count(*) from {table} group by 1 having count(*) > 1") == []
    assert query(server_dsn, f"select count(distinct item) from {table}") == [(60,)]


@pytest.mark.slow
def test_more_nodes_than_tokens_outlive_an_owner(server_dsn: str, prefix: str, tmp_path: Path) -> None:
    with Fleet(server_dsn, prefix, tmp_path, total_tokens=2) as fleet:
        workers = fleet.start("w0", "w1", "w2", "w3")
        assert sorted(worker.ask("status")["tokens"] for worker in workers) == [0, 0, 1, 1]
        gone = next(worker for worker in workers if worker.ask("status")["tokens"])
        gone.kill()
        fleet.wait_until_owned([worker for worker in workers if worker is not gone])
        fleet.assert_exclusive()


# --- processes are paused ------------------------------------------------------------------------


def paused(fleet: Fleet, seconds: float) -> None:
    """Pause a node for longer than its lease: the others take over, and it wakes up owning nothing."""
    timeout_sec = CoordinationConfig(**fleet.given["settings"]).heartbeat_timeout_sec  # type: ignore[arg-type]
    with fleet:
        sleeper, *others = fleet.start("w0", "w1", "w2")
        assert mask_of(fleet, sleeper)
        stopped_sec = sleeper.signal(signal.SIGSTOP)
        wait_for_a_moment(seconds)
        resumed_sec = sleeper.signal(signal.SIGCONT)
        eventually(lambda: any(s.before_sec > resumed_sec for s in sleeper.samples[-200:]))
        first = next(s for s in sleeper.samples if s.before_sec > resumed_sec)
        assert first.mask == 0, "it answered yes at its first question"
        fleet.wait_until_owned(fleet.running)
        eventually(lambda: sleeper.ask("status")["tokens"] == 4)
        assert fleet.seconds_to_cover(stopped_sec + 0.01, others) < timeout_sec + 1.0 + BUSY_SEC
        fleet.assert_exclusive()


def test_a_node_paused_for_three_seconds_answers_no_at_its_first_question(
    server_dsn: str, prefix: str, tmp_path: Path
) -> None:
    paused(Fleet(server_dsn, prefix, tmp_path, **QUICK), 3.0)


@pytest.mark.slow
def test_a_node_paused_for_twenty_seconds_answers_no_at_its_first_question(fleet: Fleet) -> None:
    paused(fleet, 20.0)


def test_a_pause_below_the_row_lease_moves_nothing(fleet: Fleet, server_dsn: str, prefix: str) -> None:
    with fleet:
        sleeper, _ = fleet.start("w0", "w1")
        before = epochs(server_dsn, prefix)
        sleeper.signal(signal.SIGSTOP)
        wait_for_a_moment(2.0)
        resumed_sec = sleeper.signal(signal.SIGCONT)
        fleet.wait_until_owned(fleet.running)
        # Its tokens are its own still, but it may say so only once a ping sent after the thaw was answered.
        eventually(lambda: any(s.before_sec > resumed_sec and s.mask for s in sleeper.samples[-200:]))
        first_yes = next(s for s in sleeper.samples if s.before_sec > resumed_sec and s.mask)
        lease_sec = first_yes.leased_until_sec - SESSION_LEASE_SEC
        assert resumed_sec < lease_sec < first_yes.after_sec, "it believed in a lease from before"
        assert epochs(server_dsn, prefix) == before
        fleet.assert_exclusive()


# --- sessions and servers break ------------------------------------------------------------------


def test_a_killed_session_is_bound_anew_within_a_second_and_nothing_moves(
    fleet: Fleet, server_dsn: str, prefix: str
) -> None:
    with fleet:
        hurt, _ = fleet.start("w0", "w1")
        before, mask = epochs(server_dsn, prefix), mask_of(fleet, hurt)
        for _ in range(3):
            old = query(server_dsn, f"select bind from {prefix}node where name = 'w0'")
            cut_sec = boot_sec()
            query(server_dsn, f"select pg_terminate_backend(backend_pid) from {prefix}node where name = 'w0'")
            eventually(lambda: query(server_dsn, f"select bind from {prefix}node where name = 'w0'") != old)  # noqa: B023
            eventually(lambda: mask_of(fleet, hurt) == mask)
            silent = [s.before_sec for s in hurt.samples if s.before_sec > cut_sec and s.mask & mask != mask]
            assert not silent or silent[-1] - silent[0] < 1.0
        assert epochs(server_dsn, prefix) == before
        fleet.assert_exclusive()


@pytest.mark.parametrize("mode", [pytest.param("fast", marks=pytest.mark.slow), "immediate"])
def test_a_server_restarted_under_a_fleet_finds_it_whole_again(
    private_server: PrivateServer, tmp_path: Path, mode: str
) -> None:
    with Fleet(private_server.dsn, "sync_", tmp_path) as fleet:
        workers = fleet.start("w0", "w1", "w2")
        private_server.restart(mode)
        fleet.wait_until_owned(workers)
        fleet.assert_exclusive()


def test_a_database_away_for_longer_than_the_row_lease_costs_tokens_and_no_audits(
    private_server: PrivateServer, tmp_path: Path
) -> None:
    given = {**QUICK, "health_check_interval_sec": 1}
    with Fleet(private_server.dsn, "sync_", tmp_path, **given) as fleet:
        worker, _ = fleet.start("w0", "w1")
        tasks = worker.ask("status")["held"]
        assert worker.ask("finish_later", tasks=tasks) == {"added": [True] * len(tasks)}
        gone_sec = boot_sec()
        private_server.stop("immediate")
        eventually(lambda: any(event["what"] == "removed" and event["at"] > gone_sec for event in worker.events))
        removed = next(e for e in worker.events if e["what"] == "removed" and e["at"] > gone_sec)
        assert len(removed["tokens"]) == len(tasks)
        assert removed["at"] - gone_sec < 1.5 + BUSY_SEC
        worker.order("audited")
        back_sec = boot_sec()
        private_server.start()
        assert worker.hear() == {"audited": True}
        fleet.wait_until_owned(fleet.running)
        eventually(lambda: any(event["what"] == "added" and event["at"] > back_sec for event in worker.events))
        done = "select count(*) from sync_audit where node = 'w0'"
        eventually(lambda: query(private_server.dsn, done) == [(len(tasks),)])
        fleet.assert_exclusive()


# --- rows are deleted ----------------------------------------------------------------------------


def test_deleting_the_rows_of_live_nodes_moves_nothing(fleet: Fleet, server_dsn: str, prefix: str) -> None:
    with fleet:
        workers = fleet.start("w0", "w1")
        before, masks = epochs(server_dsn, prefix), [mask_of(fleet, worker) for worker in workers]
        deleted_sec = boot_sec()
        with psycopg.connect(server_dsn, autocommit=True) as conn:
            notices: list[str | None] = []
            conn.add_notice_handler(lambda notice: notices.append(notice.message_primary))
            conn.execute(f"delete from {prefix}node".encode())
        assert [notice for notice in notices if notice and "jobsync drain w0" in notice]
        fleet.wait_until_owned(workers)
        assert epochs(server_dsn, prefix) == before
        for worker, mask in zip(workers, masks, strict=True):
            assert_kept(worker, mask, deleted_sec)


def test_deleting_the_row_of_a_dead_node_strands_none_of_its_tokens(fleet: Fleet, server_dsn: str, prefix: str) -> None:
    with fleet:
        gone, other = fleet.start("w0", "w1")
        gone.kill()
        query(server_dsn, f"delete from {prefix}node where name = 'w0'")
        fleet.wait_until_owned([other])
        eventually(lambda: query(server_dsn, f"select name from {prefix}node") == [("w1",)])
        fleet.assert_exclusive()


def test_after_the_death_of_a_whole_fleet_and_its_rows_a_new_one_owns_everything(
    server_dsn: str, prefix: str, tmp_path: Path
) -> None:
    with Fleet(server_dsn, prefix, tmp_path) as fleet:
        for worker in fleet.start("w0", "w1"):
            worker.kill()
        query(server_dsn, f"delete from {prefix}node")
        fleet.wait_until_owned(fleet.start("w1", "w5"))
        fleet.assert_exclusive()
    assert query(server_dsn, f"select count(*) from {prefix}node where name = 'w0'") == [(0,)]


# --- a transaction is stuck ----------------------------------------------------------------------


def test_a_transaction_stuck_on_a_grant_delays_only_its_own_nodes_tokens_and_is_bounded(
    fleet: Fleet, prefix: str
) -> None:
    with fleet:
        gone, *others = fleet.start("w0", "w1", "w2")
        masks = [mask_of(fleet, worker) for worker in others]
        task = gone.ask("status")["held"][0]
        assert gone.ask("stick", task=task, grants=f"{prefix}grant") == {"stuck": True}
        killed_sec = gone.kill()
        fleet.wait_until_owned(others)
        took_sec = fleet.seconds_to_cover(killed_sec, others)
        assert 2.0 < took_sec < 5.0 + 1.0 + BUSY_SEC
        for worker, mask in zip(others, masks, strict=True):
            assert_kept(worker, mask, killed_sec)
        fleet.assert_exclusive()


# --- entering in bad weather ---------------------------------------------------------------------


def test_a_wrong_password_is_shown_nowhere(
    make_private_server: Callable[..., PrivateServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = make_private_server(password="the-right-one")
    wrong = "hush/hush wrong@one"
    place = conninfo_to_dict(server.dsn)
    given = CoordinationConfig(
        host="127.0.0.1", port=int(place["port"] or 0), dbname="postgres", user="postgres", password=wrong
    )
    caplog.set_level(logging.DEBUG)
    job = Job("w0", coordination_config=given)
    with pytest.raises(DatabaseUnavailable, match="password authentication failed") as caught:
        job.__enter__()
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caplog.text
    assert "127.0.0.1" in told
    for secret in (wrong, "hush"):
        assert secret not in told + repr(given) + repr(job)


def test_a_password_in_a_url_is_shown_nowhere(
    make_private_server: Callable[..., PrivateServer], caplog: pytest.LogCaptureFixture
) -> None:
    server = make_private_server(password="the-right-one")
    caplog.set_level(logging.DEBUG)
    given = CoordinationConfig(dsn=f"postgresql://postgres:hush-hush@127.0.0.1:{server.port}/postgres")
    with pytest.raises(JobsyncError) as caught:
        Job("w0", coordination_config=given).__enter__()
    assert "hush" not in "".join(traceback.format_exception(caught.value)) + caplog.text + repr(given)


def test_a_role_that_may_not_create_tables_is_told_the_command(private_server: PrivateServer) -> None:
    query(private_server.dsn, "create role plain login")
    query(private_server.dsn, "revoke create on schema public from public")
    given = CoordinationConfig(dsn=private_server.dsn.replace("user=postgres", "user=plain"))
    with pytest.raises(SchemaError, match=r"role 'plain' .*jobsync migrate"):
        Job("w0", coordination_config=given).__enter__()
    assert query(private_server.dsn, "select count(*) from pg_class where relname like 'sync%%'") == [(0,)]


def test_a_server_that_is_not_there_is_told_at_once(private_server: PrivateServer) -> None:
    private_server.stop("immediate")
    began_sec = boot_sec()
    with pytest.raises(DatabaseUnavailable, match=rf"127\.0\.0\.1:{private_server.port}, database 'postgres'"):
        Job("w0", coordination_config=CoordinationConfig(dsn=private_server.dsn)).__enter__()
    assert boot_sec() - began_sec < 5.0
