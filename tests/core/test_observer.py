"""Judging death: by beats that stand still, by sessions that are gone, and never too early."""

import pytest

from jobsync.core.messages import Identity, Sighting
from jobsync.core.observer import Observer, Suspect
from jobsync.core.settings import observer_wait_sec

B = Identity("b", 5, 6)


def seen(beats: int = 1, *, absent: bool = False, who: Identity = B, leaving: bool = False) -> Sighting:
    """What one look shows."""
    return Sighting(who, beats, 14_500, 600, absent, leaving)


def test_a_node_whose_beats_stand_still_is_suspect_after_its_row_lease_and_not_before() -> None:
    observer = Observer()
    observer.look(0, [seen()])
    assert observer.suspects(observer_wait_sec(14.5) - 0.001) == []
    assert observer.suspects(observer_wait_sec(14.5)) == [Suspect(B, 1, "A")]


def test_a_beat_starts_the_wait_anew() -> None:
    observer = Observer()
    observer.look(0, [seen(1)])
    observer.look(10, [seen(2)])
    assert observer.suspects(20) == []
    assert observer.suspects(25) == [Suspect(B, 2, "A", alive_sec=10)]


def test_a_node_whose_session_is_absent_is_suspect_after_its_session_lease_and_not_before() -> None:
    observer = Observer()
    observer.look(0, [seen()])
    observer.look(1, [seen(absent=True)])
    assert observer.suspects(1 + observer_wait_sec(0.6) - 0.001) == []
    assert observer.suspects(1 + observer_wait_sec(0.6)) == [Suspect(B, 1, "B", alive_sec=0)]
    assert observer.next_due_sec() == pytest.approx(1 + observer_wait_sec(0.6))


def test_a_session_that_is_seen_again_ends_the_suspicion() -> None:
    observer = Observer()
    observer.look(0, [seen(absent=True)])
    observer.look(0.5, [seen()])
    observer.look(0.6, [seen(absent=True)])
    assert observer.suspects(1.0) == []


def test_another_bind_is_watched_from_its_first_sight() -> None:
    observer = Observer()
    observer.look(0, [seen(absent=True)])
    observer.look(0.5, [seen(absent=True, who=Identity("b", 5, 7))])
    assert observer.suspects(1.0) == []


def test_after_its_own_session_broke_an_observer_trusts_no_absence_for_a_while() -> None:
    observer = Observer()
    observer.look(0, [seen(absent=True)])
    observer.own_session_broke(0.3)
    observer.look(0.4, [seen(absent=True)])
    assert observer.suspects(5.2) == []
    assert [suspect.rule for suspect in observer.suspects(5.4)] == ["B"]


def test_a_node_without_a_session_lease_is_judged_by_its_beats_alone() -> None:
    observer = Observer()
    observer.look(0, [Sighting(B, 1, 14_500, None, True, False)])
    assert observer.suspects(10) == []


def test_a_postponed_fence_is_due_a_little_later() -> None:
    observer = Observer()
    observer.look(0, [seen(absent=True)])
    observer.postpone(B, 1.0)
    assert observer.suspects(1.04) == []
    assert observer.suspects(1.06) == [Suspect(B, 1, "B")]


def test_who_is_forgotten_is_no_suspect() -> None:
    observer = Observer()
    observer.look(0, [seen(absent=True)])
    observer.forget(B)
    assert observer.suspects(100) == []


@pytest.mark.parametrize(
    "later", [seen(2), seen(1, who=Identity("b", 5, 7))], ids=["it beats", "it binds a new session"]
)
def test_an_advance_is_a_sign_of_life(later: Sighting) -> None:
    observer = Observer()
    observer.look(0, [seen(1)])
    assert not observer.seen_alive()
    observer.look(1, [later])
    assert observer.seen_alive()


def test_the_beats_of_a_leaving_node_are_no_sign_that_its_name_is_in_use() -> None:
    observer = Observer()
    observer.look(0, [seen(1, leaving=True)])
    observer.look(1, [seen(2, leaving=True)])
    assert not observer.seen_alive()


def test_where_both_rules_allow_a_fence_the_absence_is_its_reason() -> None:
    observer = Observer()
    observer.look(0, [Sighting(B, 1, 600, 600, True, False)])
    assert observer.suspects(observer_wait_sec(0.6)) == [Suspect(B, 1, "B")]


def test_the_next_fence_is_that_of_the_node_that_is_absent_for_longest() -> None:
    observer = Observer()
    c = Identity("c", 1, 2)
    observer.look(0, [seen(absent=True), seen(who=c)])
    observer.look(0.2, [seen(absent=True), seen(absent=True, who=c)])
    assert observer.next_due_sec() == pytest.approx(observer_wait_sec(0.6))


def test_an_absence_that_began_before_the_own_session_broke_does_not_count() -> None:
    observer = Observer()
    observer.look(0, [Sighting(B, 1, 60_000, 10_000, True, False)])
    observer.own_session_broke(8)
    observer.look(9, [Sighting(B, 1, 60_000, 10_000, True, False)])
    assert observer.suspects(9 + observer_wait_sec(10) - 0.001) == []
    assert observer.suspects(9 + observer_wait_sec(10)) == [Suspect(B, 1, "B")]
