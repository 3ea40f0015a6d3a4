"""`jobsync simulate`: a seed, some seeds, and a fleet that is planned, each on a server of its own."""

import pytest

from tests.cli.command import call


def test_a_seed_is_replayed_with_its_trace() -> None:
    status, out, err = call("simulate", "--seed", "1")
    assert status == 0, err
    assert "n0#1   is started" in out
    assert out.splitlines()[-1].startswith("seed 1: ")


@pytest.mark.slow
def test_some_seeds_are_judged() -> None:
    status, out, err = call("simulate", "--seeds", "3", "--first", "0", "--processes", "2")
    assert status == 0, err
    assert out.startswith("3 seeds, 0 violated\n")


@pytest.mark.slow
def test_a_fleet_is_planned() -> None:
    arguments = ("--nodes", "2", "--tokens", "10", "--minutes", "0.5", "--churn", "120")
    status, out, err = call("simulate", *arguments)
    assert status == 0, err
    assert out.startswith("2 nodes, 10 tokens")
    assert "coverage " in out
