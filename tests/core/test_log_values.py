"""What a log record bears: the name of its event and its fields, each under the prefix of the project."""

from jobsync.core.log_events import PREFIX, Event, marks, marks_of
from jobsync.core.messages import Fact, FactKind


def test_a_record_bears_its_event_and_its_fields() -> None:
    assert marks(Event.LOGGED_IN, client="::1") == {f"{PREFIX}event": "logged_in", f"{PREFIX}client": "::1"}


def test_the_record_of_a_fact_bears_what_is_known_of_it_and_no_empty_field() -> None:
    fact = Fact(FactKind.PLANNED, "a plan", count=0, details=(("version", 4),))
    expected = {"event": FactKind.PLANNED.value, "node": "a", "count": 0, "version": 4}
    assert marks_of(fact, "a") == {PREFIX + name: value for name, value in expected.items()}
