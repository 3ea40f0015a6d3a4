"""Old ends go with all that belongs to them, in bites; what is young, runs, or is run again stays."""

import pytest

from tests.postgres.support import Fleet, Member

BODIES = ("body", "end", "error", "progress")


@pytest.fixture
def member(fleet: Fleet) -> Member:
    return fleet.join("w")


def ended(fleet: Fleet, member: Member, count: int, days_ago: float = 10.0) -> list[int]:
    """Make jobs that have run and are done, with an error and progress each."""
    fleet.sql("insert into sync_job (kind, payload) select 'k', '1' from generate_series(1, $1::integer)", count)
    rows = fleet.sql(
        "select epoch, (row_number() over ())::integer, id from sync_job_take('w', $1::bigint, "
        "array(select lane from sync_job_lane), $2::integer, 60000)", member.who.incarnation, count,
    )  # fmt: skip
    assert len(rows) == count
    epochs, places, ids = (list(column) for column in zip(*rows, strict=True))
    fleet.sql(
        "select sync_job_done($1::bigint[], $2::integer[], $3::bigint[], "
        "array_fill(null::jsonb, array[cardinality($3)]), $1::bigint[], "
        "clock_timestamp() - $4::float8 * interval '1 day')",
        epochs, places, ids, days_ago,
    )  # fmt: skip
    fleet.sql(
        "insert into sync_job_error (id, attempt, epoch, worker, crashed, error) select i, 1, 1, 'w', false, 'x' "
        "from unnest($1::bigint[]) i", ids,
    )  # fmt: skip
    fleet.sql("insert into sync_job_progress (id, progress) select i, 5 from unnest($1::bigint[]) i", ids)
    return ids


def prune(fleet: Fleet, days: float | None, most: int = 2000) -> int:
    return int(fleet.value("select sync_job_prune($1::float8, $2::integer)", days, most))


def left(fleet: Fleet) -> dict[str, int]:
    return {table: int(fleet.value(f"select count(*) from sync_job_{table}")) for table in BODIES}


def test_what_is_old_goes_with_all_that_belongs_to_it(fleet: Fleet, member: Member) -> None:
    ended(fleet, member, 3, days_ago=7.1)
    ended(fleet, member, 2, days_ago=6.9)
    assert prune(fleet, 7.0) == 3
    assert left(fleet) == dict.fromkeys(BODIES, 2)


def test_who_had_taken_it_is_known_as_long_as_the_job(fleet: Fleet, member: Member) -> None:
    gone, stays = ended(fleet, member, 1)[0], ended(fleet, member, 1, days_ago=0.5)[0]
    age = "over_by = over_by - interval '10 days', taken_at = taken_at - interval '10 days'"
    fleet.sql(
        f"update sync_job_past_lease set {age} where epoch = (select epoch from sync_job_end where id = $1)", gone
    )
    assert prune(fleet, None) == 0
    assert fleet.value("select count(*) from sync_job_past_lease") == 2
    assert prune(fleet, 1.0) == 1
    assert fleet.sql("select e.id, t.worker from sync_job_taken t join sync_job_end e using (epoch)") == [(stays, "w")]
    assert fleet.value("select count(*) from sync_job_past_lease") == 1


def test_null_keeps_for_ever(fleet: Fleet, member: Member) -> None:
    ended(fleet, member, 1, days_ago=10_000)
    assert prune(fleet, None) == 0
    assert left(fleet)["body"] == 1


def test_it_takes_bites_and_says_when_there_may_be_more(fleet: Fleet, member: Member) -> None:
    ended(fleet, member, 7)
    assert [prune(fleet, 1.0, 3) for _ in range(3)] == [3, 3, 1]
    assert left(fleet)["end"] == 0


def test_what_waits_or_runs_is_never_pruned(fleet: Fleet, member: Member) -> None:
    fleet.sql("insert into sync_job (kind, payload) select 'k', '1' from generate_series(1, 3)")
    fleet.sql("insert into sync_job (kind, payload, run_at) values ('k', '1', now() + interval '1 day')")
    fleet.sql(
        "select sync_job_take('w', $1::bigint, array(select lane from sync_job_lane), 1, 60000)", member.who.incarnation
    )
    assert prune(fleet, 0.0) == 0
    assert fleet.value("select count(*) from sync_job") == 4


def test_a_batch_under_way_keeps_its_own_and_hides_no_other(fleet: Fleet, member: Member) -> None:
    fleet.sql("insert into sync_job (kind, payload) select 'k', '1' from generate_series(1, 5)")
    rows = fleet.sql(
        "select epoch, (row_number() over ())::integer, id from sync_job_take('w', $1::bigint, "
        "array(select lane from sync_job_lane), 5, 60000)", member.who.incarnation,
    )  # fmt: skip
    epochs, places, ids = (list(column) for column in zip(*rows, strict=True))
    fleet.sql(
        "select sync_job_done($1::bigint[], $2::integer[], $3::bigint[], array_fill(null::jsonb, array[4]), '{}', "
        "clock_timestamp() - interval '9 days')", epochs[:4], places[:4], ids[:4],
    )  # fmt: skip
    others = ended(fleet, member, 2)
    assert prune(fleet, 1.0, 2) == 2
    assert {one for (one,) in fleet.sql("select id from sync_job_end")} == set(ids[:4])
    assert not set(others) & set(ids)
    fleet.sql("select sync_job_done($1::bigint[], $2::integer[], $3::bigint[], array_fill(null::jsonb, array[1]), $1)",
              epochs[4:], places[4:], ids[4:])  # fmt: skip
    assert prune(fleet, 1.0) == 4


def test_what_is_being_run_again_is_passed_over(fleet: Fleet, member: Member) -> None:
    first, second = ended(fleet, member, 2)
    other = fleet.connect()
    with other.transaction():
        fleet.sql("select sync_job_retry(array[$1::bigint])", first, conn=other)
        assert prune(fleet, 1.0) == 1
    assert fleet.sql("select id, status from sync_job") == [(first, "pending")]
    assert second != first


def test_a_job_id_is_free_again(fleet: Fleet, member: Member) -> None:
    fleet.sql("insert into sync_job (kind, payload, job_id) values ('k', '1', 'mine')")
    fleet.sql("select sync_job_cancel(array(select id from sync_job))")
    assert prune(fleet, 0.0) == 1
    fleet.sql("insert into sync_job (kind, payload, job_id) values ('k', '1', 'mine')")
    assert fleet.value("select status from sync_job where job_id = 'mine'") == "pending"
