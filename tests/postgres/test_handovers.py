"""How long tokens were without an owner: written down with each hand-over, and told with each distribution."""

from datetime import timedelta
from typing import Any

import pytest

from jobsync.core import messages as m
from jobsync.core.tokens import TokenSet
from jobsync.postgres.statement import Row, run, statement
from tests.postgres.support import Fleet, Member, tokens

PLAN = 7


def plan(fleet: Fleet, version: int = PLAN, moves: str = "[]", **targets: str) -> None:
    """Have a distribution want what is given, as the leader writes it."""
    fleet.want(**targets)
    fleet.sql("update sync_target set plan_version = $1::bigint where node = any ($2)", version, list(targets))
    fleet.sql(
        "insert into sync_rebalance (trigger_reason, leader_node, nodes_before, nodes_after, tokens_moved, "
        "duration_ms, moves, plan_version) values ('join', 'a', 1, 2, 5, 1, $2::jsonb, $1::bigint)",
        version,
        moves,
    )


def give_up(fleet: Fleet, member: Member, text: str, *, uncovered_ms: int) -> None:
    assert fleet.ask(m.Shrink(member.who, tokens(text), uncovered_ms), member.conn) == m.Shrunk()


def fence(fleet: Fleet, member: Member, *, silent_ms: int | None) -> None:
    fleet.kill(member.conn)
    answer = fleet.ask(m.Fence(member.who, fleet.beats(member.name), "B", silent_ms))
    assert isinstance(answer, m.FenceReply)
    assert answer.done


def handovers(fleet: Fleet) -> list[tuple[TokenSet, str | None, str | None, bool]]:
    """List (tokens, from, to, was without an owner), those of nobody last."""
    rows = fleet.sql(
        "select tokens::text, from_node, to_node, uncovered_at is not null from sync_handover "
        "order by granted_at is null, epoch, lower(tokens)"
    )
    return [(TokenSet.parse(text), *rest) for text, *rest in rows]


def told(fleet: Fleet) -> dict[int, Row]:
    """Give (settled_ms, uncovered_ms) of each distribution, by its version."""
    rows = run(fleet.conn, statement("history", fleet.prefix, 20, None))
    return {row[8]: row[10:12] for row in rows}


def test_tokens_that_nobody_had_were_without_an_owner_since_nobody_knows_when(fleet: Fleet) -> None:
    node = fleet.join("a")
    plan(fleet, moves='[{"from": null, "to": "a", "tokens": "{[0,10)}"}]', a="0-9")
    fleet.grow(node)
    assert handovers(fleet) == [(tokens("0-9"), None, "a", False)]
    settled_ms, uncovered_ms = told(fleet)[PLAN]
    assert settled_ms >= 0
    assert uncovered_ms is None


def test_what_is_given_up_counts_from_when_its_owner_ceased_to_believe_in_it(fleet: Fleet) -> None:
    a, b = fleet.join("a"), fleet.join("b")
    fleet.hold(a, "0-9")
    plan(fleet, moves='[{"from": "a", "to": "b", "tokens": "{[5,10)}"}]', a="0-4", b="5-9")
    give_up(fleet, a, "5-9", uncovered_ms=4000)
    assert told(fleet)[PLAN] == (None, None), "nothing has arrived yet"
    assert handovers(fleet)[-1] == (tokens("5-9"), "a", None, True)
    fleet.grow(b)
    assert handovers(fleet)[1:] == [(tokens("5-9"), "a", "b", True)]
    settled_ms, uncovered_ms = told(fleet)[PLAN]
    assert 0 <= settled_ms < 4000 <= uncovered_ms < 34_000


def test_each_piece_has_an_instant_of_its_own_and_what_is_left_of_one_stays_uncovered(fleet: Fleet) -> None:
    a, b, c = fleet.join("a"), fleet.join("b"), fleet.join("c")
    fleet.hold(a, "0-9")
    fleet.hold(b, "10-19")
    plan(fleet, a="", b="", c="5-14 30-31")
    give_up(fleet, a, "0-9", uncovered_ms=1000)
    give_up(fleet, b, "10-19", uncovered_ms=9000)
    grant = fleet.grow(c).grant
    assert grant is not None
    assert handovers(fleet)[2:] == [
        (tokens("5-9"), "a", "c", True),
        (tokens("10-14"), "b", "c", True),
        (tokens("30-31"), None, "c", False),
        (tokens("0-4"), "a", None, True),
        (tokens("15-19"), "b", None, True),
    ]
    assert fleet.sql("select distinct epoch, plan_version from sync_handover where to_node = 'c'") == [
        (grant.epoch, PLAN)
    ]
    assert 9000 <= told(fleet)[PLAN][1] < 39_000


def test_giving_up_again_after_a_lost_answer_writes_nothing_more(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.hold(node, "0-9")
    for text in ("0-4", "0-4", "3-6"):
        give_up(fleet, node, text, uncovered_ms=0)
    assert handovers(fleet)[1:] == [(tokens("0-4"), "a", None, True), (tokens("5-6"), "a", None, True)]


@pytest.mark.parametrize("silent_ms", [7000, None])
def test_what_a_dead_node_had_counts_from_the_last_sign_of_its_life(fleet: Fleet, silent_ms: int | None) -> None:
    a, b = fleet.join("a"), fleet.join("b")
    fleet.hold(a, "0-4")
    plan(fleet, version=PLAN - 1, a="0-9")
    fleet.grow(a)
    # Who never saw the dead one alive goes by the beat in its row.
    fleet.sql("update sync_node set last_heartbeat = clock_timestamp() - interval '50 seconds' where name = 'a'")
    fence(fleet, a, silent_ms=silent_ms)
    assert handovers(fleet)[2:] == [(tokens("0-9"), "a", None, True)]
    assert fleet.sql("select fence_rule from sync_handover where granted_at is null") == [("B",)]
    plan(fleet, b="0-9", moves='[{"from": "a", "to": "b", "tokens": "{[0,10)}"}]')
    fleet.grow(b)
    least_ms = 50_000 if silent_ms is None else silent_ms
    settled_ms, uncovered_ms = told(fleet)[PLAN]
    assert settled_ms < least_ms <= uncovered_ms < least_ms + 30_000


def test_a_fence_of_who_held_nothing_writes_no_hand_over(fleet: Fleet) -> None:
    fence(fleet, fleet.join("a"), silent_ms=1)
    assert handovers(fleet) == []


def test_what_comes_back_to_the_node_that_had_it_belongs_to_no_distribution(fleet: Fleet) -> None:
    a = fleet.join("a")
    plan(fleet, a="0-9", moves='[{"from": null, "to": "a", "tokens": "{[0,10)}"}]')
    fleet.grow(a)
    fence(fleet, a, silent_ms=60_000)
    fleet.grow(fleet.join("a"))
    assert handovers(fleet)[-1] == (tokens("0-9"), "a", "a", True)
    assert told(fleet)[PLAN][1] is None


def test_the_right_to_lead_is_no_token_of_the_pool(fleet: Fleet) -> None:
    a, b = fleet.join("a"), fleet.join("b")
    fleet.want(a="0-9")
    fleet.sql("update sync_target set tokens = tokens + '{[-1,0)}' where node = 'a'")
    fleet.grow(a)
    answer = fleet.ask(m.Shrink(a.who, TokenSet.span(-1, 0), 60_000), a.conn)
    assert answer == m.Shrunk()
    plan(fleet, b="10-19")
    fleet.sql(
        "update sync_target set tokens = case node when 'b' then tokens + '{[-1,0)}' else tokens - '{[-1,0)}' end"
    )
    fleet.grow(b)
    assert fleet.value("select count(*) from sync_handover where from_node = 'a' and to_node = 'b'") == 1
    assert told(fleet)[PLAN][1] is None


def test_a_later_plan_has_what_arrives_under_it(fleet: Fleet) -> None:
    a, b = fleet.join("a"), fleet.join("b")
    fleet.hold(a, "0-9")
    plan(fleet, a="0-4", b="5-9", moves='[{"from": "a", "to": "b", "tokens": "{[5,10)}"}]')
    plan(fleet, version=PLAN + 1, a="0-2", b="3-9", moves='[{"from": "a", "to": "b", "tokens": "{[3,5)}"}]')
    give_up(fleet, a, "3-9", uncovered_ms=2000)
    fleet.grow(b)
    assert told(fleet)[PLAN] == (None, None)
    settled_ms, uncovered_ms = told(fleet)[PLAN + 1]
    assert settled_ms >= 0
    assert uncovered_ms >= 2000


def test_what_comes_late_belongs_to_the_plan_that_took_it_away(fleet: Fleet) -> None:
    """However much is planned for others while the old owner's callbacks run."""
    a, b = fleet.join("a"), fleet.join("b")
    fleet.hold(a, "0-9")
    plan(fleet, a="0-4", b="5-9", moves='[{"from": "a", "to": "b", "tokens": "{[5,10)}"}]')
    plan(fleet, version=PLAN + 1, b="5-6 30-39", c="7-9", moves='[{"from": "b", "to": "c", "tokens": "{[7,10)}"}]')
    give_up(fleet, a, "5-9", uncovered_ms=2000)
    fleet.grow(b)
    assert told(fleet)[PLAN][0] is None, "some have not arrived"
    fleet.grow(fleet.join("c"))
    settled_ms, uncovered_ms = told(fleet)[PLAN]
    assert 0 <= settled_ms < 2000 <= uncovered_ms
    assert told(fleet)[PLAN + 1] == (None, None)


def test_the_first_plan_after_a_fence_has_what_the_dead_one_had(fleet: Fleet) -> None:
    a, b = fleet.join("a"), fleet.join("b")
    plan(fleet, version=1, a="0-9")
    fleet.grow(a)
    fence(fleet, a, silent_ms=800)
    version = fleet.save_plan(b, fleet.inputs(), {"b": "0-9"})
    assert version is not None
    plan(fleet, version=version + 1, b="0-19")
    fleet.grow(b)
    assert fleet.sql("select from_node, plan_version from sync_handover where from_node = 'a'") == [("a", version)]


def test_the_owners_of_a_token_are_told_newest_first(fleet: Fleet) -> None:
    a, b = fleet.join("a"), fleet.join("b")
    plan(fleet, a="0-9")
    first = fleet.grow(a).grant
    fence(fleet, a, silent_ms=5000)
    a = fleet.join("a")
    second = fleet.grow(a).grant
    plan(fleet, version=PLAN + 1, a="0-4", b="5-9")
    give_up(fleet, a, "5-9", uncovered_ms=300)
    third = fleet.grow(b).grant
    give_up(fleet, b, "5-9", uncovered_ms=0)
    assert first is not None
    assert second is not None
    assert third is not None
    rows = run(fleet.conn, statement("token_past", fleet.prefix, 7, 20))
    assert [(node, epoch, reason) for node, epoch, *_, reason in rows] == [
        ("b", third.epoch, "join"),
        ("a", second.epoch, "restart"),
        ("a", first.epoch, "join"),
    ]
    assert all(since < until or epoch != third.epoch for _, epoch, since, until, *_ in rows)
    assert [uncovered_ms is None for *_, uncovered_ms, _ in rows] == [False, False, True]
    assert 300 <= rows[0][4] < 30_000
    assert rows[1][4] >= 5000


def test_handovers_go_with_their_distribution_and_what_nobody_took_with_its_age(fleet: Fleet) -> None:
    a, b = fleet.join("a"), fleet.join("b")
    for version, node, text in ((1, a, "0-9"), (2, b, "10-19"), (3, a, "0-9 20-29")):
        plan(fleet, version, **{node.name: text})
        fleet.grow(node)
    give_up(fleet, a, "0-4", uncovered_ms=round(timedelta(days=3) / timedelta(milliseconds=1)))
    give_up(fleet, a, "5-9", uncovered_ms=round(timedelta(days=1) / timedelta(milliseconds=1)))
    age: Any = "update sync_rebalance set triggered_at = clock_timestamp() - interval '3 days' where plan_version < 3"
    fleet.sql(age)
    fleet.ask(m.Prune(None, None, 2.0, None))
    assert handovers(fleet) == [(tokens("20-29"), None, "a", False), (tokens("5-9"), "a", None, True)]
    fleet.sql("delete from sync_rebalance")
    fleet.ask(m.Prune(None, None, None, None))
    assert handovers(fleet) == [(tokens("5-9"), "a", None, True)]
