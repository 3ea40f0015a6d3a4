"""Limits on what runs at once hold under races: eight workers, each with a connection of its own, and one log.

The log is none of the product's: who takes a job writes down an instant after the taking was answered, and one before
the ending is asked for. What overlaps there ran at once, whatever the tables say.
"""

import threading
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import pytest

from tests.api.jobs import eventually
from tests.postgres.support import Fleet, Member

WORKERS = 8
LANE = "select sync_job_lane_of('default', $1::text)"


@dataclass(frozen=True, slots=True)
class Ran:
    """One job that ran: which key it has, from when to when."""

    id: int
    key: str | None
    began: float
    ended: float


def most_at_once(runs: Iterable[Ran]) -> int:
    """Count how many overlapped at most."""
    steps = sorted(
        [(run.began, 1) for run in runs] + [(run.ended, -1) for run in runs], key=lambda step: (step[0], step[1])
    )
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


class Crew:
    """A kind's jobs, and workers that do them."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.lane = fleet.value(LANE, "resize")
        self.log: list[Ran] = []

    def enqueue(self, count: int, keys: tuple[str | None, ...] = (None,)) -> None:
        limit_keys = [keys[number % len(keys)] for number in range(count)]
        self.fleet.sql(
            "select sync_job_enqueue(array_fill($1::integer, array[$2]), array_fill(0, array[$2]), "
            "array_fill(3, array[$2]), array_fill(null::timestamptz, array[$2]), array_fill(null::text, array[$2]), "
            "array_fill(null::text, array[$2]), $3::text[], array_fill('1'::jsonb, array[$2]), null, null)",
            self.lane, count, limit_keys,
        )  # fmt: skip

    def limit(self, at_once: int | None = None, per_key: int | None = None) -> None:
        self.fleet.sql("select sync_job_set_limit('resize', $1::integer, $2::integer)", at_once, per_key)

    def take(self, member: Member, want: int = 1) -> list[tuple[Any, ...]]:
        """Take as a worker does: what is plain first, then at the gate. Rows of epoch, place, id."""
        who, args = member.who.incarnation, (member.name, member.who.incarnation, [self.lane], want)
        assert who
        rows = self.fleet.sql(
            "select epoch, row_number() over (), id "
            "from sync_job_take($1::text, $2::bigint, $3::integer[], $4::integer, 60000)",
            *args, conn=member.conn,
        )  # fmt: skip
        rows += self.fleet.sql(
            "select epoch, row_number() over (), id "
            "from sync_job_take_gated($1::text, $2::bigint, null, $3::integer[], $4::integer, 60000, true, 0, 3)",
            *args, conn=member.conn,
        )  # fmt: skip
        return rows

    def end(self, member: Member, job: tuple[Any, ...], outcome: str = "done") -> None:
        epoch, place, number = job
        assert self.fleet.value(
            "select sync_job_end_attempt($1::bigint, $2::integer, $3::bigint, $4::text, null, null, null)",
            epoch, place, number, outcome, conn=member.conn,
        )  # fmt: skip

    def work_off(self, count: int, limit_sec: float = 60.0) -> None:
        """Let eight workers do jobs until so many have run."""
        key_of: dict[int, str | None] = dict(self.fleet.sql("select id, limit_key from sync_job_body"))
        begin, errors = threading.Barrier(WORKERS), list[BaseException]()
        until = monotonic() + limit_sec

        def work(member: Member) -> None:
            begin.wait(20)
            try:
                while len(self.log) < count and monotonic() < until and not errors:
                    jobs = self.take(member)
                    began = monotonic()
                    for job in jobs:
                        self.fleet.sql("select pg_sleep(0.004)", conn=member.conn)  # The body of the job.
                        ended = monotonic()
                        self.end(member, job)
                        self.log.append(Ran(job[2], key_of[job[2]], began, ended))
            except BaseException as error:
                errors.append(error)

        members = [self.fleet.join(f"w{number}") for number in range(WORKERS)]
        threads = [threading.Thread(target=work, args=(member,)) for member in members]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(limit_sec + 30)
        assert not errors, errors[0]
        assert sorted(ran.id for ran in self.log) == sorted(key_of), "each job ran once"

    def running(self) -> int:
        return int(self.fleet.value("select count(*) from sync_job where status = 'processing'"))

    def places(self) -> int:
        return int(self.fleet.value("select count(*) from sync_job_place"))


@pytest.fixture
def crew(fleet: Fleet) -> Crew:
    return Crew(fleet)


@pytest.mark.parametrize("at_once", [1, 3])
def test_no_more_of_a_kind_run_at_once(crew: Crew, at_once: int) -> None:
    crew.limit(at_once)
    crew.enqueue(150)
    crew.work_off(150)
    assert most_at_once(crew.log) <= at_once
    assert crew.places() == 0


def test_no_more_of_a_key_run_at_once(crew: Crew) -> None:
    crew.limit(at_once=4, per_key=1)
    crew.enqueue(150, keys=("a", "b", "c", None))
    crew.work_off(150)
    of_key = defaultdict[str | None, list[Ran]](list)
    for ran in crew.log:
        of_key[ran.key].append(ran)
    assert {key: most_at_once(runs) for key, runs in of_key.items() if key} == {"a": 1, "b": 1, "c": 1}
    assert most_at_once(crew.log) <= 4
    assert crew.places() == 0


def test_the_log_sees_workers_that_overlap(crew: Crew) -> None:
    crew.enqueue(150)
    crew.work_off(150)
    assert most_at_once(crew.log) > 1  # Without a limit: the yardstick can show more.


def test_a_limit_holds_for_what_waited_before_it_was_set(crew: Crew) -> None:
    crew.enqueue(60)
    crew.limit(2)
    member = crew.fleet.join("w")
    assert len(crew.take(member, 10)) == 2
    assert crew.take(member, 10) == []


@pytest.mark.parametrize("first_to_end", ["the lowest places", "the highest places", "any"])
def test_lowering_lets_others_begin_while_fewer_run_than_it_says(crew: Crew, first_to_end: str) -> None:
    crew.limit(5)
    crew.enqueue(40)
    member = crew.fleet.join("w")
    running = [job for _ in range(5) for job in crew.take(member)]
    assert len(running) == 5
    crew.limit(2)
    order = {"the lowest places": [0, 0, 0, 0, 0], "the highest places": [4, 3, 2, 1, 0], "any": [2, 0, 2, 0, 0]}
    for position in order[first_to_end]:
        began = crew.take(member, 10)
        running += began
        assert len(running) == max(2, len(running) - len(began))
        crew.end(member, running.pop(position))
    running += crew.take(member, 10)
    assert len(running) == 2


def test_a_lowered_limit_leaves_one_place_beside_the_last_beyond_it(crew: Crew) -> None:
    crew.limit(5)
    crew.enqueue(40)
    member = crew.fleet.join("w")
    running = [job for _ in range(5) for job in crew.take(member)]
    crew.limit(2)
    for job in running[:4]:
        crew.end(member, job)
    assert len(crew.take(member, 10)) == 1, "beside the one at the fifth place"
    crew.end(member, running[4])
    assert len(crew.take(member, 10)) == 1


def test_no_more_run_than_a_lowered_limit_says_while_many_look(crew: Crew) -> None:
    """Jobs beyond the limit end one by one while eight workers look for room."""
    crew.limit(8)
    crew.enqueue(140)
    first = crew.fleet.join("first")
    before = [job for _ in range(8) for job in crew.take(first)]
    crew.limit(3)
    began = monotonic()

    def end_slowly() -> None:
        with crew.fleet.connect() as conn:
            nodes = "select count(*) from sync_node"
            eventually(lambda: crew.fleet.value(nodes, conn=conn) == 1 + WORKERS, "all are there")
            for job in before:
                crew.fleet.sql("select pg_sleep(0.03)", conn=conn)
                ended = monotonic()
                crew.end(first, job)
                crew.log.append(Ran(job[2], None, began, ended))

    thread = threading.Thread(target=end_slowly)
    thread.start()
    crew.work_off(140)
    thread.join(60)
    late = [run for run in crew.log if run.began > began]
    assert late
    for run in late:
        assert sum(other.began <= run.began < other.ended for other in crew.log) <= 3
    assert crew.places() == 0


def test_a_limit_that_is_lowered_waits_for_who_read_the_old_one(crew: Crew) -> None:
    crew.limit(2)
    crew.enqueue(10)
    taker, other = crew.fleet.join("taker"), crew.fleet.join("other")
    setter = crew.fleet.connect()
    with taker.conn.transaction():
        assert len(crew.take(taker)) == 1
        lower = "select sync_job_set_limit('resize', 1, null)"
        thread = threading.Thread(target=lambda: crew.fleet.sql(lower, conn=setter))
        thread.start()
        waits = "select count(*) from pg_locks where pid = $1::integer and not granted"
        eventually(lambda: crew.fleet.value(waits, setter.info.backend_pid) == 1, "it waits")
        assert crew.take(other) == [], "nobody goes by the old limit any more"
    thread.join(20)
    assert crew.take(other) == []


def test_raising_lets_more_begin_at_once(crew: Crew) -> None:
    crew.limit(1)
    crew.enqueue(20)
    member = crew.fleet.join("w")
    assert len(crew.take(member, 10)) == 1
    crew.limit(4)
    assert len(crew.take(member, 10)) == 3


def test_lifting_lets_all_begin_and_who_runs_counts_when_it_is_set_again(crew: Crew) -> None:
    crew.limit(2)
    crew.enqueue(20)
    member = crew.fleet.join("w")
    first = crew.take(member, 10)
    crew.limit()
    crew.limit(2)
    assert crew.take(member, 10) == []
    crew.limit()
    assert len(crew.take(member, 30)) == 18
    crew.limit(3)
    for job in first:
        crew.end(member, job)
    assert crew.places() == 0


def test_a_holder_that_dies_gives_its_place_back(crew: Crew) -> None:
    crew.limit(1)
    crew.enqueue(2)
    dead, heir = crew.fleet.join("dead"), crew.fleet.join("heir")
    assert len(crew.take(dead)) == 1
    assert crew.take(heir) == []
    crew.fleet.sql("update sync_node set state = 'fenced' where name = 'dead'")
    assert crew.fleet.value("select sync_job_recover()") == 1
    assert len(crew.take(heir, 10)) == 1
    assert crew.running() == crew.places() == 1


@pytest.mark.parametrize("outcome", ["done", "failed", "cancelled", "pending", "retry"])
def test_every_end_of_an_attempt_gives_the_place_back(crew: Crew, outcome: str) -> None:
    crew.limit(1)
    crew.enqueue(2)
    member = crew.fleet.join("w")
    (job,) = crew.take(member)
    crew.end(member, job, outcome)
    assert crew.places() == 0
    assert len(crew.take(member)) == 1


@pytest.mark.parametrize(
    "how",
    [
        "select sync_job_cancel(array[$1::bigint])",
        "select sync_job_release(array[$2::bigint], array[1], array[$1::bigint])",
    ],
)
def test_what_is_cancelled_or_given_back_holds_no_place(crew: Crew, how: str) -> None:
    crew.limit(1)
    crew.enqueue(1)
    member = crew.fleet.join("w")
    (job,) = crew.take(member)
    crew.fleet.sql(how, job[2], *([job[0]] if "$2" in how else []))
    assert crew.places() == 0


def test_setting_a_limit_sweeps_a_place_that_nobody_holds(crew: Crew) -> None:
    crew.limit(1)
    crew.enqueue(1)
    crew.fleet.sql("insert into sync_job_place (scope, name, number, id) values ('kind', 'resize', 1, 999)")
    member = crew.fleet.join("w")
    assert crew.take(member) == []
    crew.limit(1)
    assert len(crew.take(member)) == 1


def test_the_best_of_what_waited_passes_the_gate_first(crew: Crew) -> None:
    crew.fleet.sql(
        "insert into sync_job (kind, payload, priority) select 'resize', '1', n from generate_series(1, 1500) n"
    )
    crew.limit(1)
    member = crew.fleet.join("w")
    ((_, _, best),) = crew.take(member)
    assert crew.fleet.value("select priority from sync_job_body where id = $1::bigint", best) == 1500


def test_a_tab_cannot_mix_a_kind_with_anothers_key(crew: Crew) -> None:
    with pytest.raises(Exception, match="tab"):
        crew.fleet.sql("select sync_job_set_limit($1::text, 1, null)", "a\tb")
