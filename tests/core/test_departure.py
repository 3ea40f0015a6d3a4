"""The way out: announced first, patient for a bounded time, and never turned back."""

from jobsync.core.departure import PATIENCE_OFFLINE_SEC, PATIENCE_SEC, Departure, Step

NEVER = float("inf")


def leaving(*, announced: bool = True) -> Departure:
    """A departure that was asked for at the instant 100."""
    departure = Departure()
    departure.ask(100.0)
    if announced:
        departure.announced()
    return departure


def test_it_is_announced_before_anything_else() -> None:
    assert leaving(announced=False).step(1000.0, successors_named=True) is Step.ANNOUNCE


def test_successors_are_waited_for_and_not_longer_than_the_patience() -> None:
    departure = leaving()
    assert departure.step(100.0, successors_named=False) is Step.WAIT
    assert departure.step(100.0 + PATIENCE_SEC - 0.001, successors_named=False) is Step.WAIT
    assert departure.step(100.0 + PATIENCE_SEC, successors_named=False) is Step.HAND_OVER
    assert departure.step(100.0, successors_named=True) is Step.HAND_OVER


def test_a_hand_over_that_has_begun_goes_on_though_a_newer_plan_names_nobody() -> None:
    departure = leaving()
    departure.shed()
    assert departure.step(100.1, successors_named=False) is Step.FINISH_HANDOVER


def test_who_asks_twice_is_patient_once() -> None:
    departure = leaving()
    departure.ask(100.5)
    assert departure.asked_sec == 100.0


def test_a_database_that_is_away_is_waited_for_and_not_longer_than_the_patience() -> None:
    departure = leaving()
    assert not departure.gives_up_offline(100.0 + PATIENCE_OFFLINE_SEC - 0.001)
    assert departure.gives_up_offline(100.0 + PATIENCE_OFFLINE_SEC)


def test_the_next_instant_is_the_end_of_the_patience_in_force() -> None:
    departure = leaving()
    assert departure.next_due_sec(online=True) == 100.0 + PATIENCE_SEC
    assert departure.next_due_sec(online=False) == 100.0 + PATIENCE_OFFLINE_SEC
    departure.shed()
    assert departure.next_due_sec(online=True) == NEVER


def test_who_is_not_asked_to_leave_waits_for_nothing_and_gives_nothing_up() -> None:
    departure = Departure()
    assert departure.next_due_sec(online=True) == NEVER
    assert not departure.gives_up_offline(1e9)
