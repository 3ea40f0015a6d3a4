"""What a queue is steered by, and jobs as they were read: each value at its very bound."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest

from jobsync.core.errors import InvalidArgument
from jobsync.core.queue.new_job import NewJob
from jobsync.core.queue.periodic import Cron
from jobsync.core.queue.steering import (
    MOST_AT_ONCE,
    MOST_DAYS,
    MOST_NAME_BYTES,
    Limit,
    PeriodicWish,
    Schedule,
    checked_days,
    checked_limit,
    checked_schedule_name,
    checked_wish,
)
from jobsync.core.queue.stored import StoredJob, read_json

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def test_a_limit_is_a_whole_number_from_one_or_none() -> None:
    assert checked_limit("mail", 1, MOST_AT_ONCE) == Limit(1, MOST_AT_ONCE)
    assert checked_limit("mail", None, None) == Limit(None, None)
    assert checked_limit("mail", MOST_AT_ONCE, 1) == Limit(MOST_AT_ONCE, 1)
    for wrong in (0, MOST_AT_ONCE + 1, 1.5, True):
        with pytest.raises(InvalidArgument, match=r"^at_once="):
            checked_limit("mail", wrong, 1)
        with pytest.raises(InvalidArgument, match=r"^per_key="):
            checked_limit("mail", 1, wrong)


def test_a_kind_with_a_tab_can_have_no_limit() -> None:
    with pytest.raises(InvalidArgument, match="tab"):
        checked_limit("a\tb", 1, 1)
    with pytest.raises(InvalidArgument, match=r"^kind="):
        checked_limit("", 1, 1)


def test_a_retention_is_a_number_of_days() -> None:
    assert [checked_days("days", days) for days in (0, 0.5, 1, MOST_DAYS)] == [0.0, 0.5, 1.0, MOST_DAYS]
    assert type(checked_days("days", 1)) is float
    for wrong in (-0.001, MOST_DAYS + 0.001, math.nan, True, "1", None):
        with pytest.raises(InvalidArgument, match=r"^days="):
            checked_days("days", wrong)


def test_a_name_of_a_periodic_job_leaves_room_for_a_due_time() -> None:
    longest = "é" * (MOST_NAME_BYTES // 2)
    assert checked_schedule_name(longest) == longest
    with pytest.raises(InvalidArgument, match=r"^name="):
        checked_schedule_name(longest + "x")
    with pytest.raises(InvalidArgument, match=r"^name="):
        checked_schedule_name("")


def test_a_wish_for_a_periodic_job_carries_its_payload_as_text() -> None:
    when = Cron("0 2 * * *")
    job = NewJob("report", {"a": 1}, queue="slow", priority=5)
    assert checked_wish("nightly", when, job) == PeriodicWish("nightly", when, "slow", "report", '{"a":1}', 5)
    with pytest.raises(InvalidArgument, match="payload"):
        checked_wish("nightly", when, NewJob("report", {1: 1}))


@pytest.mark.parametrize(
    ("text", "value"),
    [(None, None), ("null", None), ('{"a":[1]}', {"a": [1]}), ("9" * 5000, "9" * 5000), ("[" * 99_999, "[" * 99_999)],
    ids=["none", "null", "json", "a number too long", "lists too deep"],
)
def test_what_python_cannot_carry_is_given_as_its_text(text: str | None, value: Any) -> None:
    assert read_json(text) == value


def test_a_schedule_and_a_job_are_read_with_their_json() -> None:
    row = ("nightly", "0 2 * * *", "UTC", "slow", "report", '{"a":1}', 5, NOON, 7)
    assert Schedule.of(row) == Schedule("nightly", "0 2 * * *", "UTC", "slow", "report", {"a": 1}, 5, NOON, 7)
    values: list[Any] = [
        1, "id", "slow", "report", {"a": 1}, "done", 5, 100, None, 1, 0, 3, None, None, NOON, None, [2], None, NOON,
        NOON, NOON, 9, None,
    ]  # fmt: skip
    written = [*values]
    written[4], written[16] = '{"a":1}', "[2]"
    assert StoredJob.of(written) == StoredJob(*values)
