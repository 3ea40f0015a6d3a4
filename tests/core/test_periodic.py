"""When cron expressions are due, daylight saving time and outages included."""

import builtins
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsync.core.errors import ExtraMissing, InvalidArgument
from jobsync.core.queue.periodic import Cron, Due, Periodic, checked_cron, decide_round, until_next_minute_sec

BERLIN = "Europe/Berlin"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def all_due(cron: Cron, after: str, until: str) -> list[str]:
    """List all due times after one instant and not after another, in UTC."""
    found, now = list[str](), utc(after)
    while (now := cron.next_due(now)) <= utc(until):
        found.append(now.strftime("%m-%d %H:%M"))
    return found


# --- daylight saving time ------------------------------------------------------------------------
# Berlin, 2026: on 29 March 02:00 becomes 03:00 (01:00 UTC); on 25 October 03:00 becomes 02:00 (01:00 UTC).


def test_a_fixed_time_in_the_hour_left_out_comes_at_its_end() -> None:
    assert all_due(Cron("30 2 * * *", BERLIN), "2026-03-28 00:00", "2026-03-30 12:00") == [
        "03-28 01:30", "03-29 01:00", "03-30 00:30",
    ]  # fmt: skip


def test_a_fixed_time_in_the_doubled_hour_comes_once() -> None:
    assert all_due(Cron("30 2 * * *", BERLIN), "2026-10-24 00:00", "2026-10-26 12:00") == [
        "10-24 00:30", "10-25 00:30", "10-26 01:30",
    ]  # fmt: skip


def test_stars_follow_the_hours_that_pass() -> None:
    every_half = Cron("*/30 * * * *", BERLIN)
    for day in ("2026-03-29", "2026-10-25"):
        assert len(all_due(every_half, f"{day} 00:00", f"{day} 04:00")) == 8


@pytest.mark.parametrize("minute", range(0, 240, 7))
def test_looking_from_within_the_odd_hours_repeats_and_skips_nothing(minute: int) -> None:
    for day in ("2026-03-29", "2026-10-25"):
        for text in ("30 2 * * *", "15 1-3 * * *", "*/20 * * * *", "0 */2 * * *", "0 0 * * *"):
            cron = Cron(text, BERLIN)
            whole = all_due(cron, f"{day} 00:00", f"{day} 23:00")
            between = utc(f"{day} 00:00") + timedelta(minutes=minute)
            halves = all_due(cron, f"{day} 00:00", between.strftime("%Y-%m-%d %H:%M"))
            halves += all_due(cron, between.strftime("%Y-%m-%d %H:%M"), f"{day} 23:00")
            assert halves == whole


def test_a_zone_whose_midnight_is_left_out() -> None:
    # Santiago, 2026: on 6 September 00:00 becomes 01:00 (04:00 UTC).
    assert all_due(Cron("0 0 * * *", "America/Santiago"), "2026-09-05 00:00", "2026-09-07 12:00") == [
        "09-05 04:00", "09-06 04:00", "09-07 03:00",
    ]  # fmt: skip


def test_a_zone_and_utc_differ() -> None:
    assert Cron("0 9 * * *", "Asia/Tokyo").next_due(utc("2026-11-22")) == utc("2026-11-23 00:00")
    assert Cron("0 9 * * *").next_due(utc("2026-11-22")) == utc("2026-11-22 09:00")


# --- what is missed ------------------------------------------------------------------------------


def test_after_an_outage_the_latest_alone_is_made_up_for() -> None:
    nightly = Periodic("report", Cron("0 2 * * *"), last_due=utc("2026-11-10 02:00"))
    assert decide_round([nightly], utc("2026-11-22 12:34")).due == (
        Due("report", utc("2026-11-22 02:00"), utc("2026-11-11 02:00")),
    )


def test_what_was_enqueued_is_not_due_again() -> None:
    nightly = Periodic("report", Cron("0 2 * * *"), last_due=utc("2026-11-22 02:00"))
    assert decide_round([nightly], utc("2026-11-22 02:00")).due == ()
    assert decide_round([nightly], utc("2026-11-23 01:59:59.999999")).due == ()
    assert decide_round([nightly], utc("2026-11-23 02:00")).due == (
        Due("report", utc("2026-11-23 02:00"), utc("2026-11-23 02:00")),
    )


def test_a_clock_that_was_set_back_makes_nothing_due_twice() -> None:
    each_minute = Periodic("tick", Cron("* * * * *"), last_due=utc("2026-11-22 12:00"))
    assert decide_round([each_minute], utc("2026-11-22 11:00")).due == ()


def test_the_earliest_comes_first_and_the_broken_stop_nobody() -> None:
    since = utc("2026-11-22 00:00")
    of = [
        Periodic("z", Cron("0 1 * * *"), since),
        Periodic("bad", Cron("every day"), since),
        Periodic("lost", Cron("0 1 * * *", "Mars/Olympus"), since),
        Periodic("b", Cron("0 2 * * *"), since),
        Periodic("a", Cron("0 2 * * *"), since),
    ]
    decided = decide_round(of, utc("2026-11-22 03:00"))
    assert [due.name for due in decided.due] == ["z", "a", "b"]
    assert [name for name, _ in decided.broken] == ["bad", "lost"]


@given(
    minutes=st.sets(st.integers(0, 59), min_size=1, max_size=4),
    hours=st.one_of(st.none(), st.sets(st.integers(0, 23), min_size=1, max_size=4)),
    gone=st.integers(0, 3 * 1440),
    seconds=st.integers(0, 59),
)
def test_the_latest_due_time_is_the_last_minute_that_fits(
    minutes: set[int], hours: set[int] | None, gone: int, seconds: int
) -> None:
    def text(numbers: set[int] | None) -> str:
        return "*" if numbers is None else ",".join(map(str, sorted(numbers)))

    after = utc("2026-02-27 13:17:20")
    until = after + timedelta(minutes=gone, seconds=seconds)
    fitting = None
    minute = after.replace(second=0) + timedelta(minutes=1)
    while minute <= until:
        if minute.minute in minutes and (hours is None or minute.hour in hours):
            fitting = minute
        minute += timedelta(minutes=1)
    assert Cron(f"{text(minutes)} {text(hours)} * * *").latest_due(after, until) == fitting


@pytest.mark.parametrize("text", ["* * * * *", "0 0 29 2 *", "* 0 1 1 *", "0 3 * * MON#5"])
@pytest.mark.parametrize("zone", ["UTC", BERLIN])
def test_a_long_outage_costs_few_steps(monkeypatch: pytest.MonkeyPatch, text: str, zone: str) -> None:
    cron, steps = Cron(text, zone), 0
    times = Cron._from

    def counted(self: Cron, start: datetime) -> Any:
        nonlocal steps
        for due in times(self, start):
            steps += 1
            yield due

    monkeypatch.setattr(Cron, "_from", counted)
    latest = cron.latest_due(utc("2010-01-01"), utc("2026-11-22 12:00"))
    assert latest is not None
    assert latest > utc("2024-01-01")
    assert steps < 2000


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [None, 5, "", "* * * *", "* * * * * *", "@daily", "60 * * * *", "* 24 * * *", "0 0 30 2 *", "x * * * *",
     "1/0 * * * *", "0 0 * * 8", "\0 * * * *", "* " * 200],
)  # fmt: skip
def test_an_expression_that_is_none_is_refused(text: Any) -> None:
    with pytest.raises(InvalidArgument, match="cron"):
        checked_cron(text)


@pytest.mark.parametrize("zone", [None, 5, "", "Mars/Olympus", "../../etc/passwd", "/etc/passwd", "Europe", "\0"])
def test_a_zone_that_is_none_is_refused(zone: Any) -> None:
    with pytest.raises(InvalidArgument, match="timezone"):
        checked_cron("* * * * *", zone)


def test_an_expression_may_be_as_long_as_its_bound() -> None:
    longest = ",".join(["00", *["0"] * 95]) + " * * * *"
    assert len(longest) == 200
    assert checked_cron(longest).expression == longest
    with pytest.raises(InvalidArgument, match="cron"):
        checked_cron("0" + longest)


def test_blanks_do_not_make_another_expression() -> None:
    assert checked_cron(" */5  *\t* * * ") == Cron("*/5 * * * *")


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **named: Any) -> Any:
        if name == "cronsim":
            raise ImportError(name)
        return real(name, *args, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ExtraMissing, match=r"jobsync\[periodic\]"):
        checked_cron("* * * * *")
    assert decide_round([], utc("2026-11-22")).due == ()
    with pytest.raises(ExtraMissing):
        decide_round([Periodic("a", Cron("* * * * *"), utc("2026-11-21"))], utc("2026-11-22"))


def test_the_next_minute_is_never_now() -> None:
    assert until_next_minute_sec(utc("2026-11-22 12:00:00")) == 60.0
    assert until_next_minute_sec(utc("2026-11-22 12:00:59.75")) == 0.25
