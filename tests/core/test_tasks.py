"""Tasks: which ids are accepted, what their text is, and when two tasks are one."""

import copy
import enum
import os
import pickle
import struct
import subprocess
import sys
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from io import BytesIO
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsync.core.errors import InvalidArgument, InvalidTaskId
from jobsync.core.tasks import Task, TaskId, as_task, ids_of, task_text, tasks_of

# The smallest zone file there is, so that the tests need no time zones on the machine.
UTC_FILE = b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, 0, 1, 4) + bytes(6) + b"UTC\0"
NAMED_ZONE = zoneinfo.ZoneInfo.from_file(BytesIO(UTC_FILE), key="Sea/Atlantis")
NAMELESS_ZONE = zoneinfo.ZoneInfo.from_file(BytesIO(UTC_FILE))
SOME_UUID = UUID("12345678-1234-5678-1234-567812345678")
EVERY_KIND: list[tuple[Any, str]] = [
    ("invoice-7", "invoice-7"),
    ("", ""),
    ("größe/日本", "größe/日本"),
    (7, "7"),
    (-7, "-7"),
    (True, "True"),
    (b"raw\x00", "b'raw\\x00'"),
    (SOME_UUID, "12345678-1234-5678-1234-567812345678"),
    (date(2026, 11, 22), "2026-11-22"),
    (datetime(2026, 11, 22, 3, 14), "2026-11-22 03:14:00"),  # noqa: DTZ001 - such ids exist
    (datetime(2026, 11, 22, 3, 14, tzinfo=UTC), "2026-11-22 03:14:00+00:00"),
    (Decimal("1.50"), "1.50"),
    ((), "()"),
    (("eu", 7), "('eu', 7)"),
    (("eu", (7, b"x")), "('eu', (7, b'x'))"),
    (
        (date(2026, 11, 22), SOME_UUID),
        "(datetime.date(2026, 11, 22), UUID('12345678-1234-5678-1234-567812345678'))",
    ),
    (
        (datetime(2026, 11, 22, tzinfo=NAMED_ZONE),),
        "(datetime.datetime(2026, 11, 22, 0, 0, tzinfo=zoneinfo.ZoneInfo(key='Sea/Atlantis')),)",
    ),
]

plain_ids = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.integers(),
    st.booleans(),
    st.binary(),
    st.uuids(),
    st.dates(),
    st.datetimes(),
    st.decimals(),
)
ids = st.recursive(plain_ids, lambda members: st.lists(members, max_size=3).map(tuple))


@pytest.mark.parametrize(("task_id", "text"), EVERY_KIND)
def test_the_text_of_an_id_is_its_str(task_id: TaskId, text: str) -> None:
    assert task_text(task_id) == str(task_id) == text


@given(ids)
def test_every_accepted_id_counts_by_its_str(task_id: TaskId) -> None:
    assert Task(task_id).text == str(task_id)


@pytest.mark.parametrize(("task_id", "text"), EVERY_KIND)
def test_a_task_keeps_the_id_as_it_was_given(task_id: TaskId, text: str) -> None:
    assert Task(task_id).id is task_id


SCRIPT = """
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID
from jobsync.core.tasks import task_text
for task_id in ["a b", 7, True, b"x", UUID(int=7), date(2026, 11, 22), datetime(2026, 11, 22, 3),
                Decimal("1.50"), ("eu", (7, b"x"), "it's"),
                (datetime(2026, 11, 22, tzinfo=UTC), Decimal("2"))]:
    print(ascii(task_text(task_id)))
print(hash("a b"))
"""


def said_with_hash_seed(seed: str) -> list[str]:
    # Bytes are written with -bb, under which Python refuses str(bytes).
    done = subprocess.run(
        [sys.executable, "-bb", "-c", SCRIPT],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.splitlines()


def test_processes_with_different_hash_seeds_agree_on_every_text() -> None:
    first, second = said_with_hash_seed("1"), said_with_hash_seed("2")
    assert first[-1] != second[-1], "the seeds had no effect: the test would prove nothing"
    assert first[:-1] == second[:-1]
    assert len(first) == 11


# --- what is refused -----------------------------------------------------------------------------


class Plain:
    pass


@pytest.mark.parametrize(
    ("task_id", "hint"),
    [
        (0.5, "give a Decimal"),
        (None, "missing value"),
        (["eu", 7], "tuple(id)"),
        ({"eu"}, "order of a set"),
        (frozenset({"eu"}), "order of a set"),
        ({"eu": 7}, "the key that identifies it"),
        (bytearray(b"x"), "bytes(id)"),
        (Task(7), "it is a Task already"),
        (Plain(), "test_tasks.Plain"),
        (timedelta(1), "datetime.timedelta"),
        (object, "type"),
    ],
)
def test_an_id_of_another_type_is_refused_with_the_rule_and_its_type(task_id: Any, hint: str) -> None:
    with pytest.raises(InvalidTaskId) as caught:
        Task(task_id)
    assert "the same in every process" in str(caught.value)
    assert hint in str(caught.value)
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize("member", [0.5, None, ["x"], Plain(), ("deep", (None,))])
def test_a_tuple_with_a_member_of_another_type_is_refused(member: object) -> None:
    with pytest.raises(InvalidTaskId, match="a tuple is a task id only if"):
        Task(("eu", member))


class Color(str, enum.Enum):  # noqa: UP042 - the older form, which people still have
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Kind(enum.StrEnum):
    NIGHTLY = "nightly"


class Point(NamedTuple):
    x: int
    y: int


class Words(str):
    __slots__ = ()


class Pair(tuple[object, ...]):
    __slots__ = ()


class Shouting(str):
    __slots__ = ()

    def __str__(self) -> str:
        return self.upper()


@pytest.mark.parametrize("task_id", [Color.RED, Point(1, 2), Shouting("x")])
def test_a_subclass_that_shows_itself_in_its_own_way_is_refused(task_id: TaskId) -> None:
    with pytest.raises(InvalidTaskId, match="differ between versions and processes"):
        Task(task_id)


@pytest.mark.parametrize(
    ("task_id", "text"),
    [(Words("a"), "a"), (Level.HIGH, "3"), (Kind.NIGHTLY, "nightly"), (Pair(("eu", 7)), "('eu', 7)")],
)
def test_a_subclass_that_shows_itself_as_the_plain_type_is_accepted(task_id: TaskId, text: str) -> None:
    assert Task(task_id).text == str(task_id) == text
    assert type(Task(task_id).text) is str


@pytest.mark.parametrize("member", [Words("a"), Level.HIGH, Kind.NIGHTLY, Point(1, 2)])
def test_inside_a_tuple_only_plain_types_are_accepted(member: object) -> None:
    with pytest.raises(InvalidTaskId, match="a tuple is a task id only if"):
        Task((member,))


def test_a_subclass_of_tuple_is_held_to_the_same_rule_for_its_members() -> None:
    with pytest.raises(InvalidTaskId, match="a tuple is a task id only if"):
        Task(Pair((None,)))


class Elsewhere(tzinfo):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(hours=1)

    def dst(self, moment: datetime | None) -> timedelta:
        return timedelta(0)

    def tzname(self, moment: datetime | None) -> str:
        return "elsewhere"


@pytest.mark.parametrize("zone", [Elsewhere(), NAMELESS_ZONE])
def test_a_tuple_with_a_time_zone_that_has_no_stable_text_is_refused(zone: tzinfo) -> None:
    with pytest.raises(InvalidTaskId, match="time zone"):
        Task((datetime(2026, 11, 22, tzinfo=zone),))


@pytest.mark.parametrize("zone", [None, UTC, timezone(timedelta(hours=1)), NAMED_ZONE])
def test_a_tuple_with_a_time_zone_of_stable_text_is_accepted(zone: tzinfo | None) -> None:
    moment = datetime(2026, 11, 22, tzinfo=zone)
    assert Task((moment,)).text == f"({moment!r},)"


@pytest.mark.parametrize("task_id", ["a\0b", "ä\0", "\0"])
def test_text_with_nul_is_refused(task_id: str) -> None:
    with pytest.raises(InvalidArgument, match="NUL") as caught:
        Task(task_id)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("task_id", ["\udc80", "file-\ud800.txt"])
def test_text_with_half_a_surrogate_pair_is_refused(task_id: str) -> None:
    with pytest.raises(InvalidArgument, match="half a surrogate pair"):
        Task(task_id)


def test_nul_and_surrogates_inside_a_tuple_are_escaped_and_so_accepted() -> None:
    assert Task(("a\0", "\udc80")).text == r"('a\x00', '\udc80')"


def test_an_int_too_long_for_python_to_write_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="has no text"):
        Task(10**5000)


def test_a_tuple_nested_too_deeply_to_write_is_refused() -> None:
    task_id: TaskId = ()
    for _ in range(100_000):
        task_id = (task_id,)
    with pytest.raises(InvalidArgument, match="has no text"):
        Task(task_id)


def test_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="the name of a task is text or None, not int"):
        Task(1, 7)  # type: ignore[arg-type]


# --- tasks as values -----------------------------------------------------------------------------


def test_a_number_and_its_text_are_one_task() -> None:
    assert Task(1) == Task("1")
    assert len({Task(1), Task("1"), Task(Decimal(1))}) == 1


def test_equal_ids_of_different_text_are_two_tasks() -> None:
    assert Task(1) != Task(True)
    assert Task(Decimal("1.0")) != Task(Decimal(1))


def test_a_name_makes_no_difference_between_tasks() -> None:
    assert Task(1, "one") == Task(1, name="uno")


def test_a_task_is_not_its_bare_id() -> None:
    assert Task(1) != 1


@pytest.mark.parametrize("attribute", ["id", "name", "text", "more"])
def test_a_task_cannot_be_changed(attribute: str) -> None:
    with pytest.raises(AttributeError):
        setattr(Task(1), attribute, 2)


def test_tasks_survive_copies_and_pickles() -> None:
    task = Task(("eu", 7), "seven")
    for twin in (copy.copy(task), copy.deepcopy(task), pickle.loads(pickle.dumps(task))):
        assert (twin.id, twin.name, twin.text) == (task.id, task.name, task.text)


def test_a_task_shows_its_id_and_the_name_if_it_has_one() -> None:
    assert repr(Task("a")) == "Task('a')"
    assert repr(Task(7, "seven")) == "Task(7, name='seven')"


def test_a_task_can_be_matched_by_position() -> None:
    match Task(7, "seven"):
        case Task(number, name):
            assert (number, name) == (7, "seven")


def test_tasks_sort_by_id_where_types_allow() -> None:
    assert sorted([Task(10), Task(9), Task(Decimal("9.5"))]) == [Task(9), Task(Decimal("9.5")), Task(10)]


def test_tasks_of_types_that_do_not_compare_sort_by_text() -> None:
    assert Task(10) < Task("5")
    assert Task("5") > Task(10)
    assert Task(date(2026, 1, 1)) < Task(datetime(2026, 1, 1, tzinfo=UTC))


def test_equal_ids_of_different_text_sort_by_text() -> None:
    assert Task(1) < Task(True)
    assert not Task(True) < Task(1)


def test_one_task_under_two_ids_is_not_before_itself() -> None:
    assert not Task(1) < Task("1")
    assert Task(1) <= Task("1")


@given(st.lists(ids, max_size=12))
def test_mixed_tasks_sort_without_an_error(mixed: list[TaskId]) -> None:
    tasks = [Task(each) for each in mixed]
    assert sorted(each.text for each in sorted(tasks)) == sorted(each.text for each in tasks)


@given(ids, ids)
def test_of_two_tasks_exactly_one_relation_holds(one: TaskId, other: TaskId) -> None:
    a, b = Task(one), Task(other)
    assert (a < b) + (b < a) + (a == b) == 1


def test_a_task_does_not_compare_with_other_things() -> None:
    with pytest.raises(TypeError):
        assert Task(1) < 2


# --- one or many ---------------------------------------------------------------------------------


def test_a_bare_id_becomes_a_task_and_a_task_stays_itself() -> None:
    task = Task(7)
    assert as_task(task) is task
    assert as_task(7) == task


@pytest.mark.parametrize("one", ["abc", b"abc", ("a", "b"), 7, SOME_UUID, date(2026, 1, 1)])
def test_a_str_bytes_tuple_or_scalar_is_one_id(one: TaskId) -> None:
    assert list(ids_of(one)) == [one]
    assert list(tasks_of(one)) == [Task(one)]


def test_a_task_is_one() -> None:
    assert list(ids_of(Task(("a", 7)))) == [("a", 7)]
    assert [task.name for task in tasks_of(Task(7, "seven"))] == ["seven"]


@pytest.mark.parametrize("many", [[1, "a"], {1: 0, "a": 0}, iter([1, "a"]), (each for each in (1, "a"))])
def test_another_iterable_is_many(many: Any) -> None:
    assert list(ids_of(many)) == [1, "a"]


def test_tasks_among_many_give_their_ids_and_keep_their_names() -> None:
    assert list(ids_of([Task(7, "seven"), 8])) == [7, 8]
    assert [task.name for task in tasks_of([Task(7, "seven"), 8])] == ["seven", None]


def test_many_are_taken_one_by_one() -> None:
    def endless() -> Iterator[int]:
        number = 0
        while True:
            yield number
            number += 1

    assert next(ids_of(endless())) == 0
    assert next(tasks_of(endless())) == Task(0)


@pytest.mark.parametrize("raw", [bytearray(b"abc"), memoryview(b"abc")])
def test_raw_bytes_are_refused_at_the_call_and_not_taken_for_many_numbers(raw: Any) -> None:
    with pytest.raises(InvalidTaskId, match=r"give bytes\(id\)"):
        ids_of(raw)
    with pytest.raises(InvalidTaskId, match=r"give bytes\(id\)"):
        tasks_of(raw)


TOO_LONG = [
    "x" * 2001,
    "é" * 1001,
    b"x" * 2001,
    ("x" * 2001,),
    Decimal("1" * 2001),
    10**2001,
    ("a", ("b", b"c" * 2001)),
]


@pytest.mark.parametrize("long", TOO_LONG)
def test_an_id_longer_than_an_index_can_hold_is_refused_whatever_its_type(long: TaskId) -> None:
    """It would be stored nowhere, and everything written together with it would wait for ever."""
    with pytest.raises(InvalidArgument, match="too long"):
        Task(long)


def test_a_task_id_may_be_as_long_as_its_bound() -> None:
    for longest in ("x" * 2_000, "é" * 1_000):
        assert task_text(longest) == longest
        with pytest.raises(InvalidArgument, match="too long"):
            task_text(longest + "x")
