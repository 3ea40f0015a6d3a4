"""Locks as statements: what is stored, in which order, and when the leader has to plan anew."""

from collections.abc import Iterable

import pytest

from jobsync.core.pins import NewLock
from jobsync.postgres.locks import LockRow, LockStatements, lock_row
from jobsync.postgres.statement import run
from tests.postgres.support import Fleet, at_once

ODD_TEXT = "é\"'\\{},𐍈\n$1 %s; drop--"


class Clerk:
    """One who registers and clears locks, under a name."""

    def __init__(self, fleet: Fleet, name: str = "a") -> None:
        self.fleet = fleet
        self.name = name
        self.statements = LockStatements(fleet.prefix)

    def register(
        self, *tasks: str, patterns: Iterable[str] = ("gpu-%",), reason: str | None = None, days: float | None = None
    ) -> None:
        locks = [NewLock(task, len(task), tuple(patterns), reason) for task in tasks]
        run(self.fleet.conn, self.statements.register(locks, self.name, days))

    def listed(self) -> list[LockRow]:
        return [lock_row(row) for row in run(self.fleet.conn, self.statements.list_all())]

    def clear(self, creator: str | None) -> int:
        return int(run(self.fleet.conn, self.statements.clear(creator))[0][0])


@pytest.fixture
def clerk(fleet: Fleet) -> Clerk:
    return Clerk(fleet)


def version(fleet: Fleet) -> int:
    return int(fleet.value("select lock_version from sync_meta"))


def test_locks_are_listed_in_the_order_of_registration(clerk: Clerk) -> None:
    clerk.register("z", "a")
    clerk.register("m")
    assert [lock.task_id for lock in clerk.listed()] == ["z", "a", "m"]


def test_any_text_but_nul_comes_back_as_it_was_given(clerk: Clerk) -> None:
    clerk.register(ODD_TEXT, patterns=[ODD_TEXT, "%"], reason=ODD_TEXT)
    (lock,) = clerk.listed()
    assert (lock.task_id, lock.node_patterns, lock.reason) == (ODD_TEXT, [ODD_TEXT, "%"], ODD_TEXT)


def test_a_lock_that_is_replaced_keeps_its_place(clerk: Clerk) -> None:
    clerk.register("first", "second")
    clerk.register("first", patterns=["other"])
    assert [(lock.task_id, lock.node_patterns) for lock in clerk.listed()] == [
        ("first", ["other"]),
        ("second", ["gpu-%"]),
    ]


def test_registering_what_stands_changes_nothing(clerk: Clerk, fleet: Fleet) -> None:
    clerk.register("x", "y", reason="why")
    before = version(fleet), fleet.sql("select xmin::text from sync_lock")
    clerk.register("x", "y", reason="why")
    assert (version(fleet), fleet.sql("select xmin::text from sync_lock")) == before


@pytest.mark.parametrize("change", [{"patterns": ["b"]}, {"reason": "new"}, {"days": 1.0}], ids=str)
def test_each_thing_that_changes_makes_a_plan_due(clerk: Clerk, fleet: Fleet, change: dict[str, object]) -> None:
    clerk.register("x")
    before = version(fleet)
    clerk.register("x", **change)  # type: ignore[arg-type]
    assert version(fleet) == before + 1


def test_who_registers_a_lock_again_becomes_its_creator(clerk: Clerk, fleet: Fleet) -> None:
    clerk.register("x")
    Clerk(fleet, "b").register("x")
    assert [lock.created_by for lock in clerk.listed()] == ["b"]


def test_expired_locks_are_not_listed(clerk: Clerk, fleet: Fleet) -> None:
    fleet.lock("over", 1, ends_in_sec=-1)
    fleet.lock("stands", 1, ends_in_sec=60)
    assert [lock.task_id for lock in clerk.listed()] == ["stands"]


def test_locks_are_cleared_by_creator_or_all(clerk: Clerk, fleet: Fleet) -> None:
    clerk.register("x", "y")
    Clerk(fleet, "b").register("z")
    fleet.lock("by hand", 1)
    assert (clerk.clear("a"), clerk.clear("a")) == (2, 0)
    assert clerk.clear(None) == 2
    assert clerk.listed() == []


def test_clearing_nothing_makes_no_plan_due(clerk: Clerk, fleet: Fleet) -> None:
    clerk.register("x")
    before = version(fleet)
    clerk.clear("nobody")
    assert version(fleet) == before


def test_a_truncate_by_hand_makes_a_plan_due(clerk: Clerk, fleet: Fleet) -> None:
    clerk.register("x")
    before = version(fleet)
    fleet.sql("truncate sync_lock")
    assert version(fleet) == before + 1


def test_four_who_register_the_same_locks_in_other_orders_do_not_deadlock(fleet: Fleet) -> None:
    tasks = [f"task-{number}" for number in range(500)]
    orders = [tasks, tasks[::-1], tasks[250:] + tasks[:250], tasks[::2] + tasks[1::2]]
    conns = [fleet.connect() for _ in orders]
    statements = LockStatements(fleet.prefix)

    def register(number: int) -> None:
        locks = [NewLock(task, 1, (f"node-{number}",), None) for task in orders[number]]
        for _ in range(5):
            run(conns[number], statements.register(locks, f"node-{number}", None))
            run(conns[number], statements.clear(f"node-{number}"))
            run(conns[number], statements.register(locks, f"node-{number}", None))

    at_once(len(orders), register)
    (winner,) = {lock.created_by for lock in Clerk(fleet).listed()}
    assert str(winner).startswith("node-")
    assert len(Clerk(fleet).listed()) == 500
