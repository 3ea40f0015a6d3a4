"""One time of leading, judged by clocks and by what an engine publishes; the engine here is the test's own."""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from jobsync.core.errors import JobStopped, LeaderTimeout
from jobsync.core.holding import NOTHING, Grant, Holding
from jobsync.core.messages import NOBODY, Standing
from jobsync.core.pool import LEADERSHIP, RIGHT_TO_LEAD
from jobsync.runtime.clock import boot_sec
from jobsync.runtime.hands import InHand
from jobsync.runtime.leadership import OVERRUN_SEC, Lead, Singleton, gain, leading
from jobsync.runtime.waiting import Flag
from tests.api.jobs import eventually

FOREVER = 1e12


def leads(epoch: int = 7, *, boot_until_sec: float = FOREVER, incarnation: int = 1) -> Holding:
    """A holding with the right to lead and nothing else."""
    return Holding(NOTHING.tokens, (Grant(epoch, RIGHT_TO_LEAD),), boot_until_sec, FOREVER, incarnation)


class Node:
    """A node whose standing the test sets."""

    def __init__(self, holding: Holding = NOTHING) -> None:
        self.name = "a"
        self.hands = InHand()
        self.engine = self
        self.standing = replace(NOBODY, holding=holding, leader="z")
        self.stop = Flag()
        self._changed = threading.Condition()

    def publish(self, holding: Holding) -> None:
        with self._changed:
            self.standing = replace(self.standing, holding=holding)
            self._changed.notify_all()

    def wait_until(self, condition: Callable[[Standing], bool], timeout_sec: float | None) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: condition(self.standing), timeout_sec)

    def require_running(self) -> None:
        pass

    def would_wait(self) -> bool:
        """Whether a hand-over of the right to lead would wait."""
        free = threading.Event()
        self.hands.when_free(RIGHT_TO_LEAD, free.set)
        return not free.is_set()


def lead_of(node: Node) -> Lead:
    return gain(node, node.stop, 0)


def test_a_lead_that_was_found_lost_stays_lost() -> None:
    node = Node(leads())
    lead = lead_of(node)
    assert not lead.lost.is_set()
    node.publish(NOTHING)
    assert not lead.held
    node.publish(leads())  # The same grant, certain again: the body was told to end all the same.
    assert not lead.held
    assert lead.lost.is_set()


@pytest.mark.parametrize("other", [leads(8), leads(incarnation=2)], ids=["epoch", "incarnation"])
def test_another_grant_is_another_lead(other: Holding) -> None:
    node = Node(leads())
    lead = lead_of(node)
    node.publish(other)
    assert not lead.held


def test_the_end_of_the_lease_wakes_who_waits_though_nobody_says_anything() -> None:
    until_sec = boot_sec() + 0.05
    lead = lead_of(Node(leads(boot_until_sec=until_sec)))
    assert lead.lost.wait(10)
    assert until_sec <= boot_sec() < until_sec + 5
    assert lead.wait(0)


def test_a_renewed_lease_is_no_loss() -> None:
    node = Node(leads(boot_until_sec=boot_sec() + 0.1))
    lead = lead_of(node)
    node.publish(leads())
    assert not lead.lost.wait(0.2)


def test_a_wait_for_the_loss_outlasts_the_stop() -> None:
    node = Node(leads())
    lead = lead_of(node)
    node.stop.set()
    assert lead.wait(10)
    assert not lead.lost.wait(0.05)


def test_who_gains_is_in_hand_before_it_asks() -> None:
    node = Node(leads())
    take = node.hands.take

    def take_late(token: int) -> None:
        take(token)
        node.publish(NOTHING)  # The hand-over began just before the body was taken in hand.

    node.hands.take = take_late  # type: ignore[method-assign]
    with pytest.raises(LeaderTimeout, match="'z' leads"):
        gain(node, node.stop, 0.05)
    assert not node.would_wait()


def test_a_body_is_waited_for_until_it_ends_and_is_let_go_of_once() -> None:
    node = Node(leads())
    with leading(node, node.stop, 0) as lead:
        assert node.would_wait()
        with leading(node, node.stop, 0):
            lead.let_go()
            lead.let_go()
            assert node.would_wait()
    assert not node.would_wait()
    assert LEADERSHIP not in node.hands._bodies


def test_a_stopped_job_leads_no_more() -> None:
    node = Node(leads())
    node.stop.set()
    with pytest.raises(JobStopped):
        gain(node, node.stop, None)


def test_a_loss_is_said_at_once_and_again_when_the_body_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    node = Node(leads())
    with leading(node, node.stop, 0):
        node.publish(NOTHING)
        eventually(lambda: "is lost" in caplog.text, limit_sec=OVERRUN_SEC * 0.9)
        eventually(lambda: "goes on" in caplog.text)
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_a_body_that_ends_is_not_complained_of(caplog: pytest.LogCaptureFixture) -> None:
    node = Node(leads())
    with leading(node, node.stop, 0):
        pass
    node.publish(NOTHING)
    watchers = [thread for thread in threading.enumerate() if thread.name == "jobsync-lead-a"]
    for thread in watchers:
        thread.join(10)
    assert not caplog.records


def thread_of(singleton: Singleton) -> threading.Thread:
    assert singleton._thread is not None
    return singleton._thread


def test_a_singleton_that_waits_to_lead_is_not_waited_for() -> None:
    node = Node()
    singleton = Singleton(lambda lead: None, "work", None)
    singleton.start(node, node.stop)
    singleton.finish(boot_sec() + 10)
    assert thread_of(singleton).is_alive()
    node.stop.set()
    thread_of(singleton).join(10)
    assert not thread_of(singleton).is_alive()


def test_a_singleton_does_not_begin_once_the_job_was_stopped() -> None:
    node, begun = Node(leads()), threading.Event()
    take = node.hands.take

    def take_late(token: int) -> None:
        take(token)
        node.stop.set()  # It comes just after the last look for it.

    node.hands.take = take_late  # type: ignore[method-assign]
    singleton = Singleton(lambda lead: begun.set(), "work", None)
    singleton.start(node, node.stop)
    thread_of(singleton).join(10)
    assert not begun.is_set()
    assert not node.would_wait()


def test_a_hand_over_waits_for_a_singleton_only_while_it_runs() -> None:
    node, begun, end = Node(leads()), threading.Event(), threading.Event()

    def work(lead: Lead) -> None:
        begun.set()
        end.wait(10)

    singleton = Singleton(work, "work", None)
    singleton.start(node, node.stop)
    assert begun.wait(10)
    assert node.would_wait()
    end.set()
    eventually(lambda: not node.would_wait())
    node.stop.set()
    thread_of(singleton).join(10)
