"""Claims and audits: by date the newest claim stands, in a run a task is done once."""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import pytest
from psycopg import Connection
from psycopg.errors import LockNotAvailable, UniqueViolation

from jobsync.core import messages as m
from jobsync.core.errors import InvalidArgument
from jobsync.core.holding import Fence, Grant
from jobsync.core.tasks import task_text
from jobsync.postgres.records import Records
from jobsync.postgres.statement import Row, Statement, run
from tests.postgres.support import Fleet, at_once, wait_until

DAY, NEXT_DAY = date(2024, 2, 29), date(2024, 3, 1)


class Clerk:
    """One node's records: a member that holds ten tokens, of which its tasks have the first."""

    def __init__(self, fleet: Fleet, name: str, first: int) -> None:
        self.fleet = fleet
        self.member = fleet.join(name)
        self.first = first
        self.grant: Grant = fleet.hold(self.member, f"{first}-{first + 9}")
        self.records = Records(fleet.prefix, name)

    @property
    def incarnation(self) -> int:
        return self.member.who.incarnation

    def run(self, work: Statement, conn: Connection[Any] | None = None) -> list[Row]:
        return run(conn or self.member.conn, work)

    def claim(self, *items: str, run_name: str | None = "batch", day: date = DAY, token: int | None = None) -> set[str]:
        mark = self.first if token is None else token
        work = self.records.claim(self.incarnation, day, run_name, list(items), [mark] * len(items))
        return {row[0] for row in self.run(work)}

    def audit(self, *items: str, run_name: str | None = "batch", day: date = DAY) -> set[str]:
        return {row[0] for row in self.run(self.records.audit(dict.fromkeys(items, self.incarnation), day, run_name))}

    def audit_fresh(self, *items: str, run_name: str | None = "batch", conn: Connection[Any] | None = None) -> int:
        return int(self.run(self.records.audit_fresh(self.incarnation, items, DAY, run_name), conn)[0][0])

    def release(self, *items: str, run_name: str | None = "batch", day: date = DAY) -> None:
        self.run(self.records.release(self.incarnation, day, run_name, list(items)))

    def finish(
        self, item: str, *, run_name: str | None = "batch", day: date = DAY, repeat: bool = False,
        conn: Connection[Any] | None = None,
    ) -> str:  # fmt: skip
        work = self.records.finish(
            Fence(self.incarnation, self.grant.epoch), self.first, item, day, run_name, repeat=repeat
        )
        return str(self.run(work, conn)[0][0])

    def die(self) -> None:
        assert self.fleet.fence(self.member, "A")


@pytest.fixture
def anna(fleet: Fleet) -> Clerk:
    """Give a node that holds the tokens 0 to 9."""
    return Clerk(fleet, "anna", 0)


@pytest.fixture
def bert(fleet: Fleet) -> Clerk:
    """Give a node that holds the tokens 10 to 19."""
    return Clerk(fleet, "bert", 10)


def claims(fleet: Fleet) -> list[Row]:
    return fleet.sql("select node, item, run from sync_claim order by item, node")


def audits(fleet: Fleet) -> list[Row]:
    return fleet.sql("select node, item, date, run from sync_audit order by item, date")


# --- claims by date --------------------------------------------------------------------------------


def test_a_claim_by_date_is_recorded(fleet: Fleet, anna: Clerk) -> None:
    assert anna.claim("x", run_name=None) == {"x"}
    assert fleet.sql("select node, item, date, run from sync_claim") == [("anna", "x", DAY, None)]


def test_by_date_the_newest_claim_stands(fleet: Fleet, anna: Clerk, bert: Clerk) -> None:
    anna.claim("x", run_name=None)
    assert bert.claim("x", run_name=None) == {"x"}
    assert claims(fleet) == [("bert", "x", None)]


def test_each_date_has_its_own_claim(fleet: Fleet, anna: Clerk, bert: Clerk) -> None:
    anna.claim("x", run_name=None)
    bert.claim("x", run_name=None, day=NEXT_DAY)
    assert claims(fleet) == [("anna", "x", None), ("bert", "x", None)]


@pytest.mark.parametrize("run_name", [None, "batch"])
def test_tokens_that_the_node_does_not_hold_are_passed_over(anna: Clerk, run_name: str | None) -> None:
    assert anna.claim("x", run_name=run_name, token=15) == set()


@pytest.mark.parametrize("run_name", [None, "batch"])
def test_a_fenced_node_claims_nothing(anna: Clerk, run_name: str | None) -> None:
    anna.die()
    assert anna.claim("x", run_name=run_name) == set()


@pytest.mark.parametrize("run_name", [None, "batch"])
@pytest.mark.parametrize(
    "item", ["täsk", "𐍈🙂", "'; drop table sync_node; --", "", "\\", "a\nb", "{1,2}", '"', "é" * 1000]
)
def test_any_text_is_a_task(anna: Clerk, item: str, run_name: str | None) -> None:
    assert anna.claim(item, run_name=run_name) == {item}


@pytest.mark.parametrize("run_name", [None, "batch"])
def test_a_task_id_of_many_kilobytes_is_refused_at_the_call_or_stored(anna: Clerk, run_name: str | None) -> None:
    item = random.Random(1).randbytes(10_000).hex()
    try:
        accepted = task_text(item)
    except InvalidArgument:
        return
    assert anna.claim(accepted, run_name=run_name) == {accepted}


# --- claims in a run -------------------------------------------------------------------------------


def test_in_a_run_a_task_goes_to_who_came_first(fleet: Fleet, anna: Clerk, bert: Clerk) -> None:
    assert anna.claim("x", "y") == {"x", "y"}
    assert bert.claim("x", "z") == {"z"}


def test_claiming_again_what_one_has_is_no_loss(anna: Clerk) -> None:
    anna.claim("x")
    assert anna.claim("x") == {"x"}


def test_runs_do_not_know_of_each_other(anna: Clerk, bert: Clerk) -> None:
    anna.claim("x", run_name="one")
    assert bert.claim("x", run_name="two") == {"x"}


def test_what_is_audited_in_a_run_is_not_given_again(anna: Clerk) -> None:
    anna.claim("x")
    anna.audit("x")
    assert anna.claim("x") == set()


def test_the_claim_of_a_fenced_node_is_taken_over(fleet: Fleet, anna: Clerk, bert: Clerk) -> None:
    anna.claim("x")
    anna.die()
    assert bert.claim("x") == {"x"}
    assert claims(fleet) == [("bert", "x", "batch")]


def test_the_claim_of_a_node_that_left_is_taken_over(fleet: Fleet, anna: Clerk, bert: Clerk) -> None:
    anna.claim("x")
    fleet.shrink(anna.member, "0-9")
    fleet.ask(m.Leave(anna.member.who), anna.member.conn)
    assert bert.claim("x") == {"x"}


def test_the_claim_of_an_older_incarnation_is_taken_over_by_its_successor(fleet: Fleet, anna: Clerk) -> None:
    anna.claim("x")
    anna.die()
    assert Clerk(fleet, "anna", 0).claim("x") == {"x"}


def test_the_claim_of_a_node_on_its_way_out_is_not_taken_over(fleet: Fleet, anna: Clerk, bert: Clerk) -> None:
    anna.claim("x")
    fleet.ask(m.BeginLeave(anna.member.who), anna.member.conn)
    assert bert.claim("x") == set()


def test_what_the_dead_have_audited_is_not_taken_over(anna: Clerk, bert: Clerk) -> None:
    anna.claim("x")
    anna.audit("x")
    anna.die()
    assert bert.claim("x") == set()


@pytest.mark.parametrize("then", ["works on it", "has done it and left"])
def test_a_claim_made_while_the_statement_waited_is_not_taken_over(
    fleet: Fleet, anna: Clerk, bert: Clerk, then: str
) -> None:
    # Anna waits at the first task, with a picture of the fleet that does not have the newcomer in it yet.
    with ThreadPoolExecutor(1) as pool:
        with bert.member.conn.transaction():
            bert.claim("first")
            answer = pool.submit(anna.claim, "first", "second")
            wait_until(lambda: fleet.waits_for_lock(anna.member.conn))
            newcomer = Clerk(fleet, "newcomer", 20)
            assert newcomer.claim("second") == {"second"}
            if then == "has done it and left":
                newcomer.audit("second")
                newcomer.die()
        assert answer.result() == set()


def test_of_four_who_claim_the_same_thousand_tasks_each_task_goes_to_one(fleet: Fleet) -> None:
    clerks = [Clerk(fleet, f"clerk-{number}", number * 10) for number in range(4)]
    items = [f"task-{number}" for number in range(1_000)]

    def claim_all(number: int) -> set[str]:
        mine: set[str] = set()
        shuffled = random.Random(number).sample(items, len(items))
        for start in range(0, len(items), 250):
            mine |= clerks[number].claim(*shuffled[start : start + 250])
        return mine

    given = at_once(4, claim_all)
    assert sorted(item for mine in given for item in mine) == sorted(items)


@pytest.mark.parametrize("run_name", [None, "batch"])
def test_who_claims_the_same_tasks_in_another_order_does_not_deadlock(
    fleet: Fleet, anna: Clerk, bert: Clerk, run_name: str | None
) -> None:
    items = [f"task-{number}" for number in range(2_000)]
    orders = [items, items[::-1]]

    def claim_each_day(number: int) -> None:
        clerk = (anna, bert)[number]
        for day in range(1, 6):
            clerk.claim(*orders[number], run_name=run_name, day=date(2024, 1, day))

    at_once(2, claim_each_day)


# --- release ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("run_name", [None, "batch"])
def test_what_is_let_go_may_be_claimed_by_others_at_once(anna: Clerk, bert: Clerk, run_name: str | None) -> None:
    anna.claim("x", run_name=run_name)
    anna.release("x", run_name=run_name)
    assert bert.claim("x", run_name=run_name) == {"x"}


def test_only_ones_own_claims_are_let_go(fleet: Fleet, anna: Clerk, bert: Clerk) -> None:
    anna.claim("x")
    bert.release("x")
    assert claims(fleet) == [("anna", "x", "batch")]


def test_a_successor_keeps_what_its_older_incarnation_would_let_go(fleet: Fleet, anna: Clerk) -> None:
    anna.die()
    Clerk(fleet, "anna", 0).claim("x")
    anna.release("x")
    assert claims(fleet) == [("anna", "x", "batch")]


@pytest.mark.parametrize("run_name", [None, "batch"])
def test_what_is_done_is_not_let_go(fleet: Fleet, anna: Clerk, run_name: str | None) -> None:
    anna.claim("x", run_name=run_name)
    anna.audit("x", run_name=run_name)
    anna.release("x", run_name=run_name)
    assert claims(fleet) == [("anna", "x", run_name)]


def test_letting_go_in_a_run_leaves_the_claim_by_date(fleet: Fleet, anna: Clerk) -> None:
    anna.claim("x")
    anna.claim("x", run_name=None)
    anna.release("x")
    assert claims(fleet) == [("anna", "x", None)]


# --- audits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("run_name", [None, "batch"])
def test_audited_twice_is_one_row(fleet: Fleet, anna: Clerk, run_name: str | None) -> None:
    anna.claim("x", run_name=run_name)
    anna.audit("x", run_name=run_name)
    anna.audit("x", run_name=run_name)
    assert audits(fleet) == [("anna", "x", DAY, run_name)]


def test_by_date_the_first_audit_stays_as_it_is(fleet: Fleet, anna: Clerk, bert: Clerk) -> None:
    anna.audit("x", run_name=None)
    bert.audit("x", run_name=None)
    assert audits(fleet) == [("anna", "x", DAY, None)]


def test_in_a_run_only_the_holder_of_the_claim_audits(fleet: Fleet, anna: Clerk, bert: Clerk) -> None:
    anna.claim("x")
    assert bert.audit("x") == set()
    assert audits(fleet) == []


def test_in_a_run_an_audit_that_is_repeated_counts_as_recorded(anna: Clerk) -> None:
    anna.claim("x")
    anna.audit("x")
    assert anna.audit("x") == {"x"}


def test_a_fenced_node_records_what_it_did_and_nobody_took_over(anna: Clerk) -> None:
    anna.claim("x")
    anna.die()
    assert anna.audit("x") == {"x"}


def test_what_was_taken_over_is_no_longer_the_fenced_nodes_to_record(fleet: Fleet, anna: Clerk, bert: Clerk) -> None:
    anna.claim("x")
    anna.die()
    assert bert.claim("x") == {"x"}
    assert anna.audit("x") == set()
    assert audits(fleet) == []


def test_a_node_on_its_way_out_writes_its_last_audits(anna: Clerk, fleet: Fleet) -> None:
    anna.claim("x")
    fleet.ask(m.BeginLeave(anna.member.who), anna.member.conn)
    assert anna.audit("x") == {"x"}


def test_a_take_over_waits_for_an_audit_that_is_being_written_and_sees_it(anna: Clerk, bert: Clerk) -> None:
    anna.claim("x")
    with ThreadPoolExecutor(1) as pool:
        with anna.member.conn.transaction():
            anna.audit("x")
            anna.die()
            taken = pool.submit(bert.claim, "x")
        assert taken.result(timeout=10) == set()


def test_from_the_finish_on_a_transaction_may_idle_for_five_seconds(anna: Clerk) -> None:
    with anna.member.conn.transaction():
        assert anna.finish("x", conn=anna.member.conn) == "done"
        assert anna.member.conn.execute("show idle_in_transaction_session_timeout").fetchone() == ("5s",)


def test_what_is_done_can_be_listed_by_run(anna: Clerk) -> None:
    anna.claim("x", "y")
    anna.audit("x")
    assert anna.run(anna.records.read_audit(DAY, "batch")) == [("anna", "x", DAY)]
    assert anna.run(anna.records.audited_in_run("batch", ["x", "y"])) == [("x",)]


def test_what_is_done_can_be_listed_by_date(anna: Clerk) -> None:
    anna.audit("x", run_name=None)
    anna.audit("y", run_name=None, day=NEXT_DAY)
    assert anna.run(anna.records.read_audit(DAY, None)) == [("anna", "x", DAY)]


def test_the_list_of_a_date_leaves_out_runs(anna: Clerk) -> None:
    anna.claim("x")
    anna.audit("x")
    assert anna.run(anna.records.read_audit(DAY, None)) == []


# --- what is most likely new -----------------------------------------------------------------------


@pytest.mark.parametrize("run_name", [None, "batch"])
def test_what_is_claimed_for_the_first_time_is_counted(fleet: Fleet, anna: Clerk, run_name: str | None) -> None:
    work = anna.records.claim_fresh(anna.incarnation, DAY, run_name, ["x", "y", "z"], [0, 15, 9])
    assert anna.run(work) == [(2,)]  # The token of y is not held.
    assert claims(fleet) == [("anna", "x", run_name), ("anna", "z", run_name)]


def test_a_claim_that_was_pruned_does_not_make_what_is_done_new(fleet: Fleet, anna: Clerk) -> None:
    anna.claim("x")
    anna.audit("x")
    fleet.sql("delete from sync_claim returning 1")
    assert anna.run(anna.records.claim_fresh(anna.incarnation, DAY, "batch", ["x", "y"], [0, 0])) == [(0,)]
    assert claims(fleet) == []


@pytest.mark.parametrize("run_name", [None, "batch"])
def test_what_is_recorded_for_the_first_time_is_counted(fleet: Fleet, anna: Clerk, run_name: str | None) -> None:
    anna.claim("x", "y", run_name=run_name)
    assert anna.audit_fresh("x", "y", run_name=run_name) == 2
    assert audits(fleet) == [("anna", item, DAY, run_name) for item in ("x", "y")]


def test_in_a_run_nothing_is_recorded_as_new_twice(fleet: Fleet, anna: Clerk) -> None:
    anna.claim("x", "y")
    anna.audit("y")
    with pytest.raises(UniqueViolation):
        anna.audit_fresh("x", "y")
    assert audits(fleet) == [("anna", "y", DAY, "batch")]


def test_a_registration_that_does_not_stand_records_nothing_as_new(fleet: Fleet, anna: Clerk) -> None:
    anna.claim("x")
    anna.die()
    assert anna.audit_fresh("x") == 0
    Clerk(fleet, "anna", 0)  # Under its name, but not in its place.
    assert anna.audit_fresh("x") == 0
    assert audits(fleet) == []


def test_a_node_on_its_way_out_records_what_is_new(fleet: Fleet, anna: Clerk) -> None:
    anna.claim("x")
    fleet.ask(m.BeginLeave(anna.member.who), anna.member.conn)
    assert anna.audit_fresh("x") == 1


def test_while_something_new_is_being_recorded_its_node_beats_and_is_not_fenced(
    fleet: Fleet, anna: Clerk, bert: Clerk
) -> None:
    anna.claim("x")
    with bert.member.conn.transaction():
        # On the connection of another, as from a pool.
        assert anna.audit_fresh("x", conn=bert.member.conn) == 1
        fleet.beat(anna.member)
        with pytest.raises(LockNotAvailable):
            anna.die()
    anna.die()
    assert bert.claim("x") == set()


# --- the exactly-once path -------------------------------------------------------------------------


@pytest.mark.parametrize("run_name", [None, "batch"])
def test_a_task_that_is_owned_is_done(fleet: Fleet, anna: Clerk, run_name: str | None) -> None:
    assert anna.finish("x", run_name=run_name) == "done"
    assert audits(fleet) == [("anna", "x", DAY, run_name)]


@pytest.mark.parametrize("run_name", [None, "batch"])
def test_a_task_is_not_done_twice(anna: Clerk, run_name: str | None) -> None:
    anna.finish("x", run_name=run_name)
    assert anna.finish("x", run_name=run_name) == "already"


@pytest.mark.parametrize("run_name", [None, "batch"])
def test_work_that_repeats_is_done_again(fleet: Fleet, anna: Clerk, run_name: str | None) -> None:
    anna.finish("x", run_name=run_name)
    assert anna.finish("x", run_name=run_name, repeat=True) == "done"
    assert len(audits(fleet)) == 1


def test_by_date_another_day_is_another_task(anna: Clerk) -> None:
    anna.finish("x", run_name=None)
    assert anna.finish("x", run_name=None, day=NEXT_DAY) == "done"


def test_a_run_over_midnight_is_still_one_run(anna: Clerk) -> None:
    anna.finish("x")
    assert anna.finish("x", day=NEXT_DAY) == "already"


@pytest.mark.parametrize("run_name", [None, "batch"])
def test_a_task_whose_token_was_given_up_is_lost(fleet: Fleet, anna: Clerk, run_name: str | None) -> None:
    fleet.shrink(anna.member, "0-9")
    assert anna.finish("x", run_name=run_name) == "lost"
    assert audits(fleet) == []


@pytest.mark.parametrize("run_name", [None, "batch"])
def test_a_task_whose_token_came_back_under_a_new_epoch_is_lost(
    fleet: Fleet, anna: Clerk, run_name: str | None
) -> None:
    fleet.shrink(anna.member, "0-9")
    fleet.grow(anna.member)
    assert anna.finish("x", run_name=run_name) == "lost"


def test_the_tasks_of_the_fenced_are_lost(anna: Clerk) -> None:
    anna.die()
    assert anna.finish("x") == "lost"


def test_a_task_that_another_live_node_has_claimed_in_the_run_is_lost(fleet: Fleet, anna: Clerk, bert: Clerk) -> None:
    bert.claim("x")
    assert anna.finish("x") == "lost"
    assert audits(fleet) == []


def test_a_task_that_another_live_node_has_done_in_the_run_is_done_already(anna: Clerk, bert: Clerk) -> None:
    bert.claim("x")
    bert.audit("x")
    assert anna.finish("x") == "already"


def test_a_task_that_the_dead_had_claimed_is_done(fleet: Fleet, anna: Clerk, bert: Clerk) -> None:
    bert.claim("x")
    bert.die()
    assert anna.finish("x") == "done"
    assert claims(fleet) == [("anna", "x", "batch")]


def test_a_task_that_the_dead_had_done_is_done_already(anna: Clerk, bert: Clerk) -> None:
    bert.claim("x")
    bert.audit("x")
    bert.die()
    assert anna.finish("x") == "already"


@pytest.mark.parametrize("run_name", [None, "batch"])
def test_of_eight_transactions_on_one_task_one_is_done(fleet: Fleet, anna: Clerk, run_name: str | None) -> None:
    sessions = [fleet.connect() for _ in range(8)]
    outcomes = at_once(8, lambda n: anna.finish("x", run_name=run_name, conn=sessions[n]))
    assert sorted(outcomes) == ["already"] * 7 + ["done"]


def test_what_the_user_wrote_goes_with_a_transaction_that_is_rolled_back(fleet: Fleet, anna: Clerk) -> None:
    conn = fleet.connect()
    with conn.transaction(force_rollback=True):
        assert anna.finish("x", conn=conn) == "done"
    assert audits(fleet) == claims(fleet) == []


def test_neither_giving_up_nor_a_fence_passes_a_finished_transaction_before_its_end(fleet: Fleet, anna: Clerk) -> None:
    conn = fleet.connect()
    with conn.transaction():
        anna.finish("x", conn=conn)
        with pytest.raises(LockNotAvailable):
            fleet.shrink(anna.member, "0-9")
        with pytest.raises(LockNotAvailable):
            anna.die()
    anna.die()


# --- runs ------------------------------------------------------------------------------------------


def enter(clerk: Clerk, name: str, day: date | None, conn: Connection[Any] | None = None) -> date:
    rows = clerk.run(clerk.records.enter_run(name, day), conn)
    assert isinstance(rows[0][0], date)
    return rows[0][0]


def test_the_first_entry_fixes_the_date_of_a_run(anna: Clerk) -> None:
    assert enter(anna, "batch", DAY) == DAY


def test_whoever_enters_later_gets_the_date_of_the_first(anna: Clerk, bert: Clerk) -> None:
    enter(anna, "batch", DAY)
    assert enter(bert, "batch", NEXT_DAY) == DAY


def test_without_a_date_the_run_has_the_databases(fleet: Fleet, anna: Clerk) -> None:
    assert enter(anna, "batch", None) == fleet.value("select current_date")


def test_eight_who_enter_at_once_agree_on_the_date(fleet: Fleet, anna: Clerk) -> None:
    sessions = [fleet.connect() for _ in range(8)]
    for number in range(5):
        name = f"run-{number}"

        def enter_as(n: int, name: str = name) -> date:
            return enter(anna, name, date(2024, 1, 1 + n), sessions[n])

        assert len(set(at_once(8, enter_as))) == 1
