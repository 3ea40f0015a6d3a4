"""What cannot be a job is refused at the call, before anything is written; what can be one is stored as it is."""

import enum
import math
import secrets
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NamedTuple

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobsync import CoordinationConfig, InvalidArgument, InvalidSettings, JobQueue, NewJob, NotRunning
from jobsync.core.queue.new_job import MAX_PAYLOAD_BYTES, payload_text
from tests.conftest import drop_all


@pytest.fixture(scope="module")
def shared_place(server_dsn: str) -> Iterator[tuple[str, str]]:
    """Give a server and a prefix for all tests here."""
    prefix = f"t_{secrets.token_hex(4)}_"
    yield server_dsn, prefix
    drop_all(server_dsn, prefix)


@pytest.fixture(scope="module")
def shared(shared_place: tuple[str, str]) -> Iterator[JobQueue]:
    """Give one queue for all tests here: what is refused leaves nothing for the next."""
    dsn, prefix = shared_place
    with JobQueue(CoordinationConfig(dsn=dsn, appname=prefix)) as queue:
        yield queue


@pytest.fixture
def queue(shared: JobQueue) -> JobQueue:
    shared.cancel_all()
    return shared


def total(queue: JobQueue) -> int:
    return queue.counts()["pending"]


def exact(payload: object) -> object:
    """Make what tells 1 from 1.0 and from True, which Python holds for equal; the sign of -0.0 alone is not kept."""
    match payload:
        case bool() | float() | int():
            return type(payload).__name__, payload
        case list() | tuple():
            return [exact(each) for each in payload]
        case dict():
            return {key: exact(each) for key, each in payload.items()}
    return payload


def circular() -> list[Any]:
    ring: list[Any] = []
    ring.append({"ring": ring})
    return ring


def deep(levels: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(levels):
        nested = [nested]
    return nested


class Colour(enum.Enum):
    RED = 1


PAYLOADS = {
    "not a number": math.nan,
    "infinite": {"a": [math.inf]},
    "bytes": b"x",
    "set": {"a": {1}},
    "object": object(),
    "instant": datetime(2026, 1, 1, tzinfo=UTC),
    "enum": Colour.RED,
    "circular": circular(),
    "too deep": deep(20_000),
    "NUL": "a\0b",
    "NUL in a key": {"a\0": 1},
    "NUL after a backslash": "\\\\\0",
    "half a pair": {"a": ["\ud83d"]},
    "half a pair in a key": {"\udc00": 1},
    "two halves": "\ud83d" + chr(0xDE00),
    "number as key": {1: 2},
    "True as key": {"a": [{True: 2}]},
    "None as key": ({None: 2},),
    "tuple as key": {(1, 2): 3},
    "huge number": 10**5_000,
    "too long": "x" * (MAX_PAYLOAD_BYTES - 1),
    "too long in bytes": "é" * (MAX_PAYLOAD_BYTES // 2),
}


@pytest.mark.parametrize("what", PAYLOADS)
def test_a_payload_that_json_cannot_carry_is_refused(queue: JobQueue, what: str) -> None:
    with pytest.raises(InvalidArgument, match="payload"):
        queue.enqueue("k", PAYLOADS[what])
    for many in ([("k", 1), ("k", PAYLOADS[what])], [NewJob("k", 1), NewJob("k", PAYLOADS[what], affinity="a")]):
        with pytest.raises(InvalidArgument, match=r"^jobs\[1\]: .*payload"):
            queue.enqueue_many(many)
    assert total(queue) == 0


class Pair(NamedTuple):
    a: int
    b: int


STORED: list[tuple[object, object]] = [
    (None, None),
    ("", ""),
    ("null", "null"),
    ("\\u0000", "\\u0000"),
    ("\\\\u0000 \\ud800", "\\\\u0000 \\ud800"),
    ("\t\n\r\\N\\.\x01\x7f\u2028😀", "\t\n\r\\N\\.\x01\x7f\u2028😀"),
    ({"é\t": {"": []}}, {"é\t": {"": []}}),
    ((1, (2,)), [1, [2]]),
    (Pair(1, 2), [1, 2]),
    (OrderedDict(b=1, a=2), {"a": 2, "b": 1}),
    (10**400, 10**400),
    (-0.5e-300, -0.5e-300),
    (1e16, 1e16),
    (
        [1e22, 1e23, 10**22, -1.5e300, 5e-324, {"1e+22": '"1e+22'}],
        [1e22, 1e23, 10**22, -1.5e300, 5e-324, {"1e+22": '"1e+22'}],
    ),
    (-0.0, 0.0),
    (1.7976931348623157e308, 1.7976931348623157e308),
    ([True, False], [True, False]),
    ("x" * (MAX_PAYLOAD_BYTES - 2), "x" * (MAX_PAYLOAD_BYTES - 2)),
    ("é" * (MAX_PAYLOAD_BYTES // 2 - 1), "é" * (MAX_PAYLOAD_BYTES // 2 - 1)),
]


def test_what_json_can_carry_is_stored_as_it_is(queue: JobQueue) -> None:
    ids = [queue.enqueue("k", payload) for payload, _ in STORED]
    ids += queue.enqueue_many([("k", payload) for payload, _ in STORED])
    ids += queue.enqueue_many([NewJob("k", payload, affinity="a") for payload, _ in STORED])
    for number, (_, stored) in zip(ids, STORED * 3, strict=True):
        job = queue.get(number)
        assert job is not None
        assert exact(job.payload) == exact(stored)


def test_nesting_is_stored_or_refused_and_never_half(queue: JobQueue) -> None:
    for levels in (100, 900, 5_000):
        try:
            number = queue.enqueue("k", deep(levels))
        except InvalidArgument:
            continue
        job = queue.get(number)
        assert job is not None


def test_what_floats_take_when_they_are_written_out_counts(queue: JobQueue) -> None:
    many = [1e300] * (MAX_PAYLOAD_BYTES // 303 + 1)
    with pytest.raises(InvalidArgument, match="takes 1,0"):
        queue.enqueue("k", many)
    with pytest.raises(InvalidArgument, match=r"^jobs\[0\].*takes 1,0"):
        queue.enqueue_many([("k", many)])


UNREADABLE = {"a long number": "1" + "0" * 5000, "deep nesting": "[" * 5000 + "]" * 5000}


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_was_written_in_sql_and_no_python_can_read_hides_nothing(
    shared_place: tuple[str, str], queue: JobQueue, what: str
) -> None:
    text = UNREADABLE[what]
    dsn, prefix = shared_place
    number, other = queue.enqueue("k", job_id=what), queue.enqueue("k", 1)
    with psycopg.connect(dsn, autocommit=True) as conn:
        update = f"update {prefix}job_body set payload = %s::jsonb where id = %s"
        conn.execute(update.encode(), (text, number))
        [(stored,)] = conn.execute("select %s::jsonb::text", (text,)).fetchall()
    by_number = {job.id: job.payload for job in queue.list_jobs(status="pending")}
    assert by_number[number] == stored
    assert by_number[other] == 1
    for job in (queue.get(number), queue.get_by_job_id(what)):
        assert job is not None
        assert job.payload == stored


TEXTS = st.text(st.characters(exclude_categories=()), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.floats(1e15, 1.8e308) | TEXTS | st.just("1e+22"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(payloads=st.lists(JSON, min_size=1, max_size=5))
def test_any_payload_is_refused_or_comes_back_equal(queue: JobQueue, payloads: list[Any]) -> None:
    good = [payload for payload in payloads if _is_accepted(payload)]
    ids = queue.enqueue_many([("k", payload) for payload in good])
    for number, payload in zip(ids, good, strict=True):
        job = queue.get(number)
        assert job is not None
        assert exact(job.payload) == exact(payload)


def _is_accepted(payload: object) -> bool:
    try:
        payload_text(payload)
    except InvalidArgument:
        return False
    return True


FIELDS: list[dict[str, object]] = [
    {"kind": ""},
    {"kind": "a\0"},
    {"kind": "x" * 501},
    {"kind": "é" * 251},
    {"kind": "\ud800"},
    {"kind": None},
    {"kind": 7},
    {"kind": b"k"},
    {"queue": ""},
    {"queue": None},
    {"queue": "\0"},
    {"job_id": ""},
    {"job_id": "\0"},
    {"job_id": 7},
    {"job_id": "x" * 501},
    {"affinity": ""},
    {"affinity": 7},
    {"affinity": "a\0"},
    {"limit_key": ""},
    {"limit_key": "x" * 501},
    {"priority": True},
    {"priority": 1.0},
    {"priority": None},
    {"priority": 2**31},
    {"priority": -(2**31)},
    {"max_attempts": 0},
    {"max_attempts": -1},
    {"max_attempts": 32_001},
    {"max_attempts": True},
    {"max_attempts": "3"},
    {"run_at": datetime(2026, 1, 1)},  # noqa: DTZ001
    {"run_at": datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))},
    {"run_at": timedelta(microseconds=-1)},
    {"run_at": timedelta.max},
    {"run_at": 5},
    {"run_at": "2026-01-01T00:00:00Z"},
    {"run_at": True},
]


@pytest.mark.parametrize("bad", FIELDS, ids=lambda bad: next(f"{k}={v!r:.20}" for k, v in bad.items()))
def test_a_field_out_of_its_bounds_is_refused(bad: dict[str, object]) -> None:
    """No server is needed: it is refused before one is asked."""
    nowhere = JobQueue(CoordinationConfig(dsn="postgresql://nobody@127.0.0.1:1/nowhere"))
    [name] = bad
    with pytest.raises(InvalidArgument, match=name):
        nowhere.enqueue(**{"kind": "k", **bad})  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match=name):
        NewJob(**{"kind": "k", **bad})  # type: ignore[arg-type]


@pytest.mark.parametrize("jobs", ["jobs", b"jobs", {"kind": 1}, 7, None, ("k" for _ in [])])
def test_what_is_no_list_of_jobs_is_refused(queue: JobQueue, jobs: Any) -> None:
    if hasattr(jobs, "__next__"):
        assert queue.enqueue_many(jobs) == []
        return
    with pytest.raises(InvalidArgument, match="jobs"):
        queue.enqueue_many(jobs)


@pytest.mark.parametrize("item", ["kp", ("k",), ("k", 1, 2), ["k", 1], 7, None, (1, 2), ("", 2), ((), 2), ([], 2)])
def test_what_is_no_job_is_refused_by_its_position(queue: JobQueue, item: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^jobs\[1002\]: "):
        queue.enqueue_many([*[("k", i) for i in range(1_002)], item, ("k", 1)])
    assert total(queue) == 0


def test_bad_input_deep_in_a_long_batch_leaves_nothing(queue: JobQueue) -> None:
    for last in (("k", {1}), NewJob("k", {1}, job_id="x")):
        with pytest.raises(InvalidArgument, match=r"^jobs\[45000\]: "):
            queue.enqueue_many([*[("k", i) for i in range(45_000)], last])
    assert total(queue) == 0


def test_without_a_database_there_is_no_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYNC_DSN", raising=False)
    for nothing in (None,):
        with pytest.raises(InvalidSettings, match="SYNC_DSN"):
            JobQueue(nothing)


def test_a_closed_queue_says_so(server_dsn: str, prefix: str) -> None:
    queue = JobQueue(CoordinationConfig(dsn=server_dsn, appname=prefix))
    queue.enqueue("k")
    queue.close()
    with pytest.raises(NotRunning, match="closed"):
        queue.enqueue("k")
    queue.close()
