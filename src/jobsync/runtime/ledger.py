"""What a job has claimed and done, on its way into the database.

Claims in a run and the claims of `tasks()` are written before anybody works on them. Everything else is written
behind by one background thread: claims of `add_task` within 50 ms, audits within 100 ms, both before a hand-over or an
exit. A database that is away keeps nothing from being remembered: entries stay here, bounded, until it
is back.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from datetime import date

from jobsync.core.errors import JobsyncError
from jobsync.postgres.pool import Pool
from jobsync.postgres.records import Records
from jobsync.runtime.clock import boot_sec

CLAIM_DELAY_SEC = 0.05
AUDIT_DELAY_SEC = 0.1
MOST_PENDING = 1_000_000
RETRY_SEC = 0.5
BATCH = 5_000

log = logging.getLogger("jobsync")


class Ledger:
    """The write-behind of one job: its date and its run (None: none)."""

    def __init__(
        self,
        pool: Pool,
        records: Records,
        *,
        day: date,
        run_name: str | None,
        incarnation: Callable[[], int],
        token_of: Callable[[str], int],
    ) -> None:
        self.day = day
        self.run_name = run_name
        self._pool = pool
        self._records = records
        self._incarnation = incarnation
        self._token_of = token_of
        # Reentrant, since a signal handler may leave the job while its thread is in here.
        self._lock = threading.RLock()
        self._flushing = threading.Lock()
        self._wake = threading.Event()
        self._claims: dict[str, int] = {}
        self._claimed_by: dict[str, int] = {}
        self._audits: dict[str, int] = {}
        self._releases: dict[str, int] = {}
        self._taken: set[str] = set()
        self._due_sec = float("inf")
        self._thread: threading.Thread | None = None
        self._closed = False

    # --- written at once -----------------------------------------------------------------------

    def claim_now(self, items: list[str]) -> set[str]:
        """Claim tasks durably; give those that are this node's."""
        wanted = list(dict.fromkeys(items))
        if self.run_name is not None:
            # What is done here, or let go of, and still on its way into the database would be claimed out of turn.
            wanted = [item for item in wanted if item not in self._audits and item not in self._releases]
        if not wanted:
            return set()
        incarnation = self._incarnation()
        tokens = [self._token_of(item) for item in wanted]
        work = self._records.claim(incarnation, self.day, self.run_name, wanted, tokens)
        claimed = {row[0] for row in self._pool.run(work)}
        if self.run_name is not None:
            with self._lock:
                self._claimed_by.update(dict.fromkeys(claimed, incarnation))
        return claimed

    def release(self, items: list[str]) -> None:
        """Let go of claimed tasks that were not done: at once, or as soon as the database is back."""
        if items:
            with self._lock:
                for item in items:
                    self._releases[item] = self._claimed_by.pop(item, self._incarnation())
            self.flush()

    def taken_back(self) -> set[str]:
        """Give, once, the finished tasks that could not be recorded since others have taken them over."""
        with self._lock:
            taken, self._taken = self._taken, set()
            return taken

    def done_by_anybody(self, items: list[str]) -> set[str]:
        """Ask which tasks are done in the run, by whomever."""
        self.flush()
        assert self.run_name is not None
        return {row[0] for row in self._pool.run(self._records.audited_in_run(self.run_name, items))}

    # --- written behind ------------------------------------------------------------------------

    def claim_soon(self, item: str) -> None:
        """Remember a claim; it is in the database within 50 ms."""
        with self._lock:
            self._claims[item] = self._incarnation()
            self._schedule(CLAIM_DELAY_SEC)

    def done(self, items: list[str]) -> None:
        """Remember that tasks are done; it is in the database within 100 ms."""
        with self._lock:
            if len(self._audits) + len(items) > MOST_PENDING:
                raise JobsyncError(
                    f"{len(self._audits)} finished tasks wait for the database, which is away: no more can be kept; "
                    "stop, or bring it back"
                )
            self._audits.update({item: self._claimed_by.get(item, self._incarnation()) for item in items})
            self._schedule(AUDIT_DELAY_SEC)

    @property
    def pending(self) -> int:
        """How many entries wait for the database."""
        return len(self._claims) + len(self._audits) + len(self._releases)

    @property
    def is_settled(self) -> bool:
        """Whether nothing waits and nothing is being written this instant."""
        return not self.pending and not self._flushing.locked()

    def _schedule(self, delay_sec: float) -> None:
        due_sec = boot_sec() + delay_sec
        if due_sec < self._due_sec:
            self._due_sec = due_sec
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="jobsync-ledger", daemon=True)
                self._thread.start()
            self._wake.set()

    def flush(self, patience_sec: float = -1) -> bool:
        """Write everything that waits; False if the database could not take it (it is kept and tried again).

        Waits for a flush that is under way, at most `patience_sec` (negative: as long as it takes).
        """
        if not self._flushing.acquire(timeout=patience_sec):
            return False
        try:
            with self._lock:
                claims, self._claims = self._claims, {}
                audits, releases = dict(self._audits), dict(self._releases)
                self._due_sec = float("inf")
            try:
                self._write_claims(claims)
                for batch in _batches(audits):
                    self._write_audits(batch)
                self._write_releases(releases)
            except JobsyncError as error:
                with self._lock:
                    self._claims = {**claims, **self._claims}
                    self._schedule(RETRY_SEC)
                log.warning("%d claims and audits wait for the database: %s", self.pending, error)
                return False
            return True
        finally:
            self._flushing.release()

    def _write_claims(self, claims: dict[str, int]) -> None:
        for incarnation in set(claims.values()):
            items = [item for item, holder in claims.items() if holder == incarnation]
            for start in range(0, len(items), BATCH):
                batch = items[start : start + BATCH]
                tokens = [self._token_of(item) for item in batch]
                self._pool.run(self._records.claim(incarnation, self.day, self.run_name, batch, tokens))

    def _write_audits(self, claimed_by: dict[str, int]) -> None:
        rows = self._pool.run(self._records.audit(claimed_by, self.day, self.run_name))
        taken = set() if self.run_name is None else set(claimed_by) - {row[0] for row in rows}
        if taken:
            log.warning(
                "%d finished tasks of run %r are not recorded: others have taken them over (such as %r)",
                len(taken),
                self.run_name,
                next(iter(taken)),
            )
        with self._lock:
            self._taken |= taken
            for item in claimed_by:
                self._audits.pop(item, None)
                self._claimed_by.pop(item, None)

    def _write_releases(self, claimed_by: dict[str, int]) -> None:
        for incarnation in set(claimed_by.values()):
            items = [item for item, holder in claimed_by.items() if holder == incarnation]
            self._pool.run(self._records.release(incarnation, self.day, self.run_name, items))
        with self._lock:
            for item in claimed_by:
                self._releases.pop(item, None)

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait()
            self._wake.clear()
            while not self._closed and (wait_sec := self._due_sec - boot_sec()) != float("inf"):
                if wait_sec <= 0:
                    self.flush()
                else:
                    self._wake.wait(wait_sec)
                    self._wake.clear()

    def close(self, patience_sec: float) -> None:
        """Write what waits, trying for `patience_sec`; then end the thread."""
        until_sec = boot_sec() + patience_sec
        while not self.flush(patience_sec) and boot_sec() < until_sec:
            threading.Event().wait(0.1)
        self._closed = True
        self._wake.set()
        if self.pending:
            log.error("%d claims and audits are lost: the database stayed away until the exit", self.pending)


def _batches(entries: dict[str, int]) -> Iterator[dict[str, int]]:
    items = list(entries.items())
    for start in range(0, len(items), BATCH):
        yield dict(items[start : start + BATCH])
