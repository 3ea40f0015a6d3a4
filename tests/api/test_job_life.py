"""A job between entering and leaving: what it says of itself, how it stops, what a fork and a lost lease do to it."""

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from jobsync import CoordinationConfig, CoordinationDisabled, InvalidTaskId, Job, NodeNameInUse, NotRunning, Task
from jobsync.runtime.clock import boot_sec
from tests.api.jobs import TOKENS, eventually, in_thread, owned_by, query, run_script, settings, task_for_each_token
from tests.children import Child
from tests.servers import PrivateServer

# --- what it says of itself ----------------------------------------------------------------------


def test_the_status_tells_all_in_one_value(server_dsn: str, prefix: str) -> None:
    with Job("w1", "staging", coordination_config=settings(server_dsn, prefix), run="r1") as job:
        status = job.status()
    assert (status.node_name, status.environment, status.run) == ("w1", "staging", "r1")
    assert (status.coordinated, status.healthy, status.connected) == (True, True, True)
    assert (status.leader, status.am_i_leader, status.live_nodes) == ("w1", True, 1)
    assert (status.tokens_owned, status.total_tokens, status.session_lease_ms) == (TOKENS, TOKENS, 600)


def test_the_status_comes_as_a_dict_too(server_dsn: str, prefix: str) -> None:
    with Job("w1", coordination_config=settings(server_dsn, prefix)) as job:
        assert job.get_coordination_status()["node_name"] == "w1"


def test_the_oldest_leads(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("z", coordination_config=given) as older, Job("a", coordination_config=given) as younger:
        assert (older.am_i_leader(), younger.am_i_leader()) == (True, False)
        assert younger.status().leader == "z"


def test_the_next_one_leads_when_the_oldest_has_left(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("z", coordination_config=given) as older, Job("a", coordination_config=given) as younger:
        older.__exit__(None, None, None)
        eventually(younger.am_i_leader, limit_sec=2.0)


def test_the_live_nodes_are_listed_oldest_first(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("z", coordination_config=given), Job("a", coordination_config=given) as job:
        assert [node["name"] for node in job.nodes] == ["z", "a"]
        assert set(job.get_active_nodes()[0]) == {"name", "created_on", "last_heartbeat"}


def test_a_node_that_was_fenced_is_listed_among_the_dead(server_dsn: str, prefix: str) -> None:
    with Job("a", coordination_config=settings(server_dsn, prefix)) as job:
        query(
            server_dsn,
            f"insert into {prefix}node (name, state, incarnation, bind, heartbeat_timeout_ms, row_lease_ms, "
            "backend_pid, postmaster_start) values ('gone', 'fenced', 0, 0, 15000, 14500, 0, now())",
        )
        assert job.get_dead_nodes() == ["gone"]
        assert [node["name"] for node in job.nodes] == ["a"]


def test_the_version_of_the_distribution_grows_with_a_change(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("a", coordination_config=given) as a:
        before = a.token_version
        with Job("b", coordination_config=given):
            eventually(lambda: a.token_version > before)


# --- whose task ----------------------------------------------------------------------------------


def test_a_task_is_owned_by_one_of_two(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("a", coordination_config=given) as a, Job("b", coordination_config=given) as b:
        eventually(lambda: len(a.my_tokens) + len(b.my_tokens) == TOKENS)
        for task in task_for_each_token(TOKENS):
            assert a.can_claim_task(task) != b.can_claim_task(task)


def test_a_task_and_its_id_are_answered_alike(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("a", coordination_config=given) as a, Job("b", coordination_config=given):
        for number in range(20):
            assert a.can_claim_task(number) == a.can_claim_task(Task(number)) == a.can_claim_task(str(number))


def test_my_task_ids_are_those_that_can_be_claimed(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("a", coordination_config=given) as a, Job("b", coordination_config=given):
        eventually(lambda: len(a.my_tokens) == TOKENS // 2)
        assert a.get_my_task_ids(range(50)) == [n for n in range(50) if a.can_claim_task(n)]


def test_the_ids_of_a_token_follow_a_list_that_was_changed_in_place(server_dsn: str, prefix: str) -> None:
    with Job("a", coordination_config=settings(server_dsn, prefix)) as job:
        first, other = task_for_each_token(TOKENS)[:2]
        ids = [first]
        assert job.get_task_ids_for_token(0, ids) == [first]
        ids[0] = other
        assert job.get_task_ids_for_token(0, ids) == []
        assert job.get_task_ids_for_token(1, ids) == [other]


def test_an_id_whose_text_may_differ_between_processes_is_refused() -> None:
    with Job("a", coordination_config=None) as job, pytest.raises(InvalidTaskId):
        job.can_claim_task(object())  # type: ignore[arg-type]


# --- claims and audits by hand -------------------------------------------------------------------


def test_an_added_task_is_claimed_within_its_time(server_dsn: str, prefix: str) -> None:
    with Job("a", coordination_config=settings(server_dsn, prefix)) as job:
        assert job.add_task("x")
        eventually(lambda: query(server_dsn, f"select node, item from {prefix}claim") == [("a", "x")])


def test_an_added_task_of_another_node_is_refused(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("a", coordination_config=given) as a, Job("b", coordination_config=given) as b:
        eventually(lambda: len(b.my_tokens) == TOKENS // 2)
        assert not a.add_task(owned_by(b))


def test_added_tasks_are_done_after_write_audit(server_dsn: str, prefix: str) -> None:
    with Job("a", coordination_config=settings(server_dsn, prefix)) as job:
        job.add_task("x")
        job.add_task("y")
        assert job.get_audit() == []
        job.write_audit()
        assert [(row["node"], row["item"], row["date"]) for row in job.get_audit()] == [
            ("a", "x", job.date),
            ("a", "y", job.date),
        ]


def test_a_task_that_was_added_and_not_audited_stays_claimed_after_the_exit(server_dsn: str, prefix: str) -> None:
    with Job("a", coordination_config=settings(server_dsn, prefix)) as job:
        job.add_task("x")
    assert query(server_dsn, f"select item from {prefix}claim") == [("x",)]
    assert query(server_dsn, f"select item from {prefix}audit") == []


def test_in_a_run_an_added_task_is_durable_before_the_call_returns(server_dsn: str, prefix: str) -> None:
    with Job("a", coordination_config=settings(server_dsn, prefix), run="r") as job:
        assert job.add_task("x")
        assert query(server_dsn, f"select item, run from {prefix}claim") == [("x", "r")]


def test_set_claim_records_claims_alone(server_dsn: str, prefix: str) -> None:
    with Job("a", coordination_config=settings(server_dsn, prefix)) as job:
        assert job.set_claim(["x", "y"]) == ["x", "y"]
        job.write_audit()
        assert job.get_audit() == []
    assert query(server_dsn, f"select count(*) from {prefix}claim") == [(2,)]


def test_names_and_ids_are_data_whatever_they_hold(server_dsn: str, prefix: str) -> None:
    name, item = "w'; drop table x; -- %s ☃", 'it\'s "50%" \\ {}; 日本\n'
    with Job(name, coordination_config=settings(server_dsn, prefix), run="r'%s") as job:
        job.add_task(item)
        job.write_audit()
        assert [(row["node"], row["task_id"]) for row in job.get_audit()] == [(name, item)]


# --- stopping ------------------------------------------------------------------------------------


def test_wait_returns_false_when_nobody_stops_the_job(server_dsn: str, prefix: str) -> None:
    with Job("a", coordination_config=settings(server_dsn, prefix)) as job:
        assert not job.wait(0.01)


def test_stop_from_another_thread_ends_the_wait(server_dsn: str, prefix: str) -> None:
    with Job("a", coordination_config=settings(server_dsn, prefix)) as job:
        threading.Timer(0.05, job.stop).start()
        assert job.wait(10)


def test_a_stopped_job_still_owns_until_it_is_left(server_dsn: str, prefix: str) -> None:
    with Job("a", coordination_config=settings(server_dsn, prefix)) as job:
        job.stop()
        assert job.can_claim_task("x")


def test_signal_handlers_are_given_back_after_the_job() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Job("a", coordination_config=None, handle_signals=True):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_job_and_the_process_ends_gracefully(
    server_dsn: str, prefix: str, number: signal.Signals
) -> None:
    script = """
        import sys
        from jobsync import CoordinationConfig, Job
        given = CoordinationConfig(dsn=sys.argv[1], appname=sys.argv[2], total_tokens=10)
        with Job("w1", coordination_config=given, handle_signals=True) as job:
            print("in", flush=True)
            print("stopped", job.wait(30), flush=True)
        print("out", flush=True)
    """
    process = run_script(script, server_dsn, prefix)
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    process.send_signal(number)
    output, _ = process.communicate(timeout=20)
    assert output == "stopped True\nout\n"
    assert process.returncode == 0
    assert query(server_dsn, f"select * from {prefix}node") == []


# --- a fork --------------------------------------------------------------------------------------

FORK = """
    import os, sys, time
    from jobsync import CoordinationConfig, Job
    given = CoordinationConfig(dsn=sys.argv[1], appname=sys.argv[2], total_tokens=10)
    with Job("w1", coordination_config=given) as job:
        before = job.can_claim_task("x")
        child = os.fork()
        if child == 0:
            print("child", before, job.can_claim_task("x"), len(job.my_tokens), job.am_i_healthy(), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        deadline = time.monotonic() + 2.0
        kept = True
        while time.monotonic() < deadline:
            kept = kept and job.can_claim_task("x")
            time.sleep(0.01)
        print("parent", kept, len(job.my_tokens), flush=True)
"""


def test_a_forked_child_owns_nothing_and_the_parent_keeps_its_lease(server_dsn: str, prefix: str) -> None:
    output, _ = run_script(FORK, server_dsn, prefix).communicate(timeout=30)
    assert output == "child True False 0 False\nparent True 10\n"


# --- the lease -----------------------------------------------------------------------------------


def test_nothing_is_answered_from_a_lease_that_is_not_certain(private_server: PrivateServer) -> None:
    given = settings(private_server.dsn, "sync_")
    with Job("a", coordination_config=given) as job:
        assert len(job.my_tokens) == TOKENS
        private_server.stop("immediate")
        eventually(lambda: not job.can_claim_task("x"), limit_sec=2.0)
        assert len(job.my_tokens) == 0
        assert job.get_my_task_ids(range(50)) == []
        assert not job.am_i_healthy()
        assert job.status().tokens_owned == 0
        private_server.start()
        eventually(lambda: len(job.my_tokens) == TOKENS)
        eventually(job.am_i_healthy)


# --- two with one name ---------------------------------------------------------------------------

HOLD = """
    import sys
    from jobsync import CoordinationConfig, Job
    given = CoordinationConfig(dsn=sys.argv[1], appname=sys.argv[2], total_tokens=100, heartbeat_interval_sec=1)
    with Job("w1", coordination_config=given):
        print("in", flush=True)
        sys.stdin.read()
"""


def test_a_second_process_of_one_name_is_refused_within_a_beat_and_a_second(server_dsn: str, prefix: str) -> None:
    with Child(
        [sys.executable, "-c", textwrap.dedent(HOLD), server_dsn, prefix],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "in\n"
        began_sec = boot_sec()
        with pytest.raises(NodeNameInUse, match="'w1'"):
            Job("w1", coordination_config=settings(server_dsn, prefix, heartbeat_interval_sec=1)).__enter__()
        assert boot_sec() - began_sec < 2.0
        assert query(server_dsn, f"select name, state from {prefix}node") == [("w1", "live")]


def test_the_name_of_a_killed_process_is_taken_over_within_about_a_second(server_dsn: str, prefix: str) -> None:
    with Child(
        [sys.executable, "-c", textwrap.dedent(HOLD), server_dsn, prefix],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "in\n"
        os.kill(first.pid, signal.SIGKILL)
        began_sec = boot_sec()
        with Job("w1", coordination_config=settings(server_dsn, prefix)) as job:
            assert boot_sec() - began_sec < 2.0
            assert len(job.my_tokens) == TOKENS


# --- the observer --------------------------------------------------------------------------------


def test_an_observer_registers_nothing_and_holds_nothing(server_dsn: str, prefix: str) -> None:
    with Job("eye", coordination_config=settings(server_dsn, prefix), observer=True) as job:
        assert query(server_dsn, f"select * from {prefix}node") == []
        assert len(job.my_tokens) == 0
        assert not job.can_claim_task("x")
        assert not job.am_i_leader()


def test_an_observer_sees_the_nodes(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("a", coordination_config=given), Job("eye", coordination_config=given, observer=True) as eye:
        assert [node["name"] for node in eye.nodes] == ["a"]


def test_an_observer_waits_for_nobody(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix, minimum_nodes=5)
    with Job("eye", coordination_config=given, observer=True) as eye:
        assert eye.nodes == []


def test_an_observer_has_no_transactions(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with (
        Job("eye", coordination_config=given, observer=True) as eye,
        pytest.raises(CoordinationDisabled),
        eye.transaction("x"),
    ):
        pytest.fail("the body ran")


def test_a_job_that_was_never_entered_says_so() -> None:
    with pytest.raises(NotRunning, match="is not entered"):
        Job("a", coordination_config=CoordinationConfig()).get_audit()


# --- ends that nobody asked for --------------------------------------------------------------------


def test_a_node_whose_name_was_taken_while_it_was_gone_ends_the_wait_of_its_body(server_dsn: str, prefix: str) -> None:
    with Job("a", coordination_config=settings(server_dsn, prefix)) as job:
        query(server_dsn, f"update {prefix}node set incarnation = incarnation + 1000, beats = beats + 1000")
        with pytest.raises(NodeNameInUse), in_thread(lambda: _keep_beating(server_dsn, prefix, job)):
            job.wait(20)


def _keep_beating(dsn: str, prefix: str, job: Job) -> None:
    """Pretend to be the twin that took the name, until the job has noticed."""

    def beat() -> bool:
        query(dsn, f"update {prefix}node set beats = beats + 1")
        return not job._node or not job._node.engine.alive  # type: ignore[union-attr]

    eventually(beat)


def test_an_observer_does_no_tasks(server_dsn: str, prefix: str) -> None:
    with (
        Job("watcher", coordination_config=settings(server_dsn, prefix), observer=True) as job,
        pytest.raises(CoordinationDisabled),
    ):
        job.tasks(["x"])


def test_who_hears_of_facts_and_fails_does_not_end_the_lease(server_dsn: str, prefix: str) -> None:
    """Metrics and traces hear them on the thread that keeps the lease."""

    def fail(_: object) -> None:
        raise RuntimeError("no more counters")

    with Job("a", coordination_config=settings(server_dsn, prefix)) as first:
        first._node.hearers.append(fail)  # type: ignore[union-attr]
        with Job("b", coordination_config=settings(server_dsn, prefix)):
            eventually(lambda: len(first.my_tokens) == TOKENS // 2, "the one with the hearer hands over")
        eventually(lambda: len(first.my_tokens) == TOKENS, "and takes back")
        assert first.am_i_healthy()
