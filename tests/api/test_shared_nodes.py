"""Jobs of one name and one fleet in one process: one node, one lease, one set of tokens."""

import threading
from typing import Any

import pytest

from jobsync import ConfigMismatch, DatabaseUnavailable, EnterTimeout, Job
from tests.api.jobs import TOKENS, Recorder, eventually, in_thread, query, run_script, settings
from tests.servers import PrivateServer


def nodes(dsn: str, prefix: str) -> list[str]:
    return [name for (name,) in query(dsn, f"select name from {prefix}node order by name")]


def test_a_second_job_of_the_name_shares_the_node(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("a", coordination_config=given) as outer, Job("a", coordination_config=given) as inner:
        assert len(outer.my_tokens) == len(inner.my_tokens) == TOKENS
        assert query(server_dsn, f"select name, incarnation from {prefix}node") == [("a", 1)]
        assert inner.can_claim_task("x")
        assert outer.can_claim_task("x")


@pytest.mark.parametrize("first_out", ["inner", "outer"])
def test_the_last_one_to_exit_leaves_the_fleet(server_dsn: str, prefix: str, first_out: str) -> None:
    given = settings(server_dsn, prefix)
    jobs = {"outer": Job("a", coordination_config=given), "inner": Job("a", coordination_config=given)}
    jobs["outer"].__enter__()
    jobs["inner"].__enter__()
    first = jobs.pop(first_out)
    (last,) = jobs.values()
    first.__exit__(None, None, None)
    assert nodes(server_dsn, prefix) == ["a"]
    assert len(last.my_tokens) == TOKENS
    assert last.am_i_healthy()
    assert len(first.my_tokens) == 0
    assert not first.can_claim_task("x")
    last.__exit__(None, None, None)
    assert nodes(server_dsn, prefix) == []


def test_a_job_that_joins_is_told_first_of_all_that_is_held(server_dsn: str, prefix: str) -> None:
    given, early, late = settings(server_dsn, prefix), Recorder(), Recorder()
    with Job("a", coordination_config=given, **early.all_callbacks) as outer:  # type: ignore[arg-type]
        outer.can_claim_task("x")
        eventually(lambda: early.kinds == ["added", "rebalance"])
        with Job("a", coordination_config=given, **late.all_callbacks) as inner:  # type: ignore[arg-type]
            inner.can_claim_task("x")
            eventually(lambda: late.kinds == ["added", "rebalance"])
            assert late.calls[0] == ("added", frozenset(range(TOKENS)))
            with Job("b", coordination_config=given):
                eventually(lambda: "removed" in late.kinds and "removed" in early.kinds)
                assert late.calls[2] == early.calls[2]
        told = len(late.calls)
        eventually(lambda: early.kinds.count("added") == 2)
        assert len(late.calls) == told or late.kinds[told:] == ["added", "rebalance"]
    assert early.calls[0] == ("added", frozenset(range(TOKENS)))


def test_other_settings_are_refused_and_named_without_a_password(server_dsn: str, prefix: str) -> None:
    with (
        Job("a", coordination_config=settings(server_dsn, prefix, password="hush-one")) as outer,
        pytest.raises(ConfigMismatch, match="password differs, heartbeat_interval_sec is 5, not 3") as caught,
    ):
        Job(
            "a", coordination_config=settings(server_dsn, prefix, password="hush-two", heartbeat_interval_sec=3)
        ).__enter__()
    assert "hush" not in str(caught.value)
    assert len(outer.my_tokens) == 0


def test_the_same_name_in_another_fleet_is_another_node(server_dsn: str, prefix: str) -> None:
    here, there = settings(server_dsn, prefix), settings(server_dsn, f"{prefix}b_", total_tokens=5)
    with Job("a", coordination_config=here) as one, Job("a", coordination_config=there) as other:
        assert (len(one.my_tokens), len(other.my_tokens)) == (TOKENS, 5)


def test_run_and_date_and_tasks_in_hand_belong_to_each_job(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with (
        Job("a", coordination_config=given, date="2024-02-29", run="leap") as outer,
        Job("a", "production", coordination_config=given, date="2024-03-01") as inner,
    ):
        assert (str(outer.date), str(inner.date)) == ("2024-02-29", "2024-03-01")
        assert (outer.environment, inner.environment) == (None, "production")
        outer.add_task("x")
        inner.add_task("y")
        inner.write_audit()
        assert [row["item"] for row in inner.get_audit()] == ["y"]
        assert outer.get_audit() == []
        outer.write_audit()
        assert [row["item"] for row in outer.get_audit()] == ["x"]


def test_a_stop_ends_one_job_and_not_the_other(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("a", coordination_config=given) as outer, Job("a", coordination_config=given) as inner:
        inner.stop()
        assert inner.wait(0)
        assert not outer.wait(0)


def test_a_handover_waits_for_the_body_of_either_job(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    in_hand, go_on, enough = threading.Event(), threading.Event(), threading.Event()

    def work(job: Job) -> None:
        for _ in job.tasks(["x"]):
            in_hand.set()
            assert go_on.wait(30)

    def be_the_other() -> None:
        with Job("b", coordination_config=given) as other:
            eventually(lambda: other.can_claim_task("x"))
            enough.set()

    with Job("a", coordination_config=given) as outer, Job("a", coordination_config=given) as inner:
        outer.register_lock("x", ["b", "a"])
        with in_thread(lambda: work(inner)):
            assert in_hand.wait(10)
            with in_thread(be_the_other):
                eventually(lambda: not outer.can_claim_task("x"))
                owner = f"select node from {prefix}token where token_id = %s"
                assert query(server_dsn, owner, outer.task_to_token("x")) == [("a",)]
                assert not enough.is_set()
                go_on.set()
                assert enough.wait(10)


def test_jobs_that_come_and_go_in_many_threads_never_meet_their_own_name(server_dsn: str, prefix: str) -> None:
    given, errors = settings(server_dsn, prefix), []

    def come_and_go() -> None:
        try:
            for _ in range(6):
                with Job("a", coordination_config=given) as job:
                    assert len(job.my_tokens) == TOKENS
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert nodes(server_dsn, prefix) == []


def test_one_that_waited_for_a_failed_founder_enters_by_itself(private_server: PrivateServer) -> None:
    given = settings(private_server.dsn, "sync_")
    private_server.stop("fast")
    with pytest.raises(DatabaseUnavailable):
        Job("a", coordination_config=given).__enter__()
    private_server.start()
    with Job("a", coordination_config=given) as job:
        assert len(job.my_tokens) == TOKENS


def test_a_joining_job_that_gives_up_leaves_the_node_to_the_other(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix, minimum_nodes=2, token_distribution_timeout_sec=2)
    leave = threading.Event()

    def be_the_other() -> None:
        with Job("b", coordination_config=given):
            assert leave.wait(30)

    with in_thread(be_the_other), Job("a", coordination_config=given) as job:
        leave.set()
        eventually(lambda: nodes(server_dsn, prefix) == ["a"] and len(job.my_tokens) == TOKENS)
        with pytest.raises(EnterTimeout, match="2 live nodes and saw 1"):
            Job("a", coordination_config=given).__enter__()
        assert job.am_i_healthy()
        assert nodes(server_dsn, prefix) == ["a"]


FORK = """
    import os, sys
    from jobsync import CoordinationConfig, Job, NodeNameInUse
    given = CoordinationConfig(dsn=sys.argv[1], appname=sys.argv[2], total_tokens=10)
    with Job("w1", coordination_config=given):
        child = os.fork()
        if child == 0:
            try:
                Job("w1", coordination_config=given).__enter__()
            except NodeNameInUse:
                print("refused", flush=True)
            os._exit(0)
        os.waitpid(child, 0)
"""


def test_a_forked_child_shares_nothing(server_dsn: str, prefix: str) -> None:
    output, _ = run_script(FORK, server_dsn, prefix).communicate(timeout=60)
    assert output == "refused\n"


def test_a_signal_handler_may_exit_the_outer_job_while_the_inner_one_leaves(
    server_dsn: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings(server_dsn, prefix)
    outer, inner = Job("a", coordination_config=given), Job("a", coordination_config=given)
    outer.__enter__()
    inner.__enter__()
    leave = inner._leave

    def interrupted(node: Any) -> None:
        # What a handler does in the middle of the inner exit, in the same thread.
        outer.__exit__(None, None, None)
        leave(node)

    monkeypatch.setattr(inner, "_leave", interrupted)
    inner.__exit__(None, None, None)
    assert nodes(server_dsn, prefix) == []
