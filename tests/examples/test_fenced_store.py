"""The example of a store that refuses a lower epoch: the store by itself, and the whole play on a real database."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples.fenced_store import FencedStore, StaleEpoch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> FencedStore:
    return FencedStore(tmp_path / "store.sqlite")


def test_nothing_is_there_before_the_first_write(store: FencedStore) -> None:
    assert store.read("x") is None


def test_a_lower_epoch_is_refused_and_changes_nothing(store: FencedStore) -> None:
    store.write("x", "by the later owner", 8)
    with pytest.raises(StaleEpoch, match="higher epoch than 7"):
        store.write("x", "too late", 7)
    assert store.read("x") == ("by the later owner", 8)


@pytest.mark.parametrize("epoch", [8, 9])
def test_the_same_owner_and_a_later_one_may_write_again(store: FencedStore, epoch: int) -> None:
    store.write("x", "before", 8)
    store.write("x", "after", epoch)
    assert store.read("x") == ("after", epoch)


def test_each_key_has_an_epoch_of_its_own(store: FencedStore) -> None:
    store.write("x", "of x", 8)
    store.write("y", "of y", 7)
    assert store.read("y") == ("of y", 7)


def test_the_store_outlives_its_process(store: FencedStore, tmp_path: Path) -> None:
    store.write("x", "before", 8)
    with pytest.raises(StaleEpoch):
        FencedStore(tmp_path / "store.sqlite").write("x", "too late", 7)


@pytest.mark.chaos
def test_a_node_that_was_paused_with_an_old_claim_is_refused(server_dsn: str, prefix: str) -> None:
    played = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "fenced_store.py")],
        env={**os.environ, "SYNC_DSN": server_dsn, "SYNC_SQL_APPNAME": prefix},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    told = played.stdout.splitlines()
    assert played.returncode == 0, played.stdout + played.stderr
    assert told[2] == "bob writes: written"
    assert told[3].startswith("ann wakes and writes: refused: 'invoice-7' was written under a higher epoch")
    assert told[-1] == "as it should be"
