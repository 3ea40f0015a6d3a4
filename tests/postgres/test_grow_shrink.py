"""Taking tokens and giving them up: never two owners, and never a wait behind a user's transaction."""

import random
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import psycopg
import pytest
from psycopg import Connection
from psycopg.errors import ExclusionViolation, LockNotAvailable, SerializationFailure

from jobsync.core import messages as m
from jobsync.core.holding import Grant
from jobsync.core.tokens import TokenSet
from jobsync.postgres.statement import load_sql
from tests.postgres.support import Fleet, Member, at_once, tokens, wait_until

# --- grow ------------------------------------------------------------------------------------------


def test_a_node_takes_what_the_plan_wants_for_it(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.want(a="0-9 20-29")
    growth = fleet.grow(node)
    assert growth.outcome == "granted"
    assert growth.grant is not None
    assert growth.grant.tokens == fleet.held("a") == tokens("0-9 20-29")


def test_a_node_takes_only_what_nobody_holds(fleet: Fleet) -> None:
    a, b = fleet.join("a"), fleet.join("b")
    fleet.hold(a, "0-9 40-49")
    assert fleet.hold(b, "5-44").tokens == tokens("10-39")


def test_a_node_that_no_plan_knows_takes_nothing(fleet: Fleet) -> None:
    assert fleet.grow(fleet.join("a")) == m.Growth("nothing", None)


def test_a_node_that_holds_all_it_should_takes_nothing(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.hold(node, "0-9")
    assert fleet.grow(node).outcome == "nothing"


def test_an_empty_target_gives_nothing(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.want(a="")
    assert fleet.grow(node).outcome == "nothing"


def test_a_node_whose_tokens_all_belong_to_others_takes_nothing(fleet: Fleet) -> None:
    fleet.hold(fleet.join("a"), "0-9")
    fleet.want(b="0-9")
    assert fleet.grow(fleet.join("b")).outcome == "nothing"


def test_a_quarantine_grants_nothing(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.want(a="0-9")
    fleet.fail_over("system_id")
    current = fleet.rebind(node)
    assert fleet.grow(current) == m.Growth("quarantined", None)
    assert fleet.held("a") == TokenSet()


def test_a_node_on_its_way_out_takes_nothing(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.want(a="0-9")
    fleet.ask(m.BeginLeave(node.who), node.conn)
    assert fleet.grow(node).outcome == "fenced"


def test_a_fenced_node_takes_nothing(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.want(a="0-9")
    fleet.fence(node, "A")
    assert fleet.grow(node) == m.Growth("fenced", None)


def test_whoever_grows_waits_briefly_for_whoever_grows(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.want(a="0-9")
    other = fleet.connect()
    with other.transaction():
        fleet.sql("select pg_advisory_xact_lock(hashtext('sync_grant'))", conn=other)
        with pytest.raises(LockNotAvailable):
            fleet.grow(node)
    assert fleet.grow(node).outcome == "granted"


@pytest.mark.parametrize("taken", ["{[0,10)}", "{[9,10)}", "{[5,6),[100,200)}"])
def test_postgresql_itself_refuses_a_second_owner(fleet: Fleet, taken: str) -> None:
    a, b = fleet.join("a"), fleet.join("b")
    fleet.hold(a, "0-9")
    forged = "insert into sync_grant values (nextval('sync_epoch'), 'b', $1::bigint, $2::int4multirange)"
    with pytest.raises(ExclusionViolation):
        fleet.sql(forged, b.who.incarnation, taken)


def test_a_grant_never_stands_without_its_node(fleet: Fleet) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        fleet.sql("insert into sync_grant values (1, 'nobody', 1, '{[0,10)}')")


def test_an_empty_grant_is_refused(fleet: Fleet) -> None:
    node = fleet.join("a")
    with pytest.raises(psycopg.errors.CheckViolation):
        fleet.sql("insert into sync_grant values (1, 'a', $1::bigint, '{}')", node.who.incarnation)


# --- epochs ----------------------------------------------------------------------------------------


def test_the_epoch_of_a_token_grows_with_every_owner(fleet: Fleet) -> None:
    members = [fleet.join(name) for name in "abc"]
    epochs = []
    for member in members * 2:
        epochs.append(fleet.hold(member, "0-9").epoch)
        fleet.shrink(member, "0-9")
    assert epochs == sorted(set(epochs))


def test_tokens_that_come_back_to_their_owner_have_a_new_epoch(fleet: Fleet) -> None:
    node = fleet.join("a")
    first = fleet.hold(node, "0-9").epoch
    fleet.shrink(node, "3-4")
    again = fleet.grow(node).grant
    assert again is not None
    assert again.epoch > first
    assert again.tokens == tokens("3-4")


def test_tokens_that_stay_keep_their_epoch_and_their_date(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.hold(node, "0-9")
    stay = "select token_id, epoch, assigned_at from sync_token where token_id in (0, 9) order by 1"
    before = fleet.sql(stay)
    fleet.shrink(node, "4-5")
    fleet.hold(node, "0-3 6-30")
    assert fleet.sql(stay) == before


def test_the_grants_that_are_read_back_are_those_that_were_made(fleet: Fleet) -> None:
    node = fleet.join("a")
    made = (fleet.hold(node, "0-9"), fleet.hold(node, "0-19"))
    assert fleet.ask(m.ReadGrants("a", node.who.incarnation)) == m.HeldGrants(made)


def test_no_grants_are_read_for_another_incarnation(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.hold(node, "0-9")
    assert fleet.ask(m.ReadGrants("a", node.who.incarnation + 1)) == m.HeldGrants(())


# --- the number of the plan that a node has applied -------------------------------------------------


def test_a_node_bears_the_plan_whose_tokens_it_holds(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.save_plan(node, fleet.inputs(), {"a": "0-9"})
    fleet.grow(node)
    assert fleet.sql("select distinct version from sync_token") == [(1,)]


def test_a_node_that_holds_only_a_part_does_not_bear_the_plan_yet(fleet: Fleet) -> None:
    a, b = fleet.join("a"), fleet.join("b")
    fleet.hold(b, "5-6")
    fleet.save_plan(a, fleet.inputs(), {"a": "0-9", "b": ""})
    fleet.grow(a)
    assert fleet.value("select applied_version from sync_node where name = 'a'") == 0


def test_giving_up_the_rest_applies_the_plan(fleet: Fleet) -> None:
    a, _ = fleet.join("a"), fleet.join("b")
    fleet.hold(a, "0-9")
    fleet.save_plan(a, fleet.inputs(), {"a": "0-4", "b": "5-9"})
    fleet.shrink(a, "5-9")
    assert fleet.value("select applied_version from sync_node where name = 'a'") == 1


# --- shrink ----------------------------------------------------------------------------------------


def test_what_is_given_up_is_free(fleet: Fleet) -> None:
    a, b = fleet.join("a"), fleet.join("b")
    fleet.hold(a, "0-9")
    assert fleet.shrink(a, "5-9") == m.Shrunk()
    assert fleet.hold(b, "0-9").tokens == tokens("5-9")
    assert fleet.held("a") == tokens("0-4")


def test_only_what_is_held_can_be_given_up(fleet: Fleet) -> None:
    a, b = fleet.join("a"), fleet.join("b")
    fleet.hold(a, "0-4")
    fleet.hold(b, "5-9")
    fleet.shrink(a, "0-9")
    assert fleet.held("b") == tokens("5-9")


def test_giving_up_reaches_over_several_grants(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.hold(node, "0-9")
    fleet.hold(node, "0-19")
    fleet.hold(node, "0-29")
    fleet.shrink(node, "5-24")
    assert fleet.held("a") == tokens("0-4 25-29")


def test_giving_up_wakes_those_who_wait_for_tokens(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.hold(node, "0-9")
    fleet.want(a="0-4", b="5-9")
    fleet.sql("select sync_listen('b')")
    fleet.shrink(node, "5-9")
    hint = next(fleet.conn.notifies(timeout=10, stop_after=1))
    assert hint.channel == fleet.value("select sync_free_channel('b')")


def test_a_node_on_its_way_out_can_give_up(fleet: Fleet) -> None:
    node = fleet.join("a")
    fleet.hold(node, "0-9")
    fleet.ask(m.BeginLeave(node.who), node.conn)
    assert fleet.shrink(node, "0-9") == m.Shrunk()


@pytest.mark.parametrize(("quarantined", "waits"), [(False, "off"), (True, "on")])
def test_giving_up_waits_for_the_disk_only_in_a_quarantine(fleet: Fleet, quarantined: bool, waits: str) -> None:
    """What a crash brings back then may be believed in by another, whose grant a fail-over lost."""
    node = fleet.join("a")
    fleet.hold(node, "0-9")
    fleet.sql("update sync_meta set quarantined = $1::boolean", quarantined)
    with fleet.conn.transaction():
        fleet.shrink(node, "0-9", fleet.conn)
        assert fleet.value("select current_setting('synchronous_commit')") == waits


# --- a user's transaction in between ---------------------------------------------------------------


def test_giving_up_fails_at_once_while_a_transaction_holds_the_grant(fleet: Fleet) -> None:
    node = fleet.join("a")
    grant = fleet.hold(node, "0-9")
    user = fleet.connect()
    spent_sec = []
    with user.transaction():
        assert fleet.still_owner(node, grant, 5, user)
        for _ in range(5):
            began_sec = perf_counter()
            with pytest.raises(LockNotAvailable):
                fleet.shrink(node, "0-9")
            spent_sec.append(perf_counter() - began_sec)
    assert min(spent_sec) < 0.1
    assert fleet.shrink(node, "0-9") == m.Shrunk()


def test_a_transaction_on_one_grant_does_not_hold_up_another(fleet: Fleet) -> None:
    node = fleet.join("a")
    grant = fleet.hold(node, "0-9")
    fleet.hold(node, "0-19")
    user = fleet.connect()
    with user.transaction():
        fleet.still_owner(node, grant, 5, user)
        assert fleet.shrink(node, "10-19") == m.Shrunk()


def test_a_transaction_holds_up_neither_beats_nor_growth(fleet: Fleet) -> None:
    node = fleet.join("a")
    grant = fleet.hold(node, "0-9")
    fleet.want(a="0-19")
    user = fleet.connect()
    with user.transaction():
        fleet.still_owner(node, grant, 5, user)
        assert isinstance(fleet.beat(node), m.BeatReply)
        assert fleet.grow(node).outcome == "granted"


@pytest.mark.parametrize("wrong", ["name", "incarnation", "epoch", "token"])
def test_ownership_is_proved_by_all_four_numbers(fleet: Fleet, wrong: str) -> None:
    node = fleet.join("a")
    other = fleet.join("b")
    grant = fleet.hold(node, "0-9")
    asked = {
        "name": (Member(node.conn, m.Identity("b", node.who.incarnation, 0)), grant, 5),
        "incarnation": (Member(node.conn, m.Identity("a", other.who.incarnation, 0)), grant, 5),
        "epoch": (node, Grant(grant.epoch + 1, grant.tokens), 5),
        "token": (node, grant, 10),
    }[wrong]
    assert not fleet.still_owner(*asked, fleet.connect())


def test_ownership_that_is_being_given_up_is_waited_for_and_lost(fleet: Fleet) -> None:
    node = fleet.join("a")
    grant = fleet.hold(node, "0-9")
    user = fleet.connect()
    with ThreadPoolExecutor(1) as pool:
        with node.conn.transaction():
            fleet.shrink(node, "5-9")
            answer = pool.submit(fleet.still_owner, node, grant, 5, user)
            wait_until(lambda: fleet.waits_for_lock(user))
        assert answer.result() is False


# --- why FOR SHARE, and why the explicit FOR UPDATE (each alone would do; without both it breaks) ----

EXPLICIT = "perform from sync_grant g where g.node = _name and g.tokens && _give order by g.epoch for update nowait;"


def mutate(fleet: Fleet, function: str, rule: str, broken: str) -> None:
    """Put a broken rule into this fleet's copy of a function."""
    text = load_sql("functions", function, fleet.prefix)
    assert fleet.spelt(rule) in text
    fleet.conn.execute(text.replace(fleet.spelt(rule), fleet.spelt(broken)).encode())


def owned_after_it_was_given_away(fleet: Fleet) -> bool:
    """Tell whether a user's transaction is told 'yours' for a token that has gone to another node.

    The transaction began (its snapshot stands) while the node held the token; nobody is held up by it.
    """
    a, b = fleet.join("a"), fleet.join("b")
    grant = fleet.hold(a, "0-9")
    user = fleet.connect()
    user.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with user.transaction():
        fleet.sql("select from sync_meta", conn=user)
        fleet.shrink(a, "5-9")
        assert 5 in fleet.hold(b, "5-9").tokens
        return fleet.still_owner(a, grant, 5, user)


def test_a_transaction_that_began_before_the_token_went_is_refused(fleet: Fleet) -> None:
    with pytest.raises(SerializationFailure):
        owned_after_it_was_given_away(fleet)


def test_with_neither_rule_a_token_that_was_given_away_is_still_called_owned(fleet: Fleet) -> None:
    mutate(fleet, "still_owner", "for share", "for key share")
    mutate(fleet, "shrink", EXPLICIT, "")
    assert owned_after_it_was_given_away(fleet)


def test_with_neither_rule_a_token_is_given_away_under_a_transaction(fleet: Fleet) -> None:
    mutate(fleet, "still_owner", "for share", "for key share")
    mutate(fleet, "shrink", EXPLICIT, "")
    a, b = fleet.join("a"), fleet.join("b")
    grant = fleet.hold(a, "0-9")
    user = fleet.connect()
    with user.transaction():
        assert fleet.still_owner(a, grant, 5, user)
        fleet.shrink(a, "5-9")
        assert 5 in fleet.hold(b, "5-9").tokens


@pytest.mark.parametrize(
    ("function", "rule", "broken"),
    [("still_owner", "for share", "for key share"), ("shrink", EXPLICIT, "")],
    ids=["key share alone", "plain update alone"],
)
def test_with_one_of_the_rules_left_nothing_is_given_away_under_a_transaction(
    fleet: Fleet, function: str, rule: str, broken: str
) -> None:
    mutate(fleet, function, rule, broken)
    node = fleet.join("a")
    grant = fleet.hold(node, "0-9")
    user = fleet.connect()
    with user.transaction():
        assert fleet.still_owner(node, grant, 5, user)
        with pytest.raises(LockNotAvailable):
            fleet.shrink(node, "5-9")


def test_without_the_explicit_lock_giving_up_would_wait(fleet: Fleet) -> None:
    mutate(fleet, "shrink", EXPLICIT, "")
    node = fleet.join("a")
    grant = fleet.hold(node, "0-9")
    user = fleet.connect()
    with user.transaction():
        fleet.still_owner(node, grant, 5, user)
        began_sec = perf_counter()
        with pytest.raises(LockNotAvailable):
            fleet.shrink(node, "5-9")
    assert perf_counter() - began_sec > 0.14


# --- all at once -----------------------------------------------------------------------------------

ROUNDS = 100


def churn(fleet: Fleet, member: Member, seed: int) -> list[tuple[int, TokenSet]]:
    """Want, take and give up at random; give the epochs that were granted. A held lock is no error."""
    rng = random.Random(seed)
    granted: list[tuple[int, TokenSet]] = []

    def patiently(act: Any) -> Any:
        try:
            return act()
        except LockNotAvailable:
            return None

    for _ in range(ROUNDS):
        first = rng.randrange(80)
        fleet.sql(
            "insert into sync_target values ($1, int4range($2::integer, $3::integer)::int4multirange, 1) "
            "on conflict (node) do update set tokens = excluded.tokens",
            member.name,
            first,
            first + 40,
            conn=member.conn,
        )
        growth = patiently(lambda: fleet.grow(member))
        if growth is not None and growth.grant is not None:
            granted.append((growth.grant.epoch, growth.grant.tokens))
        start = rng.randrange(100)
        patiently(lambda start=start: fleet.shrink(member, f"{start}-{start + 30}"))
    return granted


def test_eight_nodes_that_grow_and_shrink_flat_out_never_share_a_token(fleet: Fleet) -> None:
    members = [fleet.join(f"node-{number}") for number in range(8)]
    grants = at_once(8, lambda number: churn(fleet, members[number], number))
    assert sum(map(len, grants)) > ROUNDS
    assert fleet.sql("select token_id from sync_token group by token_id having count(*) > 1") == []


def test_epochs_are_unique_when_all_grow_at_once(fleet: Fleet) -> None:
    members = [fleet.join(f"node-{number}") for number in range(4)]
    grants = at_once(4, lambda number: churn(fleet, members[number], number))
    epochs = [epoch for granted in grants for epoch, _ in granted]
    assert len(epochs) == len(set(epochs))


def test_without_the_lock_around_growth_nodes_collide(fleet: Fleet) -> None:
    mutate(fleet, "grow", "perform pg_advisory_xact_lock(hashtext('sync_grant'));", "")
    a, b = fleet.join("a"), fleet.join("b")
    fleet.want(a="0-9", b="0-9")

    def late(conn: Connection[Any]) -> str:
        conn.execute("set lock_timeout = '5s'")
        return fleet.grow(b).outcome

    with ThreadPoolExecutor(1) as pool:
        with a.conn.transaction():
            fleet.grow(a)
            answer = pool.submit(late, b.conn)
            wait_until(lambda: fleet.waits_for_lock(b.conn) or answer.done())
        with pytest.raises((ExclusionViolation, LockNotAvailable)):
            answer.result()
