"""Workers, enqueuers and operators at once, each on a connection of its own, at random; then everything is drained.

What may run when is watched here, outside the database: a job begins after its take has answered, and has ended before
its end is asked for, so what overlaps here overlapped indeed.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from itertools import pairwise
from threading import Event, Lock, Thread
from time import monotonic

import pytest
from psycopg.errors import DeadlockDetected

from tests.postgres.queue_hands import Hands, Took
from tests.postgres.support import Fleet

LONGEST_STORM_SEC = 60.0
ENQUEUE_PAUSE_SEC = 0.02  # Without it, jobs pile up, and most are run when the storm is over.
ENOUGH_ENDS, ENOUGH_IN_LINE = 300, 10
DRAIN_SEC = 60.0
LIMITS = {"limited": (3, None), "keyed": (None, 1), "both": (4, 2), "plain": (None, None), "line": (None, None)}
LINES = ("x", "y", "z")
KEYS = ("eu", "us", "asia")


class Watch:
    """What goes on, as the outside sees it. Every method is one instant."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.what: dict[int, tuple[str, str | None, str | None]] = {}  # kind, affinity, limit_key
        self.running: dict[int, Took] = {}
        self.disturbed: set[int] = set()  # cancelled or failed by hand while they may have run
        self.meddlers: Counter[int] = Counter()  # operators who have it in hand
        self.meddled_at: dict[int, int] = {}
        self.ends: Counter[int] = Counter()
        self.spans: list[tuple[int, int, int]] = []  # in lines: begun, ended, id
        self.begun: dict[int, int] = {}
        self.time = 0
        self.wrong: list[str] = []

    @contextmanager
    def meddling(self, some: list[int]) -> Iterator[None]:
        """An operator does something to these, at an instant that nobody knows."""
        with self.lock:
            self.disturbed.update(some)
            self.meddlers.update(some)
        yield
        with self.lock:
            self.time += 1
            self.meddlers.subtract(some)
            self.meddled_at.update(dict.fromkeys(some, self.time))

    def begin(self, took: Took, asked_at: int) -> None:
        """It runs, having been taken after an instant."""
        with self.lock:
            self.time += 1
            kind, affinity, limit_key = self.what[took.id]
            if took.id in self.running and took.id not in self.disturbed:
                self.wrong.append(f"{took} begins while {self.running[took.id]} runs")
            if not self.meddlers[took.id] and self.meddled_at.get(took.id, 0) < asked_at:
                self.disturbed.discard(took.id)
            self.running[took.id] = took
            self.begun.setdefault(took.id, self.time)
            at_once, per_key = LIMITS[kind]
            beside = [self.what[id_] for id_ in self.running if id_ not in self.disturbed]
            if at_once is not None and sum(other[0] == kind for other in beside) > at_once:
                self.wrong.append(f"{kind}: more than {at_once} at once")
            if per_key is not None and limit_key and sum(other[::2] == (kind, limit_key) for other in beside) > per_key:
                self.wrong.append(f"{kind} {limit_key}: more than {per_key} at once")
            if affinity and sum(other[1] == affinity for other in beside) > 1:
                self.wrong.append(f"line {affinity}: two at once")

    def spans_of(self, line: str) -> list[tuple[int, int, int]]:
        return [span for span in tuple(self.spans) if self.what[span[2]][1] == line]

    def stop(self, took: Took) -> None:
        """It runs no more; what becomes of it is said afterwards."""
        with self.lock:
            if self.running.get(took.id) == took:
                del self.running[took.id]
                if not self.meddlers[took.id]:
                    self.disturbed.discard(took.id)

    def ended(self, took: Took, at: int) -> None:
        with self.lock:
            self.ends[took.id] += 1
            if self.what[took.id][1]:
                self.spans.append((self.begun[took.id], at, took.id))

    def now(self) -> int:
        with self.lock:
            self.time += 1
            return self.time


class Storm:
    """The players, and what went wrong."""

    def __init__(self, fleet: Fleet, sec: float) -> None:
        self.fleet = fleet
        self.sec = sec
        self.watch = Watch()
        self.quiet = Event()  # enqueuers and operators have stopped
        self.over = Event()
        self.incarnations = iter(range(1, 1_000_000))
        first = Hands(fleet.conn, fleet.prefix)
        self.lanes = {kind: first.lane(kind) for kind in LIMITS}
        for kind, (at_once, per_key) in LIMITS.items():
            first.limit(kind, at_once, per_key)

    def has_raged(self, for_sec: float) -> bool:
        """Whether enough has happened; on a slow machine that takes longer."""
        enough = len(self.watch.ends) > ENOUGH_ENDS and all(
            len(self.watch.spans_of(line)) > ENOUGH_IN_LINE for line in LINES
        )
        return for_sec > (self.sec if enough else LONGEST_STORM_SEC)

    def hands(self) -> Hands:
        return Hands(self.fleet.connect(), self.fleet.prefix)

    def play(self, part: Callable[[Hands, random.Random], None], seed: int) -> Thread:
        hands, dice = self.hands(), random.Random(seed)

        def run() -> None:
            try:
                part(hands, dice)
            except Exception as error:
                self.watch.wrong.append(f"{part.__name__}: {type(error).__name__}: {error}")

        thread = Thread(target=run, daemon=True)
        thread.start()
        return thread

    # --- parts -----------------------------------------------------------------------------------

    def enqueue(self, hands: Hands, dice: random.Random) -> None:
        while not self.quiet.is_set():
            kind = dice.choice(list(LIMITS))
            affinity = dice.choice(LINES) if kind == "line" else None
            limit_key = dice.choice(KEYS) if kind in {"keyed", "both"} else None
            with self.watch.lock if affinity else nullcontext():  # One at a time: an order is one of commits.
                self._enqueue(hands, dice, kind, affinity, limit_key)
            self.quiet.wait(ENQUEUE_PAUSE_SEC)

    def _enqueue(
        self, hands: Hands, dice: random.Random, kind: str, affinity: str | None, limit_key: str | None
    ) -> None:
        # The number is not known before the row is; workers ask for what they got until it is known.
        for id_, _ in hands.enqueue(
            self.lanes[kind],
            dice.choice([1, 1, 8]),
            priority=0 if affinity else dice.randint(-1, 1),
            max_attempts=dice.choice([1, 3, 30]),
            affinity=affinity,
            limit_key=limit_key,
            run_at=None if affinity or dice.random() < 0.7 else hands.later(0.05),
        ):
            self.watch.what[id_] = (kind, affinity, limit_key)

    def work(self, hands: Hands, dice: random.Random) -> None:
        node = next(self.incarnations)
        hands.join(node)
        lanes = list(self.lanes.values())
        while not self.over.is_set():
            hands.promote()
            asked_at = self.watch.now()
            took = hands.take(lanes, dice.randint(1, 6), node) if dice.random() < 0.5 else []
            took += hands.take_gated(lanes, dice.randint(1, 4), node, suspects=dice.random() < 0.7, max_crashes=1000)
            for each in took:
                while each.id not in self.watch.what:
                    self.over.wait(0.001)
                self.watch.begin(each, asked_at)
            if not self.quiet.is_set() and dice.random() < 0.05:
                node = self._die(hands, node, took)
            else:
                self._finish(hands, dice, took)
            if not took:
                self.over.wait(0.002)

    def _die(self, hands: Hands, node: int, took: list[Took]) -> int:
        for each in took:
            self.watch.stop(each)
        hands.fence(node)
        hands.recover()
        # The sweep passes over a lease that an operator holds just now; until it is swept, who is first is heard.
        swept = not hands.sql(
            "select epoch from sync_job_lease where epoch = any ($1::bigint[])", [t.epoch for t in took]
        )
        if swept and took and hands.done(took) != {t.id for t in took}:
            self.watch.wrong.append(f"late results of {took} were taken")
        fresh = next(self.incarnations)
        hands.join(fresh)
        return fresh

    def _finish(self, hands: Hands, dice: random.Random, took: list[Took]) -> None:
        dice.shuffle(took)
        back = [t for t in took if dice.random() < 0.15]
        rest = [t for t in took if t not in back]
        ours = [t for t in rest if dice.random() < 0.3]
        batch = [t for t in rest if t not in ours]
        for each in took:
            self.watch.stop(each)
        at = self.watch.now()
        if back:
            hands.release(back)
        for each in ours:
            outcome = dice.choice(["retry", "retry", "failed", "done"])
            last = outcome == "retry" and each.attempts >= 3
            outcome = "failed" if last else outcome
            if hands.end(each, outcome, hands.later(0.02), "boom") and outcome != "retry":
                self.watch.ended(each, at)
        if batch:
            refused = hands.done(batch, sorted({t.epoch for t in took}))
            for each in batch:
                if each.id not in refused:
                    self.watch.ended(each, at)

    def steer(self, hands: Hands, dice: random.Random) -> None:
        while not self.quiet.is_set():
            some = dice.sample(sorted(self.watch.what), min(len(self.watch.what), 5))
            # Who change several jobs at once may meet in a deadlock: it undoes one of them, and the product asks again.
            with self.watch.meddling(some), suppress(DeadlockDetected):
                self._meddle(hands, dice, some)
            hands.prune(0.5 / 86400)
            self.quiet.wait(0.02)
        hands.limit("plain", None, None)

    def _meddle(self, hands: Hands, dice: random.Random, some: list[int]) -> None:
        plain = [id_ for id_ in some if self.watch.what[id_][1] is None]
        of_these = "where id = any ($1::bigint[]) and status in"
        match dice.randint(0, 5):
            case 0:
                cancelled = hands.cancel(*some)
                if dice.random() < 0.7:
                    hands.retry(*(id_ for id_ in plain if id_ in cancelled))
            case 1:
                hands.sql(f"update sync_job set priority = priority + 1 {of_these} ('pending')", plain)
            case 2:
                hands.sql(f"delete from sync_job {of_these} ('pending', 'retry')", some)
            case 3:
                hands.sql(f"update sync_job set status = 'pending' {of_these} ('processing')", plain)
            case 4:
                hands.limit("plain", dice.choice([None, 5]), None)
            case _:
                hands.recover()


@pytest.mark.parametrize(("seed", "sec"), [(1, 2.0), pytest.param(2, 10.0, marks=pytest.mark.slow)])
def test_a_storm_leaves_every_job_ended_once_and_nothing_behind(fleet: Fleet, seed: int, sec: float) -> None:
    storm = Storm(fleet, sec)
    others = [storm.play(storm.enqueue, seed * 100 + i) for i in range(2)]
    others += [storm.play(storm.steer, seed * 100 + 10 + i) for i in range(2)]
    workers = [storm.play(storm.work, seed * 100 + 20 + i) for i in range(6)]
    hands = Hands(fleet.conn, fleet.prefix)
    began = monotonic()
    while not storm.watch.wrong and not storm.has_raged(monotonic() - began):
        assert hands.broken_rules() == {}
        storm.quiet.wait(0.3)
    storm.quiet.set()
    for thread in others:
        thread.join(20.0)
    left = "select count(*) from sync_job where status in ('pending', 'retry', 'processing')"
    until = monotonic() + DRAIN_SEC
    while int(hands.sql(left)[0][0]) > 0 and monotonic() < until and not storm.watch.wrong:
        hands.recover()
        storm.over.wait(0.1)
    storm.over.set()
    for thread in workers:
        thread.join(20.0)
    assert storm.watch.wrong == []
    assert int(hands.sql(left)[0][0]) == 0
    assert hands.broken_rules() == {}
    assert hands.sql("select * from sync_job_place") == []
    assert hands.sql("select * from sync_job_lease") == []
    watch = storm.watch
    assert len(watch.ends) > ENOUGH_ENDS, "the storm was a breeze"
    assert {id_: n for id_, n in watch.ends.items() if n > 1} == {}
    for line in LINES:
        spans = sorted(watch.spans_of(line))
        assert len(spans) > ENOUGH_IN_LINE
        for (_, ended, first), (begun, _, second) in pairwise(spans):
            assert first < second, "out of order"
            assert ended < begun or first in watch.disturbed or second in watch.disturbed, "two at once"
