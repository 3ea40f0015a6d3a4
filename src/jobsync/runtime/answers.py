"""Answering the question that is asked most: whether this node owns a task now.

Two clock readings, one reference to an immutable value and one look-up; no lock and no query. Whether a task's token
is among the tokens held is remembered for as long as the same token set is held; the leases are evaluated anew at
every question.
"""

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Protocol

from jobsync.core.messages import Standing
from jobsync.core.tasks import Task, TaskId, task_text
from jobsync.core.tokens import TokenSet

MOST_REMEMBERED = 2_048


class HasStanding(Protocol):
    """An engine, or what stands in for one."""

    standing: Standing


def make_owns(
    engine: HasStanding, hash_function: Callable[[str, int], int], total_tokens: int
) -> Callable[[Task | TaskId], bool]:
    """Build the function that answers for one job; safe from any thread.

    One function and no smaller ones: it runs for every task of every fleet, and a call costs a fifth of an answer.
    """
    read_clock = time.clock_gettime
    boot: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    wall_sec = time.time  # noqa: TID251 - the same clock as in runtime.clock, by its quicker way
    nothing = TokenSet()
    remembered: tuple[TokenSet, Sequence[int], dict[str, bool]] = (nothing, nothing.edges, {})

    def owns(task: Task | TaskId) -> bool:
        nonlocal remembered
        if task.__class__ is Task:
            text: str = task._text  # noqa: SLF001 - a property would be a call
        elif task.__class__ is str:
            text = task  # It is checked below, when it is first seen.
        else:
            text = task_text(task) if not isinstance(task, Task) else task.text
        holding = engine.standing.holding
        if read_clock(boot) >= holding.boot_until_sec or wall_sec() >= holding.wall_until_sec:
            return False
        tokens, edges, answers = remembered
        if tokens is not holding.tokens:
            tokens, edges, answers = remembered = holding.tokens, holding.tokens.edges, {}
        answer = answers.get(text)
        if answer is None:
            token = hash_function(task_text(text) if task.__class__ is str else text, total_tokens)
            if len(answers) >= MOST_REMEMBERED:
                answers.clear()
            # The set and its answers travel together, so another thread's change of both cannot mix them.
            answer = answers[text] = bisect_right(edges, token) & 1 == 1
        return answer

    return owns
