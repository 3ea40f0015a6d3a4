"""A worker process for the tests of bad weather: one real node that answers for itself, all the time.

A thread asks `can_claim_task` for a handful of tasks every millisecond or two and appends each answer, with the
boot clock before and after it and the end of the lease behind it, to a file that is read when all is over: what it
said then stands there, whatever became of the process. Orders come as JSON lines on standard input and are answered
on standard output.

For the tests of runs it walks a list of tasks and appends to a file of its own when it began each body; for those of
the exactly-once path it does tasks by transactions, and holds still at a named point (see `points`).
"""

import faulthandler
import json
import logging
import os
import random
import signal
import struct
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg

from jobsync import CoordinationConfig, Job, JobsyncError
from jobsync.core.belief import Belief
from jobsync.core.holding import Holding
from jobsync.core.member import Member
from jobsync.core.member_life import Life
from jobsync.core.messages import Sighting
from jobsync.core.observer import Observer
from jobsync.core.tokens import TokenSet
from jobsync.runtime.clock import boot_sec
from jobsync.runtime.ledger import Ledger
from jobsync.runtime.node import Node
from tests.chaos.points import (
    AFTER_LAST_STATEMENT,
    BEFORE_TRANSACTION,
    IN_BODY,
    IN_HANDOVER,
    Points,
    claim_everything,
    forget_the_transaction,
)

SAMPLE = struct.Struct("<ddQd")
BEGUN = struct.Struct("<dqq")
EVERY_SEC = 0.0015
STUCK_SEC = 15

log = logging.getLogger(__name__)


def say(**answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


class Worker:
    """One node, its answers on file, its orders from standard input."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.questions: list[str] = given["questions"]
        self.answers = os.open(given["answers"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.begun = os.open(given["begun"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.acked = os.open(given["acked"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.events = Path(given["events"])
        self.may_end = Path(given["may_end"])
        self.is_sampled = given.get("is_sampled", True)
        self.points = Points(say)
        self.job = Job(
            given["name"],
            coordination_config=CoordinationConfig(**given["settings"]),
            run=given.get("run"),
            on_tokens_added=lambda tokens: self.note("added", tokens),
            on_tokens_removed=self.removed,
            handle_signals=True,
        )

    def note(self, what: str, tokens: set[int]) -> None:
        with self.events.open("a") as events:
            events.write(json.dumps({"what": what, "at": boot_sec(), "tokens": sorted(tokens)}) + "\n")

    def removed(self, tokens: set[int]) -> None:
        self.note("removed", tokens)
        self.points.reach(IN_HANDOVER)

    def acknowledge(self, items: Iterable[object]) -> None:
        """Append to a file what the database has said to be done."""
        os.write(self.acked, "".join(f"{item}\n" for item in items).encode())

    def note_acknowledged_audits(self) -> None:
        """Have the ledger tell of audits that the database has taken, before anything else becomes of them."""
        write = Ledger._write_audits

        def wrapped(ledger: Ledger, batch: dict[str, int]) -> None:
            items = list(batch)
            write(ledger, batch)
            self.acknowledge(item for item in items if item not in ledger._taken)

        Ledger._write_audits = wrapped  # type: ignore[assignment, method-assign]

    def live(self) -> None:
        self.points.wrap()
        self.note_acknowledged_audits()
        with self.job:
            if self.is_sampled:
                threading.Thread(target=self.sample, daemon=True).start()
            threading.Thread(target=self.serve, daemon=True).start()
            say(entered=boot_sec())
            self.job.wait()
        say(left=boot_sec())

    def sample(self) -> None:
        ask = self.job.can_claim_task
        while True:
            before_sec = boot_sec()
            mask = 0
            for number, task in enumerate(self.questions):
                mask |= ask(task) << number
            after_sec = boot_sec()
            os.write(self.answers, SAMPLE.pack(before_sec, after_sec, mask, self.leased_until_sec()))
            time.sleep(EVERY_SEC)

    def leased_until_sec(self) -> float:
        """When the belief ends without another reply, on the boot clock; zero for a node that believes nothing."""
        node = self.job._node
        return node.engine.standing.holding.boot_until_sec if isinstance(node, Node) else 0.0

    # --- orders ---------------------------------------------------------------------------------

    def serve(self) -> None:
        for line in sys.stdin:
            order = json.loads(line)
            try:
                getattr(self, f"do_{order.pop('do')}")(**order)
            except Exception as error:
                say(error=type(error).__name__, text=str(error))
        # Whoever started this process is gone.
        self.job.stop()

    def do_status(self) -> None:
        status = self.job.status()
        held = [task for task in self.questions if self.job.can_claim_task(task)]
        say(
            held=held,
            tokens=len(self.job.my_tokens),
            leader=status.leader,
            live=status.live_nodes,
            healthy=status.healthy,
        )

    def do_audit(self, task: str) -> None:
        """Add and audit a task, as an application does."""
        added = self.job.add_task(task)
        self.job.write_audit()
        say(added=added)

    def do_finish_later(self, tasks: list[str]) -> None:
        """Begin tasks now, and say that they are done when told by `do_audited`."""
        say(added=[self.job.add_task(task) for task in tasks])

    def do_audited(self) -> None:
        self.job.write_audit()
        say(audited=True)

    def do_walk(
        self,
        count: int,
        pace_sec: float,
        long_every: int = 0,
        long_sec: float = 0.0,
        wait_at: int | None = None,
        *,
        hurries: bool = False,
    ) -> None:
        """Walk the tasks 0 to `count` - 1; append to the file, at the beginning of each body, which, when, and as whom.

        A body takes `pace_sec`, and one of `long_every` takes `long_sec`. Body number `wait_at` says so, and lasts
        until it is told to go on (`Worker.let_body_end`). Who hurries takes no time at all for bodies after that word.
        """
        for number, task in enumerate(self.job.tasks(list(range(count)))):
            assert isinstance(task.id, int)
            os.write(self.begun, BEGUN.pack(boot_sec(), task.id, self.incarnation()))
            if number == wait_at:
                say(waiting=number)
                while not self.may_end.exists():
                    time.sleep(EVERY_SEC)
            is_long = long_every and task.id % long_every == 0
            if not (hurries and self.may_end.exists()):
                time.sleep(long_sec if is_long else pace_sec)
        say(walked=True)

    def incarnation(self) -> int:
        node = self.job._node
        return node.incarnation if isinstance(node, Node) else 0

    def do_arm(self, point: str, after: int, stops: bool) -> None:
        self.points.arm(point, after=after, stops=stops)
        say(armed=point)

    def do_work(self, ids: list[str], table: str, leave_at: int | None = None, pace_sec: float = 0.0) -> None:
        """Do tasks, each with its result in one transaction, as an application that goes on after an error.

        With `leave_at`, break out of the loop at that number, so that what is claimed is released, and begin again.
        """
        errors: list[str] = []
        with self.job.tasks(ids) as tasks:
            for number, task in enumerate(tasks):
                if number == leave_at:
                    break
                self.points.reach(BEFORE_TRANSACTION)
                try:
                    self.do_in_transaction(str(task.id), table, random.uniform(0, 2 * pace_sec))
                except (JobsyncError, psycopg.Error) as error:
                    log.warning("task %s: %r", task.id, error)
                    errors.append(type(error).__name__)
        if leave_at is None:
            say(done=True, errors=errors)
        else:
            self.do_work(ids, table)

    def do_in_transaction(self, task: str, table: str, pace_sec: float) -> None:
        with self.job.transaction(task) as conn:
            self.points.reach(IN_BODY)
            time.sleep(pace_sec / 2)
            conn.execute(f"insert into {table} values (%s)", (task,))
            time.sleep(pace_sec / 2)
            self.points.reach(AFTER_LAST_STATEMENT)
        self.acknowledge([task])

    def do_stick(self, task: str, grants: str) -> None:
        """Leave a transaction open that holds a lock on a grant, and whose connection outlives this process."""

        def stick() -> None:
            with self.job.transaction(task) as conn:
                conn.execute(f"select from {grants} where node = %s for share", (self.job.node_name,))
                kept = conn.fileno()
                if os.fork() == 0:
                    # The heir keeps this one socket open, as a network that lost the node's machine does.
                    signal.alarm(STUCK_SEC)
                    os.closerange(0, kept)
                    os.closerange(kept + 1, 1024)
                    while True:
                        signal.pause()
                say(stuck=True)
                threading.Event().wait()

        threading.Thread(target=stick, daemon=True).start()


def forget_nothing() -> None:
    """Break the rule on purpose: leases never end and nothing that was believed is ever given back."""
    believed = Belief.holding

    def for_ever(self: Belief, incarnation: int, *, with_session: bool) -> Holding:
        held = believed(self, incarnation, with_session=with_session)
        forever = float("inf")
        return Holding(self.tokens, held.grants, forever, forever, incarnation)

    Belief.holding = for_ever  # type: ignore[method-assign]
    Belief.drop = lambda self: TokenSet()  # type: ignore[method-assign]
    Belief.forget = lambda self: TokenSet()  # type: ignore[method-assign]
    Member._let_run_out = lambda self: None  # type: ignore[method-assign]


def trust_any_server() -> None:
    """Break the rule on purpose: after a fail-over, take over what the rows say, at once."""
    Life._meet_stranger = lambda self: None  # type: ignore[method-assign]


def trust_the_end_of_a_session() -> None:
    """Break the rule on purpose: take a session that is gone for the death of its node, at once."""
    look = Observer.look

    def wrapped(self: Observer, now_sec: float, sightings: Iterable[Sighting]) -> None:
        look(self, now_sec, sightings)
        for watched in self._watched.values():
            watched.session_wait_sec = None if watched.session_wait_sec is None else 0.0

    Observer.look = wrapped  # type: ignore[method-assign]


MUTANTS = {
    "trust": trust_the_end_of_a_session,
    "quarantine": trust_any_server,
    "leases": forget_nothing,
    "claims": claim_everything,
    "transactions": forget_the_transaction,
}


def main() -> None:
    given = json.loads(sys.argv[1])
    logging.basicConfig(filename=given["log"], level=logging.DEBUG, format="%(asctime)s %(name)s %(message)s")
    # Asked by SIGUSR1, it tells where all its threads are, in a file that lives as long as the process.
    faulthandler.register(signal.SIGUSR1, Path(given["log"]).open("a"))  # noqa: SIM115
    if mutant := given.get("mutant"):
        MUTANTS[mutant]()
    try:
        Worker(given).live()
    except JobsyncError as error:
        say(error=type(error).__name__, text=str(error))
        sys.exit(1)


if __name__ == "__main__":
    main()
