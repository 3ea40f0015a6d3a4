"""Old days are dropped beside the work, and never twice at a time."""

from collections.abc import Iterator
from datetime import date, timedelta

import pytest

from jobsync import Job
from jobsync.postgres.records import Records
from jobsync.runtime.clock import boot_sec
from jobsync.runtime.day_sweeper import EVERY_SEC, FIRST_SEC, DaySweeper
from tests.api.jobs import eventually, query, settings


@pytest.fixture
def job(server_dsn: str, prefix: str) -> Iterator[Job]:
    with Job("n", coordination_config=settings(server_dsn, prefix)) as job:
        yield job


@pytest.fixture
def sweeper(job: Job, prefix: str, monkeypatch: pytest.MonkeyPatch) -> DaySweeper:
    monkeypatch.setattr("jobsync.runtime.day_sweeper.PAUSE_SEC", 0.01)
    return DaySweeper(job._pool(), Records(prefix, "n"))


def make_old_days(dsn: str, prefix: str) -> list[str]:
    """Have tables for two days past the retention of a week, and for one that is not."""
    today: date = query(dsn, "select current_date")[0][0]
    for age in (10, 9, 3):
        query(dsn, f"select {prefix}make_day(%s)", today - timedelta(days=age))
    query(dsn, f"delete from {prefix}retention")
    query(dsn, f"insert into {prefix}retention values (true, 7, 7)")
    return [f"{today - timedelta(days=3):%Y%m%d}"]


def days(dsn: str, prefix: str) -> list[str]:
    found = "select right(relname, 8) from pg_class where relname like %s and relkind = 'r' and relname ~ '_[0-9]{8}$'"
    return sorted(row[0] for row in query(dsn, found, f"{prefix}claim%"))


def test_all_days_that_are_old_enough_are_dropped(sweeper: DaySweeper, server_dsn: str, prefix: str) -> None:
    young = make_old_days(server_dsn, prefix)
    assert sweeper.sweep() == 4  # Two days, of claims and of audits.
    assert days(server_dsn, prefix) == young


def test_a_sweep_begins_by_itself_after_the_first_row_of_a_date(
    job: Job, server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobsync.runtime.day_sweeper.FIRST_SEC", 0.1)
    monkeypatch.setattr("jobsync.runtime.day_sweeper.PAUSE_SEC", 0.01)
    young = make_old_days(server_dsn, prefix)
    assert job.add_task("x")
    eventually(lambda: set(days(server_dsn, prefix)) == {*young, f"{job.date:%Y%m%d}"})


def test_it_is_due_once_rows_are_written_and_then_again_in_an_hour(sweeper: DaySweeper) -> None:
    assert sweeper.due_sec == float("inf")
    sweeper.schedule()
    assert 0 < sweeper.due_sec - boot_sec() <= FIRST_SEC
    sweeper.begin()
    assert FIRST_SEC < sweeper.due_sec - boot_sec() <= EVERY_SEC


def test_a_database_that_is_away_ends_a_sweep_without_an_error(
    sweeper: DaySweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper._pool, "_conninfo", "host=127.0.0.1 port=1 connect_timeout=1")
    assert sweeper.sweep() == 0
