"""The queue's functions against a queue that is too simple to be wrong, step by step, on a clock of the test's own."""

import random
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from jobsync.postgres.schema import ensure_schema
from tests.postgres.dumb_queue import DumbJob, DumbQueue
from tests.postgres.queue_hands import START, Hands, Took

KINDS = ("a", "b")
FEW = st.integers(1, 4)
WALK_STEPS = 500
OUTCOMES = ["in a batch", "given back", "retry", "failed", "pending", "cancelled", "done"]
SECONDS = st.integers(0, 90)

JOBS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(KINDS),
        "priority": st.integers(-1, 1),
        "max_attempts": FEW,
        "delay": st.sampled_from([None, None, None, 0, 30]),
        "key": st.sampled_from([None, None, None, "k1", "k2"]),
        "affinity": st.sampled_from([None, None, "x", "y"]),
        "limit_key": st.sampled_from([None, None, "eu", "us"]),
        "by_hand": st.sampled_from([False, False, False, True]),
    }
)


class QueueMachine(RuleBasedStateMachine):
    """Does the same to both, in one transaction that is undone at the end."""

    dsn = ""
    prefix = ""
    ids: Bundle[int] = Bundle("ids")
    taken: Bundle[Took] = Bundle("taken")

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.conn = self.stack.enter_context(psycopg.connect(self.dsn))
        self.now: datetime = START
        self.hands = Hands(self.conn, self.prefix, START)
        self.dumb = DumbQueue()
        self.lanes = {kind: self.hands.lane(kind) for kind in KINDS}
        self.nodes = [1, 2]
        self.seen: list[Took] = []
        self.next_node = 3
        for node in self.nodes:
            self.hands.join(node)

    def teardown(self) -> None:
        self.conn.rollback()
        self.stack.close()

    # --- enqueueing and the clock ----------------------------------------------------------------

    @initialize(target=ids, jobs=st.lists(JOBS, min_size=6, max_size=10))
    def begin(self, jobs: list[dict[str, Any]]) -> Any:
        return multiple(*(id_ for job in jobs for id_ in self._enqueue(**job)))

    @rule(target=ids, job=JOBS)
    def enqueue(self, job: dict[str, Any]) -> Any:
        return multiple(*self._enqueue(**job))

    def _enqueue(self, kind: str, delay: int | None, key: str | None, *, by_hand: bool, **given: Any) -> list[int]:
        run_at = None if delay is None else self.now + timedelta(seconds=delay)
        standing = [job.id for job in self.dumb.jobs.values() if key is not None and job.job_id == key]
        if by_hand:  # by the server's own clock, for which every instant of the test lies ahead
            row = {"kind": kind, "run_at": run_at, "job_id": key, "payload": "{}"} | given
            marks = ", ".join(f"${i}" for i in range(1, len(row) + 1))
            found = self.hands.sql(
                f"insert into sync_job ({', '.join(row)}) values ({marks}) returning id", *row.values()
            )
            id_, is_new, before = found[0][0], not standing, datetime.min.replace(tzinfo=START.tzinfo)
        else:
            [(id_, is_new)] = self.hands.enqueue(self.lanes[kind], run_at=run_at, job_id=key, **given)
            before = self.now
        assert is_new == (not standing)
        if standing:
            assert id_ == standing[0]
            return []
        job = DumbJob(id_, self.lanes[kind], kind, job_id=key, **given)
        self.dumb.jobs[id_] = job
        self.dumb.wait(job, run_at, before)
        return [id_]

    @rule(seconds=SECONDS)
    def let_time_pass(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.hands.clock = self.now

    # --- workers ---------------------------------------------------------------------------------

    @rule(
        target=taken,
        want=FEW,
        node=st.integers(0, 1),
        gate=st.sampled_from([None, True, False]),
        max_crashes=st.integers(1, 3),
    )
    def take_any(self, want: int, node: int, gate: bool | None, max_crashes: int) -> Any:
        if gate is None:
            return self._take(want, node)
        return self._take_gated(want, node, suspects=gate, max_crashes=max_crashes)

    def _take(self, want: int, node: int) -> Any:
        wanted = self.dumb.take(want, self.nodes[node])
        return self._began(wanted, self.hands.take(list(self.lanes.values()), want, self.nodes[node]), node)

    def _take_gated(self, want: int, node: int, *, suspects: bool, max_crashes: int) -> Any:
        wanted = self.dumb.take_gated(want, self.nodes[node], suspects=suspects)
        took = self.hands.take_gated(
            list(self.lanes.values()), want, self.nodes[node], suspects=suspects, max_crashes=max_crashes
        )
        self.dumb.max_crashes |= {t.epoch: max_crashes for t in took}
        return self._began(wanted, took, node)

    @rule(
        jobs=st.lists(st.tuples(st.integers(0, 9), st.sampled_from(OUTCOMES)), min_size=1, max_size=4),
        node=st.integers(0, 1),
        wait=st.sampled_from([None, 20]),
        suspects=st.booleans(),
    )
    def work(self, jobs: list[tuple[int, str]], node: int, wait: int | None, *, suspects: bool) -> None:
        """Do what a worker does: take, and end what it has, this way or another."""
        self._take(2, node)
        self._take_gated(2, node, suspects=suspects, max_crashes=3)
        for pick, outcome in jobs:
            running = [t for t in self.seen if self.dumb.runs(t.id, t.epoch)]
            if running:
                self._end(running[pick % len(running)], outcome, wait)

    def _end(self, t: Took, outcome: str, wait: int | None) -> None:
        if outcome == "in a batch":
            self._done([t], over=wait is None)
        elif outcome == "given back":
            self._release([t])
        else:
            self._end_attempt(t, outcome, wait)

    @rule(took=st.lists(taken, min_size=1, max_size=4), outcome=st.sampled_from(OUTCOMES), over=st.booleans())
    def end_what_may_be_old(self, took: list[Took], outcome: str, *, over: bool) -> None:
        if outcome == "in a batch":
            self._done(took, over=over)
        elif outcome == "given back":
            self._release(took)
        else:
            self._end_attempt(took[0], outcome, None)

    def _began(self, wanted: list[int], took: list[Took], node: int) -> Any:
        assert [t.id for t in took] == wanted
        for t in took:
            self.dumb.begin(t.id, t.epoch, self.nodes[node], self.now)
            job = self.dumb.jobs[t.id]
            assert (t.attempts, t.crashes) == (job.attempts, job.crashes)
        self.seen += took
        return multiple(*took)

    def _done(self, took: list[Took], *, over: bool) -> None:
        refused = self.hands.done(took, [t.epoch for t in took] if over else [])
        for t in dict.fromkeys(took):
            was_done = (job := self.dumb.jobs.get(t.id)) is not None and job.epoch == t.epoch and job.state == "done"
            assert (t.id in refused) == (not self.dumb.runs(t.id, t.epoch) and not was_done) or len(
                {other.epoch for other in took if other.id == t.id}
            ) > 1
            if self.dumb.runs(t.id, t.epoch):
                self.dumb.end(t.id, "done", None, self.now)

    def _end_attempt(self, t: Took, outcome: str, wait: int | None) -> None:
        run_at = self.now + timedelta(seconds=wait) if wait is not None and outcome == "retry" else None
        mine = self.dumb.runs(t.id, t.epoch)
        assert self.hands.end(t, outcome, run_at, "boom" if outcome in {"retry", "failed"} else None) == mine
        if mine:
            self.dumb.end(t.id, outcome, run_at, self.now)

    def _release(self, took: list[Took]) -> None:
        mine = {t for t in took if self.dumb.runs(t.id, t.epoch)}
        assert self.hands.release(took) == len(mine)
        for t in mine:
            self.dumb.end(t.id, "pending", None, self.now)

    @rule(t=taken, node=st.integers(0, 1))
    def extend(self, t: Took, node: int) -> None:
        mine = self.dumb.runs(t.id, t.epoch) and self.dumb.owner[t.epoch] == self.nodes[node]
        listed = self.hands.extend([t.epoch], self.nodes[node]).get(t.epoch, [])
        assert (t.id in listed) or not mine
        if listed:
            self.dumb.until[t.epoch] = self.now + timedelta(seconds=60)

    @rule(node=st.integers(0, 1))
    def die(self, node: int) -> None:
        self.hands.fence(self.nodes[node])
        self.dumb.dead.add(self.nodes[node])
        self.nodes[node] = self.next_node
        self.next_node += 1
        self.hands.join(self.nodes[node])

    @rule()
    def recover(self) -> None:
        assert self.hands.recover() == self.dumb.recover(self.now)

    @rule()
    def promote(self) -> None:
        assert self.hands.promote() == self.dumb.promote(self.now)

    # --- operators -------------------------------------------------------------------------------

    @rule(some=st.lists(ids, min_size=1, max_size=3))
    def cancel(self, some: list[int]) -> None:
        assert self.hands.cancel(*some) == {id_ for id_ in some if self.dumb.cancel(id_, self.now)}

    @rule(some=st.lists(ids, min_size=1, max_size=3))
    def retry(self, some: list[int]) -> None:
        assert self.hands.retry(*some) == {id_ for id_ in dict.fromkeys(some) if self.dumb.retry(id_, self.now)}

    @rule(days=st.sampled_from([0.0, 0.0005]))
    def prune(self, days: float) -> None:
        # What ended in a batch that is still under way is kept; the dumb queue knows nothing of batches.
        kept = "select e.id from sync_job_end e join sync_job_lease l on l.epoch = e.epoch"
        under_way = {row[0] for row in self.hands.sql(kept)}
        bound = self.now - timedelta(days=days)
        old = [j.id for j in self.dumb.jobs.values() if j.finished_at is not None and j.finished_at < bound]
        gone = [id_ for id_ in old if id_ not in under_way]
        assert self.hands.prune(days) == len(gone)
        for id_ in gone:
            self.dumb.forget(id_)

    @rule(kind=st.sampled_from(KINDS), at_once=st.sampled_from([None, 1, 2]), per_key=st.sampled_from([None, 1, 2]))
    def limit(self, kind: str, at_once: int | None, per_key: int | None) -> None:
        self.hands.limit(kind, at_once, per_key)
        self.dumb.limits.pop(kind, None)
        if at_once or per_key:
            self.dumb.limits[kind] = (at_once, per_key)

    @rule()
    def pause_or_resume(self) -> None:
        self.dumb.paused = not self.dumb.paused
        how = (
            "insert into sync_job_pause (queue) values ('default')"
            if self.dumb.paused
            else "delete from sync_job_pause"
        )
        self.hands.sql(how)

    @rule(id_=ids, status=st.sampled_from(["pending", "retry", "failed", "cancelled", "done"]))
    def set_status(self, id_: int, status: str) -> None:
        job = self.dumb.jobs.get(id_)
        if job is None or job.status == status:
            return
        refused = status == "done" or (job.ended and status in {"failed", "cancelled"})
        count = self._by_hand("with u as (update sync_job set status = $2::text where id = $1::bigint returning id) "
                              "select count(*) from u", id_, status, refused=refused)  # fmt: skip
        if refused:
            return
        if status in {"failed", "cancelled"}:
            assert count == 1
            self.dumb.finish(job, status, START)
            job.finished_at = None  # by the server's own clock
            job.finished_at = START - timedelta(days=1)
        elif job.state == "running":
            assert count == 1
            self.dumb.end(id_, "pending", None, self.now)
        else:
            assert count == int(self.dumb.retry(id_, self.now))

    @rule(id_=ids, priority=st.integers(-1, 1), max_attempts=FEW, later=st.booleans())
    def change(self, id_: int, priority: int, max_attempts: int, *, later: bool) -> None:
        job = self.dumb.jobs.get(id_)
        if job is None:
            return
        run_at = self.now + timedelta(seconds=25) if later else START - timedelta(days=40_000)
        refused = job.status not in {"pending", "retry"}
        self._by_hand(
            "update sync_job set priority = $2::integer, max_attempts = $3::integer, run_at = $4::timestamptz "
            "where id = $1::bigint", id_, priority, max_attempts, run_at, refused=refused)  # fmt: skip
        if not refused:
            job.priority, job.max_attempts = priority, max_attempts
            self.dumb.wait(job, run_at if later else None, START - timedelta(days=30_000))

    @rule(id_=ids)
    def delete(self, id_: int) -> None:
        job = self.dumb.jobs.get(id_)
        if job is None:
            return
        refused = job.state == "running"
        self._by_hand("delete from sync_job where id = $1::bigint", id_, refused=refused)
        if not refused:
            self.dumb.forget(id_)

    def _by_hand(self, text: str, *args: object, refused: bool) -> Any:
        try:
            with self.conn.transaction():
                rows = self.hands.sql(text, *args)
        except (psycopg.errors.ObjectInUse, psycopg.errors.FeatureNotSupported, psycopg.errors.InvalidParameterValue):
            assert refused
            return None
        assert not refused
        return rows[0][0] if rows else None

    # --- what holds after every step -------------------------------------------------------------

    @invariant()
    def both_say_the_same(self) -> None:
        shown = self.hands.sql("select id, status, attempts, crashes, priority, max_attempts from sync_job order by id")
        said = [
            (j.id, j.status, j.attempts, j.crashes, j.priority, j.max_attempts)
            for j in sorted(self.dumb.jobs.values(), key=lambda j: j.id)
        ]
        assert shown == said
        where = "select id, 'ready' from sync_job_ready union all select id, 'gated' from sync_job_gated union all select id, 'later' from sync_job_later"  # noqa: E501
        waiting = {j.id: j.state for j in self.dumb.jobs.values() if j.state in {"ready", "gated", "later"}}
        assert dict(self.hands.sql(where)) == waiting
        held = {(*scope, number, id_) for scope, places in self.dumb.places.items() for number, id_ in places.items()}
        assert set(self.hands.sql("select scope, name, number, id from sync_job_place")) == held

    @invariant()
    def every_rule_holds(self) -> None:
        assert self.hands.broken_rules() == {}


@pytest.fixture
def machine(server_dsn: str, prefix: str) -> type[QueueMachine]:
    with psycopg.connect(server_dsn, autocommit=True) as conn:
        ensure_schema(conn, prefix)
    QueueMachine.dsn, QueueMachine.prefix = server_dsn, prefix
    return QueueMachine


def live_through(machine: type[QueueMachine], *, examples: int, derandomize: bool) -> None:
    given = settings(
        max_examples=examples,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=derandomize,
        database=None,
    )
    run_state_machine_as_test(machine, settings=given)


def test_the_queue_does_what_a_dumb_one_does(machine: type[QueueMachine]) -> None:
    live_through(machine, examples=15, derandomize=True)


def test_a_job_cancelled_in_a_batch_under_way_is_pruned_after_the_batch(machine: type[QueueMachine]) -> None:
    """A story that the machine told once: its place in the list was free, its end still belonged to the batch."""
    walk = machine()
    try:
        plain = {"kind": "a", "priority": 0, "max_attempts": 2, "affinity": None, "limit_key": None}
        walk.begin([plain | {"delay": None, "key": None, "by_hand": False}] * 3)
        walk._take(2, 0)
        first, second = walk.seen
        walk.cancel([second.id])
        walk.let_time_pass(1)
        assert walk.hands.prune(0.0) == 0, "the batch is under way"
        walk._done([first], over=True)
        walk.let_time_pass(1)
        assert walk.hands.prune(0.0) == 2
    finally:
        walk.teardown()


@pytest.mark.slow
def test_the_queue_does_what_a_dumb_one_does_in_stories_never_told(machine: type[QueueMachine]) -> None:
    live_through(machine, examples=200, derandomize=False)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_long_walk_ends_where_the_dumb_queue_s_does(machine: type[QueueMachine], seed: int) -> None:
    """Hypothesis tries short stories, and shortens those that go wrong; this one has a past, and weights."""
    dice, walk = random.Random(seed), machine()
    try:
        walk.begin([a_job(dice) for _ in range(8)])
        for _ in range(WALK_STEPS):
            take_a_step(walk, dice)
            walk.both_say_the_same()
            walk.every_rule_holds()
        assert len(walk.seen) > WALK_STEPS / 10, "hardly anything was taken"
    finally:
        walk.teardown()


def a_job(dice: random.Random) -> dict[str, Any]:
    return {
        "kind": dice.choice(KINDS),
        "priority": dice.randint(-1, 1),
        "max_attempts": dice.randint(1, 6),
        "delay": dice.choice([None, None, None, 0, 30]),
        "key": dice.choice([None, None, None, "k1", "k2"]),
        "affinity": dice.choice([None, None, None, "x", "y"]),
        "limit_key": dice.choice([None, None, None, "eu", "us"]),
        "by_hand": dice.random() < 0.2,
    }


def take_a_step(walk: QueueMachine, dice: random.Random) -> None:
    """Do one of the things that people, workers and time do, most of all work."""
    jobs = sorted(walk.dumb.jobs)[-12:] or [1]
    some = dice.choices(jobs, k=dice.randint(1, 3))
    old = dice.choices(walk.seen, k=2) if walk.seen else []
    outcomes = [(dice.randint(0, 9), dice.choice(OUTCOMES)) for _ in range(dice.randint(1, 3))]
    most = dice.randint(1, 3)
    steps: list[tuple[int, Callable[[], object]]] = [
        (10, lambda: [walk.enqueue(a_job(dice)) for _ in range(3)]),
        (20, lambda: walk.work(outcomes, dice.randint(0, 1), dice.choice([None, 20]), suspects=dice.random() < 0.7)),
        (4, lambda: walk.take_any(dice.randint(1, 4), dice.randint(0, 1), dice.choice([None, True, False]), most)),
        (4 if old else 0, lambda: walk.end_what_may_be_old(old, outcomes[0][1], over=len(outcomes) == 1)),
        (3, lambda: walk.let_time_pass(dice.randint(0, 40))),
        (3 if walk.seen else 0, lambda: walk.extend(dice.choice(walk.seen[-9:]), dice.randint(0, 1))),
        (4, lambda: walk.die(dice.randint(0, 1))),
        (5, walk.recover),
        (4, walk.promote),
        (2, lambda: walk.cancel(some)),
        (3, lambda: walk.retry(some)),
        (1, lambda: walk.prune(dice.choice([0.0, 0.0005]))),
        (2, lambda: walk.limit(dice.choice(KINDS), dice.choice([None, 1, 2]), dice.choice([None, 1, 2]))),
        (3 if walk.dumb.paused else 1, walk.pause_or_resume),
        (3, lambda: walk.set_status(some[0], dice.choice(["pending", "retry", "failed", "cancelled", "done"]))),
        (2, lambda: walk.change(some[0], dice.randint(-1, 1), dice.randint(1, 4), later=dice.random() < 0.3)),
        (1, lambda: walk.delete(some[0])),
    ]
    [step] = dice.choices([what for _, what in steps], [weight for weight, _ in steps])
    step()
