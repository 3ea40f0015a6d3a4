"""What is left after somebody is gone: incomplete tasks, and claims whose epochs keep late writers out."""

from collections.abc import Iterator
from datetime import date, timedelta

import pytest

from jobsync import Job, OwnershipLost, Task
from tests.api.jobs import eventually, owned_by, query, settings

AT_ONCE = timedelta(0)
DAY, NEXT_DAY = date(2024, 2, 29), date(2024, 3, 1)


@pytest.fixture
def a(server_dsn: str, prefix: str) -> Iterator[Job]:
    with Job("a", coordination_config=settings(server_dsn, prefix)) as job:
        yield job


@pytest.fixture
def b(server_dsn: str, prefix: str, a: Job) -> Iterator[Job]:
    with Job("b", coordination_config=settings(server_dsn, prefix)) as job:
        eventually(lambda: a.my_tokens and job.my_tokens)
        yield job


def let_die(dsn: str, prefix: str, name: str) -> None:
    """Leave what a node leaves that claimed a task and was fenced."""
    query(
        dsn,
        f"insert into {prefix}node (name, state, incarnation, bind, heartbeat_timeout_ms, row_lease_ms, "
        "backend_pid, postmaster_start) values (%s, 'fenced', -7, 0, 15000, 14500, 0, now())",
        name,
    )


def leave_claim(dsn: str, prefix: str, name: str, item: str, day: date) -> None:
    query(dsn, f"insert into {prefix}claim (node, item, date, incarnation) values (%s, %s, %s, -7)", name, item, day)


def move(job: Job, task: str, to: Job) -> None:
    """Have a task's token go to another node."""
    job.register_lock(task, to.node_name)
    eventually(lambda: to.can_claim_task(task))


# --- incomplete tasks ----------------------------------------------------------------------------


def test_what_the_dead_had_claimed_is_incomplete(a: Job, server_dsn: str, prefix: str) -> None:
    let_die(server_dsn, prefix, "dead")
    leave_claim(server_dsn, prefix, "dead", "x", a.date)
    assert a.get_incomplete_tasks(AT_ONCE) == [Task("x")]


def test_what_was_claimed_by_a_node_that_left_is_incomplete(a: Job, server_dsn: str, prefix: str) -> None:
    with Job("b", coordination_config=settings(server_dsn, prefix)) as b:
        task = owned_by(b)
        assert b.add_task(task)
    assert a.get_incomplete_tasks(AT_ONCE) == [Task(task)]


def test_what_a_node_had_claimed_before_it_was_restarted_is_incomplete(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("a", coordination_config=given) as before:
        assert before.add_task("x")
    with Job("a", coordination_config=given) as after:
        assert after.get_incomplete_tasks(AT_ONCE) == [Task("x")]


def test_what_live_nodes_have_claimed_is_not_incomplete(a: Job, b: Job) -> None:
    for job in (a, b):
        assert job.set_claim(owned_by(job))
    assert a.get_incomplete_tasks(AT_ONCE) == b.get_incomplete_tasks(AT_ONCE) == []


def test_what_somebody_claims_again_is_not_incomplete(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("a", coordination_config=given) as before:
        before.set_claim(["x", "y"])
    with Job("a", coordination_config=given) as after:
        after.set_claim("x")
        assert after.get_incomplete_tasks(AT_ONCE) == [Task("y")]


def test_what_was_audited_is_not_incomplete(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("a", coordination_config=given) as before:
        before.add_task("done")
        before.write_audit()
        before.add_task("left")
    with Job("a", coordination_config=given) as after:
        assert after.get_incomplete_tasks(AT_ONCE) == [Task("left")]


def test_young_claims_are_left_alone_for_five_minutes_unless_one_says_otherwise(
    a: Job, server_dsn: str, prefix: str
) -> None:
    for item in ("young", "old"):
        leave_claim(server_dsn, prefix, "gone", item, a.date)
    query(server_dsn, f"update {prefix}claim set created_on = now() - interval '6 minutes' where item = 'old'")
    assert a.get_incomplete_tasks() == [Task("old")]
    assert a.get_incomplete_tasks(older_than=AT_ONCE) == [Task("old"), Task("young")]
    assert a.get_incomplete_tasks(older_than=timedelta(minutes=7)) == []


def test_without_a_run_the_date_counts(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    for day in (DAY, NEXT_DAY):
        with Job("a", coordination_config=given, date=day) as before:
            before.set_claim(f"of {day}")
    with Job("a", coordination_config=given, date=DAY) as after:
        assert after.get_incomplete_tasks(AT_ONCE) == [Task(f"of {DAY}")]


def test_an_audit_of_another_date_does_not_complete_a_task(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("a", coordination_config=given, date=DAY) as before:
        before.set_claim("x")
    with Job("a", coordination_config=given, date=NEXT_DAY) as next_day:
        next_day.add_task("x")
        next_day.write_audit()
    with Job("a", coordination_config=given, date=DAY) as after:
        assert after.get_incomplete_tasks(AT_ONCE) == [Task("x")]


def test_each_run_has_its_own_incomplete_tasks(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    for run in ("r1", "r2", None):
        with Job("a", coordination_config=given, run=run) as before:
            before.add_task("done")
            before.write_audit()
            before.set_claim(f"of {run}")
    for run in ("r1", "r2", None):
        with Job("a", coordination_config=given, run=run) as after:
            assert after.get_incomplete_tasks(AT_ONCE) == [Task(f"of {run}")]


# --- claims with epochs --------------------------------------------------------------------------


def test_a_claim_tells_the_task_its_token_and_its_epoch(a: Job, server_dsn: str, prefix: str) -> None:
    claim = a.claim(Task("x", name="for people"))
    assert (claim.task, claim.token, claim.run) == (Task("x"), a.task_to_token("x"), None)
    assert query(server_dsn, f"select epoch from {prefix}token where token_id = {claim.token}") == [(claim.epoch,)]
    assert query(server_dsn, f"select node, item from {prefix}claim") == [("a", "x")]


def test_the_epoch_grows_with_every_owner(a: Job, b: Job) -> None:
    task = owned_by(a)
    epochs = [a.claim(task).epoch]
    for owner in (b, a):
        move(a, task, owner)
        epochs.append(owner.claim(task).epoch)
    assert epochs[0] < epochs[1] < epochs[2]


def test_the_epoch_stays_while_the_owner_stays(a: Job, b: Job) -> None:
    task, another = owned_by(a), owned_by(b)
    before = a.claim(task)
    move(a, another, a)
    assert a.claim(task) == before


def test_a_task_of_another_node_cannot_be_claimed(a: Job, b: Job, server_dsn: str, prefix: str) -> None:
    with pytest.raises(OwnershipLost, match="another node owns, has or had it"):
        a.claim(owned_by(b))
    assert query(server_dsn, f"select * from {prefix}claim") == []


def test_in_a_run_a_task_is_claimed_by_one_alone_until_he_is_gone(server_dsn: str, prefix: str) -> None:
    given = settings(server_dsn, prefix)
    with Job("b", coordination_config=given, run="r") as b:
        with Job("a", coordination_config=given, run="r") as a:
            task = owned_by(a)
            claim = a.claim(task)
            assert claim.run == "r"
            move(a, task, b)
            with pytest.raises(OwnershipLost, match="another node owns, has or had it"):
                b.claim(task)
        assert b.claim(task).epoch > claim.epoch


def test_in_a_run_a_task_that_is_done_cannot_be_claimed(server_dsn: str, prefix: str) -> None:
    with Job("a", coordination_config=settings(server_dsn, prefix), run="r") as a:
        a.add_task("x")
        a.write_audit()
        with pytest.raises(OwnershipLost):
            a.claim("x")


@pytest.fixture
def results(server_dsn: str, prefix: str) -> str:
    table = f"{prefix}results"
    query(server_dsn, f"create table {table} (item text)")
    return table


def test_a_transaction_commits_under_the_epoch_of_its_claim(a: Job, server_dsn: str, results: str) -> None:
    with a.transaction(a.claim("x")) as conn:
        conn.execute(f"insert into {results} values ('x')")
    assert query(server_dsn, f"select * from {results}") == [("x",)]
    assert [row["item"] for row in a.get_audit()] == ["x"]


def test_a_transaction_under_an_old_epoch_writes_nothing_although_the_task_came_back(
    a: Job, b: Job, server_dsn: str, results: str
) -> None:
    task = owned_by(a)
    old = a.claim(task)
    move(a, task, b)
    move(a, task, a)
    with pytest.raises(OwnershipLost), a.transaction(old) as conn:
        conn.execute(f"insert into {results} values ('late')")
    assert query(server_dsn, f"select * from {results}") == []
    assert a.get_audit() == []
    with a.transaction(a.claim(task)) as conn:
        conn.execute(f"insert into {results} values ('in time')")
    assert query(server_dsn, f"select * from {results}") == [("in time",)]


class Store:
    """A store elsewhere: it keeps the highest epoch that it has seen of a token, and refuses writers below it."""

    def __init__(self) -> None:
        self.highest: dict[int, int] = {}
        self.written: list[str] = []

    def put(self, token: int, epoch: int, value: str) -> bool:
        if epoch < self.highest.get(token, 0):
            return False
        self.highest[token] = epoch
        self.written.append(value)
        return True


def test_a_store_that_keeps_the_highest_epoch_refuses_a_writer_that_has_lost_the_task(a: Job, b: Job) -> None:
    store, task = Store(), owned_by(a)
    slow = a.claim(task)
    move(a, task, b)
    quick = b.claim(task)
    assert store.put(quick.token, quick.epoch, "by b")
    assert not store.put(slow.token, slow.epoch, "by a, too late")
    assert store.written == ["by b"]
