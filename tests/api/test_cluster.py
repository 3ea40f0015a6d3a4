"""Looking at a fleet and steering it, without joining it: `open_cluster`."""

import threading
from collections.abc import Iterator

import pytest

from jobsync import InvalidArgument, Job, SchemaError
from jobsync.api.cluster import Cluster, open_cluster
from jobsync.postgres.schema import latest_version
from jobsync.runtime.clock import boot_sec
from tests.api.jobs import TOKENS, eventually, owned_by, query, settings, task_for_each_token


@pytest.fixture
def cluster(server_dsn: str, prefix: str) -> Iterator[Cluster]:
    with open_cluster(settings(server_dsn, prefix)) as opened:
        opened.migrate()
        yield opened


def test_a_drained_node_hands_all_over_and_a_resumed_one_takes_part_again(
    cluster: Cluster, server_dsn: str, prefix: str
) -> None:
    config = settings(server_dsn, prefix)
    with Job("a", coordination_config=config) as a, Job("b", coordination_config=config) as b:
        assert cluster.drain("a", reason="new kernel", by="me@desk")
        assert not cluster.drain("a")
        eventually(lambda: len(b.my_tokens) == TOKENS)
        eventually(lambda: cluster.status().leader == "b")
        assert not a.my_tokens
        assert a.am_i_healthy()
        (asked,) = cluster.steering()
        assert (asked.verb, asked.node, asked.reason, asked.asked_by) == ("drain", "a", "new kernel", "me@desk")
        assert [(node.name, node.steered) for node in cluster.status().nodes] == [("a", "drain"), ("b", None)]
        assert [each.verb for each in cluster.resume("a", by="me@desk")] == ["drain"]
        assert cluster.resume("a") == []
        eventually(lambda: len(a.my_tokens) == TOKENS / 2)
        assert [each.reason for each in cluster.history(2)] == ["resume", "drain"]
        assert cluster.drain("a", 1.0)
        eventually(lambda: not a.my_tokens)
        eventually(lambda: len(a.my_tokens) == TOKENS / 2)
    assert {each.ended_by for each in cluster.steering(past=True)} == {"me@desk", "its end"}


def test_a_cordoned_node_keeps_what_it_has_and_gets_nothing_new(cluster: Cluster, server_dsn: str, prefix: str) -> None:
    config = settings(server_dsn, prefix)
    with Job("a", coordination_config=config) as a:
        with Job("b", coordination_config=config) as b:
            eventually(lambda: len(a.my_tokens) == len(b.my_tokens) == TOKENS / 2)
            kept = set(a.my_tokens)
            cluster.cordon("a")
        eventually(lambda: cluster.status().live_nodes == 1 and cluster.plan().unplaced == TOKENS / 2)
        assert set(a.my_tokens) == kept
        with Job("c", coordination_config=config) as c:
            eventually(lambda: len(c.my_tokens) == TOKENS / 2)
            assert set(a.my_tokens) == kept


def test_a_frozen_fleet_keeps_the_place_of_a_node_that_restarts(cluster: Cluster, server_dsn: str, prefix: str) -> None:
    config = settings(server_dsn, prefix)
    with Job("a", coordination_config=config) as a:
        with Job("b", coordination_config=config) as b:
            eventually(lambda: len(a.my_tokens) == len(b.my_tokens) == TOKENS / 2)
            mine, theirs = set(a.my_tokens), set(b.my_tokens)
            cluster.freeze(600)
            assert cluster.status().frozen
        with Job("new", coordination_config=config) as new:
            assert not new.my_tokens
        with Job("b", coordination_config=config) as b:
            eventually(lambda: set(b.my_tokens) == theirs)
            assert set(a.my_tokens) == mine
    assert [each.verb for each in cluster.resume(everything=True)] == ["freeze"]


@pytest.mark.parametrize("verb", ["cordon", "drain"])
def test_a_node_that_nobody_knows_is_refused_and_nothing_is_written(cluster: Cluster, verb: str) -> None:
    with pytest.raises(InvalidArgument, match="no node 'ghost' in this fleet: it has none"):
        getattr(cluster, verb)("ghost")
    assert cluster.steering() == []


def test_every_token_is_told_with_its_holder_and_its_plan(cluster: Cluster, server_dsn: str, prefix: str) -> None:
    config = settings(server_dsn, prefix)
    with Job("a", coordination_config=config) as a:
        eventually(lambda: len(a.my_tokens) == TOKENS)
        query(server_dsn, f"update {prefix}target set tokens = tokens - '{{[10,20)}}'")
        query(server_dsn, f"update {prefix}grant set tokens = tokens - '{{[50,60)}}'")
        found = cluster.ranges()
    assert [(each.first, each.end, each.node, each.intended) for each in found] == [
        (0, 10, "a", "a"),
        (10, 20, "a", None),
        (20, 50, "a", "a"),
        (50, 60, None, "a"),
        (60, 100, "a", "a"),
    ]
    assert all((each.epoch is None) == (each.node is None) for each in found)


def test_the_history_tells_how_long_the_tokens_took_to_arrive(cluster: Cluster, server_dsn: str, prefix: str) -> None:
    config = settings(server_dsn, prefix)
    with Job("a", coordination_config=config), Job("b", coordination_config=config) as b:
        eventually(lambda: len(b.my_tokens) == TOKENS / 2)
        joined, started = cluster.history()
        assert (joined.reason, started.reason) == ("join", "start")
        assert joined.settled_ms is not None
        assert [(move.source, move.target, move.tokens) for move in joined.moves] == [("a", "b", 50)]
        assert cluster.history(number=started.id) == (started,)
        query(server_dsn, f"delete from {prefix}rebalance where id = %s", started.id)
    assert cluster.history()[-1].id == joined.id
    with pytest.raises(InvalidArgument, match="limit"):
        cluster.history(0)


def test_a_callback_that_takes_its_time_is_seen_in_the_history(cluster: Cluster, server_dsn: str, prefix: str) -> None:
    config = settings(server_dsn, prefix)
    may_end = threading.Event()
    let_go: list[float] = []

    def lets_go_late(_: set[int]) -> None:
        let_go.append(boot_sec())
        may_end.wait(30)

    with (
        Job("a", coordination_config=config, on_tokens_removed=lets_go_late),
        Job("b", coordination_config=config) as b,
    ):
        eventually(lambda: let_go)
        eventually(lambda: boot_sec() > let_go[0] + 0.4)
        may_end.set()
        eventually(lambda: len(b.my_tokens) == TOKENS / 2)
        took_ms = 1000 * (boot_sec() - let_go[0])
        joined, started = cluster.history()
    assert started.uncovered_ms is None
    assert joined.uncovered_ms is not None
    assert 400 <= joined.uncovered_ms <= took_ms + 1000  # The callback begins a little after the belief has ended.


def test_an_explanation_names_the_token_the_owner_the_rule_and_the_past(
    cluster: Cluster, server_dsn: str, prefix: str
) -> None:
    config = settings(server_dsn, prefix)
    with Job("a", coordination_config=config) as a, Job("b", coordination_config=config) as b:
        eventually(lambda: len(b.my_tokens) == TOKENS / 2)
        task = owned_by(b)
        told = cluster.explain(task)
        assert (told.token, told.owner, told.intended, told.lock) == (a.task_to_token(task), "b", "b", None)
        assert told.epoch == b.claim(task).epoch
        assert told.rule.startswith("no lock")
        now, before = told.past
        assert (now.node, now.epoch, now.reason, now.until) == ("b", told.epoch, "join", None)
        assert (before.node, before.reason, before.uncovered_ms) == ("a", "start", None)
        assert before.until is not None
        assert before.since < before.until <= now.since
        cluster.add_lock(task, ["gone-%", "a"], reason="fast disk", by="me")
        eventually(lambda: cluster.explain(task).owner == "a")
        told = cluster.explain(task)
        assert "pattern 2 of 2, 'a'" in told.rule
        assert told.lock is not None
        assert (told.lock.step, told.lock.matches, told.lock.created_by) == (2, ("a",), "me")
        cluster.add_lock(task, "gone-%")
        assert "match no live node" in cluster.explain(task).rule


def test_locks_are_added_listed_and_cleared(cluster: Cluster) -> None:
    cluster.add_lock("one", "a", by="me")
    cluster.add_lock("two", ["b", "%"], reason="[red]why[/]", expires_in_days=1, by="you")
    found = cluster.locks()
    assert [(lock.task_id, lock.node_patterns, lock.step) for lock in found] == [
        ("one", ("a",), None),
        ("two", ("b", "%"), None),
    ]
    assert [lock.task_id for lock in cluster.locks(like="tw")] == ["two"]
    assert (cluster.clear_lock("one"), cluster.clear_lock("one")) == (True, False)
    assert (cluster.clear_locks("me"), cluster.clear_locks("you")) == (0, 1)
    with pytest.raises(InvalidArgument):
        cluster.add_lock("three", [])


def test_a_dry_run_says_what_would_move_and_moves_nothing(cluster: Cluster, server_dsn: str, prefix: str) -> None:
    config = settings(server_dsn, prefix)
    with Job("a", coordination_config=config) as a, Job("b", coordination_config=config) as b:
        eventually(lambda: len(b.my_tokens) == TOKENS / 2)
        assert cluster.plan().tokens_moved == 0
        gone = cluster.plan(without=("b",))
        assert (gone.tokens_moved, gone.reason, gone.counts) == (50, "leave", {"a": (50, 100), "b": (50, 0)})
        come = cluster.plan(joining=("c", "d"))
        assert (come.tokens_moved, come.counts["c"]) == (50, (0, 25))
        with pytest.raises(InvalidArgument, match="live are 'a', 'b'"):
            cluster.plan(without=("x",))
        with pytest.raises(InvalidArgument, match="live already"):
            cluster.plan(joining=("a",))
        assert len(a.my_tokens) == len(b.my_tokens) == 50


def test_pruning_by_hand_removes_what_is_old(cluster: Cluster, server_dsn: str, prefix: str) -> None:
    days = "now() - interval '40 days'"
    query(
        server_dsn,
        f"insert into {prefix}rebalance (triggered_at, trigger_reason, leader_node, nodes_before, nodes_after, "
        f"tokens_moved, duration_ms, moves, plan_version) values ({days}, 'join', 'a', 1, 2, 3, 4, '[]', 1)",
    )
    assert (cluster.prune().bites, cluster.history()) == (1, ())


@pytest.mark.parametrize(("version", "word"), [(1, "older"), (latest_version() + 1, "newer")])
def test_tables_of_another_version_are_refused_before_anything_is_done(
    cluster: Cluster, server_dsn: str, prefix: str, version: int, word: str
) -> None:
    query(server_dsn, f"update {prefix}meta set schema_version = %s, oldest_program = %s", version, version)
    for ask in (
        cluster.status,
        cluster.ranges,
        cluster.locks,
        cluster.history,
        lambda: cluster.drain("a"),
        cluster.resume,
    ):
        with pytest.raises(SchemaError, match=word):
            ask()
    assert query(server_dsn, f"select count(*) from {prefix}steering") == [(0,)]


def test_a_fleet_that_nobody_joined_has_no_token_for_a_task(cluster: Cluster) -> None:
    assert cluster.ranges() == ()
    for ask in (lambda: cluster.explain("x"), cluster.plan):
        with pytest.raises(InvalidArgument, match="no node has ever joined"):
            ask()


def test_tasks_whose_token_is_locked_by_another_say_so(cluster: Cluster, server_dsn: str, prefix: str) -> None:
    by_token = task_for_each_token(TOKENS)
    other = next(f"x{n}" for n in range(10_000) if f"x{n}" not in by_token)
    with Job("a", coordination_config=settings(server_dsn, prefix)) as a:
        first = by_token[a.task_to_token(other)]
        cluster.add_lock(first, "a")
        cluster.add_lock(other, "b")
        assert f"shares its token with task {first!r}" in cluster.explain(other).rule
        assert [lock.decides for lock in cluster.locks()] == [True, False]
