"""Rights that expire, counted on the holder's own clock.

Model: a node may believe in its tokens until a lease runs out. A lease counts from the instant just before the
request that renewed it was *sent*, never from the reply: an observer that starts its own, longer wait when it
*sees* the renewal has then always waited past the holder's end (t_send <= t_commit <= t_observed).

Two clocks are carried. The boot clock (CLOCK_BOOTTIME, it runs while the machine sleeps) decides. The wall clock
is a second guard only: where a suspended virtual machine froze the boot clock too, a wall clock that stepped
forward by more than a lease makes the answer False until the next reply. A wall clock that steps backward changes
nothing. This room reads neither clock: instants arrive with the events.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Instant:
    """One reading of both clocks, in seconds; ordered by the boot clock."""

    boot_sec: float
    wall_sec: float


@dataclass(frozen=True, slots=True)
class Lease:
    """A right that began just before `sent` and lasts `lasts_sec` seconds on the holder's clocks."""

    sent: Instant
    lasts_sec: float

    @property
    def boot_until_sec(self) -> float:
        """The boot-clock reading from which on the right is gone."""
        return self.sent.boot_sec + self.lasts_sec

    @property
    def wall_until_sec(self) -> float:
        """The wall-clock reading beyond which the right is doubted until it is renewed."""
        return self.sent.wall_sec + self.lasts_sec

    def holds_at(self, now: Instant) -> bool:
        """Tell whether the right is certain at an instant."""
        return now.boot_sec < self.boot_until_sec and now.wall_sec < self.wall_until_sec
