"""One table a day for what has no run: made in a race, in the way of no date, dropped as a whole when it is old."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

import pytest
from psycopg import Connection

from jobsync.core import messages as m
from jobsync.postgres.records import Records
from jobsync.postgres.statement import run
from tests.postgres.support import Fleet, at_once, wait_until

FAR = date(2024, 2, 29)


@pytest.fixture
def today(fleet: Fleet) -> date:
    day = fleet.value("select current_date")
    assert isinstance(day, date)
    return day


def make(fleet: Fleet, day: date, conn: Connection[Any] | None = None) -> bool:
    return bool(run(conn or fleet.conn, Records(fleet.prefix, "n").make_day(day))[0][0])


def drop(fleet: Fleet, conn: Connection[Any] | None = None) -> str:
    return str(run(conn or fleet.conn, Records(fleet.prefix, "n").drop_day())[0][0])


def keep(fleet: Fleet, *, claim: float | None = None, audit: float | None = None) -> None:
    """Let a leader prune with these retentions."""
    fleet.ask(m.Prune(claim, audit, None, None))


def days(fleet: Fleet, kind: str) -> list[str]:
    rows = fleet.sql(
        "select right(c.relname, 8) from pg_inherits i join pg_class c on c.oid = i.inhrelid "
        f"where i.inhparent = 'sync_{kind}_by_date'::regclass and c.relname ~ '[0-9]{{8}}$' order by 1"
    )
    return [row[0] for row in rows]


def put(fleet: Fleet, kind: str, day: date, item: str = "x", *, age_days: float = 0.0) -> None:
    extra = ", incarnation" if kind == "claim" else ""
    fleet.sql(
        f"insert into sync_{kind} (node, item, date, created_on{extra}) values ('n', $1, $2::date, "
        f"clock_timestamp() - $3::float8 * interval '1 day'{', 1' if extra else ''})",
        item,
        day,
        age_days,
    )


def home(fleet: Fleet, kind: str, item: str) -> str:
    """Tell in which table a row lies."""
    table = str(fleet.value(f"select tableoid::regclass::text from sync_{kind} where item = $1", item))
    return table.removeprefix(f"{fleet.prefix}{kind}_")


# --- made ------------------------------------------------------------------------------------------


def test_a_day_gets_tables_of_its_own(fleet: Fleet, today: date) -> None:
    assert make(fleet, today)
    for kind in ("claim", "audit"):
        put(fleet, kind, today)
        assert home(fleet, kind, "x") == f"{today:%Y%m%d}"


def test_making_a_day_again_is_no_error(fleet: Fleet, today: date) -> None:
    assert make(fleet, today)
    assert make(fleet, today)
    assert days(fleet, "claim") == [f"{today:%Y%m%d}"]


def test_eight_who_need_a_day_at_once_all_have_it(fleet: Fleet, today: date) -> None:
    sessions = [fleet.connect() for _ in range(8)]
    for number in range(3):
        day = today + timedelta(days=number)

        def make_one(n: int, day: date = day) -> bool:
            return make(fleet, day, sessions[n])

        assert at_once(8, make_one) == [True] * 8
    assert len(days(fleet, "claim")) == len(days(fleet, "audit")) == 3


@pytest.mark.parametrize("far_days", [-32, 8, -20_000, 500_000])
def test_far_dates_go_to_the_rest(fleet: Fleet, today: date, far_days: int) -> None:
    day = today + timedelta(days=far_days)
    assert not make(fleet, day)
    put(fleet, "claim", day)
    assert home(fleet, "claim", "x") == "rest"


def test_a_date_whose_rows_lie_in_the_rest_already_stays_there(fleet: Fleet, today: date) -> None:
    put(fleet, "claim", today, "early")
    assert not make(fleet, today)
    put(fleet, "claim", today, "late")
    assert home(fleet, "claim", "late") == "rest"


def test_a_role_that_may_not_create_tables_works_on_the_rest(fleet: Fleet, today: date) -> None:
    role = f"{fleet.prefix}worker"
    fleet.sql(f"create role {role}")
    try:
        for table in ("claim_by_date", "claim_rest"):
            fleet.sql(f"grant all on sync_{table} to {role}")
        with fleet.connect() as conn:
            conn.execute(f"set role {role}".encode())
            assert not make(fleet, today, conn)
            fleet.sql("insert into sync_claim_by_date (node, item, date, incarnation) values ('n', 'x', $1::date, 1)",
                      today, conn=conn)  # fmt: skip
        assert home(fleet, "claim", "x") == "rest"
    finally:
        fleet.sql(f"drop owned by {role}")
        fleet.sql(f"drop role {role}")


def test_what_has_a_run_lies_apart_whatever_its_date(fleet: Fleet, today: date) -> None:
    make(fleet, today)
    fleet.sql("insert into sync_audit (node, item, date, run) values ('n', 'x', $1::date, 'r')", today)
    assert home(fleet, "audit", "x") == "in_run"


def test_people_delete_from_every_kind_of_table_at_once(fleet: Fleet, today: date) -> None:
    make(fleet, today)
    for number, day in enumerate((today, FAR)):
        put(fleet, "claim", day, str(number), age_days=8)
    put(fleet, "claim", today, "young")
    fleet.sql("DELETE FROM sync_claim WHERE created_on < NOW() - INTERVAL '7 days'")
    assert fleet.sql("select item from sync_claim") == [("young",)]


# --- dropped ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["claim", "audit"])
def test_a_day_that_is_past_its_retention_is_dropped(fleet: Fleet, today: date, kind: str) -> None:
    for age in (10, 9, 2):
        day = today - timedelta(days=age)
        make(fleet, day)
        put(fleet, kind, day, age_days=age)
    keep(fleet, **{kind: 7.0})
    assert [drop(fleet), drop(fleet), drop(fleet)] == ["dropped", "dropped", "nothing"]
    assert days(fleet, kind) == [f"{today - timedelta(days=2):%Y%m%d}"]
    assert fleet.value(f"select count(*) from sync_{kind}") == 1
    assert len(days(fleet, "audit" if kind == "claim" else "claim")) == 3


def test_an_old_date_that_was_worked_on_lately_is_kept(fleet: Fleet, today: date) -> None:
    day = today - timedelta(days=20)
    make(fleet, day)
    put(fleet, "claim", day, "old", age_days=19)
    put(fleet, "claim", day, "young", age_days=1)
    keep(fleet, claim=7.0, audit=7.0)
    assert [drop(fleet), drop(fleet)] == ["dropped", "nothing"]  # The empty table of audits goes.
    assert fleet.value("select count(*) from sync_claim") == 2


def test_without_a_retention_no_day_is_dropped(fleet: Fleet, today: date) -> None:
    make(fleet, today - timedelta(days=30))
    assert drop(fleet) == "nothing"
    keep(fleet)
    assert drop(fleet) == "nothing"


def test_a_day_on_which_somebody_works_is_left_for_another_time(fleet: Fleet, today: date) -> None:
    day = today - timedelta(days=10)
    make(fleet, day)
    put(fleet, "claim", day, age_days=9)
    keep(fleet, claim=7.0)
    other = fleet.connect()
    with other.transaction():
        fleet.sql("select from sync_claim for update", conn=other)
        assert drop(fleet) == "busy"
    assert drop(fleet) == "dropped"


def test_who_claims_today_waits_an_instant_at_most_while_a_day_cannot_be_dropped(fleet: Fleet, today: date) -> None:
    old = today - timedelta(days=10)
    for day in (old, today):
        make(fleet, day)
    put(fleet, "claim", old, age_days=9)
    keep(fleet, claim=7.0)
    slow, sweeper = fleet.connect(), fleet.connect()
    with ThreadPoolExecutor(1) as pool, slow.transaction():
        # A statement of the fleet runs, so the sweeper waits for the parent, and newcomers wait behind the sweeper.
        fleet.sql("insert into sync_claim_by_date (node, item, date, incarnation) values ('n', 'slow', $1::date, 1)",
                  today, conn=slow)  # fmt: skip
        outcome = pool.submit(drop, fleet, sweeper)
        wait_until(lambda: outcome.done() or fleet.waits_for_lock(sweeper))
        fleet.sql("set lock_timeout = '2s'")
        put(fleet, "claim", today, "mine")
        assert outcome.result() == "busy"
    assert drop(fleet) == "dropped"


def test_two_who_sweep_at_once_do_not_wait_for_each_other(fleet: Fleet, today: date) -> None:
    day = today - timedelta(days=10)
    make(fleet, day)
    keep(fleet, claim=7.0, audit=7.0)
    other = fleet.connect()
    with other.transaction():
        assert drop(fleet, other) == "dropped"
        assert drop(fleet) == "nothing"
