"""Whose turn it is at the gate: begun lines go on, full limits hide nobody, a crash counts by its lease's terms."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.postgres.queue_hands import Hands, Took
from tests.postgres.support import Fleet
from tests.postgres.test_job_races import Race


@pytest.fixture
def race(fleet: Fleet) -> Iterator[Race]:
    with ThreadPoolExecutor(1) as pool:
        race = Race(fleet, pool)
        yield race
        assert race.one.broken_rules() == {}


@pytest.fixture
def hands(race: Race) -> Hands:
    return race.one


# --- lines -----------------------------------------------------------------------------------------


def fail(race: Race, took: Took) -> None:
    assert race.one.end(took, "retry", race.one.later(20), "failed")


def crash(race: Race, took: Took) -> None:
    race.one.sql("update sync_job_lease set locked_until = '2000-01-01' where epoch = $1::bigint", took.epoch)
    assert race.one.recover() == 1


@pytest.mark.parametrize("hurt", [fail, crash])
def test_a_line_goes_on_with_who_began_though_a_smaller_number_became_due(
    race: Race, hands: Hands, hurt: Callable[[Race, Took], None]
) -> None:
    early = hands.add(race.lane, affinity="x", run_at=hands.later(5))
    head, behind = (id_ for id_, _ in hands.enqueue(race.lane, 2, affinity="x"))
    [took] = hands.take_gated([race.lane])
    assert took.id == head
    hurt(race, took)
    race.at(10)
    hands.promote()
    if hurt is fail:
        assert hands.take_gated([race.lane]) == []
    race.at(30)
    hands.promote()
    assert in_turn(race) == [head, early, behind]


def test_a_line_goes_on_with_who_began_though_a_smaller_number_was_committed_late(race: Race, hands: Hands) -> None:
    with race.two.conn.transaction():
        early = race.two.add(race.lane, affinity="x")
        head = hands.add(race.lane, affinity="x")
        fail(race, *hands.take_gated([race.lane]))
    race.at(30)
    hands.promote()
    assert in_turn(race) == [head, early]


def test_a_line_goes_on_with_who_began_though_a_smaller_number_is_run_again(race: Race, hands: Hands) -> None:
    early, head = (id_ for id_, _ in hands.enqueue(race.lane, 2, affinity="x"))
    [first] = hands.take_gated([race.lane])
    assert hands.end(first, "failed", None, "once")
    fail(race, *hands.take_gated([race.lane]))
    assert hands.retry(early) == {early}
    assert hands.take_gated([race.lane]) == []
    race.at(30)
    hands.promote()
    assert in_turn(race) == [head, early]


def in_turn(race: Race) -> list[int]:
    """Do one after the other; each is alone while it runs."""
    ran = []
    while took := race.one.take_gated([race.lane]):
        assert race.one.take_gated([race.lane]) == []
        ran += [t.id for t in took]
        race.one.done(took, [t.epoch for t in took])
    return ran


# --- limits ----------------------------------------------------------------------------------------


def behind_a_full_key(race: Race, **given: object) -> list[int]:
    """Fill a key, let many more wait for it, and give what of another job can be had."""
    race.one.limit("k", None, 1)
    race.one.enqueue(race.lane, 400, limit_key="hot", priority=1)
    assert len(race.one.take_gated([race.lane], 10)) == 1
    lane = race.lane if given.pop("same", False) else race.one.lane("other")
    behind = race.one.add(lane, **given)
    taken = [t.id for t in race.one.take_gated([race.lane, lane], 10)]
    assert set(taken) <= {behind}
    return taken


@pytest.mark.parametrize(
    "given",
    [
        {"max_attempts": 1},
        {"max_attempts": 1, "same": True},
        {"limit_key": "cold"},
        {"limit_key": "cold", "same": True},
        {"affinity": "x"},
    ],
)
def test_many_who_wait_for_a_full_key_hide_nobody(race: Race, given: dict[str, object]) -> None:
    assert len(behind_a_full_key(race, **given)) == 1


@pytest.mark.parametrize("kind", ["k", "other"])
def test_suspects_of_a_full_key_hide_no_other_suspect(race: Race, hands: Hands, kind: str) -> None:
    hands.enqueue(race.lane, 60, limit_key="hot", priority=1)
    lane = hands.lane(kind)
    other = hands.add(lane)
    hands.take_gated([race.lane], 60)
    hands.take([lane])
    race.at(100)
    assert hands.recover() == 61
    hands.limit("k", None, 1)
    assert len(hands.take_gated([race.lane])) == 1
    assert [t.id for t in hands.take_gated([race.lane, lane])] == [other]


def test_many_of_a_kind_with_one_place_hide_nobody_in_the_take_that_fills_it(race: Race, hands: Hands) -> None:
    hands.limit("k", 1, None)
    hands.enqueue(race.lane, 200, priority=2, max_attempts=1)
    for number in range(60):
        hands.add(race.lane, priority=1, max_attempts=1, affinity=f"line {number}")
    free = hands.lane("free")
    behind = {hands.add(free, max_attempts=1), hands.add(free, affinity="z")}
    taken = {t.id for t in hands.take_gated([race.lane, free], 4)}
    assert len(taken) == 3
    assert behind < taken


def test_the_best_of_many_keys_is_first(race: Race, hands: Hands) -> None:
    hands.limit("k", None, 5)
    for number in range(40):
        hands.add(race.lane, limit_key=f"{number:02}")
    best = hands.add(race.lane, limit_key="zz", priority=1)
    assert [t.id for t in hands.take_gated([race.lane], 1)] == [best]


# --- crashes ---------------------------------------------------------------------------------------


def statuses(hands: Hands) -> list[str]:
    return [row[0] for row in hands.sql("select status from sync_job order by id")]


def test_what_was_fetched_ahead_is_never_failed_by_a_crash(race: Race, hands: Hands) -> None:
    hands.enqueue(race.lane, 3)
    hands.take([race.lane])
    hands.sql("update sync_job_lease set crashes = '{8,8,8}'")
    race.at(100)
    assert hands.recover() == 3
    assert statuses(hands) == ["retry"] * 3
    assert hands.take([race.lane]) == []
    texts = [row[0] for row in hands.sql("select error from sync_job_error")]
    assert all("(crash 9, attempt 1)" in text for text in texts), texts


@pytest.mark.parametrize(("allowed", "then"), [(1, "failed"), (2, "failed"), (3, "retry")])
def test_a_crash_counts_by_the_terms_of_who_took_the_job(race: Race, hands: Hands, allowed: int, then: str) -> None:
    hands.add(race.lane)
    hands.take([race.lane])
    race.at(100)
    hands.recover()
    assert len(hands.take_gated([race.lane], max_crashes=allowed)) == 1
    race.at(200)
    hands.recover()
    assert statuses(hands) == [then]


# --- fencing ---------------------------------------------------------------------------------------


FENCE = "select sync_fence('node-1', 1, 1, beats, 'A', null) from sync_node where incarnation = 1"


@pytest.mark.parametrize("given", [{}, {"affinity": "x"}])
def test_who_fences_comes_after_a_take_that_is_under_way(race: Race, hands: Hands, given: dict[str, str]) -> None:
    hands.add(race.lane, **given)
    with hands.conn.transaction():
        assert len(hands.take([race.lane]) + hands.take_gated([race.lane])) == 1
        with pytest.raises(psycopg.errors.LockNotAvailable):
            race.two.sql(FENCE)
    assert race.two.sql(FENCE) == [(True,)]
    assert race.two.recover() == 1


@pytest.mark.parametrize("given", [{}, {"affinity": "x"}])
def test_a_take_waits_for_who_fences_and_is_given_nothing(race: Race, given: dict[str, str]) -> None:
    race.one.add(race.lane, **given)
    take = race.two.take_gated if given else race.two.take
    assert race.meanwhile(lambda: race.one.sql(FENCE), lambda: take([race.lane])) == []
    assert statuses(race.one) == ["pending"]


@pytest.mark.parametrize("given", [{}, {"affinity": "x"}, {"limit_key": "hot"}])
def test_a_look_in_vain_writes_nothing(race: Race, given: dict[str, str]) -> None:
    race.one.limit("k", None, 1)
    race.one.add(race.lane, **given)
    assert len(race.one.take([race.lane]) + race.one.take_gated([race.lane])) == 1
    if given:
        race.one.enqueue(race.lane, 3, **given)
    with race.one.conn.transaction():
        assert race.one.take([race.lane]) + race.one.take_gated([race.lane]) == []
        assert race.one.sql("select pg_current_xact_id_if_assigned()") == [(None,)]
