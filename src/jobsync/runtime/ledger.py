"""What a job has claimed and done, on its way into the database.

Claims in a run and the claims of `tasks()` are written before anybody works on them. Everything else is written
behind by one background thread: claims of `add_task` within 50 ms, audits within 100 ms, both before a hand-over or an
exit. The application waits for that thread at most `PATIENCE_SEC`, however the database fares: a database that
is away keeps nothing from being remembered, and entries stay here, bounded, until it is back.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from datetime import date

from jobsync.core.errors import JobsyncError
from jobsync.core.log_events import Event, marks
from jobsync.postgres.pool import Pool
from jobsync.postgres.records import Records, is_duplicate
from jobsync.postgres.statement import Statement
from jobsync.runtime.clock import boot_sec
from jobsync.runtime.day_sweeper import DaySweeper
from jobsync.runtime.entries import batches, by_holder, nobody
from jobsync.runtime.hope import Hope
from jobsync.runtime.under_way import UnderWay
from jobsync.runtime.waiting import Bell, Flag, begin

CLAIM_DELAY_SEC = 0.03
AUDIT_DELAY_SEC = 0.04  # What is promised is 100 ms; writing a batch at full rate takes up to the rest.
MOST_PENDING = 1_000_000
RETRY_SEC = 0.5
BATCH = 5_000
PATIENCE_SEC = 2.0
DAY_TRIES = 3
NEVER = float("inf")

log = logging.getLogger("jobsync")

# Held while the jobs of one node choose what each of them claims; for no longer than that.
_CHOOSING = threading.RLock()


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
        rivals: "Callable[[], Iterable[Ledger]]" = lambda: (),
    ) -> None:
        self.day = day
        self.run_name = run_name
        self._pool = pool
        self._records = records
        self._incarnation = incarnation
        self._holder_now = nobody if run_name is None else incarnation  # Without a run nobody asks who had claimed it.
        self._token_of = token_of
        self._rivals = rivals  # The ledgers of other jobs of this node, whose claims look like this one's.
        self._claiming: list[AbstractSet[str]] = []
        # Reentrant, since a signal handler may leave the job while its thread is in here.
        self._lock = threading.RLock()
        self._changed = Bell()
        self._day_lock = threading.RLock()
        self._day_is_seen_to = run_name is not None
        self._sweeper = DaySweeper(pool, records)
        self._fresh_claims, self._fresh_audits = Hope(), Hope()
        self._claims: dict[str, int] = {}
        self._claimed_by: dict[str, int] = {}
        self._audits: dict[str, int] = {}
        self._audits_in_writing: dict[str, int] = {}
        self._releases: dict[str, int] = {}
        self._under_way = UnderWay(self._lock)
        self._taken: set[str] = set()
        self._due_sec = NEVER
        self._begun = self._written = self._failures = 0
        self._is_writing = False
        self._thread: threading.Thread | None = None
        self._closed = False

    # --- written at once -----------------------------------------------------------------------

    def claim_now(self, items: list[str], tokens: list[int] | None = None) -> set[str]:
        """Claim tasks durably; give those that are this node's. `tokens`, if they are known, one an item."""
        wanted = dict(zip(items, tokens or map(self._token_of, items), strict=True))
        with self._lock:
            self._under_way.take_over(wanted)
            if self.run_name is None:
                for item in self._releases.keys() & wanted.keys():
                    del self._releases[item]
            else:
                # What is done here, or let go of, and still on its way into the database would be claimed out of turn.
                for known in (self._audits, self._audits_in_writing, self._releases):
                    for item in known.keys() & wanted.keys():
                        del wanted[item]
        if not wanted:
            return set()
        if self.run_name is not None:
            return self._claim_in_run(wanted)
        self.see_to_day()
        return self._claim(self._incarnation(), wanted)

    def _claim_in_run(self, wanted: dict[str, int]) -> set[str]:
        """Claim what no other job of this node has: to the database they are one and the same."""
        incarnation = self._incarnation()
        with _CHOOSING:
            for rival in self._rivals():
                if rival is not self and rival.run_name == self.run_name:
                    for item in rival.in_its_hands(wanted):
                        del wanted[item]
            self._claiming.append(mine := wanted.keys())
        try:
            claimed = self._claim(incarnation, wanted) if wanted else set()
            with self._lock:
                self._claimed_by.update(dict.fromkeys(claimed, incarnation))
        finally:
            with _CHOOSING:
                self._claiming = [each for each in self._claiming if each is not mine]
        return claimed

    def in_its_hands(self, items: Iterable[str]) -> list[str]:
        """List those of the tasks that this job claims, has claimed, or has done and not recorded yet."""
        with self._lock:
            known = (*self._claiming, self._claimed_by, self._audits, self._audits_in_writing)
            return [item for item in items if any(item in each for each in known)]

    def _claim(self, incarnation: int, wanted: dict[str, int]) -> set[str]:
        """Claim tasks with their tokens: quickly where all seem new, and carefully what is left then."""
        if self._fresh_claims.are_likely(len(wanted)):
            work = self._records.claim_fresh(incarnation, self.day, self.run_name, list(wanted), wanted.values())
            count = self._count(work)
            self._fresh_claims.learn(found=count > 0)
            if count == len(wanted):
                return set(wanted)
        work = self._records.claim(incarnation, self.day, self.run_name, list(wanted), wanted.values())
        return {row[0] for row in self._pool.run(work)}

    def _count(self, work: Statement) -> int:
        """Execute a statement that writes all or fails where a row is there already; give how many it wrote."""
        try:
            count: int = self._pool.run(work)[0][0]
        except JobsyncError as error:
            if is_duplicate(error):
                return 0
            raise
        return count

    def recorded_by_transaction(self, item: str) -> None:
        """Forget the claim of a task that a transaction has recorded."""
        with self._lock:
            self._claimed_by.pop(item, None)

    def claimed_as(self, item: str) -> int | None:
        """Give the registration as which a task of the run is claimed here, if it is."""
        return self._claimed_by.get(item)

    def claiming(self) -> AbstractContextManager[set[str]]:
        """Claim something, in this thread, whose answer may come when others have claimed the same.

        Gives a set that fills with what other threads of the job claim, and do not let go of, while the block runs.
        """
        return self._under_way.claiming()

    def release(self, items: list[str], but_not: AbstractSet[str] = frozenset()) -> None:
        """Let go of claimed tasks that were not done: at once, or as soon as the database is back."""
        if items:
            incarnation = self._incarnation()
            with self._lock:
                items = [item for item in items if item not in but_not]
                for item in items:
                    self._releases[item] = self._claimed_by.pop(item, incarnation)
                self._under_way.let_go(items)
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

    @property
    def day_is_seen_to(self) -> bool:
        """Whether the tables of the date are made, or none are needed."""
        return self._day_is_seen_to

    def see_to_day(self) -> None:
        """Before the first row of a date is written, have tables made for that date; once, and not for a run."""
        if self._day_is_seen_to:
            return
        with self._day_lock:
            if not self._day_is_seen_to:
                for _ in range(DAY_TRIES):  # A reader of the tables keeps others from being added to them.
                    if self._pool.run(self._records.make_day(self.day))[0][0]:
                        break
                self._day_is_seen_to = True
                self._sweeper.schedule()

    # --- written behind ------------------------------------------------------------------------

    def claim_soon(self, item: str) -> None:
        """Remember a claim; it is in the database within 50 ms."""
        incarnation = self._incarnation()
        with self._lock:
            self._releases.pop(item, None)
            self._claims[item] = incarnation
            self._schedule(CLAIM_DELAY_SEC)

    def done(self, items: list[str]) -> None:
        """Remember that tasks are done; it is in the database within 100 ms."""
        with self._lock:
            waiting = len(self._audits) + len(self._audits_in_writing)
            if waiting + len(items) > MOST_PENDING:
                raise JobsyncError(
                    f"{waiting} finished tasks wait for the database, which is away: no more can be kept; "
                    "stop, or bring it back"
                )
            for item in items:
                holder = self._claimed_by.get(item)
                self._audits[item] = self._holder_now() if holder is None else holder
            if self._due_sec == NEVER:
                self._schedule(AUDIT_DELAY_SEC)

    @property
    def pending(self) -> int:
        """How many entries wait for the database."""
        return len(self._claims) + len(self._audits) + len(self._audits_in_writing) + len(self._releases)

    @property
    def is_settled(self) -> bool:
        """Whether nothing waits and nothing is being written this instant."""
        return not self.pending and not self._is_writing

    def _schedule(self, delay_sec: float) -> None:
        if self._due_sec == NEVER or delay_sec < AUDIT_DELAY_SEC:
            due_sec = boot_sec() + delay_sec
            if due_sec < self._due_sec:
                self._due_sec = due_sec
                self._wake()

    def _wake(self) -> None:
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._run, name="jobsync-ledger", daemon=True)
            begin(self._thread)
        self._changed.ring()

    def flush(self, patience_sec: float = PATIENCE_SEC) -> bool:
        """Have everything written that waits now; False if the database did not take it, or not in time.

        What is not written is kept and tried again. Returns within `patience_sec` in any case.
        """
        with self._lock:
            if self.is_settled:
                return True
            # Only a writing that begins from here on is sure to hold all of it.
            wanted, failures = self._begun + 1, self._failures
            self._due_sec = 0.0
            self._wake()
        self._changed.wait_for(
            lambda: self._written >= wanted or self._failures != failures or self._closed,
            patience_sec,
            without=self._lock,
        )
        return self._written >= wanted

    # --- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        while self._wait():
            self._write_all()

    def _wait(self) -> bool:
        """Wait until something is due to be written; False when the ledger is closed."""
        while not self._closed:
            due_sec = self._due_sec
            wait_sec = min(due_sec, self._sweeper.due_sec) - boot_sec()
            if due_sec <= boot_sec():
                return True
            if wait_sec <= 0:
                self._sweeper.begin()
            else:
                self._changed.wait_for(
                    lambda seen_sec=due_sec: self._closed or self._due_sec != seen_sec,  # type: ignore[misc]
                    None if wait_sec == NEVER else wait_sec,
                )
        return False

    def _write_all(self) -> None:
        with self._lock:
            self._begun += 1
            number = self._begun
            self._is_writing = True
            claims, self._claims = self._claims, {}
            self._audits_in_writing, self._audits = self._audits, {}
            releases = dict(self._releases)
            self._due_sec = NEVER
        error: Exception | None = None
        try:
            self.see_to_day()
            # Releases first: what is claimed after it was let go of stays claimed.
            self._write_releases(releases)
            self._write_claims(claims)
            for batch in batches(self._audits_in_writing, BATCH):
                self._write_audits(batch)
        except Exception as caught:  # noqa: BLE001 - the thread must not end, whatever it was
            error = caught
        with self._lock:
            self._is_writing = False
            if error is None:
                self._written = number
            else:
                self._failures += 1
                self._claims = {**claims, **self._claims}
                self._audits = {**self._audits_in_writing, **self._audits}
                self._audits_in_writing = {}
                self._due_sec = boot_sec() + RETRY_SEC
            self._changed.ring()
        if isinstance(error, JobsyncError):
            log.warning(
                "%d claims and audits wait for the database: %s",
                self.pending,
                error,
                extra=marks(Event.RECORDS_WAIT, count=self.pending),
            )
        elif error is not None:
            log.error(
                "%d claims and audits could not be written, and are kept",
                self.pending,
                exc_info=error,
                extra=marks(Event.RECORDS_KEPT, count=self.pending),
            )

    def _write_claims(self, claims: dict[str, int]) -> None:
        for incarnation, items in by_holder(claims):
            for start in range(0, len(items), BATCH):
                batch = items[start : start + BATCH]
                tokens = map(self._token_of, batch)
                self._pool.run(self._records.claim(incarnation, self.day, self.run_name, batch, tokens))
                for item in batch:
                    claims.pop(item, None)

    def _write_audits(self, claimed_by: dict[str, int]) -> None:
        taken = set() if self._audited_fresh(claimed_by) else self._audit(claimed_by)
        if taken:
            log.warning(
                "%d finished tasks of run %r are not recorded: others have taken them over (such as %r)",
                len(taken),
                self.run_name,
                next(iter(taken)),
                extra=marks(Event.RECORDS_TAKEN_OVER, run=self.run_name, count=len(taken)),
            )
        with self._lock:
            self._taken |= taken
            for known in (self._audits_in_writing, self._claimed_by):
                for item in known and claimed_by:
                    known.pop(item, None)

    def _audited_fresh(self, claimed_by: dict[str, int]) -> bool:
        """Record tasks quickly where all seem never recorded, and in a run one registration has their claims."""
        holders = set(claimed_by.values())
        if len(holders) > 1 or not self._fresh_audits.are_likely(len(claimed_by)):
            return False
        if self.run_name is not None and not claimed_by.keys() <= self._claimed_by.keys():
            return False
        count = self._count(self._records.audit_fresh(holders.pop(), list(claimed_by), self.day, self.run_name))
        self._fresh_audits.learn(found=count > 0)
        return count > 0

    def _audit(self, claimed_by: dict[str, int]) -> set[str]:
        """Record tasks, and give those that others have taken over."""
        rows = self._pool.run(self._records.audit(claimed_by, self.day, self.run_name))
        return set() if self.run_name is None else set(claimed_by) - {row[0] for row in rows}

    def _write_releases(self, claimed_by: dict[str, int]) -> None:
        with self._lock:
            # Some may have been claimed again since.
            claimed_by = {item: holder for item, holder in claimed_by.items() if item in self._releases}
        for incarnation, items in by_holder(claimed_by):
            self._pool.run(self._records.release(incarnation, self.day, self.run_name, items))
        with self._lock:
            for item in claimed_by:
                self._releases.pop(item, None)

    def close(self, patience_sec: float) -> None:
        """Write what waits, for as long as the database takes some of it every `patience_sec`; then end the thread."""
        left, until_sec = self.pending, boot_sec() + patience_sec
        while not self.flush(max(0.0, until_sec - boot_sec())):
            if self.pending < left:
                left, until_sec = self.pending, boot_sec() + patience_sec
            elif boot_sec() >= until_sec:
                break
            else:
                Flag().wait(0.1)
        with self._lock:
            self._closed = True
            self._changed.ring()
        if self.pending:
            log.error(
                "%d claims and audits are lost: the database took none of them for %g s at the exit",
                self.pending,
                patience_sec,
                extra=marks(Event.RECORDS_LOST, count=self.pending),
            )
