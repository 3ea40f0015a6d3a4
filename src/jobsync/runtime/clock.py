"""The only place that reads clocks.

CLOCK_BOOTTIME decides: it cannot be set, and it runs while the machine sleeps, where CLOCK_MONOTONIC stands
still. The wall clock is a second guard (see jobsync.core.leases). Where the platform has no boot clock, the monotonic
one serves; leases then do not see a sleeping machine, which the wall guard does.
"""

import time
from collections.abc import Callable
from functools import partial

from jobsync.core.leases import Instant

_BOOT_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


# Reads the boot clock, in seconds. Not a function of Python's: loops over tasks ask once a task or oftener.
boot_sec: Callable[[], float] = partial(time.clock_gettime, _BOOT_CLOCK)


def now() -> Instant:
    """Read both clocks."""
    return Instant(time.clock_gettime(_BOOT_CLOCK), time.clock_gettime(time.CLOCK_REALTIME))


class Pace:
    """How long waits last that an application asks for by number (`wait_on_enter=120`).

    Only such waits go by it: no lease, no time-out, no interval. It exists so that what was written with waits of
    minutes can be run as written, and quickly.
    """

    def __init__(self) -> None:
        self.factor = 1.0

    def lasting_sec(self, asked_sec: float) -> float:
        """Give how many seconds a wait of so many lasts."""
        return asked_sec * self.factor


PACE = Pace()
