"""A statement of an older session or an older incarnation changes nothing, however late it is carried out."""

from collections.abc import Callable
from typing import Any

import pytest

from jobsync.core import messages as m
from tests.postgres.support import Fleet, Member, tokens

Question = Callable[[m.Identity], m.Question]

LATE: dict[str, Question] = {
    "beat": lambda who: m.Beat(who, 99, 0, check=False),
    "grow": m.Grow,
    "shrink": lambda who: m.Shrink(who, tokens("0-9")),
    "fence A": lambda who: m.Fence(who, 0, "A"),
    "fence B": lambda who: m.Fence(who, 0, "B"),
    "begin leave": m.BeginLeave,
    "leave": m.Leave,
    "save plan": lambda who: m.SavePlan(
        who, 0, 0, ("a",), {"a": tokens("0-99")}, "join", 0, 100, (), "2024-01-01T00:00:00Z"
    ),
}
NOTHING_DONE = (m.NotCurrent(), m.Growth("fenced", None), m.FenceReply(done=False), m.PlanSaved(None))


def everything(fleet: Fleet) -> list[Any]:
    """Read all that the protocol may change."""
    return [fleet.sql(f"select * from sync_{table}") for table in ("meta", "node", "grant", "target", "rebalance")]


def after_a_rebind(fleet: Fleet) -> m.Identity:
    old = fleet.join("a")
    fleet.rebind(old)
    return old.who


def after_a_restart(fleet: Fleet) -> m.Identity:
    old = fleet.join("a")
    fleet.fence(old, "A")
    fleet.join("a")
    return old.who


def after_a_restart_under_the_bind_of_today(fleet: Fleet) -> m.Identity:
    old = after_a_restart(fleet)
    return m.Identity("a", old.incarnation, fleet.value("select bind from sync_node"))


def after_a_fence(fleet: Fleet) -> m.Identity:
    old = fleet.join("a")
    fleet.fence(old, "A")
    return old.who


@pytest.mark.parametrize("late", LATE.values(), ids=LATE.keys())
@pytest.mark.parametrize(
    "become_old", [after_a_rebind, after_a_restart, after_a_restart_under_the_bind_of_today, after_a_fence]
)
def test_a_statement_that_comes_too_late_changes_nothing(
    fleet: Fleet, become_old: Callable[[Fleet], m.Identity], late: Question
) -> None:
    old = become_old(fleet)
    if become_old is not after_a_fence:
        current = m.Identity("a", *fleet.sql("select incarnation, bind from sync_node")[0])
        fleet.hold(Member(fleet.conn, current), "0-9")
    fleet.want(a="0-19")
    fleet.sql("update sync_node set beats = 0")
    before = everything(fleet)
    assert fleet.ask(late(old)) in NOTHING_DONE
    assert everything(fleet) == before


def test_a_rebind_of_an_older_incarnation_changes_nothing(fleet: Fleet) -> None:
    old = after_a_restart(fleet)
    before = everything(fleet)
    assert fleet.ask(fleet.rebinding(old, 99)) == m.NotCurrent()
    assert everything(fleet) == before
