"""Nodes that take no tokens, among others and alone: they live, watch, fence and lead, and are dealt nothing."""

import pytest

from jobsync.core.errors import ConfigMismatch, NodeNameInUse
from jobsync.core.pool import LEADERSHIP, RIGHT_TO_LEAD
from jobsync.postgres.virtual_server import VirtualServer
from tests.simulation.fleets import ALL, HALF, NOTHING, Fleet


@pytest.fixture
def fleet(virtual: VirtualServer) -> Fleet:
    return Fleet(virtual)


def test_a_fleet_of_workers_has_a_leader_and_nobody_holds_the_pool(fleet: Fleet) -> None:
    workers = fleet.join_all("w1 w2 w3")
    assert {worker.standing.leader for worker in workers} == {"w1"}
    assert [worker.believed() for worker in workers] == [RIGHT_TO_LEAD, NOTHING, NOTHING]
    assert fleet.plan().plan_version == 1


@pytest.mark.parametrize("names", ["w1 w2", "w1 a", "a w1"])
def test_a_killed_worker_is_fenced_within_the_session_lease(fleet: Fleet, names: str) -> None:
    dead = next(node for node in fleet.join_all(names) if node.name == "w1")
    fleet.kill(dead)
    fleet.run(1)
    assert fleet.state_of("w1") == "fenced"
    fleet.settle()


def test_a_worker_fences_a_killed_job(fleet: Fleet) -> None:
    a, _worker, b = fleet.join_all("a w b")
    fleet.kill(a)
    fleet.run(1)
    assert fleet.state_of("a") == "fenced"
    fleet.settle()
    assert b.held() == ALL


def test_a_job_that_joins_workers_gets_all_tokens_at_once(fleet: Fleet) -> None:
    w1, w2 = fleet.join_all("w1 w2")
    a = fleet.join("a")
    fleet.run(0.1)
    assert a.held() == ALL
    fleet.run(2)
    assert a.standing.leader == "a"
    assert LEADERSHIP in a.believed()
    assert not any(change.added | change.removed for change in w1.changes + w2.changes)


def test_workers_that_come_and_go_move_no_token_and_call_no_callback(fleet: Fleet) -> None:
    a, b = fleet.join_all("a b")
    held, told, version = (a.held(), b.held()), (a.changes, b.changes), fleet.plan().plan_version
    workers = [fleet.join(f"w{number}") for number in range(3)]
    fleet.settle()
    fleet.leave(workers[0])
    fleet.kill(workers[1])
    fleet.run(2)
    fleet.settle()
    assert (a.held(), b.held()) == held
    assert (a.changes, b.changes) == told
    assert fleet.plan().plan_version == version


def test_jobs_count_jobs_alone(fleet: Fleet) -> None:
    a, _w1, w2, _b = fleet.join_all("a w1 w2 b")
    fleet.run(2)
    assert (a.standing.live, w2.standing.live) == (2, 2)


def test_a_job_leads_before_any_worker_however_old(fleet: Fleet) -> None:
    nodes = fleet.join_all("w a b")
    fleet.run(2)
    assert {node.standing.leader for node in nodes} == {"a"}
    assert LEADERSHIP in nodes[1].believed()
    assert [len(node.held()) for node in nodes] == [0, HALF, HALF]


def test_the_oldest_of_workers_alone_leads(fleet: Fleet) -> None:
    w1, w2 = fleet.join_all("w1 w2")
    assert {node.standing.leader for node in (w1, w2)} == {"w1"}
    assert LEADERSHIP in w1.believed()
    fleet.kill(w1)
    assert fleet.comes_to_be(lambda: LEADERSHIP in w2.believed(), within_sec=3)


def test_a_job_that_leaves_workers_behind_goes_at_once(fleet: Fleet) -> None:
    _w, a = fleet.join_all("w a")
    fleet.leave(a)
    assert fleet.comes_to_be(lambda: not a.alive, within_sec=0.3)
    fleet.settle()


def test_a_worker_that_leads_hands_the_right_to_lead_over(fleet: Fleet) -> None:
    w1, w2 = fleet.join_all("w1 w2")
    fleet.leave(w1)
    fleet.run(0.5)
    fleet.settle()
    assert LEADERSHIP in w2.believed()


@pytest.mark.parametrize(("first", "second"), [("a", "w"), ("w", "a")])
def test_workers_too_must_agree_on_the_total_of_tokens(fleet: Fleet, first: str, second: str) -> None:
    fleet.join_all(first)
    other = fleet.join(second, total_tokens=30)
    fleet.run(5)
    assert isinstance(other.error, ConfigMismatch)


@pytest.mark.parametrize("takes_tokens", [True, False])
def test_a_twin_of_the_other_kind_is_refused(fleet: Fleet, takes_tokens: bool) -> None:
    first = fleet.join("x", takes_tokens=takes_tokens)
    fleet.run(0.5)
    twin = fleet.join("x", takes_tokens=not takes_tokens)
    fleet.run(5)
    assert isinstance(twin.error, NodeNameInUse)
    fleet.settle()
    assert first.held() == (ALL if takes_tokens else NOTHING)


@pytest.mark.parametrize("names", ["a x", "x a", "x"])
@pytest.mark.parametrize("gently", [True, False])
@pytest.mark.parametrize("was_worker", [True, False])
def test_a_name_may_come_back_as_the_other_kind(fleet: Fleet, names: str, gently: bool, was_worker: bool) -> None:
    nodes = {}
    for name in names.split():
        nodes[name] = fleet.join(name, takes_tokens=name == "a" or not was_worker)
        fleet.settle()
    if gently:
        fleet.leave(nodes["x"])
    else:
        fleet.kill(nodes["x"])
    nodes["x"] = fleet.join("x", takes_tokens=was_worker)
    fleet.run(0.5)
    fleet.settle()
    held = {name: len(node.held()) for name, node in nodes.items()}
    assert held["x"] == (0 if not was_worker else len(ALL) // len(held))
    assert sum(held.values()) == (len(ALL) if was_worker or "a" in held else 0)
    assert nodes["x"].alive
