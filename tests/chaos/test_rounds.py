"""Short rounds of bad weather with a fixed seed, and rounds against broken rules; `make chaos` plays long ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.rounds import Ground, play
from tests.chaos.weather import (
    ANYWHERE,
    ClockStep,
    Drop,
    EndSession,
    Freeze,
    Kill,
    Pause,
    ResetServer,
    Restart,
    Terminate,
)
from tests.network import why_not
from tests.server_clock import why_no_clock

pytestmark = pytest.mark.chaos

WHY_NOT = why_not()
NO_CLOCK = why_no_clock()
BUSY_SEC = 3.0
needs_a_network = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))


@pytest.fixture(scope="module")
def networked(run_dir: Path) -> Iterator[Ground]:
    with Ground(run_dir, networked=True) as ground:
        yield ground


@needs_a_network
def test_a_short_round_with_a_firewall(networked: Ground, tmp_path: Path) -> None:
    script = [ResetServer, Kill, Drop]
    report = play(5, tmp_path, networked.server, networked.network, script=script)
    print(report.table())
    assert report.overlaps == []
    assert report.late(BUSY_SEC) == []


@pytest.mark.slow
def test_a_short_round_without_a_firewall(run_dir: Path, tmp_path: Path) -> None:
    with Ground(run_dir, networked=False) as ground:
        report = play(11, tmp_path, ground.server, None, script=[Kill, EndSession, Restart, Pause, Terminate, Freeze])
    print(report.table())
    assert report.overlaps == []
    assert report.late(BUSY_SEC) == []


@pytest.mark.slow
@needs_a_network
@pytest.mark.parametrize("seed", range(100, 104))
def test_rounds_of_every_kind_of_fault(networked: Ground, tmp_path: Path, seed: int) -> None:
    report = play(seed, tmp_path, networked.server, networked.network, steps=20, clock=networked.clock)
    print(report.table())
    assert report.overlaps == []
    assert report.late(BUSY_SEC) == []


# --- the judge convicts what breaks the rules ----------------------------------------------------


@pytest.mark.slow
@needs_a_network
def test_a_fleet_without_leases_is_convicted(networked: Ground, tmp_path: Path) -> None:
    mutant = {"mutant": "leases"}
    report = play(1, tmp_path, networked.server, networked.network, script=[Drop] * 4, mutant=mutant)
    print(len(report.overlaps), report.overlaps[:3])
    assert report.overlaps


@pytest.mark.slow
@needs_a_network
def test_a_fleet_that_trusts_the_end_of_a_session_is_convicted_by_resets(networked: Ground, tmp_path: Path) -> None:
    mutant = {"mutant": "trust"}
    report = play(1, tmp_path, networked.server, networked.network, script=[ResetServer] * 6, mutant=mutant)
    print(len(report.overlaps), report.overlaps[:3])
    assert report.overlaps


@pytest.mark.slow
@pytest.mark.skipif(NO_CLOCK is not None, reason=str(NO_CLOCK))
def test_a_server_whose_clock_jumps_by_up_to_a_day(run_dir: Path, tmp_path: Path) -> None:
    with Ground(run_dir, networked=False) as ground:
        report = play(
            7, tmp_path, ground.server, None, script=[ClockStep, ClockStep, Kill, ClockStep], clock=ground.clock
        )
    print(report.table())
    assert report.overlaps == []
    assert report.late(BUSY_SEC) == []


@pytest.mark.slow
def test_without_resets_that_would_not_be_found(run_dir: Path, tmp_path: Path) -> None:
    with Ground(run_dir, networked=False) as ground:
        kinds = [each for each in ANYWHERE if each is not EndSession]
        report = play(1, tmp_path, ground.server, None, steps=10, kinds=kinds, mutant={"mutant": "trust"})
    assert report.overlaps == []
