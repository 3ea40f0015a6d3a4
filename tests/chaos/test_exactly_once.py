"""`job.transaction(task)`: effects in the database are exactly once, wherever a process is killed or stopped.

The table of results has no unique key: nothing but the transaction keeps a task from having its effect twice. A victim
does tasks of a run until it comes to a named point (see `points`); there it is killed, or stops itself by SIGSTOP until
the others have done everything. SQL is the judge: each item once.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from jobsync.runtime.clock import boot_sec
from tests.api.jobs import eventually, query
from tests.chaos import points
from tests.chaos.fleet import Fleet, Worker

pytestmark = pytest.mark.chaos

RUN = "once"
TIMES = {"heartbeat_interval_sec": 0.4, "heartbeat_timeout_sec": 1.5}
ROW_LEASE_SEC = 1.5
IDLE_SEC = 5.0  # For so long the server lets a transaction idle, and no longer.
BUSY_SEC = 1.5  # What a busy machine may add to a bound.
IDS = [f"item-{number}" for number in range(60)]
IN_LOOP = [
    points.BEFORE_TRANSACTION,
    points.IN_BODY,
    points.AFTER_LAST_STATEMENT,
    points.BEFORE_COMMIT,
    points.COMMIT_SENT,
    points.AFTER_COMMIT,
]
AT_LEAVING = [points.BEFORE_RELEASE, points.AFTER_RELEASE]


class Work:
    """A fleet in one run, and the table that its tasks write to."""

    def __init__(self, dsn: str, prefix: str, directory: Path) -> None:
        self.dsn, self.prefix = dsn, prefix
        self.table = f"{prefix}results"
        query(dsn, f"create table {self.table} (item text)")
        self.fleet = Fleet(dsn, prefix, directory, **TIMES)

    def start(self, *names: str, **given: Any) -> list[Worker]:
        return self.fleet.start(*names, run=RUN, is_sampled=False, **given)

    def order(self, worker: Worker, ids: list[str] = IDS, **given: Any) -> None:
        worker.order("work", ids=ids, table=self.table, **given)

    def bring_to(self, worker: Worker, point: str, *, stops: bool = False, **given: Any) -> None:
        """Have a worker begin, and wait until it holds still at the point."""
        assert worker.ask("arm", point=point, after=2 if point in IN_LOOP else 0, stops=stops) == {"armed": point}
        self.order(worker, **given)
        assert worker.hear() == {"reached": point}
        if stops:
            worker.wait_until_stopped()

    def finish(self, *workers: Worker) -> list[str]:
        """Wait until these workers have found everything done; give the names of the errors that they met."""
        errors: list[str] = []
        for worker in workers:
            said = worker.hear(60)
            assert said.get("done"), said
            errors += said["errors"]
        return errors

    def assert_exactly_once(self, ids: list[str] = IDS) -> None:
        found = dict(query(self.dsn, f"select item, count(*) from {self.table} group by item"))
        assert found == dict.fromkeys(ids, 1), {item: found.get(item, 0) for item in ids if found.get(item, 0) != 1}
        audited = f"select item from {self.prefix}audit where run = %s order by item"
        assert [item for (item,) in query(self.dsn, audited, RUN)] == sorted(ids)

    def is_fenced(self, worker: Worker) -> bool:
        return query(self.dsn, f"select state from {self.prefix}node where name = %s", worker.name) == [("fenced",)]


@pytest.fixture
def work(server_dsn: str, prefix: str, tmp_path: Path) -> Iterator[Work]:
    work = Work(server_dsn, prefix, tmp_path)
    with work.fleet:
        yield work


# --- killed and stopped at every point -----------------------------------------------------------


@pytest.mark.parametrize("point", IN_LOOP + AT_LEAVING)
def test_a_process_killed_at(work: Work, point: str) -> None:
    other, victim = work.start("other", "victim")
    work.bring_to(victim, point, leave_at=3 if point in AT_LEAVING else None)
    victim.kill()
    work.order(other)
    assert work.finish(other) == []
    work.assert_exactly_once()


@pytest.mark.parametrize("point", IN_LOOP + AT_LEAVING)
def test_a_process_stopped_until_all_is_done_at(work: Work, point: str) -> None:
    other, victim = work.start("other", "victim")
    work.bring_to(victim, point, stops=True, leave_at=3 if point in AT_LEAVING else None)
    work.order(other)
    assert work.finish(other) == []
    victim.go_on()
    work.finish(victim)
    work.assert_exactly_once()


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "stopped"])
def test_a_process_that_is_handing_its_tokens_over(work: Work, is_killed: bool) -> None:
    other, victim = work.start("other", "victim")
    assert victim.ask("arm", point=points.IN_HANDOVER, after=0, stops=not is_killed)
    work.order(victim, pace_sec=0.02)
    third = work.fleet.launch("third", run=RUN, is_sampled=False)
    while (said := victim.hear()) != {"reached": points.IN_HANDOVER}:
        pytest.fail(f"the victim says {said}")
    if is_killed:
        victim.kill()
    else:
        victim.wait_until_stopped()
    assert "entered" in third.hear()
    for worker in (other, third):
        work.order(worker)
    work.finish(other, third)
    if not is_killed:
        victim.go_on()
        work.finish(victim)
    work.assert_exactly_once()


def test_restarts_under_the_same_name_at_every_point(work: Work) -> None:
    (other,) = work.start("other")
    for point in IN_LOOP:
        victim = work.fleet.enter("victim", run=RUN, is_sampled=False)
        eventually(lambda: victim.ask("status")["held"])  # noqa: B023
        work.bring_to(victim, point)
        victim.kill()
    work.order(other)
    assert work.finish(other) == []
    work.assert_exactly_once()


def test_without_the_transaction_the_judge_convicts(work: Work) -> None:
    other, victim = work.start("other", "victim", mutant="transactions")
    work.bring_to(victim, points.AFTER_LAST_STATEMENT)
    victim.kill()
    work.order(other)
    work.finish(other)
    with pytest.raises(AssertionError, match="2"):
        work.assert_exactly_once()


# --- the fence waits, and not for ever -----------------------------------------------------------


def test_a_fence_waits_for_a_transaction_that_wakes_in_time_and_commits(work: Work) -> None:
    other, victim = work.start("other", "victim")
    work.bring_to(victim, points.BEFORE_COMMIT, stops=True)
    stopped_sec = boot_sec()
    eventually(lambda: boot_sec() - stopped_sec > ROW_LEASE_SEC + 1.0)
    assert not work.is_fenced(victim), "the fence has passed the transaction"
    victim.go_on()
    work.order(other)
    errors = work.finish(victim, other)
    assert errors == []
    work.assert_exactly_once()


def test_a_fence_waits_no_longer_than_the_server_lets_the_transaction_idle(work: Work) -> None:
    other, victim = work.start("other", "victim")
    work.bring_to(victim, points.BEFORE_COMMIT, stops=True)
    stopped_sec = boot_sec()
    eventually(lambda: work.is_fenced(victim))
    took_sec = boot_sec() - stopped_sec
    assert ROW_LEASE_SEC < took_sec < IDLE_SEC + 1.0 + BUSY_SEC, f"fenced after {took_sec:.1f} s"
    work.order(other)
    work.finish(other)
    victim.go_on()
    assert len(work.finish(victim)) == 1
    work.assert_exactly_once()


# --- the user's own deferred triggers ---------------------------------------------------------------

HOLD_UP = """
create function {table}_wait() returns trigger language plpgsql as $$
begin
    if new.item = '{item}' then
        perform pg_advisory_xact_lock(hashtext('{table}'));
    end if;
    return null;
end $$;
create constraint trigger {table}_wait after insert on {table} deferrable initially deferred
    for each row execute function {table}_wait();
"""


@contextmanager
def held_up(work: Work, item: str) -> Iterator[None]:
    """Let a deferred trigger hold up one item's transaction, at its very end, as long as the body lasts."""
    query(work.dsn, HOLD_UP.format(table=work.table, item=item))
    with psycopg.connect(work.dsn) as conn:
        conn.execute("select pg_advisory_xact_lock(hashtext(%s))", (work.table,))
        yield


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "stopped"])
def test_a_deferred_trigger_holds_up_its_transaction_and_not_the_fence(work: Work, is_killed: bool) -> None:
    other, victim = work.start("other", "victim")
    (item, *_) = victim.ask("status")["held"]
    ids = [item, *IDS]
    waiting = f"select pid from pg_stat_activity where wait_event = 'advisory' and query like '%{work.prefix}finish%'"
    with held_up(work, item):
        work.order(victim, ids)
        eventually(lambda: query(work.dsn, waiting), "the trigger waits")
        gone_sec = boot_sec()
        if is_killed:
            victim.kill()
        else:
            victim.stop()
        eventually(lambda: work.is_fenced(victim), "the node is fenced")
        assert boot_sec() - gone_sec < ROW_LEASE_SEC + 1.0 + BUSY_SEC
    # The server goes on with the old transaction as well, and finds that the token is not its node's any more.
    work.order(other, ids)
    work.finish(other)
    if not is_killed:
        victim.go_on()
        work.finish(victim)
    work.assert_exactly_once(ids)


# --- alone -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", [points.AFTER_LAST_STATEMENT, points.BEFORE_COMMIT])
def test_a_lone_process_whose_transaction_was_cut_off_while_it_slept_does_the_task_again(
    work: Work, point: str
) -> None:
    (victim,) = work.start("victim")
    work.bring_to(victim, point, stops=True)
    idle = f"select pid from pg_stat_activity where state like 'idle in%' and query like '%{work.prefix}%'"
    eventually(lambda: not query(work.dsn, idle))
    victim.go_on()
    assert len(work.finish(victim)) == 1
    work.assert_exactly_once()


# --- a storm ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_storm_of_kills_and_stops(work: Work, seed: int) -> None:
    rng = random.Random(seed)
    ids = [f"item-{number}" for number in range(1500)]
    names = ["w0", "w1", "w2", "w3"]
    workers = {worker.name: worker for worker in work.start(*names)}
    for worker in workers.values():
        work.order(worker, ids, pace_sec=0.03)
    until_sec = boot_sec() + 15.0
    faults: list[str] = []
    while (boot_sec() < until_sec or len(faults) <= 5) and done_items(work) < len(ids):
        name = rng.choice(names)
        victim = workers[name]
        fault = rng.choice(["kill", "long stop", "short stop"])
        faults.append(fault)
        if fault == "kill":
            victim.kill()
            let_pass(rng.uniform(0, 0.5))
            workers[name] = work.fleet.enter(name, run=RUN, is_sampled=False)
            work.order(workers[name], ids, pace_sec=0.03)
        else:
            victim.stop()
            let_pass(rng.uniform(1.5, 3.0) if fault == "long stop" else rng.uniform(0.0, 0.5))
            victim.go_on()
    assert len(faults) > 5
    print(f"{len(faults)} faults ({', '.join(faults)}), {done_items(work)} of {len(ids)} done by then")
    work.finish(*workers.values())
    work.assert_exactly_once(ids)


def done_items(work: Work) -> int:
    return int(query(work.dsn, f"select count(*) from {work.table}")[0][0])


def let_pass(seconds: float) -> None:
    """Let the fault last: not a wait for something to happen."""
    until_sec = boot_sec() + seconds
    eventually(lambda: boot_sec() >= until_sec)
