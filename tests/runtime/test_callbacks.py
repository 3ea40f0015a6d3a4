"""The thread that calls the application: order, exclusiveness, and what a raising or slow function costs."""

import logging
import threading

import pytest

from jobsync.core.messages import Change
from jobsync.core.tokens import TokenSet
from jobsync.runtime import callbacks as module
from jobsync.runtime.callbacks import Callbacks
from jobsync.runtime.listener import Listener, RebalanceEvent, takes_an_argument
from tests.api.jobs import Recorder, eventually

NONE = TokenSet()


def change(removed: TokenSet = NONE, added: TokenSet = NONE, reason: str = "rebalance") -> Change:
    return Change(removed, added, 1, reason)


def listener(recorder: Recorder) -> Listener:
    made = Listener("n", recorder.added, recorder.removed, recorder.rebalanced)
    made.entered.set()
    made.body_began.set()
    return made


def started(made: Listener) -> Callbacks:
    callbacks = Callbacks("n")
    callbacks.add(made)
    return callbacks


def test_removed_comes_before_added_in_one_change() -> None:
    recorder = Recorder()
    callbacks = started(listener(recorder))
    callbacks.tell(change(added=TokenSet.of([1])))
    callbacks.tell(change(TokenSet.of([1]), TokenSet.of([2])))
    eventually(lambda: len(recorder.calls) == 5)
    assert recorder.calls[2:4] == [("removed", frozenset({1})), ("added", frozenset({2}))]
    callbacks.stop()


def test_nothing_is_told_before_the_first_assignment() -> None:
    recorder, told = Recorder(), threading.Event()
    callbacks = started(listener(recorder))
    callbacks.tell(change(reason="members changed"), told.set)
    assert told.wait(5)
    assert recorder.calls == []
    callbacks.stop()


def test_one_that_waits_for_a_change_hears_when_all_callbacks_returned() -> None:
    recorder, told = Recorder(), threading.Event()
    callbacks = started(listener(recorder))
    callbacks.tell(change(added=TokenSet.of([1])))
    callbacks.tell(change(TokenSet.of([1])), told.set)
    assert told.wait(5)
    assert ("removed", frozenset({1})) in recorder.calls
    callbacks.stop()


def test_with_nobody_to_tell_the_waiting_end_at_once() -> None:
    told: list[bool] = []
    Callbacks("n").tell(change(TokenSet.of([1])), lambda: told.append(True))
    assert told == [True]


def test_a_listener_that_is_gone_is_called_no_more() -> None:
    recorder, told = Recorder(), threading.Event()
    made = listener(recorder)
    callbacks = started(made)
    callbacks.remove(made)
    callbacks.tell(change(added=TokenSet.of([1])), told.set)
    assert told.wait(5)
    assert recorder.calls == []
    callbacks.stop()


def test_a_change_queued_before_the_listener_went_is_not_told_after() -> None:
    recorder, told, go_on = Recorder(), threading.Event(), threading.Event()
    made = listener(recorder)
    callbacks = started(made)
    made.on_rebalance = lambda: go_on.wait(5)
    callbacks.tell(change(added=TokenSet.of([1])))
    callbacks.tell(change(TokenSet.of([1])), told.set)
    eventually(lambda: recorder.kinds == ["added"])
    callbacks.remove(made)
    go_on.set()
    assert told.wait(5)
    assert recorder.kinds == ["added"]
    callbacks.stop()


def test_the_first_call_waits_for_the_body() -> None:
    recorder = Recorder()
    made = Listener("n", recorder.added)
    callbacks = started(made)
    callbacks.tell(change(added=TokenSet.of([1])))
    assert not made.body_began.is_set()
    assert recorder.calls == []
    made.entered.set()
    made.body_began.set()
    eventually(lambda: recorder.kinds == ["added"])
    callbacks.stop()


def test_a_body_that_does_not_use_the_job_is_waited_for_no_longer_than_the_grace() -> None:
    recorder = Recorder()
    made = Listener("n", recorder.added)
    callbacks = started(made)
    callbacks.tell(change(added=TokenSet.of([1])))
    made.entered.set()
    eventually(lambda: recorder.kinds == ["added"], limit_sec=1.0)
    callbacks.stop()


def test_the_rebalance_event_says_what_moved() -> None:
    events: list[RebalanceEvent] = []

    def seen(event: RebalanceEvent) -> None:
        events.append(event)

    made = Listener("n", on_rebalance=seen)
    made.entered.set()
    made.body_began.set()
    callbacks = started(made)
    callbacks.tell(change(added=TokenSet.of([1, 2]), reason="start"))
    callbacks.tell(change(TokenSet.of([1]), reason="join"))
    eventually(lambda: len(events) == 2)
    assert [(e.first, set(e.added), set(e.removed), e.reason) for e in events] == [
        (True, {1, 2}, set(), "start"),
        (False, set(), {1}, "join"),
    ]
    callbacks.stop()


@pytest.mark.parametrize(
    ("function", "takes"),
    [
        (lambda: None, False),
        (lambda event: event, True),
        (lambda *events: events, True),
        (lambda event=None: event, False),
        (lambda **anything: anything, False),
    ],
)
def test_a_rebalance_callback_gets_the_event_where_it_takes_an_argument(function: object, takes: bool) -> None:
    assert callable(function)
    assert takes_an_argument(function) is takes


def test_what_a_callback_raises_is_logged_with_its_traceback_and_stops_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = Recorder()
    made = listener(recorder)

    def broken(tokens: set[int]) -> None:
        raise ValueError(f"cannot open {len(tokens)} files")

    made.on_tokens_added = broken
    callbacks = started(made)
    callbacks.tell(change(added=TokenSet.of([1])))
    callbacks.tell(change(TokenSet.of([1])))
    eventually(lambda: recorder.kinds == ["rebalance", "removed", "rebalance"])
    assert "on_tokens_added raised" in caplog.text
    assert "ValueError: cannot open 1 files" in caplog.text
    callbacks.stop()


def test_a_call_over_the_limit_warns_with_its_duration(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLOW_SEC", 0.05)
    made = listener(Recorder())
    pause = threading.Event()
    made.on_tokens_added = lambda tokens: pause.wait(0.2)
    callbacks = started(made)
    with caplog.at_level(logging.WARNING, "jobsync"):
        callbacks.tell(change(added=TokenSet.of([1])))
        eventually(lambda: "on_tokens_added took 0.2 s" in caplog.text)
    callbacks.stop()


def test_a_call_under_way_shows_for_how_long() -> None:
    go_on = threading.Event()
    made = listener(Recorder())
    made.on_tokens_added = lambda tokens: go_on.wait(5)
    callbacks = started(made)
    assert callbacks.stuck_for_sec() == 0
    callbacks.tell(change(added=TokenSet.of([1])))
    eventually(lambda: callbacks.stuck_for_sec() > 0.05)
    go_on.set()
    eventually(lambda: callbacks.stuck_for_sec() == 0)
    callbacks.stop()


def test_a_listener_that_joins_a_running_node_hears_first_of_all_that_is_held() -> None:
    recorder, made = Recorder(), listener(Recorder())
    late = listener(recorder)
    callbacks = started(made)
    callbacks.tell(change(added=TokenSet.of([1, 2])))
    callbacks.add(late)
    callbacks.tell(change(TokenSet.of([1])))
    eventually(lambda: len(recorder.calls) == 4)
    assert recorder.calls[0] == ("added", frozenset({1, 2}))
    assert recorder.calls[2] == ("removed", frozenset({1}))
    callbacks.stop()
