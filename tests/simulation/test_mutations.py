"""Teeth: each rule of the protocol, once left out, is missed by a judge; what else the judges watch has teeth as well.

A seed that is known to show it comes first. Where the world has changed since, others are tried before the test fails;
the seed that did it is then named, to be written into the table.
"""

import pytest

from jobsync.postgres.virtual_server import VirtualServer
from tests.simulation.mutations import MUTATIONS, Mutation

MOST_SEEDS = 300
AT_ONCE_SEEDS = 40


def first_that_tells(mutation: Mutation, virtual: VirtualServer, seeds: range) -> int | None:
    with mutation.applied(virtual) as run:
        seed: int
        for seed in [mutation.seed, *seeds]:
            if run(seed).violated.partition(":")[0] in mutation.invariants.split():
                return seed
    return None


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.rule)
def test_a_judge_misses_the_rule(virtual: VirtualServer, mutation: Mutation) -> None:
    found = first_that_tells(mutation, virtual, range(AT_ONCE_SEEDS))
    assert found is not None, f"no invariant broke in {AT_ONCE_SEEDS} seeds although {mutation.rule}"


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.rule)
def test_a_judge_misses_the_rule_in_seeds_chosen_by_nobody(virtual: VirtualServer, mutation: Mutation) -> None:
    with mutation.applied(virtual) as run:
        for seed in range(1_000_000, 1_000_000 + MOST_SEEDS):
            if run(seed).violated.partition(":")[0] in mutation.invariants.split():
                return
    pytest.fail(f"no invariant broke in {MOST_SEEDS} seeds although {mutation.rule}")
