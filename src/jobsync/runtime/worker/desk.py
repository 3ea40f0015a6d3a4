"""What handlers ask for while they run: progress, an end of their own, a transaction that ends with the job."""

from jobsync.core.errors import InvalidArgument
from jobsync.core.queue.new_job import checked_whole, payload_text
from jobsync.core.queue.states import FAILED, RETRY
from jobsync.core.queue.stored import RELEASES
from jobsync.postgres.async_loans import AsyncLoans
from jobsync.postgres.leases import Leases
from jobsync.postgres.pool import Pool
from jobsync.runtime.node import Node
from jobsync.runtime.worker.job_transaction import JobTransaction
from jobsync.runtime.worker.running_job import RunningJob
from jobsync.runtime.worker.terms import Terms

TRANSACTION_WAIT_SEC = 30.0
MOST_MESSAGE_CHARACTERS = 1_000


class Desk:
    """The statements that a worker's handlers make, in their own threads."""

    def __init__(self, node: Node, terms: Terms) -> None:
        self.progress_told = 0
        self._node = node
        self._terms = terms
        self._leases = Leases(
            node.settings.prefix, terms.worker_id, lease_ms=terms.lease_ms, max_crashes=terms.max_crashes
        )
        place = node.pool.terms
        self.transactions = Pool(
            place.conninfo, size=max(1, terms.slots), wait_sec=TRANSACTION_WAIT_SEC, unavailable=place.unavailable
        )
        self._loans = AsyncLoans(self.transactions.terms)

    @property
    def worker_id(self) -> str:
        """The worker's name."""
        return self._terms.worker_id

    def update_progress(self, job: RunningJob, progress: int, message: str | None) -> None:
        """Write down how far a job has come. Raises LeaseLost, and tells the job, where it is not this attempt's."""
        checked_whole("progress", progress, 0, 100)
        if message is not None:
            if not isinstance(message, str):
                raise InvalidArgument(f"message={message!r:.80} is refused: give a text, or None")
            message = message.replace("\0", "\ufffd")[:MOST_MESSAGE_CHARACTERS]
        if not self._node.pool.run(self._leases.progress(job.as_attempt(), progress, message))[0][0]:
            job.lose()
            job.raise_if_lost()
        self.progress_told += 1  # Of several threads' one may be lost: it is looked at for change alone.

    def release(self, job: RunningJob, status: str, *, error: str | None, result: object) -> None:
        """End a job's attempt before its handler returns. Raises LeaseLost where it is not this attempt's any more."""
        if status not in RELEASES:
            raise InvalidArgument(f"status={status!r} is refused: give one of {', '.join(RELEASES)}")
        text = None if result is None else payload_text(result)
        if status == RETRY and job.attempts >= job.max_attempts:
            status = FAILED
        work = self._leases.end(job.as_attempt(), status, error=error, result=text)
        job.is_plain = False  # Its handler's return is not the end.
        job.is_ending = True
        try:
            ended = self._node.pool.run(work)[0][0]
            if not ended:
                job.lose()
                job.raise_if_lost()
            job.has_ended = True
        finally:
            job.is_ending = False

    def transaction(self, job: RunningJob, result: object) -> JobTransaction:
        """Make the transaction in which the job's `done` is written with the handler's own writes."""
        return JobTransaction(job, self._leases, self.transactions, self._loans, result)

    def close(self) -> None:
        """Close the connections."""
        self.transactions.close()
        self._loans.close()
