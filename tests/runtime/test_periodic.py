"""Workers that look after periodic jobs, against a real database whose rows stand in for the passage of time."""

import logging
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobsync.core.errors import JobsyncError
from jobsync.postgres.statement import Row, Statement, run
from jobsync.postgres.worker_line import WorkerLine
from jobsync.runtime import periodic
from jobsync.runtime.clock import boot_sec
from jobsync.runtime.periodic import AFTER_THE_MINUTE_SEC, TURN_SEC, Periodic
from tests.postgres.conftest import fleet
from tests.postgres.support import Fleet

__all__ = ["fleet"]

# Due once a year, so that no minute which ends during a test makes a difference.
YEARLY = "0 0 1 1 *"
YEARS_AGO = "clock_timestamp() - interval '3 years'"


@pytest.fixture(autouse=True)
def _nothing_is_overdue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "OVERDUE_SEC", 10 * 365 * 86_400)


class Hand:
    """A worker's hand: a Periodic, and a connection that it speaks on."""

    def __init__(self, fleet: Fleet, name: str, *, leads: bool = False, enters: bool = True) -> None:
        self.member = fleet.join(name)
        self.leads = leads
        self.said: list[str] = []
        incarnation = self.member.who.incarnation
        if enters:
            fleet.sql(
                "insert into sync_job_worker (incarnation, worker, node, queues, kinds) "
                "values ($1::bigint, $2::text, $2::text, '[]', 'null')", incarnation, name,
            )  # fmt: skip
        self.periodic = Periodic(fleet.prefix, lambda: incarnation, lambda: self.leads)

    def run(self, work: Statement) -> list[Row]:
        self.said.append(work.sql)
        return run(self.member.conn, work)

    def fire(self) -> int:
        return self.periodic.fire_due(self.run)


def schedule(fleet: Fleet, name: str = "a", cron: str = YEARLY, since: str = YEARS_AGO) -> None:
    fleet.sql(
        "insert into sync_job_periodic (name, schedule, timezone, queue, kind, payload, last_due) "
        f"values ($1::text, $2::text, 'UTC', 'default', 'k', '1', {since})", name, cron,
    )  # fmt: skip


def count(fleet: Fleet) -> int:
    return int(fleet.value("select count(*) from sync_job"))


def test_the_leader_enqueues_what_is_due_once(fleet: Fleet) -> None:
    schedule(fleet)
    hand = Hand(fleet, "w", leads=True)
    assert hand.periodic.next_due_sec() <= 0
    assert [hand.fire(), hand.fire()] == [1, 0]
    assert count(fleet) == 1


def test_it_looks_at_the_start_of_each_minute_with_one_statement(fleet: Fleet) -> None:
    schedule(fleet, since="clock_timestamp()")
    hand = Hand(fleet, "w", leads=True)
    hand.fire()
    assert len(hand.said) == 1
    now = float(fleet.value("select extract(second from clock_timestamp())::float8"))
    assert hand.periodic.next_due_sec() == pytest.approx(60 - now + AFTER_THE_MINUTE_SEC, abs=5)
    assert 0 < hand.periodic.next_due_sec() <= 60 + AFTER_THE_MINUTE_SEC


def test_of_two_that_both_believe_to_lead_one_enqueues(fleet: Fleet) -> None:
    for number in range(20):
        schedule(fleet, f"p{number}")
    hands = [Hand(fleet, f"w{number}", leads=True) for number in range(4)]
    with ThreadPoolExecutor(len(hands)) as pool:
        assert sum(pool.map(Hand.fire, hands)) == 20
    assert count(fleet) == 20


def test_the_oldest_worker_enqueues_where_no_worker_leads(fleet: Fleet) -> None:
    schedule(fleet)
    fleet.join("a-node-that-works-on-no-jobs")
    first, second = Hand(fleet, "w1"), Hand(fleet, "w2")
    assert [second.fire(), first.fire()] == [0, 1]
    assert second.periodic.next_due_sec() > TURN_SEC


def test_the_next_one_does_when_the_first_is_fenced(fleet: Fleet) -> None:
    schedule(fleet)
    Hand(fleet, "w1")
    second = Hand(fleet, "w2")
    assert second.fire() == 0
    fleet.sql("update sync_node set state = 'fenced' where name = 'w1'")
    assert second.fire() == 1


def test_who_comes_to_lead_looks_at_once(fleet: Fleet) -> None:
    schedule(fleet)
    Hand(fleet, "w1")
    second = Hand(fleet, "w2")
    assert second.fire() == 0
    assert second.periodic.next_due_sec() > 0
    second.leads = True
    assert second.periodic.next_due_sec() <= 0
    assert second.fire() == 1
    assert second.periodic.next_due_sec() > 0


def test_anybody_enqueues_what_stands_for_long(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule(fleet)
    Hand(fleet, "hangs")
    second = Hand(fleet, "w2")
    assert second.fire() == 0
    monkeypatch.setattr(periodic, "OVERDUE_SEC", 90)
    assert second.fire() == 1


def test_after_an_outage_one_job_is_enqueued(fleet: Fleet) -> None:
    schedule(fleet, cron="* * * * *", since="clock_timestamp() - interval '30 days'")
    assert Hand(fleet, "w", leads=True).fire() == 1
    assert count(fleet) == 1


def test_a_worker_that_is_in_no_fleet_says_nothing(fleet: Fleet) -> None:
    nobody = Periodic(fleet.prefix, lambda: 0, lambda: True)

    def never(_: Statement) -> list[Row]:
        raise AssertionError

    assert nobody.fire_due(never) == 0
    assert nobody.next_due_sec() > 30


def test_an_error_delays_the_next_look(fleet: Fleet) -> None:
    hand = Hand(fleet, "w", leads=True)

    def away(_: Statement) -> list[Row]:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        hand.periodic.fire_due(away)
    assert hand.periodic.next_due_sec() > 30


def test_what_cannot_be_read_is_said_once_and_stops_nothing(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    schedule(fleet, "by-hand", cron="every day")
    schedule(fleet, "good")
    hand = Hand(fleet, "w", leads=True)
    with caplog.at_level(logging.ERROR, "jobsync"):
        assert hand.fire() == 1
        hand.fire()
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith(
        "the periodic job 'by-hand' is never enqueued: the cron expression 'every day' cannot be read"
    )


def test_one_that_the_database_refuses_keeps_no_other_from_its_time(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    schedule(fleet, "a-refused")
    schedule(fleet, "good")
    fleet.sql("update sync_job_periodic set kind = repeat(md5(random()::text), 200) where name = 'a-refused'")
    fleet.sql("alter table sync_job_lane add check (length(kind) < 1000)")
    hand = Hand(fleet, "w", leads=True)
    line = WorkerLine(fleet.dsn, JobsyncError, boot_sec)
    with caplog.at_level(logging.ERROR, "jobsync"):
        assert hand.periodic.fire_due(lambda work: line.run(work)[0]) == 1
    line.close()
    assert count(fleet) == 1
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("the periodic job 'a-refused' was refused by the database")
