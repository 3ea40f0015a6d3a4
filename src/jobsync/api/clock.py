"""The boot clock, for the rooms above that wait and measure; see `jobsync.runtime.clock`."""

from jobsync.runtime.clock import boot_sec

__all__ = ["boot_sec"]
