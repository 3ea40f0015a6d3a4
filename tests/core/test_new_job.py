"""A job that is asked for: what is refused, by name and at its very bound, and how payloads are written."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsync.core.errors import InvalidArgument
from jobsync.core.queue.new_job import (
    MAX_PAYLOAD_BYTES,
    MOST_ATTEMPTS,
    MOST_DELAY,
    MOST_PRIORITY,
    MOST_TEXT_BYTES,
    NewJob,
    checked_text,
    checked_whole,
    payload_encoder,
    payload_text,
    payload_texts,
)

# --- names, numbers, times ---------------------------------------------------------------------


@pytest.mark.parametrize("field", ["kind", "queue", "job_id", "affinity", "limit_key"])
@pytest.mark.parametrize("wrong", ["", 5, "a\0b", "\ud800", "é" * (MOST_TEXT_BYTES // 2) + "x"])
def test_a_name_that_could_not_be_stored_is_refused_by_its_field(field: str, wrong: object) -> None:
    values: dict[str, Any] = {"kind": "mail", field: wrong}
    with pytest.raises(InvalidArgument, match=f"^{field}="):
        NewJob(**values)


def test_a_name_may_be_as_long_as_its_bound() -> None:
    longest = "é" * (MOST_TEXT_BYTES // 2)
    assert checked_text("kind", longest) == longest
    job = NewJob(longest, job_id=longest, affinity=longest, limit_key=longest, queue=longest)
    assert job.kind == longest


@pytest.mark.parametrize(
    ("field", "least", "most"),
    [("priority", -MOST_PRIORITY, MOST_PRIORITY), ("max_attempts", 1, MOST_ATTEMPTS)],
)
def test_numbers_are_whole_and_within_their_bounds(field: str, least: int, most: int) -> None:
    for right in (least, most):
        values: dict[str, Any] = {field: right}
        assert getattr(NewJob("mail", **values), field) == right
    for wrong in (least - 1, most + 1, 1.0, "1", True):
        values = {field: wrong}
        with pytest.raises(InvalidArgument, match=f"^{field}="):
            NewJob("mail", **values)


def test_a_number_may_be_each_of_its_bounds() -> None:
    assert [checked_whole("n", number, 2, 4) for number in (2, 3, 4)] == [2, 3, 4]


@pytest.mark.parametrize(
    "right",
    [None, timedelta(0), MOST_DELAY, datetime(2026, 1, 1, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)],
)
def test_a_job_may_run_now_later_or_at_an_instant(right: Any) -> None:
    assert NewJob("mail", run_at=right).run_at == right


@pytest.mark.parametrize(
    "wrong",
    [
        timedelta(microseconds=-1),
        MOST_DELAY + timedelta(microseconds=1),
        datetime(2026, 1, 1),  # noqa: DTZ001 - that is what is wrong with it
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        5,
        "tomorrow",
    ],
)
def test_an_instant_that_cannot_be_told_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^run_at="):
        NewJob("mail", run_at=wrong)


@pytest.mark.parametrize(
    ("fields", "plain"),
    [
        ({}, True),
        ({"priority": 5, "queue": "q", "payload": {"a": 1}, "max_attempts": 2}, True),
        ({"max_attempts": 1}, False),
        ({"job_id": "a"}, False),
        ({"run_at": timedelta(1)}, False),
        ({"affinity": "a"}, False),
        ({"limit_key": "a"}, False),
    ],
)
def test_a_plain_job_is_one_that_has_only_to_be_written_down(fields: dict[str, Any], plain: bool) -> None:
    assert NewJob("mail", **fields).is_plain is plain


# --- payloads ----------------------------------------------------------------------------------

leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text('aé"\\e+1')
)
payloads = st.recursive(leaves, lambda of: st.lists(of, max_size=3) | st.dictionaries(st.text("ab"), of, max_size=3))


@given(payloads)
def test_a_payload_is_written_in_ascii_and_comes_back_equal(payload: object) -> None:
    text = payload_text(payload)
    assert text.isascii()
    assert json.loads(text) == payload


@given(st.lists(payloads, min_size=1, max_size=4))
def test_many_payloads_are_written_as_each_alone(several: list[object]) -> None:
    assert payload_texts(several, payload_encoder()) == [payload_text(payload) for payload in several]


@given(payloads)
def test_an_interpreter_without_the_quick_encoder_writes_the_same(payload: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json.encoder, "c_make_encoder", None)
        slow = payload_encoder()
    assert payload_text(payload, slow) == payload_text(payload)


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({"b": 1, "a": [1.5, None, True]}, '{"b":1,"a":[1.5,null,true]}'),
        ((1, 2), "[1,2]"),
        (1e22, "10000000000000000000000.0"),
        (-1.5e23, "-150000000000000000000000.0"),
        (["1e+22", 1e22], '["1e+22",10000000000000000000000.0]'),
        (1e-7, "1e-07"),
    ],
)
def test_a_number_keeps_its_type_and_a_text_that_looks_like_one_stays_a_text(payload: object, text: str) -> None:
    assert payload_text(payload) == text


WRONG: list[tuple[object, str]] = [
    ({1: "a"}, "the key 1 is no text"),
    ([{None: "a"}], "the key None is no text"),
    ({"a": ({"b": {2: 3}},)}, "the key 2 is no text"),
    ({"a": {1, 2}}, "set is no JSON"),
    (float("nan"), "cannot be stored as JSON"),
    ([float("inf")], "cannot be stored as JSON"),
    ("a\0b", "NUL"),
    ({"a\0": 1}, "NUL"),
    ("\ud800", "surrogate"),
    ({"a": ["\udfff"]}, "surrogate"),
]


@pytest.mark.parametrize(("payload", "why"), WRONG)
def test_a_payload_that_could_not_be_stored_is_refused_with_the_reason(payload: object, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        payload_text(payload)
    with pytest.raises((TypeError, ValueError)):
        payload_texts(["good", payload], payload_encoder())


def test_an_interpreter_without_the_quick_encoder_refuses_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json.encoder, "c_make_encoder", None)
    for payload, why in WRONG:
        with pytest.raises(InvalidArgument, match=why):
            payload_text(payload)


def test_a_payload_nested_beyond_reason_is_refused() -> None:
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(InvalidArgument, match="nested too deeply"):
        payload_text(nested)


@pytest.mark.parametrize("harmless", ["\\u0000", "\\\\u0000", "\\ud800", "ü\\ud"])
def test_a_text_that_shows_an_escape_is_no_escape(harmless: str) -> None:
    assert json.loads(payload_text(harmless)) == harmless


@pytest.mark.parametrize(
    "largest",
    [
        "x" * (MAX_PAYLOAD_BYTES - 2),
        "é" * (MAX_PAYLOAD_BYTES // 2 - 1),
        [1e22, "x" * (MAX_PAYLOAD_BYTES - 30)],
    ],
    ids=["ascii", "two bytes a letter", "a number written in full"],
)
def test_a_payload_is_measured_as_it_is_stored(largest: Any) -> None:
    payload_text(largest)
    longer = [largest[0], largest[1] + "x"] if isinstance(largest, list) else largest + "x"
    with pytest.raises(InvalidArgument, match=r"the payload takes 1,000,00[1-9] bytes"):
        payload_text(longer)
    with pytest.raises(ValueError, match="one by one"):
        payload_texts(["good", longer], payload_encoder())


def test_the_largest_payload_goes_with_the_others() -> None:
    largest = "x" * (MAX_PAYLOAD_BYTES - 2)
    assert payload_texts([largest, 5], payload_encoder()) == [json.dumps(largest), "5"]
