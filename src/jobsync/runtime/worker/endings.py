"""How a handler's return value or error becomes the end of an attempt."""

import logging
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from jobsync.core.errors import Cancel, InvalidArgument, LeaseLost, Retry, redact
from jobsync.core.log_events import Event, marks
from jobsync.core.queue.new_job import payload_text
from jobsync.core.queue.policy import RetryPolicy, after_failure
from jobsync.core.queue.states import DONE, FAILED, RETRY
from jobsync.runtime.worker.running_job import RunningJob

log = logging.getLogger("jobsync")

MOST_ERROR_CHARACTERS: Final = 8_000
_HEAD_CHARACTERS: Final = 1_000
_UNSTORABLE: Final = {0: "\ufffd", **dict.fromkeys(range(0xD800, 0xE000), "\ufffd")}


@dataclass(frozen=True, slots=True)
class Ending:
    """What the database is to be told of one attempt; `outcome` None: nothing, it ended otherwise."""

    outcome: str | None
    wait_sec: float | None = None
    error: str | None = None
    result: str | None = None


ENDED_OTHERWISE: Final = Ending(None)


@dataclass(frozen=True, slots=True)
class Endings:
    """Decides how attempts end; `spread` gives a number from 0 to below 1 at each call."""

    secrets: Iterable[str]
    spread: Callable[[], float]

    def after_return(self, job: RunningJob, value: object) -> Ending:
        """Decide what follows from a handler's return value: it is the result, or no JSON and then a failure."""
        if job.has_ended:
            if value is not None:
                log.warning(
                    "%r ended itself: what its handler returned afterwards is dropped",
                    job,
                    extra=marks(Event.JOB_RESULT_DROPPED, job=job.id, kind=job.kind),
                )
            return ENDED_OTHERWISE
        if job.uncommitted is not None:
            return self.failed(job, job.uncommitted)  # Its handler passed over it, but what it wrote is not there.
        if value is None:
            return Ending(DONE)
        try:
            return Ending(DONE, result=payload_text(value))
        except InvalidArgument as error:
            why = str(error).replace("the payload", "the handler's return value")
            return self.failed(job, InvalidArgument(f"{why} (return None, or what JSON can carry)"))
        except Exception as error:  # noqa: BLE001 - the value's own methods may raise whatever they like
            return self.failed(job, error)

    def after_error(self, job: RunningJob, error: BaseException) -> Ending:
        """Decide what follows from what a handler raised."""
        if job.has_ended:
            log.warning(
                "%r ended itself, and its handler then raised %r",
                job,
                error,
                extra=marks(Event.JOB_ERROR_DROPPED, job=job.id, kind=job.kind),
            )
            return ENDED_OTHERWISE
        if job.lost or isinstance(error, LeaseLost):
            log.warning(
                "%r was lost to this worker; its handler stopped with %s",
                job,
                type(error).__name__,
                extra=marks(Event.JOB_LOST, job=job.id, kind=job.kind),
            )
            return ENDED_OTHERWISE if job.lost else self.failed(job, error)
        return self.failed(job, error)

    def failed(self, job: RunningJob, error: BaseException) -> Ending:
        """End an attempt as failed: another one follows, or none."""
        policy = job._lane.handler.retry  # noqa: SLF001
        verdict = after_failure(
            error, attempts=job.attempts, max_attempts=job.max_attempts, policy=policy, spread=self.spread()
        )
        return Ending(verdict.outcome, verdict.wait_sec, self.text_of(error))

    def where_deciding_failed(self, job: RunningJob) -> Ending:
        """End an attempt whose value, error or policy raises where it is looked at: asks none of them for anything."""
        if job.has_ended:
            return ENDED_OTHERWISE
        error = "what its handler returned or raised, or its retry policy, raised an error itself: see the worker's log"
        if job.attempts >= job.max_attempts:
            return Ending(FAILED, error=error)
        return Ending(RETRY, RetryPolicy().wait_sec(job.attempts, 0.5), error)

    def text_of(self, error: BaseException) -> str:
        """Write an error down as people will read it: with its traceback, bounded, without passwords."""
        if isinstance(error, Retry | Cancel):
            text = f"{type(error).__name__}: {error}"
        else:
            # The first frame is this package's own call.
            trace = error.__traceback__.tb_next if error.__traceback__ is not None else None
            try:
                text = "".join(traceback.format_exception(type(error), error, trace)).strip()
            except Exception:  # noqa: BLE001 - an exception whose own texts raise
                text = f"{type(error).__name__}, which cannot be printed"
        return bounded(redact(text.translate(_UNSTORABLE), self.secrets))


def bounded(text: str) -> str:
    """Cut a long text in the middle: of a traceback the end says what happened, the beginning to whom."""
    if len(text) <= MOST_ERROR_CHARACTERS:
        return text
    tail = text[-(MOST_ERROR_CHARACTERS - _HEAD_CHARACTERS - 20) :]
    return f"{text[:_HEAD_CHARACTERS]}\n[... cut ...]\n{tail}"
