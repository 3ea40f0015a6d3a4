"""A job that stands alone: everything is its own, everything is in memory, no database is touched."""

from datetime import date

import pytest

from jobsync import CoordinationConfig, CoordinationDisabled, Job
from jobsync.core.hashing import HASH_FUNCTIONS
from jobsync.runtime.listener import RebalanceEvent
from tests.api.jobs import Recorder, eventually

NOWHERE = "host=192.0.2.1 port=1 dbname=none connect_timeout=1"


def alone(**given: object) -> Job:
    return Job("w1", coordination_config=None, **given)  # type: ignore[arg-type]


def test_a_database_that_is_nowhere_does_not_matter_when_coordination_is_off() -> None:
    with Job("w1", coordination_config=CoordinationConfig(dsn=NOWHERE, enabled=False)) as job:
        assert [task.id for task in job.tasks(["a"])] == ["a"]


def test_every_task_is_its_own() -> None:
    with alone() as job:
        assert all(job.can_claim_task(number) for number in range(100))


def test_it_holds_all_tokens() -> None:
    with alone() as job:
        assert len(job.my_tokens) == 10_000


def test_it_leads_and_is_healthy() -> None:
    with alone() as job:
        assert job.am_i_leader()
        assert job.am_i_healthy()


def test_callbacks_come_once_with_everything() -> None:
    recorder = Recorder()
    with alone(**recorder.all_callbacks) as job:
        job.can_claim_task("x")
        eventually(lambda: recorder.kinds == ["added", "rebalance"])
    assert recorder.calls[0][1] == frozenset(range(10_000))
    assert recorder.kinds == ["added", "rebalance"]


def test_the_rebalance_event_says_that_it_is_the_first() -> None:
    events: list[RebalanceEvent] = []

    def seen(event: RebalanceEvent) -> None:
        events.append(event)

    with alone(on_rebalance=seen) as job:
        job.can_claim_task("x")
        eventually(lambda: events)
    assert events[0].first


def test_tasks_yields_all_in_order() -> None:
    with alone() as job:
        assert [task.id for task in job.tasks(range(50))] == list(range(50))


def test_tasks_records_what_was_done() -> None:
    with alone() as job:
        list(job.tasks(["a", "b"]))
        assert [row["task_id"] for row in job.get_audit()] == ["a", "b"]


def test_a_task_left_by_break_is_not_done() -> None:
    with alone() as job:
        for task in job.tasks(["a", "b"]):
            if task.id == "b":
                break
        assert [row["task_id"] for row in job.get_audit()] == ["a"]


def test_added_tasks_are_done_once_they_are_audited() -> None:
    with alone() as job:
        assert job.add_task("a")
        assert job.get_audit() == []
        job.write_audit()
        assert [row["item"] for row in job.get_audit()] == ["a"]


def test_claims_are_all_granted() -> None:
    with alone() as job:
        assert job.set_claim(["a", "b"]) == ["a", "b"]


def test_the_lock_provider_is_not_called() -> None:
    with alone(lock_provider=lambda job: pytest.fail("called")):
        pass


def test_the_date_is_the_local_one() -> None:
    with alone() as job:
        assert job.date == date.today()  # noqa: DTZ011


def test_a_given_date_is_kept() -> None:
    with alone(date="2026-11-22") as job:
        assert job.date == date(2026, 11, 22)


def test_a_run_needs_coordination() -> None:
    with pytest.raises(CoordinationDisabled, match="run='nightly'"):
        alone(run="nightly")


def test_a_transaction_needs_coordination() -> None:
    with alone() as job, pytest.raises(CoordinationDisabled, match="stands alone"), job.transaction("a"):
        pytest.fail("the body ran")


def test_it_is_its_only_node() -> None:
    with alone() as job:
        assert [node["name"] for node in job.nodes] == ["w1"]
        assert job.get_dead_nodes() == []


def test_its_status_says_that_nothing_is_coordinated() -> None:
    with alone() as job:
        status = job.status()
        assert (status.coordinated, status.healthy, status.tokens_owned) == (False, True, 10_000)


def test_stop_ends_its_tasks() -> None:
    with alone() as job:
        seen = []
        for task in job.tasks(range(10)):
            seen.append(task.id)
            if task.id == 3:
                job.stop()
        assert seen == [0, 1, 2, 3]
        assert job.wait(0)


def test_total_tokens_of_a_config_that_is_off_count_all_the_same() -> None:
    with Job("w1", coordination_config=CoordinationConfig(enabled=False, total_tokens=50)) as job:
        assert job.can_claim_task("x")
        assert job.task_to_token("x") < len(job.my_tokens)


def test_a_job_that_stands_alone_keeps_the_numbers_it_was_given() -> None:
    given = CoordinationConfig(enabled=False, total_tokens=100, hash_function="md5", appname="mine_")
    with Job("a", coordination_config=given) as job:
        assert len(job.my_tokens) == 100
        assert job.task_to_token("x") == HASH_FUNCTIONS["md5"]("x", 100)
        assert job.tables["Node"] == "mine_node"
