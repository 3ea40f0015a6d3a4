"""Rights that expire: from the send, on the boot clock, doubted by the wall clock."""

import pytest

from jobsync.core.leases import Instant, Lease

LEASE = Lease(Instant(100.0, 5_000.0), 10.0)


@pytest.mark.parametrize(
    ("boot_sec", "wall_sec", "holds"),
    [
        (100.0, 5_000.0, True),
        (109.999, 5_009.999, True),
        (110.0, 5_009.0, False),
        (105.0, 5_010.0, False),
        (105.0, 1.0, True),
    ],
    ids=["at the send", "just before the end", "boot clock at its end", "wall clock leapt", "wall clock set back"],
)
def test_a_lease_holds_while_neither_clock_has_passed_its_end(boot_sec: float, wall_sec: float, holds: bool) -> None:
    assert LEASE.holds_at(Instant(boot_sec, wall_sec)) is holds


def test_instants_are_ordered_by_the_boot_clock() -> None:
    assert Instant(1.0, 900.0) < Instant(2.0, 100.0)
