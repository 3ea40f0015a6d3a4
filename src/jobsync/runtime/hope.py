"""Whether rows of a large batch may be taken for new, so that they are written without looking for each first."""

from jobsync.runtime.clock import boot_sec

HOPE_FROM = 64
HOPELESS_SEC = 10.0


class Hope:
    """Holds until a batch was not new, and again some time after."""

    def __init__(self) -> None:
        self._not_before_sec = 0.0

    def are_likely(self, count: int) -> bool:
        """Tell whether trying is worth it."""
        return count >= HOPE_FROM and boot_sec() >= self._not_before_sec

    def learn(self, *, found: bool) -> None:
        """Take in whether they were new."""
        if not found:
            self._not_before_sec = boot_sec() + HOPELESS_SEC
