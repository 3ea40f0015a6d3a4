"""A job that is asked for, and everything that can be wrong with it.

Model: `NewJob` is checked when it is made, all but its payload, which may change until it is stored: `payload_text`
makes its text, once, at that instant. Whatever PostgreSQL could refuse is refused here before, so a batch is never
half checked.

Authoritative: `MAX_PAYLOAD_BYTES` and the bounds below. Payloads are what JSON can carry, strictly: keys are texts,
numbers are finite, texts hold neither NUL nor half a surrogate pair (PostgreSQL stores neither). A tuple is stored as
a list. Every number comes back equal and of its type; only the sign of -0.0 is lost, since jsonb has no such zero.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, cast

from jobsync.core.errors import InvalidArgument

MAX_PAYLOAD_BYTES: Final = 1_000_000
MOST_TEXT_BYTES: Final = 500
MOST_PRIORITY: Final = 2**31 - 1
MOST_ATTEMPTS: Final = 32_000
MOST_DELAY: Final = timedelta(days=36_525)
DEFAULT_QUEUE: Final = "default"

_ESCAPED_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_TEXT_OR_LARGE_FLOAT: Final = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d(?:\.\d+)?e\+\d+')
_NO_SORT_SKIP_NAN: Final = (False, False, False)  # Keys in their order, none skipped, every number finite.
_LEAVES: Final = frozenset((str, int, float, bool, type(None)))


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to enqueue; the fields are the arguments of `JobQueue.enqueue`.

    Raises InvalidArgument (a ValueError), naming the field, for a value that could not be stored. The payload is
    looked at when the job is enqueued.
    """

    kind: str
    payload: object = None
    job_id: str | None = None
    priority: int = 0
    run_at: datetime | timedelta | None = None
    max_attempts: int = 3
    affinity: str | None = None
    limit_key: str | None = None
    queue: str = DEFAULT_QUEUE

    def __post_init__(self) -> None:
        checked_text("kind", self.kind)
        checked_text("queue", self.queue)
        for what in ("job_id", "affinity", "limit_key"):
            text = getattr(self, what)
            if text is not None:
                checked_text(what, text)
        checked_whole("priority", self.priority, -MOST_PRIORITY, MOST_PRIORITY)
        checked_whole("max_attempts", self.max_attempts, 1, MOST_ATTEMPTS)
        _check_run_at(self.run_at)

    @property
    def is_plain(self) -> bool:
        """Whether it has only to be written down: it waits for nothing, and no other job can be the same."""
        return (
            self.max_attempts > 1
            and self.job_id is None
            and self.run_at is None
            and self.affinity is None
            and self.limit_key is None
        )


def checked_text(what: str, text: object) -> str:
    """Give a name or key: text that PostgreSQL can store and index."""
    if not isinstance(text, str) or not text:
        raise InvalidArgument(f"{what}={text!r:.80} is refused: give a non-empty text")
    if "\0" in text:
        raise InvalidArgument(f"{what}={text!r:.80} holds a NUL character, which PostgreSQL cannot store")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidArgument(
            f"{what}={text!r:.80} holds half a surrogate pair, which PostgreSQL cannot store"
        ) from None
    if size > MOST_TEXT_BYTES:
        raise InvalidArgument(f"{what}={text[:40]!r}... is too long: give at most {MOST_TEXT_BYTES} bytes")
    return text


def checked_whole(what: str, number: object, least: int, most: int) -> int:
    """Give a whole number within bounds; a bool is none."""
    if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
        raise InvalidArgument(f"{what}={number!r:.80} is refused: give a whole number from {least} to {most}")
    return number


def _check_run_at(run_at: object) -> None:
    match run_at:
        case None:
            return
        case datetime():
            if run_at.utcoffset() is None:
                raise InvalidArgument(
                    f"run_at={run_at.isoformat()} names no time zone, so its instant cannot be told: "
                    "give datetime(..., tzinfo=UTC), or a timedelta from now"
                )
            try:
                run_at.astimezone(UTC)
            except OverflowError:
                raise InvalidArgument(f"run_at={run_at.isoformat()} lies beyond what a date can say in UTC") from None
        case timedelta():
            if not timedelta(0) <= run_at <= MOST_DELAY:
                raise InvalidArgument(f"run_at={run_at!r} is refused: give a delay of 0 or more, at most 100 years")
        case _:
            raise InvalidArgument(
                f"run_at={run_at!r:.80} is refused: give a datetime with a time zone, a timedelta from now, or None"
            )


# --- payloads ------------------------------------------------------------------------------------

Encoder = Callable[[object, int], tuple[str, ...]]


def _refuse(value: object) -> object:
    raise TypeError(f"{type(value).__name__} is no JSON")


def payload_encoder() -> Encoder:
    """Make what `payload_text` writes by; for one thread, and to be thrown away after an error.

    It is the part of `json.JSONEncoder` that is written in C, kept for many payloads: making it anew for each costs
    more than a small payload does.
    """
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:  # An interpreter without it.
        plain = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_refuse)
        return lambda value, _level: (plain.encode(value),)
    escape = json.encoder.encode_basestring_ascii
    return cast("Encoder", make({}, _refuse, escape, None, ":", ",", *_NO_SORT_SKIP_NAN))


def payload_text(payload: object, encode: Encoder | None = None) -> str:
    """Write a payload as JSON, in ASCII; raise InvalidArgument, saying why, for what cannot be stored."""
    try:
        written = "".join((encode or payload_encoder())(payload, 0))
        if type(payload) not in _LEAVES:
            _check_keys(payload)
    except RecursionError:
        raise InvalidArgument("the payload is nested too deeply for JSON") from None
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"the payload cannot be stored as JSON: {error}") from None
    text = _with_floats_in_full(written)
    if "\\u0000" in text or "\\ud" in text or len(text) > MAX_PAYLOAD_BYTES:
        _check_text(payload, text, more_bytes=len(text) - len(written))
    return text


def payload_texts(payloads: Sequence[object], encode: Encoder) -> list[str]:
    """Write payloads that most likely are all good, at half the cost; raise an error, whichever, where any is not.

    `payload_text` then says which, and what is wrong. After an error the encoder is to be thrown away.
    """
    texts = ["".join(encode(payload, 0)) for payload in payloads]
    for payload in payloads:
        if type(payload) not in _LEAVES:
            _check_keys(payload)
    whole = "".join(texts)
    if "e+" in whole:
        texts = list(map(_with_floats_in_full, texts))
    if "\\u0000" in whole or "\\ud" in whole or max(map(len, texts)) > MAX_PAYLOAD_BYTES:
        raise ValueError("one by one")
    return texts


def _with_floats_in_full(text: str) -> str:
    """Write 1e+22 as 22 zeros and `.0`: jsonb forgets an exponent, and what has no point comes back as an int."""
    return _TEXT_OR_LARGE_FLOAT.sub(_in_full, text) if "e+" in text else text


def _in_full(found: re.Match[str]) -> str:
    written = found[0]
    return written if written.startswith('"') else format(Decimal(written), "f") + ".0"


def _check_keys(value: object) -> None:
    """Refuse keys that JSON would silently make texts of: two of them might become one."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r:.80} is no text")
        for each in value.values():
            if type(each) not in _LEAVES:
                _check_keys(each)
    elif isinstance(value, list | tuple):
        for each in value:
            if type(each) not in _LEAVES:
                _check_keys(each)


def _check_text(payload: object, text: str, *, more_bytes: int) -> None:
    if _ESCAPED_NUL.search(text):
        raise InvalidArgument("the payload holds a NUL character (\\u0000), which PostgreSQL cannot store")
    try:
        size = len(json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()) + more_bytes
    except UnicodeEncodeError:
        raise InvalidArgument("the payload holds half a surrogate pair, which PostgreSQL cannot store") from None
    if size > MAX_PAYLOAD_BYTES:
        raise InvalidArgument(
            f"the payload takes {size:,} bytes as JSON, more than {MAX_PAYLOAD_BYTES:,}: store it elsewhere, and "
            "enqueue where it is"
        )
