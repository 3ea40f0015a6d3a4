"""The leader's duty: one plan at a time, asked again when refused, and what is odd is said once."""

import pytest

from jobsync.core import messages as m
from jobsync.core.leadership import NEVER, PRUNE_EVERY_SEC, PRUNE_MORE_SEC, TOLD_AT_ONCE, Leadership
from jobsync.core.messages import FactKind
from jobsync.core.settings import Settings
from jobsync.core.tokens import TokenSet

ME = m.Identity("a", 1, 2)
Lock = tuple[int, str, tuple[str, ...]]


def leader(**settings: float) -> Leadership:
    """One that leads, with a plan due."""
    leadership = Leadership("a", Settings(**settings))  # type: ignore[arg-type]
    leadership.note(leader="a", plan_due=True)
    return leadership


def inputs(*locks: Lock, targets: dict[str, TokenSet] | None = None) -> m.PlanInputs:
    """A snapshot of a fleet of one."""
    return m.PlanInputs(7, 8, 10, "then", ("a",), frozenset(), targets or {}, locks)


def plans(leadership: Leadership, snapshot: m.PlanInputs, now_sec: float = 100.0) -> list[m.Fact]:
    """Let a plan be made and saved as the ninth; give what is said of it."""
    leadership.note(leader="a", plan_due=True)
    leadership.take_inputs(snapshot)
    assert isinstance(leadership.question(ME, now_sec), m.SavePlan)
    return leadership.saved(9, now_sec)


def test_only_the_leader_plans_and_only_where_a_plan_is_due() -> None:
    for name, due, plans_now in (("a", True, True), ("a", False, False), ("b", True, False), (None, True, False)):
        leadership = Leadership("a", Settings())
        leadership.note(leader=name, plan_due=due)
        assert (leadership.question(ME, 0.0) is not None) is plans_now
        assert (leadership.next_due_sec() < NEVER) is plans_now
        assert leadership.is_mine is (name == "a")


def test_what_was_read_is_saved_as_a_plan_against_the_versions_that_were_read() -> None:
    leadership = leader()
    leadership.take_inputs(inputs())
    question = leadership.question(ME, 100.0)
    assert isinstance(question, m.SavePlan)
    assert (question.me, question.plan_version, question.lock_version) == (ME, 7, 8)
    assert (question.began_at, question.reason, question.tokens_moved) == ("then", "start", 10)
    assert isinstance(leadership.question(ME, 100.0), m.ReadPlanInputs)  # Nothing that was read is saved twice.


def test_a_saved_plan_is_told_if_tokens_move_and_no_other_is_due() -> None:
    leadership = leader()
    assert [fact.kind for fact in plans(leadership, inputs())] == [FactKind.PLANNED]
    assert leadership.next_due_sec() == NEVER
    assert leadership.question(ME, 1000.0) is None
    assert plans(leadership, inputs(targets={"a": TokenSet.span(0, 10)})) == []


def test_how_long_a_plan_took_counts_from_the_question_for_its_inputs() -> None:
    leadership = leader()
    assert isinstance(leadership.question(ME, 100.0), m.ReadPlanInputs)
    leadership.take_inputs(inputs())
    leadership.question(ME, 100.1)
    (planned,) = leadership.saved(9, 100.25)
    assert planned.took_sec == pytest.approx(0.25)


def test_a_plan_that_came_too_late_is_made_anew_a_little_later() -> None:
    leadership = leader()
    leadership.take_inputs(inputs())
    leadership.question(ME, 100.0)
    assert leadership.saved(None, 100.0) == []
    assert leadership.question(ME, 100.0) is None
    assert 100.0 < leadership.next_due_sec() <= 100.03
    assert isinstance(leadership.question(ME, leadership.next_due_sec()), m.ReadPlanInputs)


def test_an_answer_to_a_plan_that_nobody_remembers_says_nothing() -> None:
    leadership = leader()
    assert leadership.saved(9, 100.0) == []
    assert leadership.next_due_sec() > 100.0


def test_after_a_plan_was_saved_the_waits_begin_anew() -> None:
    leadership = leader()
    for _ in range(8):
        leadership.failed(100.0)
    assert leadership.next_due_sec() > 100.5
    plans(leadership, inputs())
    leadership.note(leader="a", plan_due=True)
    assert leadership.next_due_sec() <= 100.0
    leadership.failed(100.0)
    assert leadership.next_due_sec() <= 100.03


def test_who_cannot_plan_for_long_warns_waits_for_the_next_check_and_is_patient_anew() -> None:
    leadership = leader(leader_lock_timeout_sec=3, rebalance_check_interval_sec=20)
    assert leadership.failed(100.0) == []
    assert leadership.failed(103.0) == []
    (warning,) = leadership.failed(103.1)
    assert (warning.kind, warning.level) == (FactKind.REFUSED, "warning")
    assert leadership.next_due_sec() == 123.1
    assert leadership.failed(123.1) == []
    assert leadership.failed(126.0) == []
    assert len(leadership.failed(126.2)) == 1


def test_a_plan_that_was_saved_ends_the_impatience() -> None:
    leadership = leader(leader_lock_timeout_sec=3)
    leadership.failed(100.0)
    plans(leadership, inputs(), now_sec=102.0)
    assert leadership.failed(110.0) == []


def test_what_was_read_on_a_session_that_broke_is_forgotten() -> None:
    leadership = leader()
    leadership.take_inputs(inputs())
    leadership.session_lost()
    assert isinstance(leadership.question(ME, 100.0), m.ReadPlanInputs)


# --- locks that are odd ------------------------------------------------------------------------


def test_a_lock_that_matches_nobody_is_told_once_until_it_changes() -> None:
    leadership = leader()
    odd = inputs((3, "invoice", ("z%",)), targets={"a": TokenSet.span(0, 10)})
    (warning,) = plans(leadership, odd)
    assert (warning.kind, warning.level) == (FactKind.LOCKS_UNMATCHED, "warning")
    assert "'invoice'" in warning.text
    assert plans(leadership, odd) == []
    assert plans(leadership, inputs(targets={"a": TokenSet.span(0, 10)})) == []
    assert len(plans(leadership, odd)) == 1


def test_of_many_odd_locks_a_few_are_named_and_all_are_counted() -> None:
    locks = [(token, f"task-{token}", ("z%",)) for token in range(TOLD_AT_ONCE + 2)]
    (warning,) = plans(leader(), inputs(*locks, targets={"a": TokenSet.span(0, 10)}))
    assert warning.text.startswith(f"{TOLD_AT_ONCE + 2} locks")
    named = [f"'task-{token}'" in warning.text for token in range(TOLD_AT_ONCE + 2)]
    assert named == [True] * TOLD_AT_ONCE + [False] * 2


def test_locks_that_contradict_each_other_are_told_once() -> None:
    leadership = leader()
    odd = inputs((3, "first", ("a",)), (3, "second", ("b",)), targets={"a": TokenSet.span(0, 10)})
    (warning,) = plans(leadership, odd)
    assert (warning.kind, warning.level) == (FactKind.LOCKS_CONFLICT, "warning")
    assert plans(leadership, odd) == []


# --- old rows ----------------------------------------------------------------------------------


def test_the_leader_has_old_rows_deleted_at_once_then_once_an_hour_and_soon_where_more_are_left() -> None:
    leadership = leader(claim_retention_days=1, audit_retention_days=2, rebalance_retention_days=3)
    assert leadership.prune_question(0.0) == m.Prune(1, 2, 3, Settings().dead_node_retention_days)
    assert leadership.prune_question(PRUNE_EVERY_SEC - 0.001) is None
    assert leadership.prune_question(PRUNE_EVERY_SEC) is not None
    leadership.pruned(more=True, now_sec=4000.0)
    assert leadership.prune_question(4000.0 + PRUNE_MORE_SEC - 0.001) is None
    assert leadership.prune_question(4000.0 + PRUNE_MORE_SEC) is not None
    leadership.pruned(more=False, now_sec=5000.0)
    assert leadership.prune_question(5000.0 + PRUNE_MORE_SEC) is None


@pytest.mark.parametrize("name", ["b", None])
def test_nobody_else_deletes_old_rows(name: str | None) -> None:
    leadership = Leadership("a", Settings())
    leadership.note(leader=name, plan_due=False)
    assert leadership.prune_question(1e6) is None
