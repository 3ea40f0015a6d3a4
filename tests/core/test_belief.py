"""What a node believes: within the grants, growing after the fact and shrinking before it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsync.core.belief import TOKEN_STATES, Belief
from jobsync.core.holding import Fence, Grant
from jobsync.core.leases import Instant, Lease
from jobsync.core.pool import LEADERSHIP, RIGHT_TO_LEAD
from jobsync.core.tokens import TokenSet

ALL, LOW, HIGH = TokenSet.span(0, 10), TokenSet.span(0, 5), TokenSet.span(5, 10)
tokens = st.sets(st.integers(0, 9)).map(TokenSet.of)


def believing(*grants: Grant) -> Belief:
    """A belief in some grants."""
    belief = Belief()
    for grant in grants:
        belief.believe(grant)
    return belief


def test_without_a_lease_nothing_is_answered() -> None:
    belief = believing(Grant(1, ALL))
    assert not belief.holding(1, with_session=False).certain_at(Instant(0, 0))


def test_without_a_lease_nothing_is_certain() -> None:
    assert not believing(Grant(1, ALL)).certain_at(Instant(0, 0), with_session=False)


def lease_both_ways(belief: Belief) -> None:
    belief.row = belief.session = Lease(Instant(0, 0), 10)


def test_what_is_forgotten_leaves_no_lease_behind() -> None:
    belief = believing(Grant(1, ALL))
    lease_both_ways(belief)
    belief.forget()
    belief.believe(Grant(2, ALL))
    assert (belief.row, belief.session) == (None, None)
    assert not belief.certain_at(Instant(1, 1), with_session=False)


def test_every_handover_has_a_number_of_its_own() -> None:
    """Else the application's word about one would free the tokens of another."""
    belief = believing(Grant(1, ALL))
    belief.give(LOW, 0)
    belief.reconcile_with_stranger((Grant(1, ALL), Grant(2, TokenSet.of({20}))), 1)
    belief.give(TokenSet.of({5}), 2)
    belief.reconcile_with_stranger((Grant(1, ALL), Grant(2, TokenSet.of({20, 21}))), 3)
    belief.give(TokenSet.of({6}), 4)
    serials = [giving.serial for giving in belief.giving]
    assert len(serials) == 5
    assert len(set(serials)) == 5


def test_the_shorter_of_both_leases_ends_the_answers() -> None:
    belief = believing(Grant(1, ALL))
    belief.row, belief.session = Lease(Instant(0, 0), 14.5), Lease(Instant(10, 10), 0.6)
    assert belief.holding(1, with_session=True).boot_until_sec == 10.6
    assert belief.holding(1, with_session=False).boot_until_sec == 14.5
    belief.row, belief.session = Lease(Instant(0, 1000), 14.5), Lease(Instant(10, 1010), 0.6)
    assert belief.holding(1, with_session=True).wall_until_sec == 1010.6
    assert belief.holding(1, with_session=False).wall_until_sec == 1014.5


def test_certain_is_what_each_lease_in_force_says() -> None:
    belief = believing(Grant(1, ALL))
    belief.row = Lease(Instant(0, 0), 10)
    assert belief.certain_at(Instant(9.9, 9.9), with_session=False)
    assert not belief.certain_at(Instant(10, 10), with_session=False)
    assert not belief.certain_at(Instant(1, 1), with_session=True)
    belief.session = Lease(Instant(0, 0), 2)
    assert belief.certain_at(Instant(1.9, 1.9), with_session=True)
    assert not belief.certain_at(Instant(2, 2), with_session=True)


@pytest.mark.parametrize(
    ("boot_sec", "wall_sec", "certain"),
    [(9.9, 1009.9, True), (10.0, 1000.0, False), (11.0, 1000.0, False), (0.0, 1010.0, False), (0.0, 1011.0, False)],
)
def test_a_reader_is_told_yes_only_before_the_end_by_either_clock(
    boot_sec: float, wall_sec: float, certain: bool
) -> None:
    belief = believing(Grant(1, ALL))
    belief.row = Lease(Instant(0, 1000), 10)
    assert belief.holding(1, with_session=False).certain_at(Instant(boot_sec, wall_sec)) is certain


def test_what_is_given_is_believed_no_more_and_is_told_only_when_drained() -> None:
    belief = believing(Grant(1, ALL))
    giving = belief.give(HIGH, 0)
    assert (belief.tokens, belief.ready_to_shrink()) == (LOW, TokenSet())
    belief.drained(giving.serial)
    assert belief.ready_to_shrink() == HIGH
    belief.shrunk(HIGH)
    assert belief.all_giving == TokenSet()


def test_an_untouched_token_keeps_its_epoch() -> None:
    belief = believing(Grant(1, LOW), Grant(2, HIGH))
    belief.give(TokenSet.of([0, 5]), 0)
    holding = belief.holding(1, with_session=False)
    assert belief.grants == (Grant(1, TokenSet.span(1, 5)), Grant(2, TokenSet.span(6, 10)))
    assert holding.tokens == TokenSet()  # no lease yet


def test_hand_overs_are_overdue_until_they_are_drained() -> None:
    belief = believing(Grant(1, ALL))
    early, late = belief.give(LOW, 1), belief.give(HIGH, 3)
    assert belief.overdue(2) == [early]
    belief.drained(early.serial)
    assert belief.overdue(4) == [late]
    assert belief.overdue(3) == [late]
    assert belief.overdue(2.9) == []


def test_a_hand_over_of_which_the_row_holds_nothing_any_more_is_over() -> None:
    """Else a node that leaves would wait for it for ever."""
    row = (Grant(1, HIGH),)
    for stranger in (False, True):
        belief = believing(Grant(1, ALL))
        belief.give(LOW, 0)
        _ = belief.reconcile_with_stranger(row, 1.0) if stranger else belief.reconcile(row)
        assert belief.giving == []


def test_no_grant_without_a_token_is_kept() -> None:
    belief = believing(Grant(1, LOW), Grant(2, HIGH))
    belief.give(LOW, 0)
    assert belief.grants == (Grant(2, HIGH),)
    belief.reconcile((Grant(1, LOW), Grant(2, HIGH)))
    assert belief.grants == (Grant(2, HIGH),)
    belief.reconcile_with_stranger((Grant(1, LOW), Grant(2, HIGH), Grant(3, TokenSet.of([20]))), 1.0)
    assert belief.grants == (Grant(2, HIGH),)


@given(before=tokens, given_up=tokens, row=tokens)
def test_the_row_decides_except_for_what_is_on_its_way_out(before: TokenSet, given_up: TokenSet, row: TokenSet) -> None:
    belief = believing(Grant(1, before))
    belief.give(before & given_up, 0)
    was = belief.tokens
    removed, added = belief.reconcile((Grant(2, row),) if row else ())
    assert belief.tokens == row - (before & given_up)
    assert belief.all_giving == before & given_up & row
    assert (was - removed) | added == belief.tokens
    assert removed <= was
    assert not added & was


@given(before=tokens, given_up=tokens, row=tokens)
def test_of_a_strangers_row_only_what_was_believed_is_taken(
    before: TokenSet, given_up: TokenSet, row: TokenSet
) -> None:
    belief = believing(Grant(1, before))
    belief.give(before & given_up, 0)
    was = belief.tokens
    removed = belief.reconcile_with_stranger((Grant(2, row),) if row else (), 1.0)
    assert belief.tokens == was & row
    assert removed == was - row
    assert belief.tokens | belief.all_giving == row
    assert belief.ready_to_shrink() == row - before


def test_forgetting_leaves_nothing() -> None:
    belief = believing(Grant(1, ALL))
    belief.row = Lease(Instant(0, 0), 10)
    belief.give(HIGH, 0)
    assert belief.forget() == LOW
    assert not belief.tokens
    assert not belief.all_giving
    assert not belief.holding(1, with_session=False).tokens


def test_the_right_to_lead_is_held_and_not_shown() -> None:
    belief = believing(Grant(1, LOW | RIGHT_TO_LEAD))
    belief.row = Lease(Instant(0, 0), 10)
    holding = belief.holding(7, with_session=False)
    assert (belief.tokens, holding.tokens) == (LOW | RIGHT_TO_LEAD, LOW)
    assert holding.leads_under == Fence(7, 1)
    belief.give(RIGHT_TO_LEAD, 0)
    assert belief.holding(7, with_session=False).leads_under is None


def test_readers_see_the_same_set_when_only_the_right_to_lead_changes() -> None:
    belief = believing(Grant(1, LOW))
    shown = belief.pool
    belief.believe(Grant(2, RIGHT_TO_LEAD))
    assert belief.pool is shown


@given(before=st.booleans(), after=st.booleans(), row=tokens)
def test_no_change_that_is_told_names_the_right_to_lead(before: bool, after: bool, row: TokenSet) -> None:
    def belief() -> Belief:
        return believing(Grant(1, LOW | RIGHT_TO_LEAD if before else LOW))

    row = row | RIGHT_TO_LEAD if after else row
    granted = (Grant(2, row),) if row else ()
    told = [*belief().reconcile(granted), belief().reconcile_with_stranger(granted, 1.0), belief().drop()]
    assert all(LEADERSHIP not in change for change in [*told, belief().forget()])


def test_every_state_that_a_token_enters_is_in_the_table() -> None:
    assert {after for moves in TOKEN_STATES.values() for _, after in moves} == set(TOKEN_STATES)
