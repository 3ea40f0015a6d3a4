"""The clocks of a simulated world: each runs at a rate of its own, and some are set while they run.

`RHO` is the protocol's bound on drift. Boot clocks stay within it and are never set; wall clocks and the database's
clock jump, since nothing may depend on them.
"""

from random import Random

from jobsync.core.leases import Instant

RHO = 0.001
EPOCH_SEC = 1_900_000_000.0


class NodeClock:
    """The two clocks of one machine, against true time."""

    def __init__(self, random: Random) -> None:
        self._offset_sec = random.uniform(0, 1000)
        self._rate = 1 + random.choice((-RHO, RHO, random.uniform(-RHO, RHO)))
        self._wall_offset_sec = random.uniform(-1e6, 1e6)

    def read(self, true_sec: float) -> Instant:
        """Read both clocks at an instant."""
        boot_sec = self._offset_sec + self._rate * true_sec
        return Instant(boot_sec, boot_sec + self._wall_offset_sec)

    def when(self, boot_sec: float) -> float:
        """Give the true time of a reading of the boot clock."""
        return (boot_sec - self._offset_sec) / self._rate

    def set_wall(self, by_sec: float) -> None:
        """Let the wall clock jump."""
        self._wall_offset_sec += by_sec


class DatabaseClock:
    """The database's clock: it is set forward and back, and drifts far beyond what the protocol allows others."""

    def __init__(self, random: Random) -> None:
        self._rate = random.choice((1.0, 1.0, 0.9, 1.1))
        self._offset_sec = EPOCH_SEC

    def read(self, true_sec: float) -> float:
        """Give seconds since 1970, in whole microseconds as PostgreSQL keeps them."""
        return round(self._offset_sec + self._rate * true_sec, 6)

    def set(self, by_sec: float) -> None:
        """Let the clock jump."""
        self._offset_sec += by_sec
