"""Waits in the main thread, under a storm of signals whose handler raises wherever it finds the thread."""

import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

from jobsync.runtime.clock import boot_sec
from jobsync.runtime.hands import Latch
from jobsync.runtime.waiting import Bell, Flag, begin
from tests.api.jobs import in_thread

STORM_SEC = 2.0
LATEST_SEC = 6e-5
WAIT_SEC = 5e-4


class Struck(BaseException):
    """What the handler raises."""


@contextmanager
def handling(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    before = signal.signal(signal.SIGALRM, handler)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def strike(number: int, frame: FrameType | None) -> None:
    raise Struck


def storm(wait: Callable[[], object], limit_sec: float = STORM_SEC) -> int:
    """Wait again and again, each time until a signal strikes at another instant; give how often it did."""
    count, until_sec = 0, boot_sec() + limit_sec
    with handling(strike):
        while boot_sec() < until_sec:
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-6 + random.random() * LATEST_SEC)
                for _ in range(100):  # Python swallows what is raised in a finalizer: it strikes no more then.
                    wait()
            except Struck:
                count += 1
    return count


def test_control_a_condition_is_broken_by_what_a_handler_raises() -> None:
    """The same storm has to find what it looks for."""
    condition = threading.Condition()

    def wait() -> None:
        with condition:
            condition.wait(WAIT_SEC)

    with pytest.raises(RuntimeError, match="un-acquired lock"):
        storm(wait, 60.0)


def test_a_storm_leaves_a_bell_and_its_lock_whole() -> None:
    bell, lock = Bell(), threading.RLock()
    turn = 0

    def wait() -> None:
        nonlocal turn
        turn += 1
        with lock:
            if turn % 2:
                bell.wait_for(lambda: False, WAIT_SEC, without=lock)
        bell.wait_for(lambda: False, WAIT_SEC, without=lock)

    assert storm(wait) > 100
    with in_thread(lambda: lock.acquire(timeout=1) or pytest.fail("the lock stayed behind")):
        pass


def test_a_storm_leaves_a_flag_whole() -> None:
    flag = Flag()
    assert storm(lambda: flag.wait(WAIT_SEC)) > 100
    with in_thread(flag.set):
        assert flag.wait(20)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Those in finalizers of Thread.
def test_a_storm_at_the_start_of_threads_is_nothing_but_what_the_handler_raised() -> None:
    over = threading.Event()
    over.set()
    assert storm(lambda: begin(threading.Thread(target=over.wait, daemon=True))) > 100


def test_a_handler_may_set_a_flag_in_the_middle_of_its_waiting_and_setting() -> None:
    until_sec, heard = boot_sec() + STORM_SEC, 0
    while boot_sec() < until_sec:
        flag = Flag()
        with handling(lambda *_, flag=flag: flag.set()):
            signal.setitimer(signal.ITIMER_REAL, 1e-6 + random.random() * LATEST_SEC)
            began_sec = boot_sec()
            assert flag.wait(60)
            assert boot_sec() - began_sec < 30, "a signal just before the sleep is heard after a slice of it"
            flag.set()
            heard += 1
    assert heard > 1


def test_no_ring_is_missed() -> None:
    bell, numbers, seen = Bell(), [0], []

    def listen() -> None:
        for number in range(1, 2_000):
            assert bell.wait_for(lambda least=number: numbers[0] >= least, 20)  # type: ignore[misc]
            seen.append(number)

    with in_thread(listen), in_thread(listen):
        for number in range(1, 2_000):
            numbers[0] = number
            bell.ring()
    assert len(seen) == 2 * 1_999


def test_waiting_ends_in_time() -> None:
    began_sec = boot_sec()
    assert not Bell().wait_for(lambda: False, 0.05)
    assert not Flag().wait(0.05)
    assert not Flag().wait(0)
    assert boot_sec() - began_sec >= 0.1


def test_a_lock_that_this_thread_holds_is_let_go_of_while_it_waits() -> None:
    bell, lock, changed = Bell(), threading.RLock(), list[int]()

    def change() -> None:
        with lock:
            changed.append(1)
        bell.ring()

    with lock, lock:
        with in_thread(change):
            assert bell.wait_for(lambda: bool(changed), 20, without=lock)
        assert lock._is_owned()  # type: ignore[attr-defined]
    assert not lock._is_owned()  # type: ignore[attr-defined]


def test_a_latch_that_is_counted_down_within_a_count_opens_once() -> None:
    opened = []
    latch = Latch(3, lambda: opened.append(1))
    with handling(lambda *_: latch.count_down()):
        signal.raise_signal(signal.SIGALRM)
        latch.count_down()
        assert opened == []
        signal.raise_signal(signal.SIGALRM)
    assert opened == [1]
