"""Getting in: who stands in the way is watched, and is fenced only when it is provably gone."""

import pytest

from jobsync.core import messages as m
from jobsync.core.entry import LOOK_EVERY_SEC, Entry
from jobsync.core.errors import ConfigMismatch, NodeNameInUse
from jobsync.core.observer import GRACE_AFTER_OWN_BREAK_SEC, RETRY_FENCE_SEC
from jobsync.core.settings import Settings, Timing, observer_wait_sec

HELLO = m.Hello(direct=True, system_id="system", timeline="1", durable=True, round_trip_sec=0.001)
TIMING = Timing.of(Settings(), session_lease_sec=0.6)
HELD = m.Registration("held", None, None, None, None, 1, False)
MISMATCH = m.Registration("mismatch", None, None, 500, "fnv1a", 1, False)
TWIN = m.Identity("a", 5, 6)
NOBODY = m.Sightings(())


def sees(beats: int = 1, *, absent: bool = True, session_lease_ms: int | None = 600) -> m.Sightings:
    """What one look shows of the twin."""
    return m.Sightings((m.Sighting(TWIN, beats, 14_500, session_lease_ms, absent, False),))


def question(entry: Entry, now_sec: float) -> m.Question | None:
    """What is asked at an instant."""
    return entry.question(now_sec, HELLO, TIMING)


def blocked(answer: m.Registration = HELD, now_sec: float = 10.0) -> Entry:
    """A newcomer that was told who stands in the way."""
    entry = Entry("a", Settings(), takes_tokens=True)
    assert isinstance(question(entry, now_sec), m.Register)
    entry.blocked(answer, now_sec)
    return entry


def test_what_is_registered_are_the_settings_and_the_leases_in_force() -> None:
    entry = Entry("a", Settings(total_tokens=500, heartbeat_timeout_sec=20), takes_tokens=False)
    timing = Timing.of(Settings(heartbeat_timeout_sec=20), session_lease_sec=0.6)
    assert entry.question(0.0, HELLO, timing) == m.Register(
        name="a",
        total_tokens=500,
        hash_function=Settings().hash_function,
        heartbeat_timeout_ms=20_000,
        row_lease_ms=19_500,
        session_lease_ms=600,
        system_id="system",
        timeline="1",
        takes_tokens=False,
    )
    without = Timing.of(Settings(), session_lease_sec=None)
    asked = Entry("a", Settings(), takes_tokens=True).question(0.0, HELLO, without)
    assert isinstance(asked, m.Register)
    assert asked.session_lease_ms is None


def test_it_waits_for_its_name_only_while_the_holder_of_the_name_stands_in_the_way() -> None:
    assert not Entry("a", Settings(), takes_tokens=True).waits_for_name
    assert not blocked(MISMATCH).waits_for_name
    entry = blocked(HELD)
    assert entry.waits_for_name
    entry.look(10.1, NOBODY)
    assert not entry.waits_for_name


def test_the_holder_of_the_name_is_looked_at_or_everybody_where_the_settings_differ() -> None:
    assert question(blocked(HELD), 10.0) == m.WatchForEntry("a")
    assert question(blocked(MISMATCH), 10.0) == m.WatchForEntry(None)


def test_who_stands_in_the_way_is_looked_at_at_once_and_then_ten_times_a_second() -> None:
    entry = blocked()
    assert entry.next_due_sec() == 10.0
    assert question(entry, 10.0) is not None
    assert question(entry, 10.0 + LOOK_EVERY_SEC - 0.001) is None
    assert entry.next_due_sec() == 10.0 + LOOK_EVERY_SEC
    assert question(entry, 10.0 + LOOK_EVERY_SEC) is not None


def test_when_nobody_stands_in_the_way_any_more_it_registers_in_the_same_instant() -> None:
    entry = blocked()
    question(entry, 10.0)
    assert entry.look(10.02, NOBODY) is None
    assert entry.next_due_sec() == 10.02
    assert isinstance(question(entry, 10.02), m.Register)


def test_a_sign_of_life_is_a_refusal_that_names_the_reason() -> None:
    for answer, error in ((HELD, NodeNameInUse), (MISMATCH, ConfigMismatch)):
        entry = blocked(answer)
        assert entry.look(10.0, sees(1)) is None
        assert isinstance(entry.look(10.1, sees(2)), error)


def test_who_is_provably_gone_is_fenced_and_then_looked_for_at_once() -> None:
    entry = blocked()
    question(entry, 10.0)
    entry.look(10.0, sees())
    due_sec = 10.0 + observer_wait_sec(0.6)
    assert not isinstance(question(entry, due_sec - 0.001), m.Fence)
    assert question(entry, due_sec) == m.Fence(TWIN, 1, "B")
    entry.fenced(TWIN, due_sec)
    assert entry.next_due_sec() == due_sec
    assert question(entry, due_sec) == m.WatchForEntry("a")


def test_a_fence_that_is_refused_is_tried_again_a_little_later() -> None:
    entry = blocked()
    entry.look(10.0, sees())
    fence = question(entry, 20.0)
    assert isinstance(fence, m.Fence)
    entry.refused(fence, 20.0)
    assert question(entry, 20.0) is None
    assert question(entry, 20.0 + RETRY_FENCE_SEC) == fence


def test_a_registration_that_is_refused_is_tried_again_a_little_later() -> None:
    entry = Entry("a", Settings(), takes_tokens=True)
    register = question(entry, 10.0)
    assert register is not None
    entry.refused(register, 10.0)
    assert question(entry, 10.0 + LOOK_EVERY_SEC - 0.001) is None
    assert question(entry, 10.0 + LOOK_EVERY_SEC) == register


@pytest.mark.parametrize("how", ["session_lost", "watch_anew"])
def test_after_its_own_session_broke_no_absence_counts_for_a_while(how: str) -> None:
    entry = blocked()
    entry.look(10.0, sees())
    getattr(entry, how)(10.0)
    entry.look(10.1, sees())
    entry.look(12.0, sees())
    just_before = 10.0 + GRACE_AFTER_OWN_BREAK_SEC - 0.001
    assert not isinstance(question(entry, just_before), m.Fence)
    assert isinstance(question(entry, just_before + 0.001), m.Fence)


def test_on_another_server_a_silence_begins_anew() -> None:
    entry = blocked()
    entry.look(10.0, sees(absent=False))
    entry.watch_anew(20.0)
    entry.look(20.0, sees(absent=False))
    assert not isinstance(question(entry, 20.0 + observer_wait_sec(14.5) - 0.001), m.Fence)
    assert question(entry, 20.0 + observer_wait_sec(14.5)) == m.Fence(TWIN, 1, "A")
