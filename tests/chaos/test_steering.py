"""What people ask of a fleet holds when its processes die meanwhile: drain and freeze, with SIGKILL in the middle.

Steering changes the plan and nothing below it (decision 0017), so nothing here may ever give one token two owners; what
is tried is that it goes on being obeyed, whoever dies: the drained node, the leader, or another.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobsync.api.cluster import Cluster, open_cluster
from jobsync.core.settings import Settings
from tests.api.jobs import eventually
from tests.chaos.fleet import Fleet, Worker

pytestmark = pytest.mark.chaos


@contextmanager
def steered_fleet(server_dsn: str, prefix: str, directory: Path) -> Iterator[tuple[Fleet, Cluster, list[Worker]]]:
    """Give three workers, the first of which leads, and one who steers them; in the end nothing was owned twice."""
    asked_by = open_cluster(Settings(dsn=server_dsn, appname=prefix))
    with Fleet(server_dsn, prefix, directory) as fleet, asked_by as cluster:
        yield fleet, cluster, fleet.start("w0", "w1", "w2")
        fleet.assert_exclusive()


def tokens_of(worker: Worker) -> int:
    return len(worker.ask("status")["held"])


def is_empty(worker: Worker) -> bool:
    return tokens_of(worker) == 0


def test_a_drained_node_gets_nothing_when_another_dies(server_dsn: str, prefix: str, tmp_path: Path) -> None:
    with steered_fleet(server_dsn, prefix, tmp_path) as (fleet, cluster, (leader, other, drained)):
        cluster.drain("w2", reason="a new disk")
        eventually(lambda: is_empty(drained), "the drained node has handed over")
        other.kill()
        fleet.wait_until_owned([leader])
        assert is_empty(drained)
        cluster.resume("w2")
        eventually(lambda: tokens_of(drained) == fleet.tokens // 2, "after the resume it has its share again")


@pytest.mark.slow
def test_a_leader_that_is_drained_and_dies_leaves_a_fleet_that_still_obeys(
    server_dsn: str, prefix: str, tmp_path: Path
) -> None:
    with steered_fleet(server_dsn, prefix, tmp_path) as (fleet, cluster, (leader, *others)):
        cluster.drain("w0")
        leader.kill()
        fleet.wait_until_owned(others)
        again = fleet.enter("w0")  # under its name, for which the drain still holds
        fleet.wait_until_owned(others)
        assert is_empty(again)
        cluster.resume("w0")
        eventually(lambda: tokens_of(again) == fleet.tokens // 3, "it has its share again")


@pytest.mark.slow
def test_a_drained_node_that_dies_while_it_hands_over_holds_nothing_up(
    server_dsn: str, prefix: str, tmp_path: Path
) -> None:
    with steered_fleet(server_dsn, prefix, tmp_path) as (fleet, cluster, (leader, other, drained)):
        drained.stop()  # It cannot hand over, and is neither dead nor alive.
        cluster.drain("w2")
        drained.kill()
        fleet.wait_until_owned([leader, other])
        assert cluster.load_of("w2").tokens == 0


def test_a_frozen_fleet_takes_over_what_the_dead_had_and_moves_nothing_else(
    server_dsn: str, prefix: str, tmp_path: Path
) -> None:
    with steered_fleet(server_dsn, prefix, tmp_path) as (fleet, cluster, (leader, other, third)):
        cluster.freeze()
        before = {worker.name: set(worker.ask("status")["held"]) for worker in (leader, other)}
        third.kill()
        fleet.wait_until_owned([leader, other])
        newcomer = fleet.enter("w3")
        fleet.wait_until_owned([leader, other])
        assert is_empty(newcomer), "who joins a frozen fleet gets nothing"
        for worker in (leader, other):
            assert before[worker.name] <= set(worker.ask("status")["held"]), "nobody lost what he had"
        cluster.resume()
        eventually(lambda: tokens_of(newcomer) == fleet.tokens // 3, "after the freeze the newcomer has its share")
        fleet.wait_until_owned([leader, other, newcomer])
