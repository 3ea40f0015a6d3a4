"""Seeded faults on real members and real SQL: no invariant breaks, all comes to rest, a seed is one history."""

import os
import secrets
import subprocess
import sys
from collections.abc import Callable

import pytest

from jobsync.postgres.virtual_server import VirtualServer
from jobsync.simulation.seeds import Outcome, Plan, replay, run_seed, settings_of, settle
from jobsync.simulation.world import World
from tests.simulation.fleets import sleeper
from tests.simulation.mutations import ASLEEP

FIXED_SEEDS = range(12)
FRESH_SEEDS = 6
SEEDS_A_BATCH = 6
MOST_TRACED_LINES = 200


def judge(outcome: Outcome, virtual: VirtualServer) -> None:
    if outcome.violated:
        lines = replay(virtual, outcome.seed).trace[-MOST_TRACED_LINES:]
        trace = "\n".join(lines)
        pytest.fail(f"{trace}\n{outcome.violated}\nagain: jobsync simulate --seed {outcome.seed}")


@pytest.mark.parametrize("first", FIXED_SEEDS[::SEEDS_A_BATCH])
def test_no_invariant_breaks_in_seeds_known_to_all(virtual: VirtualServer, first: int) -> None:
    for seed in range(first, first + SEEDS_A_BATCH):
        judge(run_seed(virtual, seed, make_member=sleeper), virtual)


@pytest.mark.parametrize("plan", [Plan(tokenless=0.4), Plan(steered=True)], ids=["mixed", "steered"])
def test_no_invariant_breaks_in_a_fleet_of_both_kinds_or_that_people_steer(virtual: VirtualServer, plan: Plan) -> None:
    for seed in range(SEEDS_A_BATCH):
        assert run_seed(virtual, seed, plan, make_member=sleeper).violated == ""


def test_no_invariant_breaks_in_fresh_seeds(virtual: VirtualServer) -> None:
    for _ in range(FRESH_SEEDS):
        judge(run_seed(virtual, secrets.randbelow(10**9)), virtual)


def test_leases_of_unlike_lengths_survive_a_fail_over_that_loses_beats(virtual: VirtualServer) -> None:
    # Found here: a silence that was seen before the fail-over had a node fenced too early, and the quarantine, counted
    # by the leases of those who were left, ended before its belief did.
    plan = Plan(
        storm_sec=30,
        nodes=2,
        direct=True,
        fail_over=True,
        total_tokens=2,
        tokenless=0.0,
        faults=(("fail-over", 1), ("lock change", 8)),
        steered=False,
        resized=False,
    )
    assert run_seed(virtual, 36, plan).violated == ""


def test_who_slept_in_one_quarantine_waits_out_the_next_one(virtual: VirtualServer) -> None:
    # Found by seed 33566, when hints waited a little: it registered after the second fail-over, and lifted that
    # quarantine by the wait of the first. With today's timing this one tells it, as a mutation shows.
    assert run_seed(virtual, 2, ASLEEP).violated == ""


@pytest.mark.parametrize("seed", [50429, 50730])
def test_a_freeze_does_not_keep_what_is_drained(virtual: VirtualServer, seed: int) -> None:
    # Found here: somebody who could take a drained node's tokens came back to a place that a freeze had kept, and no
    # plan was due; and a place was kept for a drained node that left.
    assert run_seed(virtual, seed).violated == ""


def test_a_quiet_fleet_comes_to_rest_at_once(virtual: VirtualServer) -> None:
    world = World(virtual, 1)
    for name in ("a", "b"):
        world.start(name, settings_of(1))
    assert settle(world) <= 1.0
    assert sorted(len(process.held_now()) for process in world.processes) == [0, 2]


@pytest.mark.parametrize("seed", [3, 11])
def test_a_seed_replays_to_the_same_trace_byte_for_byte(virtual: VirtualServer, seed: int) -> None:
    assert replay(virtual, seed) == replay(virtual, seed)


def test_a_seed_replays_alike_in_another_process_that_hashes_otherwise(make_database: Callable[[], str]) -> None:
    program = (
        "import sys; from jobsync.postgres.virtual_server import VirtualServer; from jobsync.simulation import replay\n"
        "with VirtualServer(sys.argv[1]) as virtual: print(*replay(virtual, 5).trace, sep='\\n')"
    )
    traces = [
        subprocess.run(
            [sys.executable, "-c", program, make_database()],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            timeout=300,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert len(traces[0].splitlines()) > 100
    assert traces[0] == traces[1]
