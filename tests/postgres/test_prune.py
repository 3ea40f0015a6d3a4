"""Deleting old rows: in bounded bites, waiting for nobody, and never more than the retentions say."""

from typing import Any

import pytest

from jobsync.core import messages as m
from tests.postgres.support import Fleet

BITE = 2000
KEEP_ALL: dict[str, float | None] = {"claim": None, "audit": None, "rebalance": None, "dead_node": None}

FILL = {
    "claim": "insert into sync_claim (node, item, date, incarnation, created_on) "
    "select 'n', $2 || '-' || i, '2024-02-29', 1, clock_timestamp() - $1::float8 * interval '1 day' "
    "from generate_series(1, $3::integer) i",
    "audit": "insert into sync_audit (node, item, date, created_on) "
    "select 'n', $2 || '-' || i, '2024-02-29', clock_timestamp() - $1::float8 * interval '1 day' "
    "from generate_series(1, $3::integer) i",
    "rebalance": "insert into sync_rebalance (triggered_at, trigger_reason, leader_node, nodes_before, nodes_after, "
    "tokens_moved, duration_ms, moves, plan_version) "
    "select clock_timestamp() - $1::float8 * interval '1 day', 'join', $2, 1, 1, 1, 1, '[]', 0 "
    "from generate_series(1, $3::integer)",
    "dead_node": "insert into sync_node (name, state, incarnation, bind, heartbeat_timeout_ms, row_lease_ms, "
    "backend_pid, postmaster_start, last_heartbeat) "
    "select $2 || '-' || i, 'fenced', 1, 1, 15000, 14500, 0, clock_timestamp(), "
    "clock_timestamp() - $1::float8 * interval '1 day' from generate_series(1, $3::integer) i",
}
TABLE = {"claim": "sync_claim", "audit": "sync_audit", "rebalance": "sync_rebalance", "dead_node": "sync_node"}


def fill(fleet: Fleet, what: str, age_days: float, count: int = 1) -> None:
    fleet.sql(FILL[what], age_days, f"aged {age_days:g}", count)


def left(fleet: Fleet, what: str) -> int:
    return int(fleet.value(f"select count(*) from {TABLE[what]}"))


def prune(fleet: Fleet, **days: float | None) -> bool:
    """Delete what is past these retentions, all else is kept for ever; true: more is left."""
    answer: Any = fleet.ask(m.Prune(**{f"{what}_days": kept for what, kept in {**KEEP_ALL, **days}.items()}))
    assert isinstance(answer, m.Pruned)
    return answer.more


@pytest.mark.parametrize("what", FILL)
def test_what_is_past_its_retention_goes_and_the_rest_stays(fleet: Fleet, what: str) -> None:
    fill(fleet, what, 2.1, count=3)
    fill(fleet, what, 1.9, count=2)
    assert prune(fleet, **{what: 2.0}) is False
    assert left(fleet, what) == 2


@pytest.mark.parametrize("what", FILL)
def test_each_retention_counts_for_its_own_rows_alone(fleet: Fleet, what: str) -> None:
    for each in FILL:
        fill(fleet, each, 30_000)
    prune(fleet, **{what: 1.0})
    assert {each: left(fleet, each) for each in FILL} == {each: int(each != what) for each in FILL}


def test_without_retentions_all_is_kept_for_ever(fleet: Fleet) -> None:
    for what in FILL:
        fill(fleet, what, 30_000)
    assert prune(fleet) is False
    assert [left(fleet, what) for what in FILL] == [1, 1, 1, 1]


@pytest.mark.parametrize("what", FILL)
def test_many_go_in_bounded_bites_until_none_is_left(fleet: Fleet, what: str) -> None:
    fill(fleet, what, 2, count=2 * BITE + 1)
    told = []
    for expected in (BITE + 1, 1, 0):
        told.append(prune(fleet, **{what: 1.0}))
        assert left(fleet, what) == expected
    assert told == [True, True, False]


@pytest.mark.parametrize("what", FILL)
def test_a_row_that_somebody_has_locked_is_left_for_the_next_time(fleet: Fleet, what: str) -> None:
    fill(fleet, what, 2, count=3)
    other = fleet.connect()
    with other.transaction():
        fleet.sql(f"select from {TABLE[what]} limit 1 for update", conn=other)
        prune(fleet, **{what: 1.0})
        assert left(fleet, what) == 1
    prune(fleet, **{what: 1.0})
    assert left(fleet, what) == 0


def test_a_node_that_is_not_fenced_is_never_swept_however_old_its_heartbeat(fleet: Fleet) -> None:
    live, leaving = fleet.join("live"), fleet.join("leaving")
    fleet.hold(live, "0-9")
    fleet.ask(m.BeginLeave(leaving.who), leaving.conn)
    fleet.sql("update sync_node set last_heartbeat = now() - interval '99 days'")
    prune(fleet, dead_node=1.0)
    assert (fleet.state("live"), fleet.state("leaving")) == ("live", "leaving")


def test_the_dead_are_swept_by_their_last_heartbeat_and_not_by_their_age(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.hold(node, "0-9")
    fleet.sql("update sync_node set created_on = now() - interval '99 days'")
    assert fleet.fence(node, "A")
    prune(fleet, dead_node=1.0)
    assert fleet.state("a") == "fenced"
    fleet.sql("update sync_node set last_heartbeat = now() - interval '2 days'")
    prune(fleet, dead_node=1.0)
    assert fleet.state("a") is None
