"""What people ask of the fleet, in the database: recorded, in force, noticed by beats, read with the plan's inputs."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import psycopg
import pytest

from jobsync.core import messages as m
from jobsync.core.steering import Steering
from jobsync.postgres.statement import run, statement
from tests.postgres.support import Fleet, Member, wait_until


def steer(fleet: Fleet, verb: str, node: str | None = None, for_sec: float | None = None) -> bool:
    query = "select sync_steer($1::text, $2::text, 'why', 'me@here', $3::float8)"
    return bool(fleet.value(query, verb, node, for_sec))


def planned(fleet: Fleet, **targets: str) -> list[Member]:
    """Give the members of a fleet whose plan fits."""
    members = [fleet.join(name) for name in targets]
    fleet.save_plan(members[0], fleet.inputs(), targets)
    assert not fleet.beat(members[0], check=True).plan_due
    return members


def test_the_deal_sees_what_is_in_force(fleet: Fleet) -> None:
    assert fleet.inputs().steering == Steering()
    for verb, node in (("cordon", "a"), ("drain", "b"), ("freeze", None)):
        steer(fleet, verb, node)
    expected = Steering(frozenset("a"), frozenset("b"), frozen=True, changed=True)
    assert fleet.inputs().steering == expected


def test_who_and_when_and_why_are_recorded_and_kept(fleet: Fleet) -> None:
    steer(fleet, "cordon", "a")
    steer(fleet, "drain", "a")
    fleet.sql("select * from sync_resume('a', false, 'you@there')")
    rows = fleet.sql(
        "select verb, node, reason, asked_by, ended_by, asked_at <= ended_at from sync_steering order by id"
    )
    assert rows == [
        ("cordon", "a", "why", "me@here", "me@here", True),
        ("drain", "a", "why", "me@here", "you@there", True),
    ]
    assert fleet.inputs().steering == Steering(changed=True)


def test_what_is_in_force_already_is_not_written_again(fleet: Fleet) -> None:
    assert steer(fleet, "drain", "a")
    assert not steer(fleet, "drain", "a")
    assert fleet.value("select count(*) from sync_steering") == 1


def test_resuming_ends_one_or_everything(fleet: Fleet) -> None:
    for verb, node in (("cordon", "a"), ("drain", "b"), ("freeze", None)):
        steer(fleet, verb, node)
    assert fleet.sql("select * from sync_resume('a', false, null)") == [("cordon", "a")]
    assert fleet.sql("select * from sync_resume(null, false, null)") == [("freeze", None)]
    assert fleet.sql("select * from sync_resume(null, true, null)") == [("drain", "b")]
    assert fleet.sql("select * from sync_resume(null, true, null)") == []


def test_in_a_large_fleet_all_is_listed_that_is_in_force_and_the_latest_of_the_rest(fleet: Fleet) -> None:
    ask = "insert into sync_steering (verb, node, asked_by) select 'cordon', n, 'me' from generate_series(1, $1::int) n"
    fleet.sql(ask, 300)
    fleet.sql("select * from sync_resume(null, true, null)")
    fleet.sql(ask, 250)
    told = [len(run(fleet.conn, statement("list_steering", fleet.prefix, past))) for past in (False, True)]
    assert told == [250, 450]


@pytest.mark.parametrize(
    "change",
    [
        "insert into sync_steering (verb, node, asked_by) values ('drain', 'z', 'dba')",
        "update sync_steering set ended_at = now()",
        "delete from sync_steering",
        "truncate sync_steering",
    ],
    ids=["insert", "update", "delete", "truncate"],
)
def test_any_change_by_hand_makes_a_plan_due_and_tells_the_leader_and_the_workers(fleet: Fleet, change: str) -> None:
    steer(fleet, "cordon", "b")
    leader, *_ = planned(fleet, a="lead 0-99")
    fleet.sql("listen sync_plan")
    fleet.sql("listen sync_job")
    fleet.sql(change)
    assert fleet.beat(leader).plan_due
    assert fleet.inputs().steering.changed
    told = {(hint.channel, hint.payload) for hint in fleet.conn.notifies(timeout=10, stop_after=2)}
    assert told == {(fleet.spelt("sync_plan"), "a"), (fleet.spelt("sync_job"), "")}


def test_what_ended_long_ago_is_pruned_and_changes_nothing(fleet: Fleet) -> None:
    leader, *_ = planned(fleet, a="lead 0-99")
    for verb in ("cordon", "drain"):
        steer(fleet, verb, "z")
    fleet.sql("update sync_steering set ended_at = now() - interval '31 days' where verb = 'cordon'")
    fleet.save_plan(leader, fleet.inputs(), {})
    fleet.ask(m.Prune(7, None, 30, 1))
    assert fleet.sql("select verb from sync_steering") == [("drain",)]
    assert not fleet.beat(leader).plan_due


def test_a_drained_node_leads_last(fleet: Fleet) -> None:
    a, b = fleet.join("a"), fleet.join("b")
    assert fleet.beat(a).leader == "a"
    steer(fleet, "drain", "a")
    assert (fleet.beat(a).leader, fleet.inputs().nodes) == ("b", ("b", "a"))
    steer(fleet, "drain", "b")
    assert (fleet.beat(b).leader, fleet.inputs().nodes) == ("a", ("a", "b"))


def test_a_plan_is_due_where_somebody_comes_back_who_may_take_what_a_drained_node_has(fleet: Fleet) -> None:
    # Found by the simulator: a place that a freeze kept needs no plan, and what was drained for want of takers stayed.
    a, _, c = planned(fleet, a="lead 0-49", b="50-79", c="80-99")
    fleet.sql("update sync_node set state = 'leaving' where name = 'c'")
    for verb, node in (("freeze", None), ("cordon", "a"), ("drain", "b")):
        steer(fleet, verb, node)
    fleet.sql("update sync_meta set planned_lock_version = lock_version")
    assert not fleet.beat(a).plan_due
    fleet.sql("update sync_node set state = 'live' where name = 'c'")
    assert fleet.beat(a).plan_due
    fleet.want(b="", c="50-99")
    assert not fleet.beat(c).plan_due


def test_a_freeze_ends_by_itself_and_the_plan_that_follows_says_so(fleet: Fleet) -> None:
    steer(fleet, "freeze", for_sec=3600)
    leader, *_ = planned(fleet, a="lead 0-99")
    assert fleet.inputs().steering.frozen
    fleet.sql("alter table sync_steering disable trigger user")  # Time alone, and not the test's change, is to be seen.
    fleet.sql("update sync_steering set ends_at = now()")
    fleet.sql("alter table sync_steering enable trigger user")
    assert fleet.beat(leader).plan_due
    inputs = fleet.inputs()
    assert inputs.steering == Steering(changed=True)
    fleet.save_plan(leader, inputs, {})
    assert not fleet.beat(leader).plan_due
    assert fleet.value("select ended_by from sync_steering") == "its end"
    assert not fleet.inputs().steering.changed


def test_a_frozen_fleet_is_not_due_for_who_left_and_is_for_who_died(fleet: Fleet) -> None:
    steer(fleet, "freeze")
    a, b, c = planned(fleet, a="lead 0-49", b="50-74", c="75-99")
    fleet.ask(m.BeginLeave(b.who), b.conn)
    assert not fleet.beat(a).plan_due
    fleet.ask(m.Leave(b.who), b.conn)
    assert not fleet.beat(a).plan_due
    fleet.fence(c, "A")
    assert fleet.beat(a).plan_due


def test_a_place_that_a_freeze_keeps_is_saved_with_the_plan(fleet: Fleet) -> None:
    a, b = planned(fleet, a="lead 0-49", b="50-99")
    steer(fleet, "freeze")
    fleet.ask(m.Leave(b.who), b.conn)
    fleet.save_plan(a, fleet.inputs(), {}, nodes=("a", "b"))
    assert set(fleet.inputs().targets) == {"a", "b"}
    assert not fleet.beat(a).plan_due


@pytest.fixture
def beside() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.mark.parametrize(
    ("over", "lasting", "end_all"),
    [
        (
            "insert into sync_steering (verb, node, asked_by, ends_at) values ('drain', 'c', 'me', now())",
            "insert into sync_steering (verb, node, asked_by) values ('drain', 'b', 'me')",
            "select * from sync_resume(null, true, 'me')",
        ),
        (
            "insert into sync_lock (task_id, token_id, node_patterns, expires_at) values ('x', 1, '[\"a\"]', now())",
            "insert into sync_lock (task_id, token_id, node_patterns) values ('y', 2, '[\"a\"]')",
            "delete from sync_lock",
        ),
    ],
    ids=["steering", "locks"],
)
def test_a_plan_that_sweeps_what_another_ends_this_instant_does_not_cover_what_else_he_ends(
    fleet: Fleet, beside: ThreadPoolExecutor, over: str, lasting: str, end_all: str
) -> None:
    leader, other = fleet.join("a"), fleet.connect()

    def save_while_another_ends_all() -> Future[int | None]:
        for text in (over, lasting):
            fleet.sql(text)
        inputs = fleet.inputs()
        with other.transaction():
            fleet.sql(end_all, conn=other)
            saved = beside.submit(fleet.save_plan, leader, inputs, {"a": "lead 0-99"})
            wait_until(lambda: saved.done() or fleet.waits_for_lock(leader.conn))
        return saved

    saved = save_while_another_ends_all()
    while isinstance(saved.exception(10.0), psycopg.errors.LockNotAvailable):
        saved = save_while_another_ends_all()  # It waits for 150 ms only, which a busy machine may need for the rest.
    assert saved.result() is not None
    assert fleet.beat(leader, check=True).plan_due
