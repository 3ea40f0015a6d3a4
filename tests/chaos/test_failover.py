"""A primary is lost with its machine and its standby promoted, under running fleets and running batches.

With a synchronous standby nothing that was acknowledged is lost: no audit, no transaction, no owner. With an
asynchronous one the last commits may be: then tasks whose records were among them are done again, and still no token
has two owners, since nothing is granted on the new server before every lease from the old one has run out.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path
from typing import Any

import pytest

from jobsync.runtime.clock import boot_sec
from tests.api.jobs import eventually, query
from tests.chaos.fleet import Fleet, Worker
from tests.chaos.judge import Claimed, Evidence, complaints, read_begun
from tests.chaos.test_worker_death import Crew
from tests.replicas import Standby, dsn_of_both, lose_machine, nothing_is_sent_on, wait_for_standby
from tests.servers import PrivateServer, new_dir
from tests.worker.support import leases, queue

pytestmark = pytest.mark.chaos

RUN = "nightly"
QUICK = {"heartbeat_interval_sec": 0.4, "heartbeat_timeout_sec": 1.5, "handover_timeout_sec": 0.3}
DEFAULT: dict[str, Any] = {}
CONNECT_SEC = 2.0  # The longest pause between two tries to connect.
BUSY_SEC = 3.0  # What a busy machine may add to a bound.
LIMIT_SEC = 60.0
JOBS = 20_000  # More than are done before the server is lost, however busy the machine is with something else.

MakePair = Callable[..., tuple[PrivateServer, Standby]]


@pytest.fixture
def make_pair(run_dir: Path) -> Iterator[MakePair]:
    """Give a maker of a primary and its standby, `synchronous` or not."""
    with ExitStack() as servers:

        def make(*, synchronous: bool) -> tuple[PrivateServer, Standby]:
            primary = servers.enter_context(PrivateServer(new_dir(run_dir, "private")))
            standby = servers.enter_context(Standby(new_dir(run_dir, "private"), primary))
            wait_for_standby(primary, synchronous=synchronous)
            return primary, standby

        yield make


def acked_by(workers: list[Worker]) -> set[str]:
    return {item for worker in workers for item in worker.acked}


def begun_count(workers: list[Worker]) -> int:
    return sum(len(read_begun("", worker.begun_file)) for worker in workers)


def silent(worker: Worker) -> bool:
    last = worker.samples[-1]
    return last.mask == 0 and boot_sec() - last.after_sec < 0.2


def evidence(fleet: Fleet, dsn: str, prefix: str, tasks: int) -> Evidence:
    claims = query(dsn, f"select item, incarnation, created_on from {prefix}claim where run = %s", RUN)
    audits = query(dsn, f"select item, created_on from {prefix}audit where run = %s", RUN)
    return Evidence(
        tasks=tasks,
        begun={worker.name: read_begun(worker.name, worker.begun_file) for worker in fleet.workers},
        faults={},
        claims={int(item): Claimed(incarnation, at) for item, incarnation, at in claims},
        audits=[(int(item), at) for item, at in audits],
    )


# --- a synchronous standby -----------------------------------------------------------------------


def lost_under_two_fleets(
    pair: tuple[PrivateServer, Standby], directory: Path, times: dict[str, Any], *, tasks: int, at_once: bool = False
) -> float:
    """Have one fleet walk a run and another commit transactions; lose the primary in the middle; judge both.

    The standby is promoted `at_once`, or when nobody believes in a token any more, as it is where a fail-over takes
    seconds. Gives how long after the promotion every token of the first fleet was owned for good.
    """
    primary, standby = pair
    dsn = dsn_of_both(primary, standby)
    ids = [f"job-{number}" for number in range(tasks // 8)]
    query(dsn, "create table results (item text)")
    with Fleet(dsn, "walk_", directory, **times) as walkers, Fleet(dsn, "work_", directory, **times) as doers:
        walking = walkers.start("w0", "w1", run=RUN)
        doing = doers.start("d0", "d1", run=RUN)
        for worker in walking:
            worker.order("walk", count=tasks, pace_sec=0.003, long_every=tasks // 10, long_sec=0.6)
        for worker in doing:
            worker.order("work", ids=ids, table="results", pace_sec=0.01)
        eventually(lambda: begun_count(walking) > 0.3 * tasks, "a third is begun", limit_sec=LIMIT_SEC)
        eventually(lambda: len(acked_by(doing)) > 0.1 * len(ids), "some are committed", limit_sec=LIMIT_SEC)
        lost_sec = boot_sec()
        lose_machine(primary)
        audited, committed = acked_by(walking), acked_by(doing)
        if not at_once:
            eventually(lambda: all(silent(worker) for worker in walking), "nobody believes in anything")
        standby.promote()
        promoted_sec = boot_sec()
        kept = query(standby.dsn, "select item from walk_audit where run = %s", RUN)
        assert audited <= {item for (item,) in kept}, "an acknowledged audit is lost"
        rows = query(standby.dsn, "select item from results")
        assert committed <= {item for (item,) in rows}, "an acknowledged transaction is lost"
        for worker in walking:
            assert worker.hear(LIMIT_SEC) == {"walked": True}
        for worker in doing:
            assert worker.hear(LIMIT_SEC)["done"]
        assert complaints(evidence(walkers, standby.dsn, "walk_", tasks)) == []
        assert query(standby.dsn, "select item from results group by 1 having count(*) > 1") == []
        assert query(standby.dsn, "select count(*) from results") == [(len(ids),)]
        walkers.wait_until_owned(walking)
        walkers.assert_exclusive()
        doers.assert_exclusive()
        took_sec = walkers.seconds_to_steady_cover(lost_sec, boot_sec()) - (promoted_sec - lost_sec)
        print(f"promoted after {promoted_sec - lost_sec:.2f} s; all owned for good {took_sec:.2f} s later")
        return took_sec


def test_a_lost_primary_with_a_synchronous_standby_costs_nothing_that_was_acknowledged(
    make_pair: MakePair, tmp_path: Path
) -> None:
    took_sec = lost_under_two_fleets(make_pair(synchronous=True), tmp_path, QUICK, tasks=800)
    assert took_sec < QUICK["heartbeat_timeout_sec"] + QUICK["heartbeat_interval_sec"] + CONNECT_SEC + BUSY_SEC


@pytest.mark.slow
def test_a_standby_promoted_within_the_session_lease_takes_nothing_from_anybody(
    make_pair: MakePair, tmp_path: Path
) -> None:
    lost_under_two_fleets(make_pair(synchronous=True), tmp_path, QUICK, tasks=800, at_once=True)


@pytest.mark.slow
@pytest.mark.parametrize("times", [QUICK, DEFAULT], ids=["quick", "default"])
@pytest.mark.parametrize("turn", range(3))
def test_a_lost_primary_under_longer_runs(
    make_pair: MakePair, tmp_path: Path, times: dict[str, Any], turn: int
) -> None:
    took_sec = lost_under_two_fleets(make_pair(synchronous=True), tmp_path, times, tasks=8000)
    lease_sec, beat_sec = times.get("heartbeat_timeout_sec", 15), times.get("heartbeat_interval_sec", 5)
    assert took_sec < lease_sec + beat_sec + CONNECT_SEC + BUSY_SEC


# --- an asynchronous standby ---------------------------------------------------------------------


def begun_in(workers: list[Worker]) -> Counter[int]:
    return Counter(record.task for worker in workers for record in read_begun("", worker.begun_file))


@pytest.mark.slow
def test_a_lost_primary_with_an_asynchronous_standby_repeats_what_was_lost_and_shares_no_token(
    make_pair: MakePair, tmp_path: Path
) -> None:
    primary, standby = make_pair(synchronous=False)
    tasks = 4000
    with Fleet(dsn_of_both(primary, standby), "sync_", tmp_path, **QUICK) as fleet:
        workers = fleet.start("w0", "w1", run=RUN)
        for worker in workers:
            worker.order("walk", count=tasks, pace_sec=0.004)
        eventually(lambda: begun_count(workers) > 0.1 * tasks, "a tenth is begun", limit_sec=LIMIT_SEC)
        with nothing_is_sent_on(primary):
            # From here on what the primary acknowledges will be lost: audits, an owner's name, a hand-over to it.
            safe = {item for (item,) in query(standby.dsn, "select item from sync_audit")}
            workers.append(fleet.enter("w2", run=RUN))
            workers[2].order("walk", count=tasks, pace_sec=0.004)
            eventually(lambda: workers[2].acked, "the new node has done something", limit_sec=LIMIT_SEC)
            lose_machine(primary)
        acked = acked_by(workers)
        standby.promote()
        lost = acked - {item for (item,) in query(standby.dsn, "select item from sync_audit")}
        assert lost, "nothing was lost: the test shows nothing"
        for worker in workers:
            assert worker.hear(LIMIT_SEC) == {"walked": True}
        fleet.wait_until_owned(workers)
        fleet.assert_exclusive()
        assert "removed" in [event["what"] for event in workers[2].events], "a node that was lost keeps nothing"
        begun = begun_in(workers)
        audits = query(standby.dsn, "select item, count(*) from sync_audit group by 1")
        assert sorted(int(item) for item, _ in audits) == list(range(tasks))
        assert {count for _, count in audits} == {1}
        assert {begun[int(item)] for item in safe} == {1}, "what had reached the standby was done again"
        print(f"{len(lost)} acknowledged audits were lost; {sum(n > 1 for n in begun.values())} tasks were begun again")


def stranded_owner(pair: tuple[PrivateServer, Standby], directory: Path, *, break_rule: bool) -> Fleet:
    """Let half of the tokens go to a node in commits that are lost, and that node believe on, cut off, by its lease.

    Their first owner finds itself on record as the owner of all of them on the new primary, at once.
    """
    primary, standby = pair
    times = {"heartbeat_interval_sec": 0.5, "heartbeat_timeout_sec": 5.0, "session_lease_sec": None}
    mutant = {"mutant": "quarantine"} if break_rule else {}
    with Fleet(dsn_of_both(primary, standby), "sync_", directory, **times) as fleet:
        (first,) = fleet.start("w0", **mutant)
        if break_rule:
            query(primary.dsn, "create or replace function sync_recognise_server(_system_id text, _timeline text, "
                  "out generation bigint, out quarantined boolean) language sql as 'select 1, false'")  # fmt: skip
            eventually(lambda: query(standby.dsn, "select prosrc from pg_proc where proname = 'sync_recognise_server'")
                       == [("select 1, false",)])  # fmt: skip
        with nothing_is_sent_on(primary):
            only_there = {**fleet.given["settings"], "dsn": primary.dsn}  # type: ignore[dict-item]
            second = fleet.enter("w1", settings=only_there)
            fleet.wait_until_owned([first, second])
            eventually(lambda: len(second.ask("status")["held"]) == fleet.tokens // 2, "the tokens are shared")
            lose_machine(primary)
        standby.promote()
        fleet.wait_until_owned([first])
        eventually(lambda: silent(second), "the lease of the node that was cut off has run out")
        return fleet


@pytest.mark.slow
def test_nobody_is_granted_what_a_node_from_the_lost_commits_may_still_believe_in(
    make_pair: MakePair, tmp_path: Path
) -> None:
    stranded_owner(make_pair(synchronous=False), tmp_path, break_rule=False).assert_exclusive()


@pytest.mark.slow
def test_the_judge_convicts_a_fleet_without_the_quarantine(make_pair: MakePair, tmp_path: Path) -> None:
    fleet = stranded_owner(make_pair(synchronous=False), tmp_path, break_rule=True)
    with pytest.raises(AssertionError, match="owned twice"):
        fleet.assert_exclusive()


# --- the queue -----------------------------------------------------------------------------------


def done_jobs(server: PrivateServer) -> set[int]:
    return {number for (number,) in query(server.dsn, "select id from sync_job where status = 'done'")}


@pytest.mark.slow
@pytest.mark.parametrize("synchronous", [True, False], ids=["synchronous", "asynchronous"])
def test_jobs_outlive_a_lost_primary(make_pair: MakePair, *, synchronous: bool) -> None:
    """Every job that the standby has is done; with a synchronous one, every end that was acknowledged stands."""
    primary, standby = make_pair(synchronous=synchronous)
    dsn = dsn_of_both(primary, standby)
    with queue(dsn, "sync_") as jobs, closing(Crew(dsn, "sync_")) as crew:
        query(dsn, "create table sync_ran (id bigint, worker text, attempt bigint, at timestamptz default now())")
        numbers = jobs.enqueue_many([("quick", None)] * JOBS)
        crew.start("one", slots=4)
        crew.start("two", slots=4)
        eventually(lambda: jobs.counts()["done"] > 50, "some are done", limit_sec=LIMIT_SEC)
        with nothing_is_sent_on(primary) if not synchronous else nullcontext():
            done = done_jobs(standby)
            held = jobs.counts()["done"]
            eventually(lambda: jobs.counts()["done"] > held + 50, "more are done", limit_sec=LIMIT_SEC)
            more = done_jobs(primary)
            lose_machine(primary)
        standby.promote()
        with queue(standby.dsn, "sync_") as after:
            kept = done_jobs(standby)
            assert done <= kept
            assert (more <= kept) is synchronous, "an acknowledged end is lost, or the test shows nothing"
            eventually(lambda: after.counts()["done"] == JOBS, "all are done", limit_sec=LIMIT_SEC)
            eventually(lambda: leases(standby.dsn, "sync_") == 0, "no lease is left")
        ran = Counter(number for number, _ in query(standby.dsn, "select id, worker from sync_ran"))
        print(f"{len(more - kept)} ends were lost; {sum(count > 1 for count in ran.values())} jobs ran again")
        assert set(ran) == set(numbers)
