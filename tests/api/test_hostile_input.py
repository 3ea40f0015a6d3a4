"""Whatever is passed to a public call is refused there, by an error of jobsync's, or carried unchanged.

Nothing that a caller gives may reach SQL as SQL, be stored as something else than what it was, or end in an error that
belongs to somebody else. A few examples run always, many among the slow tests.
"""

import math
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from datetime import UTC
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from jobsync import CoordinationConfig, Job, JobQueue, JobsyncError, NewJob, Task
from tests.api.jobs import eventually, query, settings
from tests.conftest import drop_all

FEW = examples(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
MANY = examples(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))

NASTY = [
    "", " ", "\0", "a\0b", "\ud800", "\udfff\ud800", "\N{FULLWIDTH APOSTROPHE}", "\u202e", "\ufeff", "\x1b[31m", "\r\n",
    "%", "_", "\\", "\\\\", "a\\", "%s", "%(a)s", "%%", "{}", "{0}", "$1", "$$", "?", ":a", "NULL", "null", "{NULL}",
    '"', "'", "''", "'; drop table sync_node; --", "') or true --", "$$; drop schema public cascade; --", "E'\\x00'",
    '{"a":', "{a,b}", '{"a","b"}', "[1,2)", "[red]x[/red]", "[/]", "[link=file:///etc/passwd]x", "a" * 600, "é" * 300,
    "x" * 6_000, "😀" * 200, "-1", "0", "1e309", "NaN", "infinity", "-infinity", "2026-02-30", "true", "public",
    "sync_", "embedded", "../../etc/passwd", "a,b", "a b", "a=b", "host=evil", "postgresql://evil/", "\u0301",
]  # fmt: skip

text = st.sampled_from(NASTY) | st.text(st.characters(), max_size=40) | st.text(st.characters(categories=["Cs", "Cc"]))
number = (
    st.integers() | st.floats() | st.sampled_from([2**31, 2**63, -(2**63) - 1, 10**400, -0.0, math.nan, math.inf, True])
)
thing = st.one_of(
    text,
    number,
    st.none(),
    st.binary(max_size=20),
    st.datetimes(),
    st.datetimes(timezones=st.just(UTC)),
    st.timedeltas(),
    st.dates(),
    st.decimals(),
    st.uuids(),
    st.just(object()),
    st.lists(text, max_size=3),
    st.dictionaries(text, number, max_size=3),
    st.tuples(text, text),
)
task_id = st.one_of(text, st.integers(), st.binary(max_size=20), st.uuids(), st.dates(), st.decimals(), st.tuples(text))


@dataclass
class Place:
    """One job and one queue for all examples."""

    dsn: str
    prefix: str
    job: Job
    queue: JobQueue

    def catalogue(self) -> list[tuple[Any, ...]]:
        """What an injection would most likely change: the tables, the functions, and who is in the fleet."""
        mark = f"{self.prefix}%"
        tables = "select oid, relname from pg_class where relname like %s and relkind in ('r', 'v', 'S') order by 1"
        routines = "select oid, proname from pg_proc where proname like %s order by 1"
        nodes = f"select 0, name from {self.prefix}node"
        # A day's own table of claims and audits may come at any time.
        found = [row for row in query(self.dsn, tables, mark) if not re.search(r"_\d{8}$", row[1])]
        return [*found, *query(self.dsn, routines, mark), *query(self.dsn, nodes)]


@pytest.fixture(scope="module")
def place(server_dsn: str) -> Iterator[Place]:
    prefix = f"t_{secrets.token_hex(4)}_"
    config = settings(server_dsn, prefix)
    with Job("w0", coordination_config=config) as job, JobQueue(config) as queue:
        place = Place(server_dsn, prefix, job, queue)
        before = place.catalogue()
        yield place
        assert place.catalogue() == before
    drop_all(server_dsn, prefix)


def refused(call: Callable[[], object]) -> bool:
    """Call, and say whether it was refused; any other error than jobsync's goes on."""
    error: JobsyncError | None = None
    try:
        call()
    except JobsyncError as caught:
        error = caught
    assert len(str(error)) < 10_000, "an error repeats what it was given, at length"
    str(error).encode("utf-8")
    return error is not None


# --- tasks ---------------------------------------------------------------------------------------


def check_task(place: Place, given: Any) -> None:
    if refused(lambda: Task(given)):
        assert refused(lambda: place.job.can_claim_task(given))
        assert refused(lambda: place.job.add_task(given))
        assert refused(lambda: place.job.set_claim(given)) or isinstance(given, list | tuple | set | dict)
        return
    task = Task(given)
    assert 0 <= place.job.task_to_token(given) < 100
    assert place.job.can_claim_task(task)
    assert place.job.add_task(given)
    place.job.write_audit()
    place.job._ledger.flush()  # type: ignore[union-attr]
    found = query(place.dsn, f"select item from {place.prefix}audit where item = %s", task.text)
    assert found == [(task.text,)]
    assert task.text in {row["task_id"] for row in place.job.get_audit()}


@FEW
@given(given=task_id | thing)
def test_a_task_is_refused_or_recorded_as_it_is(place: Place, given: Any) -> None:
    check_task(place, given)


@pytest.mark.slow
@MANY
@given(given=task_id | thing)
def test_many_tasks(place: Place, given: Any) -> None:
    check_task(place, given)


@pytest.mark.parametrize("size", [1_001, 70_000, 3_000_000])
def test_what_is_too_long_is_refused_everywhere_in_few_words(place: Place, size: int) -> None:
    long = "é" * size
    assert refused(lambda: Job(long, coordination_config=settings(place.dsn, place.prefix)))
    assert refused(lambda: place.job.register_lock("t", [long]))
    before = place.job.list_locks()
    assert refused(lambda: place.job.clear_locks_by_creator(long)) or place.job.list_locks() == before
    for name in ("kind", "job_id", "affinity", "limit_key", "queue"):
        named: dict[str, Any] = {"kind": "k", name: long}
        assert refused(lambda: place.queue.enqueue(**named)), name  # noqa: B023
    assert refused(lambda: place.job.add_task(long)) is (size > 1000)
    assert refused(lambda: place.queue.enqueue("k", long)) is (size == 3_000_000)
    place.queue.cancel_all()


# --- locks ---------------------------------------------------------------------------------------

lock = st.fixed_dictionaries(
    {"task_id": task_id | thing, "node_patterns": thing | st.lists(text, max_size=4)},
    optional={"reason": thing, "expires_in_days": thing},
)


def check_lock(place: Place, given: dict[str, Any]) -> None:
    if refused(lambda: place.job.register_lock(**given)):
        return
    task = Task(given["task_id"])
    found = next((row for row in place.job.list_locks() if row["task_id"] == task.text), None)
    patterns = given["node_patterns"]
    assert found is None or found["node_patterns"] == ([patterns] if isinstance(patterns, str) else list(patterns))
    assert found is None or found["reason"] == given.get("reason")
    place.job.clear_locks_by_creator("w0")


@FEW
@given(given=lock, creator=thing)
def test_a_lock_is_refused_or_listed_as_it_is(place: Place, given: dict[str, Any], creator: Any) -> None:
    check_lock(place, given)
    if creator != "w0":
        assert refused(lambda: place.job.clear_locks_by_creator(creator)) or not place.job.list_locks()


@pytest.mark.slow
@MANY
@given(given=lock)
def test_many_locks(place: Place, given: dict[str, Any]) -> None:
    check_lock(place, given)


# --- jobs of the queue ---------------------------------------------------------------------------

new_job = st.fixed_dictionaries(
    {"kind": text | thing},
    optional={
        "payload": thing,
        "job_id": text | thing,
        "priority": number | thing,
        "run_at": thing,
        "max_attempts": number | thing,
        "affinity": text | thing,
        "limit_key": text | thing,
        "queue": text | thing,
    },
)


def as_json(value: object) -> object:
    """Give what JSON makes of a payload."""
    return list(value) if isinstance(value, tuple) else value


def check_job(place: Place, given: dict[str, Any]) -> None:
    numbers: list[int] = []
    if refused(lambda: numbers.append(place.queue.enqueue(**given))):
        return
    stored = place.queue.get(numbers[0])
    assert stored is not None
    assert stored.kind == given["kind"]
    assert stored.payload == as_json(given.get("payload"))
    for name in ("job_id", "affinity", "limit_key"):
        assert getattr(stored, name) == given.get(name), name
    for name in ("priority", "max_attempts", "queue"):
        assert name not in given or getattr(stored, name) == given[name], name
    if given.get("job_id") is not None:
        assert place.queue.enqueue(**{**given, "payload": None}) == numbers[0]
        assert place.queue.get_by_job_id(given["job_id"]) == stored
    assert numbers[0] in {job.id for job in place.queue.list_jobs(kind=given["kind"], limit=1000)}
    place.queue.cancel_all()
    place.queue.prune(0)


@FEW
@given(given=new_job)
def test_a_job_is_refused_or_stored_as_it_is(place: Place, given: dict[str, Any]) -> None:
    check_job(place, given)


@pytest.mark.slow
@MANY
@given(given=new_job)
def test_many_jobs(place: Place, given: dict[str, Any]) -> None:
    check_job(place, given)


# --- everything else that can be called -----------------------------------------------------------

CALLS: list[Callable[[Place, Any, Any, Any], object]] = [
    lambda p, a, b, c: p.queue.enqueue_many([(a, b), (c, None)]),
    lambda p, a, b, c: p.queue.enqueue_many([NewJob(a, b, affinity=c)]),
    lambda p, a, b, c: p.queue.enqueue_many(a),
    lambda p, a, b, c: p.queue.get(a),
    lambda p, a, b, c: p.queue.get_by_job_id(a),
    lambda p, a, b, c: p.queue.list_jobs(status=a, kind=b, queue=c),
    lambda p, a, b, c: p.queue.list_jobs(limit=a, before_id=b),
    lambda p, a, b, c: p.queue.errors(a),
    lambda p, a, b, c: p.queue.counts(queue=a),
    lambda p, a, b, c: p.queue.cancel(a),
    lambda p, a, b, c: p.queue.cancel_all(kind=a, queue=b, status=c),
    lambda p, a, b, c: p.queue.retry(a),
    lambda p, a, b, c: p.queue.retry_all(kind=a, queue=b, status=c),
    lambda p, a, b, c: p.queue.update_progress(a, b, c),
    lambda p, a, b, c: p.queue.update_progress(1, 50, c, attempt=a),
    lambda p, a, b, c: p.queue.release_lease(1, a, b, error=c),
    lambda p, a, b, c: p.queue.release_lease(a, "w", "done", result=b, attempt=c),
    lambda p, a, b, c: p.queue.pause(a, by=b),
    lambda p, a, b, c: p.queue.resume(a),
    lambda p, a, b, c: p.queue.set_limit(a, at_once=b, per_key=c),
    lambda p, a, b, c: p.queue.schedule(a, b, c),
    lambda p, a, b, c: p.queue.unschedule(a),
    lambda p, a, b, c: p.queue.prune(a),
    lambda p, a, b, c: p.job.get_my_task_ids([a, b]),
    lambda p, a, b, c: p.job.get_task_ids_for_token(a, [b]),
    lambda p, a, b, c: p.job.get_incomplete_tasks(a),
    lambda p, a, b, c: list(p.job.tasks([a, b])),
    lambda p, a, b, c: p.job.claim(a),
    lambda p, a, b, c: p.job.transaction(a).__enter__().execute("select 1"),
    lambda p, a, b, c: p.job.register_locks_bulk([(a, b, c)]),
    lambda p, a, b, c: p.job.leader(a),
    lambda p, a, b, c: Job(a, b, coordination_config=settings(p.dsn, p.prefix), run=c),
    lambda p, a, b, c: Job("x", coordination_config=settings(p.dsn, p.prefix), date=a, wait_on_enter=b),
    lambda p, a, b, c: Job("x", coordination_config=a),
]


def check_call(place: Place, call: Callable[..., object], given: tuple[Any, Any, Any]) -> None:
    def called() -> None:
        # An iterable is walked by Python, not by jobsync: what cannot be walked is a TypeError.
        with suppress(TypeError):
            call(place, *given)

    refused(called)


@FEW
@given(calls=st.lists(st.tuples(st.sampled_from(CALLS), st.tuples(thing, thing, thing)), min_size=8, max_size=8))
def test_no_call_ends_in_an_error_of_somebody_elses(place: Place, calls: list[Any]) -> None:
    for call, given_ in calls:
        check_call(place, call, given_)


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS)
@examples(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(given=st.tuples(thing, thing, thing))
def test_many_calls(place: Place, call: Callable[..., object], given: tuple[Any, Any, Any]) -> None:
    check_call(place, call, given)


# --- names that are entered with -----------------------------------------------------------------


@examples(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=text, environment=text, run=text)
def test_a_node_is_refused_or_enters_under_its_name(server_dsn: str, name: str, environment: str, run: str) -> None:
    prefix = f"t_{secrets.token_hex(4)}_"
    config = settings(server_dsn, prefix)
    jobs: list[Job] = []
    if refused(lambda: jobs.append(Job(name, environment, coordination_config=config, run=run))):
        return
    try:
        with jobs[0] as job:
            assert query(server_dsn, f"select name, environment from {prefix}node") == [(name, environment)]
            assert job.add_task("t")
            job.write_audit()
            audit = f"select node, run from {prefix}audit"
            eventually(lambda: query(server_dsn, audit) == [(name, run)])
    finally:
        drop_all(server_dsn, prefix)


CONFIG_FIELDS = [each.name for each in fields(CoordinationConfig)]


@examples(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(given=st.dictionaries(st.sampled_from(CONFIG_FIELDS), thing, max_size=4))
def test_a_configuration_is_refused_or_kept_as_it_is(given: dict[str, Any]) -> None:
    kept: list[CoordinationConfig] = []
    if not refused(lambda: kept.append(CoordinationConfig(**given))):
        repr(kept[0]).encode("utf-8", "backslashreplace")
