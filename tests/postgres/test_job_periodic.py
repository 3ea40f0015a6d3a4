"""A due time is enqueued once, whoever asks, however often, and whoever dies in between."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from tests.postgres.support import Fleet, wait_until

T = "2026-11-22 12:%s+00"


def schedule(fleet: Fleet, name: str = "report", **given: Any) -> None:
    values = {"cron": "*/5 * * * *", "zone": "UTC", "queue": "default", "kind": "report", "payload": "{}",
              "priority": 0, "now": T % "00"} | given  # fmt: skip
    fleet.sql(
        "select sync_job_schedule($1::text, $2::text, $3::text, $4::text, $5::text, $6::jsonb, $7::integer, "
        "$8::timestamptz)", name, *values.values(),
    )  # fmt: skip


def fire(fleet: Fleet, due: str, name: str = "report", conn: Any = None) -> int | None:
    found: int | None = fleet.value("select sync_job_fire($1::text, $2::timestamptz)", name, due, conn=conn)
    return found


def jobs(fleet: Fleet) -> list[str]:
    return [job_id for (job_id,) in fleet.sql("select job_id from sync_job order by id")]


def last_due(fleet: Fleet) -> str:
    return str(fleet.value("select to_char(last_due at time zone 'UTC', 'HH24:MI') from sync_job_periodic"))


def test_a_due_time_makes_one_job_that_bears_its_name(fleet: Fleet) -> None:
    schedule(fleet, queue="nightly", kind="send", payload='{"to": 1}', priority=7)
    first = fire(fleet, T % "05")
    assert first is not None
    assert fire(fleet, T % "05") is None
    row = fleet.sql(
        "select id, job_id, queue, kind, payload, priority, status, run_at = $1::timestamptz from sync_job", T % "05"
    )
    assert row == [(first, "report@2026-11-22T12:05:00Z", "nightly", "send", {"to": 1}, 7, "pending", True)]
    assert fleet.value("select last_id from sync_job_periodic") == first


def test_what_is_before_the_last_due_time_never_comes(fleet: Fleet) -> None:
    schedule(fleet)
    assert fire(fleet, T % "10") is not None
    assert fire(fleet, T % "05") is None
    assert fire(fleet, T % "00") is None
    assert jobs(fleet) == ["report@2026-11-22T12:10:00Z"]


def test_of_many_at_one_instant_one_enqueues(fleet: Fleet) -> None:
    schedule(fleet)
    many = 8
    conns = [fleet.connect() for _ in range(many)]
    for minute in ("05", "10", "15", "20"):
        begin = threading.Barrier(many)

        def one(conn: Any, due: str = T % minute, begin: threading.Barrier = begin) -> int | None:
            begin.wait(10)
            return fire(fleet, due, conn=conn)

        with ThreadPoolExecutor(many) as pool:
            assert sum(found is not None for found in pool.map(one, conns)) == 1
    assert len(jobs(fleet)) == 4


def test_who_dies_before_the_commit_has_enqueued_nothing_and_hinders_nobody(fleet: Fleet) -> None:
    schedule(fleet)
    dying = fleet.connect()
    dying.execute("begin")
    assert fire(fleet, T % "05", conn=dying) is not None
    found = []
    other = threading.Thread(target=lambda: found.append(fire(fleet, T % "05", conn=fleet.connect())))
    other.start()
    waits = "select count(*) from pg_locks where not granted and pid <> pg_backend_pid()"
    wait_until(lambda: fleet.value(waits) > 0)
    fleet.sql("select pg_terminate_backend($1::integer)", dying.info.backend_pid)
    other.join(10)
    dying.close()
    assert found
    assert found[0] is not None
    assert jobs(fleet) == ["report@2026-11-22T12:05:00Z"]


def test_who_waited_for_a_commit_enqueues_nothing(fleet: Fleet) -> None:
    schedule(fleet)
    first = fleet.connect()
    first.execute("begin")
    fire(fleet, T % "05", conn=first)
    found = []
    other = threading.Thread(target=lambda: found.append(fire(fleet, T % "05", conn=fleet.connect())))
    other.start()
    wait_until(lambda: fleet.value("select count(*) from pg_locks where not granted") > 0)
    first.execute("commit")
    other.join(10)
    assert found == [None]
    assert len(jobs(fleet)) == 1


def test_scheduling_again_changes_nothing_that_is_the_same(fleet: Fleet) -> None:
    schedule(fleet)
    fire(fleet, T % "05")
    before = fleet.sql("select xmin, last_due from sync_job_periodic")
    schedule(fleet, now=T % "30")
    assert fleet.sql("select xmin, last_due from sync_job_periodic") == before


@pytest.mark.parametrize("change", [{"cron": "0 * * * *"}, {"zone": "Europe/Berlin"}])
def test_other_times_count_from_the_change_on(fleet: Fleet, change: dict[str, str]) -> None:
    schedule(fleet)
    fire(fleet, T % "05")
    schedule(fleet, **change, now=T % "30")
    assert last_due(fleet) == "12:30"
    assert fire(fleet, T % "30") is None


@pytest.mark.parametrize("change", [{"kind": "x"}, {"queue": "x"}, {"payload": "[]"}, {"priority": 5}])
def test_another_payload_keeps_what_is_still_to_come(fleet: Fleet, change: dict[str, Any]) -> None:
    schedule(fleet)
    fire(fleet, T % "05")
    schedule(fleet, **change, now=T % "30")
    assert last_due(fleet) == "12:05"
    what, value = next(iter(change.items()))
    assert fleet.value(f"select {what} from sync_job_periodic") == ([] if what == "payload" else value)


def test_what_is_not_scheduled_is_not_enqueued(fleet: Fleet) -> None:
    assert fire(fleet, T % "05", "nobody") is None
    schedule(fleet)
    fleet.sql("delete from sync_job_periodic")
    assert fire(fleet, T % "05") is None
    assert jobs(fleet) == []


def test_a_rival_that_changes_the_times_at_the_same_instant_loses_nothing(fleet: Fleet) -> None:
    schedule(fleet)
    changing = fleet.connect()
    with changing.transaction():
        fleet.sql("select 1", conn=changing)
        changing.execute(
            fleet.spelt("update sync_job_periodic set schedule = '0 * * * *', last_due = '" + T % "07" + "'")
        )
        found = []
        other = threading.Thread(target=lambda: found.append(fire(fleet, T % "05", conn=fleet.connect())))
        other.start()
        wait_until(lambda: fleet.value("select count(*) from pg_locks where not granted") > 0)
    other.join(10)
    assert found == [None]  # The due time of the former times, decided before the change, is not enqueued after it.


def test_firing_wakes_who_listens(fleet: Fleet) -> None:
    schedule(fleet)
    hearing = fleet.connect()
    hearing.execute(fleet.spelt("listen sync_job"))
    fire(fleet, T % "05")
    assert next(hearing.notifies(timeout=10), None) is not None


def test_the_name_of_a_lane_that_is_made_by_firing_is_shared(fleet: Fleet) -> None:
    schedule(fleet, "a", kind="new")
    schedule(fleet, "b", kind="new")
    conns = [fleet.connect(), fleet.connect()]
    with ThreadPoolExecutor(2) as pool:
        ids = list(pool.map(lambda each: fire(fleet, T % "05", each[0], conn=each[1]), zip("ab", conns, strict=True)))
    assert all(ids)
    assert fleet.value("select count(*) from sync_job_lane where kind = 'new'") == 1
    with pytest.raises(psycopg.Error):
        fleet.sql("insert into sync_job_lane (queue, kind) values ('default', 'new')")
