"""Notifications: the first is heeded at once, a burst costs one read in three milliseconds, and none is lost."""

from dataclasses import replace

import pytest

from jobsync.core import messages as m
from jobsync.core.holding import Grant
from jobsync.core.member import DEBOUNCE_SEC
from jobsync.core.tokens import TokenSet
from tests.core.driver import ALL, Driver

HALF = TokenSet.span(0, 5_000)


def wanting() -> Driver:
    """One that wants all, was granted half, and waits for what others still hold."""
    driver = Driver()
    driver.register()
    driver.reply = replace(driver.reply, target=ALL)
    driver.until(m.Grow)
    driver.answer(m.Growth("granted", Grant(3, HALF)))
    driver.idle(1.0)
    return driver


def free(driver: Driver) -> None:
    driver.send(m.Notified(driver.now(), m.Channel.FREE))


def test_freed_tokens_are_asked_for_at_once() -> None:
    driver = wanting()
    free(driver)
    assert driver.asked is not None
    assert isinstance(driver.asked.question, m.Grow)


def test_a_new_plan_is_read_at_once() -> None:
    driver = wanting()
    driver.want(HALF)
    assert driver.asked is not None
    assert isinstance(driver.asked.question, m.Beat)


@pytest.mark.parametrize(("channel", "kind"), [(m.Channel.FREE, m.Grow), (m.Channel.PLAN, m.Beat)])
def test_a_burst_costs_one_question_in_so_long(channel: m.Channel, kind: type[m.Question]) -> None:
    driver = wanting()
    asked: list[float] = []
    for _ in range(120):
        driver.send(m.Notified(driver.now(), channel))
        while driver.asked is not None:
            if isinstance(driver.asked.question, kind):
                asked.append(driver.boot_sec)
            grows = isinstance(driver.asked.question, m.Grow)
            answer = m.Growth("nothing", None) if grows else replace(driver.reply, target=None)
            driver.answer(answer, after_sec=0.0)
        driver.tick(0.0001)
    lasted_sec = asked[-1] - asked[0]
    assert lasted_sec > 0.009
    assert len(asked) <= lasted_sec / DEBOUNCE_SEC + 1.001


def test_what_is_freed_before_the_answer_comes_is_asked_for_after_it() -> None:
    """The answer may be of an instant before that."""
    driver = wanting()
    free(driver)
    free(driver)
    driver.answer(m.Growth("nothing", None))
    assert driver.until(m.Grow, within_sec=DEBOUNCE_SEC)


def test_what_nobody_frees_is_not_asked_for() -> None:
    driver = wanting()
    free(driver)
    driver.answer(m.Growth("nothing", None))
    assert not [question for _, question in driver.idle(2.0) if isinstance(question, m.Grow)]
