"""Drained nodes and a frozen fleet: what a fleet comes to after people have asked, and that it does so in peace."""

import pytest

from jobsync.core import messages as m
from jobsync.core.pool import LEADERSHIP
from jobsync.postgres.virtual_server import VirtualServer
from tests.simulation.fleets import ALL, HALF, NOTHING, Fleet


@pytest.fixture
def fleet(virtual: VirtualServer) -> Fleet:
    return Fleet(virtual)


def test_a_drained_leader_hands_over_tokens_and_lead_and_a_resumed_one_takes_part_again(fleet: Fleet) -> None:
    a, b, c = fleet.join_all("a b c")
    fleet.steer("drain", "a")
    fleet.settle()
    assert a.believed() == NOTHING
    assert LEADERSHIP in b.believed()
    fleet.kill(b)  # The next leader reads the same.
    fleet.settle()
    assert a.believed() == NOTHING
    assert c.held() == ALL
    fleet.resume("a")
    fleet.settle()
    assert len(a.held()) == HALF


def test_in_a_frozen_fleet_a_node_that_left_finds_its_tokens_again(fleet: Fleet) -> None:
    a, b = fleet.join_all("a b")
    before = (a.held(), b.held())
    fleet.steer("freeze")
    fleet.settle()
    fleet.leave(b)
    fleet.run(3.0)
    assert a.held() == before[0]
    late = fleet.join("c")
    fleet.settle()
    assert not late.believed()
    back = fleet.join("b")
    fleet.settle()
    assert (a.held(), back.held()) == before


def test_in_a_frozen_fleet_the_tokens_of_the_dead_are_taken_over(fleet: Fleet) -> None:
    a, b = fleet.join_all("a b")
    fleet.steer("freeze")
    fleet.settle()
    fleet.kill(b)
    assert fleet.comes_to_be(lambda: a.held() == ALL, within_sec=5)


def test_a_leader_of_a_frozen_fleet_does_not_plan_again_and_again(fleet: Fleet) -> None:
    a, b = fleet.join_all("a b")
    fleet.steer("freeze")
    fleet.leave(b)
    fleet.run(3.0)
    version, asked = fleet.plan().plan_version, len(a.asked)
    fleet.run(5.0)
    assert fleet.plan().plan_version == version
    assert not any(isinstance(question, m.SavePlan) for question in a.asked[asked:])
