"""The callbacks of a job in a fleet: what is told, in which order across nodes, and what a bad one may cost."""

import logging
import random
import threading

import pytest

from jobsync import Job, RebalanceEvent
from jobsync.runtime.clock import boot_sec
from tests.api.jobs import TOKENS, Recorder, eventually, settings
from tests.servers import PrivateServer


def test_the_first_assignment_is_one_added_set_and_a_rebalance(server_dsn: str, prefix: str) -> None:
    recorder = Recorder()
    with Job("a", coordination_config=settings(server_dsn, prefix), **recorder.all_callbacks) as job:  # type: ignore[arg-type]
        job.can_claim_task("x")
        eventually(lambda: recorder.kinds == ["added", "rebalance"])
    assert recorder.calls[0] == ("added", frozenset(range(TOKENS)))


def test_nothing_is_called_at_exit(server_dsn: str, prefix: str) -> None:
    recorder = Recorder()
    with Job("a", coordination_config=settings(server_dsn, prefix), **recorder.all_callbacks) as job:  # type: ignore[arg-type]
        job.can_claim_task("x")
        eventually(lambda: len(recorder.calls) == 2)
    assert recorder.kinds == ["added", "rebalance"]


def test_the_first_call_waits_for_the_body_to_use_the_job_or_a_moment(server_dsn: str, prefix: str) -> None:
    called_sec: list[float] = []
    with Job(
        "a",
        coordination_config=settings(server_dsn, prefix),
        on_tokens_added=lambda tokens: called_sec.append(boot_sec()),
        wait_on_enter=0.3,
    ):
        entered_sec = boot_sec()
        assert called_sec == []
        eventually(lambda: called_sec)
    assert 0.03 < called_sec[0] - entered_sec < 1.0


def test_the_callback_can_use_the_name_bound_by_as(server_dsn: str, prefix: str) -> None:
    seen: list[int] = []
    box: list[Job] = []
    with Job(
        "a",
        coordination_config=settings(server_dsn, prefix),
        on_tokens_added=lambda tokens: seen.append(len(box[0].my_tokens)),
    ) as job:
        box.append(job)
        eventually(lambda: seen == [TOKENS])


def test_the_sets_are_plain_and_told_by_position(server_dsn: str, prefix: str) -> None:
    seen: list[set[int]] = []

    def added(fresh: set[int], /) -> None:
        seen.append(fresh)

    with Job("a", coordination_config=settings(server_dsn, prefix), on_tokens_added=added) as job:
        job.can_claim_task("x")
        eventually(lambda: seen)
    assert type(seen[0]) is set


def test_a_join_is_told_to_the_old_owner_as_one_removed_set(server_dsn: str, prefix: str) -> None:
    given, recorder = settings(server_dsn, prefix), Recorder()
    with Job("a", coordination_config=given, **recorder.all_callbacks) as a:  # type: ignore[arg-type]
        eventually(lambda: recorder.kinds == ["added", "rebalance"])
        with Job("b", coordination_config=given) as b:
            eventually(lambda: "removed" in recorder.kinds)
            removed = [tokens for kind, tokens in recorder.calls if kind == "removed"]
            assert removed == [frozenset(b.my_tokens)]
            assert len(a.my_tokens) == TOKENS // 2


def test_tokens_leave_my_tokens_before_the_removed_callback(server_dsn: str, prefix: str) -> None:
    given, still_mine = settings(server_dsn, prefix), list[int]()
    box: list[Job] = []
    with Job(
        "a",
        coordination_config=given,
        on_tokens_removed=lambda tokens: still_mine.append(len(tokens & set(box[0].my_tokens))),
    ) as a:
        box.append(a)
        eventually(a.am_i_healthy)
        with Job("b", coordination_config=given):
            eventually(lambda: still_mine)
    assert still_mine == [0]


def test_the_rebalance_event_tells_first_and_later_changes_apart(server_dsn: str, prefix: str) -> None:
    given, events = settings(server_dsn, prefix), list[RebalanceEvent]()

    def seen(event: RebalanceEvent) -> None:
        events.append(event)

    with Job("a", coordination_config=given, on_rebalance=seen) as a:
        a.can_claim_task("x")
        with Job("b", coordination_config=given):
            eventually(lambda: any(event.removed for event in events))
    assert [event.first for event in events] == [True] + [False] * (len(events) - 1)
    assert len(events[0].added) == TOKENS


def test_members_that_come_and_go_are_told_even_when_no_token_moves(server_dsn: str, prefix: str) -> None:
    given, calls = settings(server_dsn, prefix, total_tokens=1), list[int]()
    with Job("a", coordination_config=given, on_rebalance=lambda: calls.append(1)) as a:
        a.can_claim_task("x")
        eventually(lambda: len(calls) >= 1)
        before = len(calls)
        with Job("b", coordination_config=given):
            eventually(lambda: len(calls) > before)
        assert len(a.my_tokens) == 1


def test_a_callback_that_raises_harms_nothing(server_dsn: str, prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    given = settings(server_dsn, prefix)

    def broken(tokens: set[int]) -> None:
        raise ZeroDivisionError("by the callback")

    with Job("a", coordination_config=given, on_tokens_added=broken, on_tokens_removed=broken) as a:
        a.can_claim_task("x")
        with Job("b", coordination_config=given) as b:
            eventually(lambda: len(a.my_tokens) == len(b.my_tokens) == TOKENS // 2)
            eventually(lambda: "on_tokens_removed raised" in caplog.text)
    assert "ZeroDivisionError: by the callback" in caplog.text
    assert "Traceback" in caplog.text


def test_a_slow_callback_is_warned_of(server_dsn: str, prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    never = threading.Event()
    with (
        caplog.at_level(logging.WARNING, "jobsync"),
        Job(
            "a",
            coordination_config=settings(server_dsn, prefix),
            on_tokens_added=lambda tokens: never.wait(1.1),
        ) as job,
    ):
        job.can_claim_task("x")
        eventually(lambda: "on_tokens_added took 1.1 s" in caplog.text)


def test_a_hanging_callback_does_not_touch_the_lease(server_dsn: str, prefix: str) -> None:
    go_on, given = threading.Event(), settings(server_dsn, prefix)
    try:
        with Job("a", coordination_config=given, on_tokens_added=lambda tokens: go_on.wait(30)) as a:
            a.can_claim_task("x")
            until_sec = boot_sec() + 1.5
            while boot_sec() < until_sec:
                assert a.can_claim_task("x")
            go_on.set()
    finally:
        go_on.set()


def test_a_hanging_removed_callback_delays_the_handover_up_to_the_bound_and_a_warning_says_so(
    server_dsn: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    given, go_on = settings(server_dsn, prefix, handover_timeout_sec=0.7), threading.Event()
    began_sec: list[float] = []

    def hang(tokens: set[int]) -> None:
        began_sec.append(boot_sec())
        go_on.wait(30)

    try:
        with (
            Job("a", coordination_config=given, on_tokens_removed=hang) as a,
            Job("b", coordination_config=given) as b,
        ):
            eventually(lambda: len(b.my_tokens) == TOKENS // 2)
            assert 0.6 < boot_sec() - began_sec[0] < 2.0
            assert len(a.my_tokens) == TOKENS // 2
            assert "were not let go of within 0.7 s" in caplog.text
            go_on.set()
    finally:
        go_on.set()


def test_callbacks_run_in_one_thread_that_is_not_the_engines(server_dsn: str, prefix: str) -> None:
    given, recorder = settings(server_dsn, prefix), Recorder()
    with Job("a", coordination_config=given, **recorder.all_callbacks) as a:  # type: ignore[arg-type]
        a.can_claim_task("x")
        with Job("b", coordination_config=given):
            eventually(lambda: "removed" in recorder.kinds)
    assert recorder.threads == {"jobsync-callbacks-a"}


def test_the_new_owner_is_told_only_after_the_old_owners_callback_returned(server_dsn: str, prefix: str) -> None:
    given, chance = settings(server_dsn, prefix), random.Random(7)
    pause, lock = threading.Event(), threading.Lock()
    in_use: dict[int, str] = {}
    faults: list[str] = []
    busy: dict[str, int] = {"a": 0, "b": 0}

    def watched(name: str) -> dict[str, object]:
        def note(change: int) -> None:
            with lock:
                busy[name] += change
                if busy[name] > 1:
                    faults.append(f"{name}: two at once")

        def added(tokens: set[int]) -> None:
            note(1)
            with lock:
                faults.extend(f"{t} added to {name} while {in_use[t]} has it" for t in tokens if t in in_use)
                in_use.update(dict.fromkeys(tokens, name))
            pause.wait(chance.random() * 0.02)
            note(-1)

        def removed(tokens: set[int]) -> None:
            note(1)
            pause.wait(chance.random() * 0.05)
            with lock:
                faults.extend(f"{t} removed from {name}, not its own" for t in tokens if in_use.get(t) != name)
                for token in tokens:
                    in_use.pop(token, None)
            note(-1)

        return {"on_tokens_added": added, "on_tokens_removed": removed}

    with Job("a", coordination_config=given, **watched("a")) as a:  # type: ignore[arg-type]
        eventually(lambda: len(in_use) == TOKENS)
        for _ in range(12):
            with Job("b", coordination_config=given, **watched("b")) as b:  # type: ignore[arg-type]
                eventually(lambda: len(b.my_tokens) == TOKENS // 2)
                mine = set(b.my_tokens)
                eventually(lambda: all(in_use.get(token) == "b" for token in mine))  # noqa: B023
                # At exit the application cleans up by itself: here it says so.
                with lock:
                    for token in mine:
                        in_use.pop(token)
            eventually(lambda: len(a.my_tokens) == TOKENS and len(in_use) == TOKENS)
    assert faults == []


def test_a_node_whose_row_lease_ran_out_calls_removed_by_its_own_clock_and_added_after_its_return(
    private_server: PrivateServer,
) -> None:
    recorder = Recorder()
    given = settings(private_server.dsn, "sync_", heartbeat_interval_sec=0.4, heartbeat_timeout_sec=1.5)
    with Job("a", coordination_config=given, **recorder.all_callbacks) as job:  # type: ignore[arg-type]
        eventually(lambda: recorder.kinds == ["added", "rebalance"])
        private_server.stop("immediate")
        eventually(lambda: "removed" in recorder.kinds, limit_sec=5.0)
        assert recorder.calls[2] == ("removed", frozenset(range(TOKENS)))
        private_server.start()
        eventually(lambda: recorder.kinds.count("added") == 2)
        eventually(lambda: job.can_claim_task("x"))


def test_a_node_that_gets_no_tokens_is_told_so_and_of_every_change_of_members(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix, total_tokens=1)
    told: list[str] = []
    with (
        Job("a", coordination_config=given),
        Job("b", coordination_config=given, on_rebalance=lambda event: told.append(event.reason)),
    ):
        eventually(lambda: told == ["no tokens to own"])
        with Job("c", coordination_config=given):
            eventually(lambda: told[1:2] == ["members changed"])
