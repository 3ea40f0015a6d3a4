"""Locks, also called pins: how they are registered, refused, listed and cleared, and how they take effect."""

import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jobsync import InvalidArgument, InvalidTaskId, Job, Task
from jobsync.runtime.clock import boot_sec
from tests.api.jobs import TOKENS, eventually, query, settings, task_for_each_token

ALL_TASKS = task_for_each_token(TOKENS)
ODD_TEXT = "é\"'\\\\{},𐍈\n\t$1 %s; drop--"


@pytest.fixture
def job(server_dsn: str, prefix: str) -> Iterator[Job]:
    with Job("gpu-1", coordination_config=settings(server_dsn, prefix)) as job:
        yield job


@pytest.fixture
def other(server_dsn: str, prefix: str, job: Job) -> Iterator[Job]:
    with Job("cpu-1", coordination_config=settings(server_dsn, prefix)) as other:
        eventually(lambda: len(job.my_tokens) == len(other.my_tokens) == TOKENS // 2)
        yield other


@pytest.fixture
def value(server_dsn: str, prefix: str) -> Callable[[str], Any]:
    """Give a function that asks for one value, with `sync_` in place of the prefix."""
    return lambda text: query(server_dsn, text.replace("sync_", prefix))[0][0]


def stored(job: Job) -> list[tuple[str, list[str], str | None]]:
    return [(lock["task_id"], lock["node_patterns"], lock["reason"]) for lock in job.list_locks()]


def owned_task(job: Job) -> str:
    return next(task for task in ALL_TASKS if job.can_claim_task(task))


def settled(value: Callable[[str], Any]) -> None:
    """Wait until the plan has taken all changes of locks into account."""
    eventually(lambda: value("select lock_version = planned_lock_version from sync_meta"))


# --- registering and listing ---------------------------------------------------------------------


def test_a_single_pattern_may_be_given_as_text(job: Job) -> None:
    job.register_lock("x", "gpu-%", "needs a GPU")
    assert stored(job) == [("x", ["gpu-%"], "needs a GPU")]


def test_several_patterns_keep_their_order(job: Job) -> None:
    job.register_lock("x", ["z%", "a%", "m%"])
    assert stored(job) == [("x", ["z%", "a%", "m%"], None)]


def test_a_lock_is_listed_with_all_that_is_known_of_it(job: Job, value: Callable[[str], Any]) -> None:
    job.register_lock(7, ["gpu-%", "cpu-%"], "why", expires_in_days=2)
    (lock,) = job.list_locks()
    created_at, expires_at = lock.pop("created_at"), lock.pop("expires_at")
    assert lock == {
        "token_id": job.task_to_token(7),
        "task_id": "7",
        "node_patterns": ["gpu-%", "cpu-%"],
        "node_pattern": "gpu-%",
        "reason": "why",
        "created_by": "gpu-1",
    }
    assert abs((expires_at - created_at).total_seconds() - 2 * 86400) < 5
    assert abs((value("select clock_timestamp()") - created_at).total_seconds()) < 5


def test_many_are_registered_at_once_with_or_without_a_reason(job: Job) -> None:
    job.register_locks_bulk([("x", "a", "why"), (Task("y"), ["b", "c"]), [3, ("d",), None]])  # type: ignore[list-item]
    assert stored(job) == [("x", ["a"], "why"), ("y", ["b", "c"], None), ("3", ["d"], None)]


def test_the_older_names_do_the_same(job: Job) -> None:
    job.register_task_lock("x", "a", "why")
    job.register_task_locks_bulk([("y", ["b"], None)])
    assert stored(job) == [("x", ["a"], "why"), ("y", ["b"], None)]


def test_any_text_but_nul_is_carried_safely(job: Job) -> None:
    job.register_lock(ODD_TEXT, ODD_TEXT, ODD_TEXT)
    assert stored(job) == [(ODD_TEXT, [ODD_TEXT], ODD_TEXT)]


def test_registering_a_task_again_replaces_what_was_said(job: Job, server_dsn: str, prefix: str) -> None:
    job.register_lock("x", "a", "first", expires_in_days=1)
    with Job("admin", coordination_config=settings(server_dsn, prefix), observer=True) as admin:
        admin.register_lock("x", ["b"], "second")
    (lock,) = job.list_locks()
    told = lock["node_patterns"], lock["reason"], lock["expires_at"], lock["created_by"]
    assert told == (["b"], "second", None, "admin")


def test_of_a_task_that_comes_twice_in_one_list_the_later_counts(job: Job) -> None:
    job.register_locks_bulk([(1, "a"), ("1", "b")])
    assert stored(job) == [("1", ["b"], None)]


def test_ten_thousand_are_registered_by_one_statement_in_bounded_time(job: Job, value: Callable[[str], Any]) -> None:
    before = value("select lock_version from sync_meta")
    began_sec = boot_sec()
    job.register_locks_bulk([(f"bulk-{number}", ["gpu-%"], None) for number in range(10_000)])
    assert boot_sec() - began_sec < 5.0
    assert value("select count(*) from sync_lock") == 10_000
    assert value("select lock_version from sync_meta") == before + 1  # a trigger counts statements


def test_an_observer_manages_locks(job: Job, server_dsn: str, prefix: str) -> None:
    with Job("admin", coordination_config=settings(server_dsn, prefix), observer=True) as admin:
        admin.register_lock("x", "gpu-%")
        admin.register_locks_bulk([("y", "gpu-%")])
        assert [lock["created_by"] for lock in job.list_locks()] == ["admin", "admin"]
        assert admin.list_locks() == job.list_locks()
        assert admin.clear_locks_by_creator("admin") == 2


def test_a_job_that_stands_alone_keeps_none_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "jobsync"), Job("a", coordination_config=None) as job:
        job.register_lock("x", "gpu-%")
        job.register_locks_bulk([("y", "gpu-%")])
        assert job.list_locks() == []
        assert (job.clear_all_locks(), job.clear_locks_by_creator("a")) == (0, 0)
    assert caplog.text.count("stands alone: locks bind nothing") == 5


# --- bad input -----------------------------------------------------------------------------------

NO_LISTS: list[Any] = [[], (), None, 7, {"a": 1}]
NO_PATTERNS: list[Any] = ["", [""], ["ok", ""], [7], ["ok", None], "a\0b", ["ok", "\0"], "a\\", ["ok", "a\\"], "\ud800"]


@pytest.mark.parametrize("patterns", NO_LISTS + NO_PATTERNS, ids=ascii)
def test_bad_patterns_are_refused_and_nothing_is_stored(job: Job, patterns: Any) -> None:
    with pytest.raises(InvalidArgument, match="pattern"):
        job.register_lock("x", patterns)
    assert job.list_locks() == []


@pytest.mark.parametrize("days", [0, -1, math.nan, math.inf, True, "1", 1e9], ids=str)
def test_bad_days_are_refused_and_nothing_is_stored(job: Job, days: Any) -> None:
    with pytest.raises(InvalidArgument, match="expires_in_days="):
        job.register_lock("x", "a", expires_in_days=days)
    assert job.list_locks() == []


@pytest.mark.parametrize("reason", [7, "a\0b", "\udfff"], ids=ascii)
def test_a_bad_reason_is_refused_and_nothing_is_stored(job: Job, reason: Any) -> None:
    with pytest.raises(InvalidArgument, match="reason of the lock on task 'x'"):
        job.register_lock("x", "a", reason)
    assert job.list_locks() == []


BAD_TUPLES: list[Any] = [
    (),
    ("y",),
    ("y", "a", "why", 1),
    "ya",
    None,
    ("y", []),
    ("y", "a", 7),
    ("y", "a\\"),
    ("y\0", "a"),
]


@pytest.mark.parametrize("bad", BAD_TUPLES, ids=ascii)
def test_one_bad_lock_in_the_middle_of_many_stores_none(job: Job, bad: Any) -> None:
    with pytest.raises(InvalidArgument):
        job.register_locks_bulk([("x", "a", None), bad, ("z", "a", None)])
    assert job.list_locks() == []


@pytest.mark.parametrize("locks", [None, 7, "a text"])
def test_what_is_no_list_of_locks_is_refused(job: Job, locks: Any) -> None:
    with pytest.raises(InvalidArgument, match="give \\(task id, patterns, reason\\) for each task"):
        job.register_locks_bulk(locks)


def test_a_pattern_that_like_would_refuse_is_told_with_its_task(job: Job) -> None:
    with pytest.raises(InvalidArgument, match=r"the lock on task 'x' is refused: pattern .* lone backslash"):
        job.register_lock("x", "gpu\\")


def test_a_task_id_without_a_stable_text_is_refused_and_nothing_is_stored(job: Job) -> None:
    with pytest.raises(InvalidTaskId):
        job.register_locks_bulk([("x", "a"), (object(), "a")])  # type: ignore[list-item]
    assert job.list_locks() == []


@pytest.mark.parametrize("creator", ["", None, 7, "a\0", "\ud800"], ids=ascii)
def test_a_creator_that_is_no_name_is_refused_and_nothing_is_cleared(job: Job, creator: Any) -> None:
    job.register_lock("x", "a")
    with pytest.raises(InvalidArgument, match="clear_all_locks"):
        job.clear_locks_by_creator(creator)
    assert len(job.list_locks()) == 1


# --- clearing ------------------------------------------------------------------------------------


def test_locks_are_cleared_by_their_creator(job: Job, other: Job) -> None:
    job.register_locks_bulk([("x", "a"), ("y", "a")])
    other.register_lock("z", "a")
    assert job.clear_locks_by_creator("gpu-1") == 2
    assert stored(job) == [("z", ["a"], None)]
    assert job.clear_locks_by_creator("gpu-1") == 0


def test_all_locks_are_cleared(job: Job, other: Job) -> None:
    job.register_lock("x", "a")
    other.register_lock("z", "a")
    assert job.clear_all_locks() == 2
    assert job.list_locks() == []


def test_a_lock_outlives_the_node_that_registered_it(job: Job, server_dsn: str, prefix: str) -> None:
    with Job("short", coordination_config=settings(server_dsn, prefix)) as short:
        short.register_lock("x", "gpu-%")
    eventually(lambda: job.get_dead_nodes() == [] and len(job.nodes) == 1)
    assert [lock["created_by"] for lock in job.list_locks()] == ["short"]


# --- effect --------------------------------------------------------------------------------------


def test_a_lock_moves_its_task_without_a_change_of_members(job: Job, other: Job, value: Callable[[str], Any]) -> None:
    task = owned_task(job)
    job.register_lock(task, "cpu-%")
    eventually(lambda: other.can_claim_task(task))
    assert not job.can_claim_task(task)
    assert value("select trigger_reason from sync_rebalance order by id desc limit 1") == "locks"


def test_the_first_pattern_that_matches_anybody_wins(job: Job, other: Job) -> None:
    task = owned_task(job)
    job.register_lock(task, ["tpu-%", "cpu-%", "gpu-%"])
    eventually(lambda: other.can_claim_task(task))


def test_a_later_pattern_serves_while_nobody_matches_an_earlier_one(job: Job, server_dsn: str, prefix: str) -> None:
    job.register_lock("x", ["cpu-%", "gpu-%"])
    with Job("cpu-1", coordination_config=settings(server_dsn, prefix)) as other:
        eventually(lambda: other.can_claim_task("x"))
    eventually(lambda: job.can_claim_task("x"))


def test_an_escaped_underscore_stands_for_itself(job: Job, server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("n_1", coordination_config=given) as exact, Job("nx1", coordination_config=given) as near:
        eventually(lambda: exact.my_tokens and near.my_tokens)
        near_task, exact_task = owned_task(near), owned_task(exact)
        job.register_locks_bulk([(near_task, "n\\_1"), (exact_task, "nx_")])
        eventually(lambda: exact.can_claim_task(near_task) and near.can_claim_task(exact_task))


def test_a_lock_deleted_or_changed_by_hand_takes_effect_by_itself(
    job: Job, other: Job, server_dsn: str, prefix: str
) -> None:
    job.register_locks_bulk([(task, "gpu-%") for task in ALL_TASKS])
    eventually(lambda: len(job.my_tokens) == TOKENS)
    query(server_dsn, f"update {prefix}lock set node_patterns = '[\"cpu-%\"]'")
    eventually(lambda: len(other.my_tokens) == TOKENS)
    query(server_dsn, f"delete from {prefix}lock")
    eventually(lambda: len(job.my_tokens) == len(other.my_tokens) == TOKENS // 2)


def test_registering_the_same_list_again_plans_nothing_anew(job: Job, other: Job, value: Callable[[str], Any]) -> None:
    fleet_list = [(task, ["cpu-%"], "why") for task in ALL_TASKS]
    job.register_locks_bulk(fleet_list)
    eventually(lambda: len(other.my_tokens) == TOKENS)
    settled(value)
    state = "select (lock_version, plan_version, (select count(*) from sync_rebalance))::text from sync_meta"
    before = value(state)
    job.register_locks_bulk(fleet_list)
    job.register_lock(*fleet_list[0])
    assert value(state) == before


def test_a_lock_that_nobody_matches_counts_as_unlocked_and_one_warning_says_so(
    job: Job, server_dsn: str, prefix: str, caplog: pytest.LogCaptureFixture, value: Callable[[str], Any]
) -> None:
    job.register_lock("x", "tpu-%")
    eventually(lambda: "1 locks match no live node" in caplog.text)
    assert job.can_claim_task("x")
    with Job("later", coordination_config=settings(server_dsn, prefix)):
        settled(value)
    eventually(lambda: len(job.my_tokens) == TOKENS)
    assert caplog.text.count("match no live node") == 1  # two more plans, no more warnings


def test_many_locks_that_nobody_matches_make_one_warning(job: Job, caplog: pytest.LogCaptureFixture) -> None:
    job.register_locks_bulk([(task, "tpu-%") for task in ALL_TASKS])
    eventually(lambda: f"{TOKENS} locks match no live node" in caplog.text)
    assert caplog.text.count("match no live node") == 1


def test_of_two_locks_on_one_token_the_first_decides_and_a_warning_names_both(
    job: Job, other: Job, caplog: pytest.LogCaptureFixture
) -> None:
    first = owned_task(job)
    second = next(f"n{i}" for i in range(100_000) if job.task_to_token(f"n{i}") == job.task_to_token(first))
    other.register_lock(first, "cpu-%")
    eventually(lambda: other.can_claim_task(first))
    other.register_lock(second, "gpu-%")
    eventually(lambda: "the lock registered first decides" in caplog.text)
    assert f"tasks '{first}' and '{second}' share token" in caplog.text
    assert other.can_claim_task(second)


# --- expiry --------------------------------------------------------------------------------------


def test_an_expired_lock_is_no_longer_listed_though_it_is_not_swept_yet(job: Job, value: Callable[[str], Any]) -> None:
    job.register_lock("x", "gpu-%", expires_in_days=1.5 / 86400)
    settled(value)
    eventually(lambda: job.list_locks() == [], limit_sec=5.0)
    assert value("select count(*) from sync_lock") == 1


def test_an_expired_lock_is_swept_and_binds_nothing_after_the_leaders_check(
    server_dsn: str, prefix: str, value: Callable[[str], Any]
) -> None:
    given = settings(server_dsn, prefix, total_tokens=2, rebalance_check_interval_sec=0.2)
    with Job("a", coordination_config=given) as a, Job("b", coordination_config=given) as b:
        for task in task_for_each_token(2):
            a.register_lock(task, "b", expires_in_days=3 / 86400)
        eventually(lambda: len(b.my_tokens) == 2, limit_sec=2.9)
        eventually(lambda: len(a.my_tokens) == len(b.my_tokens) == 1, limit_sec=6.0)
        assert value("select count(*) from sync_lock") == 0


# --- the lock provider ---------------------------------------------------------------------------


def register_all(job: Job) -> None:
    job.register_locks_bulk([(task, "gpu-%") for task in ALL_TASKS])


def test_the_providers_locks_count_at_the_first_deal(job: Job, server_dsn: str, prefix: str) -> None:
    with Job("cpu-1", coordination_config=settings(server_dsn, prefix), lock_provider=register_all) as other:
        assert len(other.my_tokens) == 0
        assert len(job.list_locks()) == TOKENS
    assert job.token_version == 1


def test_clearing_and_registering_are_one_change(job: Job, server_dsn: str, prefix: str) -> None:
    seen: list[int] = []

    def provider(entering: Job) -> None:
        seen.append(len(entering.list_locks()))
        seen.append(len(job.list_locks()))
        register_all(entering)

    given = settings(server_dsn, prefix)
    for _ in range(2):
        with Job("cpu-1", coordination_config=given, lock_provider=provider, clear_existing_locks=True):
            pass
    assert seen == [0, 0, TOKENS, TOKENS]  # what the provider does is written when it has returned


def test_a_restart_with_the_same_locks_moves_nothing(
    job: Job, server_dsn: str, prefix: str, value: Callable[[str], Any]
) -> None:
    given = settings(server_dsn, prefix)
    grants = "select array_agg((token_id, node, epoch)::text order by token_id) from sync_token"
    with Job("cpu-1", coordination_config=given, lock_provider=register_all, clear_existing_locks=True):
        before = value(grants)
    with Job("cpu-1", coordination_config=given, lock_provider=register_all, clear_existing_locks=True):
        settled(value)
        assert value(grants) == before
    assert value("select count(*) from sync_rebalance") == 1


def test_clear_existing_locks_spares_those_of_others(job: Job, server_dsn: str, prefix: str) -> None:
    job.register_lock("theirs", "gpu-%")
    given = settings(server_dsn, prefix)
    with Job("cpu-1", coordination_config=given) as other:
        other.register_lock("own", "gpu-%")
    with Job("cpu-1", coordination_config=given, clear_existing_locks=True):
        assert [lock["task_id"] for lock in job.list_locks()] == ["theirs"]


def test_a_provider_that_raises_leaves_the_locks_as_they_were(job: Job, server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("cpu-1", coordination_config=given) as other:
        other.register_lock("old", "gpu-%")

    def provider(entering: Job) -> None:
        entering.register_lock("new", "gpu-%")
        raise KeyError("the provider's own")

    with (
        pytest.raises(KeyError, match="the provider's own"),
        Job("cpu-1", coordination_config=given, lock_provider=provider, clear_existing_locks=True),
    ):
        pass
    assert [lock["task_id"] for lock in job.list_locks()] == ["old"]
    assert [node["name"] for node in job.nodes] == ["gpu-1"]
