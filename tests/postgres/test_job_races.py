"""The queue's races by name, each on two connections, with the one stopped in the middle of its transaction."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any, TypeVar

import psycopg
import pytest

from tests.postgres.queue_hands import START, Hands
from tests.postgres.support import Fleet, wait_until

T = TypeVar("T")


class Race:
    """Two pairs of hands; the first acts in a transaction that is open as long as the second has to wait."""

    def __init__(self, fleet: Fleet, pool: ThreadPoolExecutor) -> None:
        self.fleet = fleet
        self.pool = pool
        self.one = Hands(fleet.connect(), fleet.prefix, START)
        self.two = Hands(fleet.connect(), fleet.prefix, START)
        self.one.join(1)
        self.lane = self.one.lane("k")

    def meanwhile(self, first: Callable[[], object], second: Callable[[], T]) -> T:
        """Let the first act, see the second wait for it, commit, and give the second's answer."""
        with self.one.conn.transaction():
            first()
            answer: Future[T] = self.pool.submit(second)
            wait_until(lambda: answer.done() or self.fleet.waits_for_lock(self.two.conn))
            assert not answer.done(), "the second did not have to wait"
        return answer.result(10.0)

    def beside(self, first: Callable[[], object], second: Callable[[], T]) -> T:
        """The same where the second must not wait."""
        with self.one.conn.transaction():
            first()
            return self.pool.submit(second).result(10.0)

    def at(self, sec: float) -> None:
        self.one.clock = self.two.clock = START + timedelta(seconds=sec)


@pytest.fixture
def race(fleet: Fleet) -> Iterator[Race]:
    with ThreadPoolExecutor(1) as pool:
        race = Race(fleet, pool)
        yield race
        assert race.one.broken_rules() == {}


# --- cancel, against whatever moves the job --------------------------------------------------------


def test_a_job_that_becomes_due_is_cancelled_all_the_same(race: Race) -> None:
    job = race.one.add(race.lane, run_at=race.one.later(5))
    race.at(10)
    assert race.meanwhile(race.one.promote, lambda: race.two.cancel(job)) == {job}
    assert race.one.status(job) == "cancelled"


def test_a_job_that_is_taken_is_cancelled_all_the_same_and_its_result_refused(race: Race) -> None:
    job = race.one.add(race.lane)
    took = []
    assert race.meanwhile(lambda: took.extend(race.one.take([race.lane])), lambda: race.two.cancel(job)) == {job}
    assert race.one.done(took, [took[0].epoch]) == {job}
    assert race.one.status(job) == "cancelled"


@pytest.mark.parametrize("affinity", [None, "x"])
def test_a_job_that_is_given_back_is_cancelled_all_the_same(race: Race, affinity: str | None) -> None:
    job = race.one.add(race.lane, affinity=affinity)
    took = race.one.take([race.lane]) + race.one.take_gated([race.lane])
    assert race.meanwhile(lambda: race.one.release(took), lambda: race.two.cancel(job)) == {job}
    assert race.one.status(job) == "cancelled"


def test_a_job_that_goes_to_the_gate_is_cancelled_all_the_same(race: Race) -> None:
    job = race.one.add(race.lane)
    race.one.limit("k", 1, None)
    assert race.meanwhile(lambda: race.one.take([race.lane]), lambda: race.two.cancel(job)) == {job}
    assert race.one.status(job) == "cancelled"


def test_what_was_done_first_is_not_cancelled(race: Race) -> None:
    job = race.one.add(race.lane)
    took = race.one.take([race.lane])
    assert race.meanwhile(lambda: race.one.done(took), lambda: race.two.cancel(job)) == set()
    assert race.one.status(job) == "done"


def test_a_running_job_that_is_cancelled_is_gone_from_what_the_worker_extends(race: Race) -> None:
    job, other = race.one.add(race.lane), race.one.add(race.lane)
    [first, _] = race.one.take([race.lane])
    assert race.two.cancel(job) == {job}
    assert race.one.extend([first.epoch]) == {first.epoch: [0, other]}


def test_two_who_cancel_the_same_jobs_in_turn_and_otherwise_do_not_deadlock(race: Race) -> None:
    jobs = [race.one.add(race.lane, run_at=race.one.later(5)) for _ in range(2)]
    with race.one.conn.transaction():
        race.one.cancel(jobs[0])
        answer = race.pool.submit(lambda: race.two.cancel(jobs[1], jobs[0]))
        wait_until(lambda: race.fleet.waits_for_lock(race.two.conn))
        assert race.one.cancel(jobs[1]) == {jobs[1]}
    assert answer.result(10.0) == set()


# --- the end of attempts ---------------------------------------------------------------------------


def test_jobs_of_one_lease_are_done_on_two_connections(race: Race) -> None:
    race.one.enqueue(race.lane, 2)
    first, second = race.one.take([race.lane])
    over = [first.epoch]
    assert race.meanwhile(lambda: race.one.done([first], over), lambda: race.two.done([second], over)) == set()
    assert race.one.sql("select from sync_job_lease") == []


def test_a_lease_does_not_go_before_all_its_jobs(race: Race) -> None:
    race.one.enqueue(race.lane, 2)
    first, second = race.one.take([race.lane])
    race.one.done([first], [first.epoch])
    assert race.one.status(second.id) == "processing"
    assert race.one.done([second], [first.epoch]) == set()


def test_who_is_done_and_who_recovers_settle_it_by_the_lease(race: Race) -> None:
    race.one.enqueue(race.lane, 2)
    [took] = race.one.take([race.lane], 1)
    race.at(100)
    assert race.beside(lambda: race.one.done([took]), race.two.recover) == 0
    [late] = race.one.take([race.lane], 1)
    race.at(200)
    assert race.meanwhile(race.one.recover, lambda: race.two.done([late])) == {late.id}
    assert (race.one.status(took.id), race.one.status(late.id)) == ("done", "retry")


def test_who_extends_first_keeps_the_lease(race: Race) -> None:
    race.one.enqueue(race.lane, 1)
    [took] = race.one.take([race.lane])
    race.at(100)
    assert race.beside(lambda: race.one.extend([took.epoch]), race.two.recover) == 0
    assert race.two.recover() == 0
    race.at(200)
    assert race.meanwhile(race.one.recover, lambda: race.two.extend([took.epoch])) == {}


def test_a_job_that_is_run_again_is_no_more_the_old_lease_s(race: Race) -> None:
    race.one.enqueue(race.lane, 2)
    first, second = race.one.take([race.lane])
    race.one.done([first])
    assert race.meanwhile(lambda: race.one.retry(first.id), lambda: race.two.done([first, second])) == {first.id}
    assert (race.one.status(first.id), race.one.status(second.id)) == ("pending", "done")
    assert race.one.extend([first.epoch]) == {first.epoch: [0, second.id]}


def test_what_is_run_again_is_not_pruned(race: Race) -> None:
    job = race.one.add(race.lane)
    race.one.done(race.one.take([race.lane]), [1])
    race.one.sql("delete from sync_job_lease")
    race.at(100)
    assert race.beside(lambda: race.one.retry(job), lambda: race.two.prune(0.0)) == 0
    assert race.one.status(job) == "pending"


def test_done_gives_up_the_places_and_only_its_own(race: Race) -> None:
    race.one.limit("k", 1, None)
    race.one.enqueue(race.lane, 2, affinity="x")
    [old] = race.one.take_gated([race.lane])
    race.at(100)
    race.one.recover()
    [new] = race.one.take_gated([race.lane])
    assert new.id == old.id
    assert race.one.done([old]) == {old.id}
    assert race.one.take_gated([race.lane]) == []
    assert race.one.done([new], [new.epoch]) == set()
    assert len(race.one.take_gated([race.lane])) == 1


# --- people ----------------------------------------------------------------------------------------


def test_a_job_that_was_taken_is_not_deleted(race: Race) -> None:
    job = race.one.add(race.lane)
    delete = "with d as (delete from sync_job where id = $1::bigint returning id) select id from d"
    assert race.meanwhile(lambda: race.one.take([race.lane]), lambda: race.two.sql(delete, job)) == []
    assert race.one.status(job) == "processing"


def test_a_job_that_was_taken_keeps_its_priority(race: Race) -> None:
    job = race.one.add(race.lane)
    change = "with u as (update sync_job set priority = 9 where id = $1::bigint returning id) select id from u"
    assert race.meanwhile(lambda: race.one.take([race.lane]), lambda: race.two.sql(change, job)) == []


def test_a_job_that_becomes_due_is_changed_all_the_same(race: Race) -> None:
    job = race.one.add(race.lane, run_at=race.one.later(5))
    race.at(10)
    change = "with u as (update sync_job set priority = 9 where id = $1::bigint returning id) select id from u"
    assert race.meanwhile(race.one.promote, lambda: race.two.sql(change, job)) == [(job,)]


def test_a_job_that_is_done_is_not_failed_by_hand(race: Race) -> None:
    job = race.one.add(race.lane)
    took = race.one.take([race.lane])
    change = "with u as (update sync_job set status = 'failed' where id = $1::bigint returning id) select id from u"
    assert race.meanwhile(lambda: race.one.done(took), lambda: race.two.sql(change, job)) == []
    assert race.one.status(job) == "done"


def test_a_deleted_job_does_not_come_back_with_its_lease(race: Race) -> None:
    race.one.enqueue(race.lane, 2)
    first, second = race.one.take([race.lane])
    race.one.done([first])
    race.two.sql("delete from sync_job where id = $1::bigint", first.id)
    race.at(100)
    assert race.one.recover() == 1
    assert race.one.done([first]) == {first.id}
    assert race.one.sql("select id from sync_job_error") == [(second.id,)]


@pytest.mark.parametrize(
    "change",
    [
        "update sync_job set locked_until = now()",
        "update sync_job set kind = 'other'",
        "update sync_job set status = 'done'",
        "update sync_job set progress = 50",
        "update sync_job set last_error = 'x'",
        "insert into sync_job (kind, payload, status) values ('k', '1', 'done')",
        "insert into sync_job (kind) values ('k')",
        "insert into sync_job (kind, payload, max_attempts) values ('k', '1', 32001)",
        "insert into sync_job (kind, payload, affinity) values ('k', '1', repeat('x', 2001))",
        "insert into sync_job (kind, payload, limit_key) values ('k', '1', repeat('x', 2001))",
    ],
)
def test_what_the_view_does_not_carry_is_refused(race: Race, change: str) -> None:
    race.one.add(race.lane)
    before = race.one.sql("select to_jsonb(j) from sync_job j")
    with pytest.raises(psycopg.Error) as caught:
        race.one.sql(change)
    assert caught.value.sqlstate in {"0A000", "22001", "22023", "23502", "23514"}
    assert race.one.sql("select to_jsonb(j) from sync_job j") == before


# --- enqueueing ------------------------------------------------------------------------------------


def test_two_who_store_one_key_store_one_job(race: Race) -> None:
    mine: list[tuple[int, bool]] = []
    [(theirs, is_new)] = race.meanwhile(
        lambda: mine.extend(race.one.enqueue(race.lane, job_id="x")), lambda: race.two.enqueue(race.lane, job_id="x")
    )
    assert (theirs, is_new) == (mine[0][0], False)


def test_a_key_whose_job_is_pruned_meanwhile_stores_a_job(race: Race) -> None:
    old = race.one.add(race.lane, job_id="x")
    race.one.cancel(old)
    race.at(100)
    [(new, is_new)] = race.meanwhile(lambda: race.one.prune(0.0), lambda: race.two.enqueue(race.lane, job_id="x"))
    assert (is_new, race.one.status(new)) == (True, "pending")


def test_a_key_whose_job_goes_between_the_insert_and_the_answer_stores_a_job(race: Race) -> None:
    old = race.one.add(race.lane, job_id="x")
    race.one.cancel(old)
    race.one.sql(
        "create function sync_let_go() returns trigger language plpgsql as $$ begin "
        f"delete from sync_job_end where id = {old}; delete from sync_job_body where id = {old}; return null; end $$"
    )
    race.one.sql(
        "create trigger let_go after insert on sync_job_body for each statement execute function sync_let_go()"
    )
    [(new, is_new)] = race.two.enqueue(race.lane, job_id="x")
    assert (is_new, race.one.status(new)) == (True, "pending")


def test_one_call_may_name_a_key_twice(race: Race) -> None:
    assert [is_new for _, is_new in race.one.enqueue(race.lane, 3, job_id="x")] == [True, False, False]


# --- taking ----------------------------------------------------------------------------------------


def test_who_finds_the_first_lane_taken_is_given_the_next(race: Race) -> None:
    other = race.one.lane("other")
    race.one.enqueue(race.lane, 10, priority=1)
    race.one.enqueue(other, 10)
    lanes = [race.lane, other]
    assert len(race.beside(lambda: race.one.take(lanes, 10), lambda: race.two.take(lanes, 10))) == 10


def test_who_finds_a_place_being_taken_does_not_wait(race: Race) -> None:
    race.one.limit("k", 1, None)
    race.one.enqueue(race.lane, 2, limit_key="eu")
    assert race.beside(lambda: race.one.take_gated([race.lane], 1), lambda: race.two.take_gated([race.lane])) == []
    assert race.two.take_gated([race.lane]) == []


def test_who_came_to_the_line_after_the_look_goes_first_all_the_same(race: Race) -> None:
    """The second of a line is admitted by a look at the line that is older than the first one's coming to the gate."""
    first, second = (row[0] for row in race.one.enqueue(race.lane, 2, affinity="x"))
    admit = "select is_mine from sync_job_admit($1::bigint, true)"
    with race.one.conn.transaction():
        assert race.fleet.value(admit, second, conn=race.one.conn) is False
    assert race.fleet.value("select count(*) from sync_job_place") == 0
    assert [took.id for took in race.one.take_gated([race.lane])] == [first]


def test_who_waits_behind_a_head_that_is_cancelled_is_woken(race: Race) -> None:
    head, *_ = race.one.enqueue(race.lane, 2, affinity="x")
    listener = race.fleet.connect()
    listener.execute(race.fleet.spelt("listen sync_job").encode())
    with race.one.conn.transaction():
        race.one.cancel(head[0])
        assert race.two.take_gated([race.lane]) == []
    assert [n.payload for n in listener.notifies(timeout=10, stop_after=1)] == [""]
    assert len(race.two.take_gated([race.lane])) == 1


def test_a_node_that_was_fenced_is_given_nothing(race: Race) -> None:
    race.one.add(race.lane)
    race.one.add(race.lane, affinity="x")
    race.one.fence(1)
    assert race.one.take([race.lane]) == race.one.take_gated([race.lane]) == []


@pytest.mark.parametrize("full", [{"limits": (1, None)}, {"limits": (None, 1), "limit_key": "eu"}])
def test_a_full_limit_hides_nothing_behind_it(race: Race, full: dict[str, Any]) -> None:
    at_once, per_key = full.pop("limits")
    race.one.limit("k", at_once, per_key)
    race.one.enqueue(race.lane, 60, **full)
    if not full:
        race.one.take([race.lane])  # which sends them to the gate
    assert len(race.one.take_gated([race.lane])) == 1
    free = race.lane if per_key else race.one.lane("free")
    behind = race.one.add(free, **({"limit_key": "us"} if per_key else {"max_attempts": 1}))
    assert [t.id for t in race.one.take_gated([race.lane, free], 1)] == [behind]


def test_suspects_hide_no_innocent_behind_them(race: Race) -> None:
    race.one.enqueue(race.lane, 60)
    race.one.take([race.lane], 60)
    race.at(100)
    assert race.one.recover() == 60
    innocent = race.one.add(race.lane, max_attempts=1)
    first = race.one.take_gated([race.lane], 2, suspects=True)
    assert sorted(t.crashes for t in first) == [0, 1]
    assert innocent in {t.id for t in first}
    later = race.one.add(race.lane, max_attempts=1)
    assert [t.id for t in race.one.take_gated([race.lane], 2, suspects=False)] == [later]


def test_a_lease_has_five_hundred_jobs_at_most(race: Race) -> None:
    race.one.enqueue(race.lane, 600)
    race.one.enqueue(race.lane, 600, max_attempts=1)
    assert len(race.one.take([race.lane], 600)) == 500
    assert len(race.one.take_gated([race.lane], 600)) == 500


def test_recovery_goes_on_until_nothing_is_left(race: Race) -> None:
    race.one.enqueue(race.lane, 101)
    for _ in range(101):
        race.one.take([race.lane], 1)
    race.at(100)
    assert [race.one.recover() for _ in range(3)] == [100, 1, 0]


def test_numbers_beyond_the_small_ones(race: Race) -> None:
    race.one.sql("select setval('sync_job_number', 5000000000)")
    jobs = [race.one.add(race.lane, max_attempts=32_000), race.one.add(race.lane, affinity="x", max_attempts=32_000)]
    race.one.sql("update sync_job_ready set attempts = 31998")
    race.one.sql("update sync_job_gated set attempts = 31999")
    took = race.one.take([race.lane]) + race.one.take_gated([race.lane])
    assert [t.id for t in took] == jobs
    assert [t.attempts for t in took] == [31_999, 32_000]
    race.at(100)
    assert race.one.recover() == 2
    assert [race.one.status(job) for job in jobs] == ["retry", "failed"]


def test_names_of_any_length_have_their_places(race: Race) -> None:
    kind = "k" * 1300
    lane = race.one.lane(kind)
    race.one.limit(kind, 5, 1)
    for key in ("é" * 599 + "a", "é" * 599 + "b"):
        race.one.enqueue(lane, 2, limit_key=key, affinity=key)
    assert len(race.one.take_gated([lane])) == 2
    assert race.one.take_gated([lane]) == []


# --- the fleet's hash ------------------------------------------------------------------------------


def test_what_waits_at_the_gate_follows_the_fleet_s_hash_even_if_it_came_meanwhile(race: Race) -> None:
    fleet = race.fleet
    race.one.fence(1)
    race.one.enqueue(race.lane, 2, affinity="before any node")
    wrong = (
        "select id from sync_job_gated cross join sync_meta m "
        "where token <> sync_token_of(affinity, m.hash_function, m.total_tokens)"
    )
    race.meanwhile(
        lambda: race.one.enqueue(race.lane, 2, affinity="meanwhile"),
        lambda: fleet.register("first", race.two.conn, total_tokens=1000),
    )
    assert race.one.sql("select count(*) from sync_job_gated where token is not null") == [(4,)]
    assert race.one.sql(wrong) == []
