"""The only place that reads clocks.

CLOCK_BOOTTIME decides: it cannot be set, and it runs while the machine sleeps, where CLOCK_MONOTONIC stands
still. The wall clock is a second guard (see jobsync.core.leases). Where the platform has no boot clock, the monotonic
one serves; leases then do not see a sleeping machine, which the wall guard does.
"""

import time

from jobsync.core.leases import Instant

_BOOT_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_sec() -> float:
    """Read the boot clock, in seconds."""
    return time.clock_gettime(_BOOT_CLOCK)


def now() -> Instant:
    """Read both clocks."""
    return Instant(time.clock_gettime(_BOOT_CLOCK), time.clock_gettime(time.CLOCK_REALTIME))
